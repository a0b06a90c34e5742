"""A progress bar on stderr: how many of how many, the rate, and the time that remains."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tectum.media.source import display
from tectum.search.indexing import Progress

_NAME = 32


@contextmanager
def progress_bar(title: str = "indexing", *, unit: str = "files") -> Iterator[Progress]:
    """Draw a bar while the block runs; what it yields goes into `Library.add(…, progress=…)`. Quiet where stderr is no terminal.

    >>> with progress_bar() as progress:
    ...     progress(1, 2, "a.jpg")
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.{0 if speed >= 10 else 1}f} {unit}/s" if speed else "", style="progress.data.speed")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(compact=True))
    console = Console(stderr=True)
    shown_name = TextColumn("{task.fields[name]}", style="dim")
    with Bar(*columns, shown_name, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None, name="")

        def report(done: int, total: int, path: str) -> None:
            name = display(os.path.basename(path))
            shown = name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
            bar.update(task, completed=done, total=total, name=escape(shown))

        yield report
