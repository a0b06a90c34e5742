"""The similarity matrix of two views as a picture, with the cosines of matched and of other pairs below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tectum.errors import EvaluationError
from tectum.evaluate.cosines import unit_vectors
from tectum.files import written_beside

_INK, _SOFT, _LINE, _GROUND = "#1d1c1a", "#6a665f", "#d8d3c9", "#fbfaf8"
_MATCHED, _OTHERS = "#d55e00", "#0072b2"  # Okabe & Ito (2008), told apart by colour-blind people too.
# From light to dark, so that it reads the same in grey.
_RAMP = np.array([[251, 250, 248], [198, 219, 239], [86, 180, 233], [0, 114, 178], [8, 29, 68]], np.float64)
_SIDE, _MARGIN, _BINS = 640, 64, 80


def similarity_picture(
    a: Tensor,
    b: Tensor,
    *,
    ids: tuple[Tensor, Tensor] | None = None,
    names: tuple[str, str] = ("a", "b"),
    title: str = "",
    most: int = 256,
) -> Image.Image:
    """Draw the cosines of the first rows of a [n, d] and b [m, d], put in the order of their ids.

    A dark diagonal on a light ground is a space that knows its pairs; dark blocks are groups it cannot tell apart, or that are
    the same; a grey field is a collapse.

    Args:
        a: vectors of the view from top to bottom.
        b: vectors of the view from left to right.
        ids: the sample of each row of both; row i belongs to row i when left out.
        names: of the views.
        title: above the picture.
        most: rows and columns at most; the histogram is of these too.

    Raises:
        EvaluationError: if the shapes do not fit, there is nothing to draw, or a vector is zero or not finite.
    """
    rows, columns = unit_vectors(a, names[0])[:most], unit_vectors(b, names[1])[:most]
    of_rows, of_columns = (torch.arange(len(rows)), torch.arange(len(columns))) if ids is None else (ids[0][:most], ids[1][:most])
    fits = rows.shape[1] == columns.shape[1] and (len(of_rows), len(of_columns)) == (len(rows), len(columns))
    if not fits or not len(rows) or not len(columns):
        shapes = f"{tuple(rows.shape)} and {tuple(columns.shape)}"
        raise EvaluationError(f"vectors {shapes} with {len(of_rows)} and {len(of_columns)} ids have no similarity matrix")
    row_order, column_order = of_rows.argsort(stable=True), of_columns.argsort(stable=True)
    cosines = (rows[row_order] @ columns[column_order].T).numpy()
    matched = (of_rows[row_order][:, None] == of_columns[column_order]).numpy()
    low, high = float(cosines.min()), float(cosines.max())
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5

    canvas = Image.new("RGB", (_SIDE + 2 * _MARGIN + 40, _SIDE + 2 * _MARGIN + 190), _GROUND)
    pen, plain, small = ImageDraw.Draw(canvas), _font(20), _font(14)
    pen.text((_MARGIN, 16), title or f"{names[0]} and {names[1]}", _INK, plain)
    pen.text((_MARGIN, 42), f"{len(rows)} by {len(columns)} cosines, {names[0]} downwards, {names[1]} across", _SOFT, small)
    field = Image.fromarray(_colours((cosines - low) / (high - low)))
    canvas.paste(field.resize((_SIDE, _SIDE), Image.Resampling.NEAREST), (_MARGIN, _MARGIN))
    pen.rectangle((_MARGIN - 1, _MARGIN - 1, _MARGIN + _SIDE, _MARGIN + _SIDE), outline=_LINE)
    bar = Image.fromarray(_colours(np.linspace(1, 0, _SIDE)[:, None])).resize((14, _SIDE), Image.Resampling.NEAREST)
    right = _MARGIN + _SIDE + 16
    canvas.paste(bar, (right, _MARGIN))
    for value, y in ((high, _MARGIN + 8), ((low + high) / 2, _MARGIN + _SIDE // 2), (low, _MARGIN + _SIDE - 8)):
        pen.text((right + 20, y), _told(value), _SOFT, small, anchor="lm")
    _histograms(pen, cosines[matched], cosines[~matched], (low, high), _MARGIN + _SIDE + 48, small)
    return canvas


def save_similarity_picture(picture: Image.Image, path: str | Path) -> None:
    """Write a picture as a PNG file, whole or not at all."""
    with written_beside(path) as file:
        picture.save(file, "PNG", optimize=True)


def _histograms(
    pen: ImageDraw.ImageDraw,
    matched: np.ndarray,
    others: np.ndarray,
    bounds: tuple[float, float],
    top: int,
    font: ImageFont.FreeTypeFont,
) -> None:
    """Shares of matched pairs and of the others over the range of the cosines, each scaled to its own mode."""
    height, left = 110, _MARGIN
    x = left
    for name, cosines, colour in (("matched pairs", matched, _MATCHED), ("other pairs", others, _OTHERS)):
        mean = f", mean {cosines.mean():.2f}" if len(cosines) else ""
        text = f"{name} ({len(cosines):,}{mean})"
        pen.rectangle((x, top + 3, x + 10, top + 13), fill=colour)
        pen.text((x + 16, top), text, _INK, font)
        x += 40 + int(font.getlength(text))
        counts, _ = np.histogram(cosines, _BINS, bounds)
        shares = counts / max(1, counts.max())
        edges, base = np.linspace(left, left + _SIDE, _BINS + 1), top + 28 + height
        steps = np.stack((edges.repeat(2)[1:-1], base - height * shares.repeat(2)), 1)
        points = [(float(at), float(y)) for at, y in steps]
        pen.line([(left, base), *points, (left + _SIDE, base)], colour, 2)
    for value, at, anchor in (
        (bounds[0], left, "la"),
        (sum(bounds) / 2, left + _SIDE // 2, "ma"),
        (bounds[1], left + _SIDE, "ra"),
    ):
        pen.text((at, top + 34 + height), _told(value), _SOFT, font, anchor=anchor)


def _told(value: float) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00")


def _colours(values: np.ndarray) -> np.ndarray:
    """Values in 0 … 1 [n, m] to colours, uint8 [n, m, 3]."""
    at = values * (len(_RAMP) - 1)
    below = np.clip(at.astype(int), 0, len(_RAMP) - 2)
    share = (at - below)[..., None]
    return np.asarray((_RAMP[below] * (1 - share) + _RAMP[below + 1] * share).round(), np.uint8)


def _font(points: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(points)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise EvaluationError("this Pillow was built without FreeType and cannot write labels: install one of its wheels")
    return font
