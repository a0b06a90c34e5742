"""The record of a run: `log.jsonl`, and TensorBoard events beside it if that package is installed.

`log.jsonl` holds no clock times, so that a run that was killed and continued leaves the very same file as one that was not.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tectum.files import write_text


class Log:
    """Appends one JSON object a line to `path`, dropping first every line past step `start` (and one cut short).

    Numbers that JSON cannot hold (infinities, NaN) become null.
    """

    def __init__(self, path: Path, start: int, *, tensorboard: bool) -> None:
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                record = json.loads(line)
            except ValueError:
                break
            if record["step"] > start:
                break
            kept.append(line + "\n")
        write_text(path, "".join(kept))
        self._file = path.open("a", encoding="utf-8")
        self._events = _summary_writer(path.parent / "tensorboard", start) if tensorboard else None

    def write(self, kind: str, step: int, numbers: Mapping[str, float]) -> None:
        """Add the line {"kind": "train" or "eval", "step": …, and the numbers}."""
        record = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        self._file.write(json.dumps({"kind": kind, "step": step, **record}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in numbers.items():
                self._events.add_scalar(f"{kind}/{name}", value, step)

    def sync(self) -> None:
        """Force the lines to the disk: called before the checkpoint that vouches for them."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()


def _summary_writer(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=start + 1)
