"""A view as one HTML page that needs nothing else: hover to read labels, click the legend, scroll to zoom, drag to pan."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from html import escape
from pathlib import Path

import numpy as np

from tectum.evaluate.views import View
from tectum.evaluate.views_picture import COLORS, SHAPES
from tectum.evaluate.views_style import SCRIPT, STYLE


def save_page(view: View, path: str | Path, *, title: str = "A view of the space") -> None:
    """Write the page beside `path` and rename it there."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(render(view, title=title), encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def render(view: View, *, title: str = "A view of the space") -> str:
    """The page as text. Labels are data: the script writes them as text, and the page's policy lets no other script run.

    >>> page = render(View(np.zeros((1, 2)), ("image",), np.zeros(1, int), ("</script><script>alert(1)",), "PCA"))
    >>> "<script>alert" in page
    False
    """
    places = _unit_square(view.points)
    data = {
        "x": places[:, 0].round(5).tolist(),
        "y": places[:, 1].round(5).tolist(),
        "which": view.which.tolist(),
        "labels": [_valid(label) for label in view.labels],
        "modalities": [
            {"name": _valid(name), "color": COLORS[i % len(COLORS)], "shape": SHAPES[i % len(SHAPES)]}
            for i, name in enumerate(view.modalities)
        ],
    }
    # In a script element only "<" could end the data.
    embedded = json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    allowed = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    counts = np.bincount(view.which, minlength=len(view.modalities))
    buttons = "\n".join(
        f'<button type="button" aria-pressed="true"><svg viewBox="-8 -8 16 16" aria-hidden="true">{_symbol(i)}</svg>'
        f"{_text(name)} <span>{count:,}</span></button>"
        for i, (name, count) in enumerate(zip(view.modalities, counts, strict=True))
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header><h1>{_text(title)}</h1><p>{_text(view.method)}</p></header>
<nav aria-label="modalities">
{buttons}
<button type="button" id="reset">Reset the view</button>
</nav>
<main><canvas id="view" tabindex="0" role="img" aria-label="{len(view.labels):,} points in a plane"></canvas>
<div id="label" hidden></div></main>
<footer>Point at a mark to read its label. Scroll to zoom, drag to move, double-click to see all; or use the arrow keys, + and -.
<noscript>This page needs JavaScript to draw its points.</noscript></footer>
<script type="application/json" id="data">{embedded}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _unit_square(points: np.ndarray) -> np.ndarray:
    """Points between −1 and 1, x and y at one scale."""
    low, high = points.min(0), points.max(0)
    return (points - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-300)


def _symbol(modality: int) -> str:
    color = COLORS[modality % len(COLORS)]
    shapes = {
        "circle": f'<circle r="6" fill="{color}"/>',
        "square": f'<path d="M-5.5-5.5h11v11h-11z" fill="{color}"/>',
        "triangle": f'<path d="M0-7 7 5H-7z" fill="{color}"/>',
        "diamond": f'<path d="M0-8 7 0 0 8-7 0z" fill="{color}"/>',
    }
    return shapes[SHAPES[modality % len(SHAPES)]]


def _valid(value: str) -> str:
    """What is no valid Unicode becomes visible escapes."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _text(value: str) -> str:
    return escape(_valid(value))
