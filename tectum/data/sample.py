"""What one item of a dataset is: a dict from modality name to value, holding only what is present.

"image" and "audio" are encoded bytes or a Path, as `tectum.media` reads them; "text" is a str; "key" names the sample within
its dataset; "json" is a whole sidecar object. Nothing is decoded here, so that a loader can decode in its own threads.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from tectum.errors import DataError

Sample = dict[str, Any]


class Reader(Protocol):
    """Random access to samples, as the readers of this package give it. Readers can be pickled."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def decode_text(data: bytes, where: str) -> str:
    """UTF-8 text, without a byte order mark and surrounding space. Raises DataError naming `where` if it is something else."""
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text (byte {error.start}): convert it") from error


def add_json(sample: Sample, data: bytes, where: str) -> None:
    """Put a JSON object under "json", and its string "text" or else "caption" under "text" if the sample has no text yet.

    Raises DataError naming `where` if `data` is no JSON.

    >>> sample = {}
    >>> add_json(sample, b'{"caption": "a cat"}', "a.json")
    >>> sample["text"]
    'a cat'
    """
    try:
        found = json.loads(decode_text(data, where))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}") from error
    sample["json"] = found
    for name in ("text", "caption"):
        if isinstance(found, dict) and isinstance(found.get(name), str):
            sample.setdefault("text", found[name].strip())
