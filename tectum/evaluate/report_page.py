"""A report as one HTML page that needs nothing else: scores with their intervals drawn, blind baselines, passports."""

from __future__ import annotations

import math
from pathlib import Path

from tectum.evaluate.report import Report
from tectum.evaluate.score import Score
from tectum.files import write_text
from tectum.page import page, text

_STYLE = """
body { margin: 0 auto; max-width: 64rem; padding: 3rem 1.5rem; }
h1 { margin-bottom: 1.5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: .85rem; }
th, td { padding: .45rem .8rem .45rem 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
.number { text-align: right; white-space: nowrap; }
tr.blind td { color: var(--soft); border-bottom-style: dotted; }
tr.blind td:first-child { padding-left: 1.5rem; }
svg { display: block; width: 16rem; height: 1.1rem; }
rect.between { fill: var(--mark); opacity: .35; } rect.well { fill: var(--well); } circle { fill: var(--mark); }
details { color: var(--soft); font-size: .8rem; } summary { cursor: pointer; }
code { overflow-wrap: anywhere; } footer { margin-top: 2rem; color: var(--soft); font-size: .85rem; }
"""


def write_page(path: str | Path, report: Report) -> None:
    """Write the page beside the path and rename it there."""
    write_text(path, render(report))


def render(report: Report) -> str:
    """The page as text.

    >>> from tectum.evaluate.score import Passport
    >>> "0.7500" in render(Report.of("a test", {"accuracy": Score(0.75, (0.5, 1.0), 4, Passport("accuracy"))}))
    True
    """
    rows = []
    for name, entry in report.entries.items():
        blind = report.beside.get(name, {})
        axis = _axis([entry.score, *blind.values()])
        rows.append(_row(name, entry.score, axis, ""))
        rows += [_row(kind, score, axis, "blind") for kind, score in blind.items()]
    body = f"""<h1>{text(report.title)}</h1>
<table>
<tr><th>score</th><th class="number">value</th><th class="number">95 % interval</th><th></th><th class="number">items</th></tr>
{"".join(rows)}
</table>
<footer>Made by tectum. The bar is the interval, the dot the value. Rows below a score are blind baselines: what a system gets
that does not look. Scores with different passports are not comparable.</footer>"""
    return page(report.title, body, style=_STYLE)


def _row(name: str, score: Score, axis: tuple[float, float], style: str) -> str:
    between = f"{score.interval[0]:.4f} – {score.interval[1]:.4f}" if score.interval else ""
    return (
        f'<tr class="{style}"><td>{text(name)}<details><summary>passport</summary><code>{text(str(score.passport))}</code>'
        f'</details></td><td class="number">{score.value:.4f}</td><td class="number">{between}</td><td>{_drawn(score, axis)}</td>'
        f'<td class="number">{score.n:,}</td></tr>\n'
    )


def _axis(scores: list[Score]) -> tuple[float, float]:
    """0 … 1 where all fits in, else from the least to the greatest end of an interval, and 0."""
    ends = [end for score in scores for end in (score.value, *(score.interval or ())) if not math.isnan(end)]
    return min([0.0, *ends]), max([1.0, *ends]) if max([0.0, *ends]) <= 1 else max(ends)


def _drawn(score: Score, axis: tuple[float, float]) -> str:
    if math.isnan(score.value):
        return "not defined"

    def at(value: float) -> float:
        return 2 + 196 * (value - axis[0]) / ((axis[1] - axis[0]) or 1)

    low, high = score.interval or (score.value, score.value)
    return (
        '<svg viewBox="0 0 200 14" aria-hidden="true">'
        '<rect class="well" width="200" height="14" rx="3"/>'
        f'<rect class="between" x="{at(low):.1f}" y="2" width="{max(1.0, at(high) - at(low)):.1f}" height="10" rx="2"/>'
        f'<circle cx="{at(score.value):.1f}" cy="7" r="3"/></svg>'
    )
