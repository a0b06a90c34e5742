"""Show what a search found, to people and to programs."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tectum.cli.output import print_table

if TYPE_CHECKING:
    from tectum.search.results import LibraryHit, Results

_EXCERPT = 70


def print_results(results: Results) -> None:
    """A table of the hits, or one line that says that there are none."""
    if not results.hits:
        print(nothing_found(results))
        return
    columns = ["", "relevance", "kind", "file", *(["text"] if any(hit.excerpt for hit in results) else [])]
    rows = [[str(rank), str(hit.relevance), hit.kind, _place(hit), _excerpt(hit.excerpt)] for rank, hit in enumerate(results, 1)]
    print_table(columns, [row[: len(columns)] for row in rows], right=("",), bar="relevance")


def nothing_found(results: Results) -> str:
    """Why there is no hit, in one line."""
    if results.best_below is None:
        return "nothing found: the library holds no such files"
    best = f"the best of {results.considered:,} files has relevance {results.best_below:.2f}"
    return f"nothing found: {best}, below the threshold of {results.threshold:.2f}"


def as_json(results: Results) -> dict[str, Any]:
    """The results as JSON values; `found` is false if nothing passed the threshold."""
    return {"found": bool(results.hits), **asdict(results)}


def short(path: str | Path) -> str:
    """The path from here if it lies below the current folder, else in full."""
    here = os.path.join(os.getcwd(), "")
    return str(path).removeprefix(here)


def _place(hit: LibraryHit) -> str:
    copies = f"  (+{len(hit.copies)} {'copy' if len(hit.copies) == 1 else 'copies'})" if hit.copies else ""
    return short(hit.path) + copies


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT else line[: _EXCERPT - 1].rstrip() + "…"
