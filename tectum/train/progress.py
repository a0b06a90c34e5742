"""What a person sees while a model trains: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tectum.train.config import TrainConfig


class Reporter:
    """Shows step, rate (steps a second, since this process started), remaining time and loss; a context manager.

    In a terminal a bar that moves with every step; otherwise one plain line every `log_every` steps; silent if `enabled` is
    false.
    """

    def __init__(self, config: TrainConfig, start: int, *, enabled: bool) -> None:
        self._config, self._start, self._enabled = config, start, enabled
        self._bar: Any = None
        self._began = time.monotonic()

    def __enter__(self) -> Reporter:
        if self._enabled and sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self._config.steps, completed=self._start, numbers="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, done: int, loss: float) -> None:
        """After every step; `done` steps lie behind."""
        if not self._enabled:
            return
        rate = (done - self._start) / max(time.monotonic() - self._began, 1e-9)
        numbers = f"loss {loss:.4f} · {rate:.2f} steps/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, numbers=numbers)
        elif done % self._config.log_every == 0 or done == self._config.steps:
            minutes, seconds = divmod(round((self._config.steps - done) / rate), 60)
            self.say(f"step {done}/{self._config.steps} · {numbers} · {minutes}:{seconds:02d} left")

    def evaluated(self, done: int, metrics: Mapping[str, float]) -> None:
        """After an evaluation."""
        if metrics:
            numbers = " · ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            self.say(f"step {done}/{self._config.steps} · {numbers}")

    def say(self, sentence: str) -> None:
        """One line, above the bar if there is one."""
        if not self._enabled:
            return
        if self._bar is not None:
            self._bar.console.print(sentence, markup=False, highlight=False)
        else:
            print(sentence, flush=True)
