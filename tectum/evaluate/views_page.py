"""A view as one HTML page that needs nothing else: hover to read labels, click the legend, scroll to zoom, drag to pan."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import numpy as np

from tectum.evaluate.views import View
from tectum.evaluate.views_picture import COLORS, SHAPES
from tectum.evaluate.views_style import SCRIPT, STYLE
from tectum.files import write_text
from tectum.page import page, text, valid


def save_page(view: View, path: str | Path, *, title: str = "A view of the space") -> None:
    """Write the page beside `path` and rename it there."""
    write_text(path, render(view, title=title))


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
        "labels": [valid(label) for label in view.labels],
        "modalities": [
            {"name": valid(name), "color": COLORS[i % len(COLORS)], "shape": SHAPES[i % len(SHAPES)]}
            for i, name in enumerate(view.modalities)
        ],
    }
    # In a script element only "<" could end the data.
    embedded = json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    allowed = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    allow = f"script-src 'sha256-{allowed}'"
    counts = np.bincount(view.which, minlength=len(view.modalities))
    buttons = "\n".join(
        f'<button type="button" aria-pressed="true"><svg viewBox="-8 -8 16 16" aria-hidden="true">{_symbol(i)}</svg>'
        f"{text(name)} <span>{count:,}</span></button>"
        for i, (name, count) in enumerate(zip(view.modalities, counts, strict=True))
    )
    body = f"""<header><h1>{text(title)}</h1><p>{text(view.method)}</p></header>
<nav aria-label="modalities">
{buttons}
<button type="button" id="reset">Reset the view</button>
</nav>
<main><canvas id="view" tabindex="0" role="img" aria-label="{len(view.labels):,} points in a plane"></canvas>
<div id="label" hidden></div></main>
<footer>Point at a mark to read its label. Scroll to zoom, drag to move, double-click to see all; or use the arrow keys, + and -.
<noscript>This page needs JavaScript to draw its points.</noscript></footer>
<script type="application/json" id="data">{embedded}</script>
<script>{SCRIPT}</script>"""
    return page(title, body, style=STYLE, allow=allow)


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
