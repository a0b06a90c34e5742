"""What the measuring commands share: the options of a report, and how it is printed and written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tectum.cli.output import print_json, print_table

if TYPE_CHECKING:
    from tectum.evaluate.report import Report
    from tectum.evaluate.score import Score
    from tectum.models.space import Space

Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write the report, for 'tectum eval compare'.")]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
Model = Annotated[str, typer.Option(metavar="NAME", help="The model that measures: a name or folder.")]
Images = Annotated[Path, typer.Option(metavar="FOLDER", help="Where the pictures are.")]
DEFAULT_MODEL = "space-mini"


def answer(report: Report, out: Path | None, html: Path | None, as_json: bool) -> None:
    """Print the scores and write what was asked for."""
    from tectum.evaluate.report import write_report
    from tectum.evaluate.report_page import write_page

    if out:
        write_report(out, report)
    if html:
        write_page(html, report)
    if as_json:
        beside = report.beside
        print_json(
            {name: {**entry.score.as_json(), "beside": _json(beside.get(name, {}))} for name, entry in report.entries.items()}
        )
        return
    rows = []
    for name, entry in report.entries.items():
        rows.append(_row(name, entry.score))
        rows += [_row(f"  blind: {kind}", score) for kind, score in report.beside.get(name, {}).items()]
    print(report.title)
    print_table(("score", "value", "95 % interval", "n"), rows, right=("value", "n"))


def interval(interval: tuple[float, float] | None, sign: str = "") -> str:
    """An interval in words; nothing for none."""
    return f"{interval[0]:{sign}.4f} – {interval[1]:{sign}.4f}" if interval else ""


def load(model: str) -> Space:
    """The model that measures."""
    from tectum import hub

    return hub.load(model)


def _json(scores: Mapping[str, Score]) -> dict[str, object]:
    return {name: score.as_json() for name, score in scores.items()}


def _row(name: str, score: Score) -> tuple[str, str, str, str]:
    return name, f"{score.value:.4f}", interval(score.interval), f"{score.n:,}"
