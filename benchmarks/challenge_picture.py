"""The plain run, the fix and the best of each challenge, as marks on a line from 0 to 1 with their intervals."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

COLORS = {"the plain run": "#d55e00", "the fix": "#0072b2", "the best that can be had": "#1d1c1a"}  # Okabe & Ito (2008)
INK, SOFT, LINE, GROUND = "#1d1c1a", "#6a665f", "#d8d3c9", "#fbfaf8"
SCALE = 2  # drawn at twice the size and reduced, for smooth edges
LEFT, RIGHT, WIDTH, TOP, STEP = 380, 780, 900, 78, 46


class Spread(NamedTuple):
    """A mean and half of its 95 % interval."""

    mean: float
    half: float


class Row(NamedTuple):
    """One line of the picture: what is measured, what mends it, and what came out."""

    title: str
    fix: str
    plain: Spread
    fixed: Spread
    best: Spread
    recovered: str


def draw(rows: list[Row]) -> Image.Image:
    """A line for each."""
    page = Image.new("RGB", (WIDTH * SCALE, (TOP + STEP * len(rows) + 40) * SCALE), GROUND)
    pen = ImageDraw.Draw(page)

    def text(x: float, y: float, words: str, color: str = INK, size: int = 13, anchor: str = "lm") -> None:
        pen.text((x * SCALE, y * SCALE), words, color, ImageFont.load_default(size * SCALE), anchor=anchor)

    def place(score: float) -> float:
        return (LEFT + min(max(score, 0.0), 1.0) * (RIGHT - LEFT)) * SCALE

    def marks(spreads: tuple[Spread, ...], y: float) -> None:
        for spread, color, up in zip(spreads, COLORS.values(), (-3, 3, 0), strict=True):
            low, high = place(spread.mean - spread.half), place(spread.mean + spread.half)
            pen.line((low, (y + up) * SCALE, high, (y + up) * SCALE), color, 2 * SCALE)
        for spread, color, radius in reversed(list(zip(spreads, COLORS.values(), (5, 5, 7), strict=True))):
            x, r = place(spread.mean), radius * SCALE
            pen.ellipse((x - r, y * SCALE - r, x + r, y * SCALE + r), color, GROUND, SCALE)

    text(20, 22, "What goes wrong in training, and what mends it", size=17)
    x = 20.0
    for name, color in COLORS.items():
        pen.ellipse([v * SCALE for v in (x, 46, x + 10, 56)], color)
        text(x + 16, 51, name, SOFT)
        x += 40 + ImageFont.load_default(13).getlength(name)
    text(x, 51, "means over seeds, with 95 % intervals", SOFT)
    text(WIDTH - 20, 51, "recovered", SOFT, anchor="rm")
    bottom = TOP + STEP * len(rows)
    for score in (0.0, 0.25, 0.5, 0.75, 1.0):
        pen.line((place(score), TOP * SCALE, place(score), bottom * SCALE), LINE, SCALE)
        text(place(score) / SCALE, bottom + 14, f"{score:g}", SOFT, 12, "mm")
    for number, row in enumerate(rows):
        y = TOP + STEP * (number + 0.5)
        text(20, y - 9, row.title)
        text(20, y + 9, row.fix, SOFT, 12)
        pen.line((place(row.plain.mean), y * SCALE, place(row.best.mean), y * SCALE), LINE, 2 * SCALE)
        marks((row.plain, row.fixed, row.best), y)
        text(WIDTH - 20, y, row.recovered, anchor="rm")
    return page.reduce(SCALE)
