"""A view as a picture: points, a legend and labels, drawn with Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tectum.errors import EvaluationError
from tectum.evaluate.views import View
from tectum.files import written_beside

Box = tuple[float, float, float, float]

# Okabe & Ito (2008): told apart by colour-blind people too; and each modality has a shape of its own.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f")
SHAPES = ("circle", "square", "triangle", "diamond")
_INK, _SOFT, _LINE, _GROUND = "#1d1c1a", "#6a665f", "#d8d3c9", "#fbfaf8"


def save_picture(
    view: View,
    path: str | Path,
    *,
    title: str = "",
    size: tuple[int, int] = (1200, 900),
    labels: int = 60,
    font: str | None = None,
) -> None:
    """Draw a view as a PNG file, with a legend and as many labels as fit without hiding anything.

    Args:
        view: what to draw.
        path: of the PNG file, written beside and renamed.
        title: above the picture.
        size: width and height in pixels, at least 400 × 300.
        labels: how many at most; 0 for none.
        font: a TrueType file, for labels in scripts other than Latin.

    Raises:
        EvaluationError: if the size is too small, or the font cannot be read.
    """
    picture = draw(view, title=title, size=size, labels=labels, font=font)
    with written_beside(path) as file:
        picture.save(file, "PNG", optimize=True)


def draw(
    view: View, *, title: str = "", size: tuple[int, int] = (1200, 900), labels: int = 60, font: str | None = None
) -> Image.Image:
    """The picture of `save_picture`."""
    width, height = size
    if width < 400 or height < 300:
        raise EvaluationError(f"a picture of {width} × {height} has no room for a view: make it at least 400 × 300")
    large, plain, small = (_font(font, points) for points in (24, 16, 14))
    # Points are drawn at twice the size and reduced, for smooth edges; text is smooth by itself.
    left, top, right, bottom = 28, 108, width - 28, height - 28
    canvas = Image.new("RGB", (2 * width, 2 * height), _GROUND)
    pen = ImageDraw.Draw(canvas, "RGBA")
    pen.rounded_rectangle((2 * left, 2 * top, 2 * right, 2 * bottom), 12, fill="#ffffff", outline=_LINE, width=2)
    places = _fit(view.points, (left + 24, top + 24, right - 24, bottom - 24))
    radius = 6.0 if len(places) <= 300 else 4.0 if len(places) <= 3000 else 2.5
    # In an order of their own, or the last modality would hide the others.
    for row in np.random.default_rng(0).permutation(len(places)):
        x, y = 2 * places[row]
        _mark(pen, x, y, 2 * radius, int(view.which[row]), "c8")
    counts = np.bincount(view.which, minlength=len(view.modalities))
    legend = [f"{_one_line(name, 40)} ({count:,})" for name, count in zip(view.modalities, counts, strict=True)]
    starts = np.cumsum([left + 8, *(plain.getlength(text) + 44 for text in legend)])
    for number, x in enumerate(starts[:-1]):
        _mark(pen, 2 * x, 2 * 82, 14, number, "ff")
    picture = canvas.resize(size, Image.Resampling.LANCZOS, reducing_gap=None)
    pen = ImageDraw.Draw(picture)
    pen.text((left, 18), _one_line(title or "A view of the space", 90), _INK, large)
    pen.text((left, 50), view.method, _SOFT, small)
    for x, text in zip(starts, legend, strict=False):
        pen.text((x + 14, 82), text, _INK, plain, anchor="lm")
    _write_labels(pen, view, places, radius, labels, small, (left, top, right, bottom))
    return picture


def _write_labels(
    pen: ImageDraw.ImageDraw,
    view: View,
    places: np.ndarray,
    radius: float,
    most: int,
    font: ImageFont.FreeTypeFont,
    frame: Box,
) -> None:
    """Labels beside their points, in turn from all modalities, where they touch no other, hide no point and stay inside."""
    turns = np.zeros(len(view.modalities), np.int64)
    order = []
    for row in np.random.default_rng(1).permutation(len(places)):
        if view.labels[row].strip():
            order.append((int(turns[view.which[row]]), int(view.which[row]), int(row)))
            turns[view.which[row]] += 1
    taken: list[Box] = []
    for _, _, row in sorted(order)[: 20 * most]:
        if len(taken) >= most:
            break
        text, (x, y) = _one_line(view.labels[row], 28), places[row]
        away = radius + 4
        for anchor, dx, dy in (("lm", away, 0), ("rm", -away, 0), ("mb", 0, -away), ("mt", 0, away)):
            box = pen.textbbox((x + dx, y + dy), text, font, anchor)
            if _inside(box, frame) and not any(_touch(box, other) for other in taken) and not _covers(box, places, radius):
                pen.text((x + dx, y + dy), text, _INK, font, anchor)
                taken.append(box)
                break


def _covers(box: Box, places: np.ndarray, radius: float) -> bool:
    low, high = np.array(box[:2]) - radius, np.array(box[2:]) + radius
    return bool(((places > low) & (places < high)).all(1).any())


def _inside(box: Box, frame: Box) -> bool:
    return box[0] > frame[0] and box[1] > frame[1] and box[2] < frame[2] and box[3] < frame[3]


def _touch(a: Box, b: Box) -> bool:
    return a[0] < b[2] + 4 and b[0] < a[2] + 4 and a[1] < b[3] + 2 and b[1] < a[3] + 2


def _fit(points: np.ndarray, box: Box) -> np.ndarray:
    """Points in a box of pixels, x and y at one scale, y upwards."""
    low, high = points.min(0), points.max(0)
    room = np.array([box[2] - box[0], box[3] - box[1]])
    scale = np.min(room / np.maximum(high - low, 1e-12 * max(1.0, float(np.abs(points).max()))))
    middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    return middle + (points - (low + high) / 2) * scale * np.array([1, -1])


def _mark(pen: ImageDraw.ImageDraw, x: float, y: float, r: float, modality: int, alpha: str) -> None:
    color = COLORS[modality % len(COLORS)] + alpha
    shape = SHAPES[modality % len(SHAPES)]
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=color)
    else:
        corners = {
            "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
            "triangle": ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
            "diamond": ((0, -1.3), (1.1, 0), (0, 1.3), (-1.1, 0)),
        }[shape]
        pen.polygon([(x + a * r, y + b * r) for a, b in corners], fill=color)


def _font(path: str | None, points: float) -> ImageFont.FreeTypeFont:
    try:
        font = ImageFont.load_default(points) if path is None else ImageFont.truetype(path, points)
    except OSError as error:
        raise EvaluationError(f"the font {path!r} cannot be read ({error}): give a TrueType file") from None
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise EvaluationError("this Pillow was built without FreeType and cannot write labels: install one of its wheels")
    return font


def _one_line(text: str, most: int) -> str:
    text = " ".join(text.encode("utf-8", "backslashreplace").decode("utf-8").split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
