"""What commands print: text that any terminal survives, tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tectum.media.source import display

if TYPE_CHECKING:
    from rich.console import Console


def forgive_streams() -> None:
    """Let stdout and stderr escape what their encoding cannot say, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def complain(sentence: str) -> None:
    """One line on stderr."""
    print(f"tectum: {display(' '.join(sentence.split()))}", file=sys.stderr)


def print_json(value: Any) -> None:
    """One JSON document on stdout, in ASCII, paths as strings."""
    print(json.dumps(value, indent=2, default=str))


def console(*, stderr: bool = False) -> Console:
    """A rich console that takes text as it is; wide where nobody looks, so that pipes get one line for one row."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    seen = stream.isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=None if seen else 1000)


def relevance_bar(relevance: float, width: int = 10, *, ascii_only: bool = False) -> str:
    """A bar of `width` characters for a number in [0, 1].

    >>> relevance_bar(0.3), relevance_bar(0.97, 5, ascii_only=True)
    ('███░░░░░░░', '#####')
    """
    full, empty = "#." if ascii_only else "█░"
    cells = min(width, max(0, round(relevance * width)))
    return full * cells + empty * (width - cells)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = (), bar: str = "") -> None:
    """A table on stdout.

    Args:
        columns: headings.
        rows: cells, as text; they are escaped here.
        right: headings of the columns aligned to the right.
        bar: heading of a column whose cells are numbers in [0, 1], drawn with a bar.
    """
    from rich.table import Table
    from rich.text import Text

    screen = console()
    ascii_only = not screen.encoding.startswith("utf")

    def drawn(value: float) -> Text:
        return Text(f"{relevance_bar(value, ascii_only=ascii_only)} {value:.2f}", style=_colour(value))

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        narrow = name in right or name == bar
        table.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=narrow)
    for row in rows:
        cells = zip(columns, row, strict=True)
        table.add_row(*(drawn(float(cell)) if name == bar else Text(display(cell)) for name, cell in cells))
    screen.print(table)


def print_heading(text: str) -> None:
    """A line in bold after an empty one."""
    from rich.text import Text

    print()
    console().print(Text(display(text), style="bold"))


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values in two columns, without a heading."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        print(f"{name:<{width}}  {display(str(value))}")


def megabytes(count: int) -> str:
    """Bytes for people.

    >>> megabytes(1_234_567), megabytes(890)
    ('1.2 MB', '890 B')
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _colour(relevance: float) -> str:
    return "green" if relevance >= 0.8 else "yellow" if relevance >= 0.5 else "dim"
