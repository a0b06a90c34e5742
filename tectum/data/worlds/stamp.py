"""Shapes as stamps: how much of each pixel a shape covers, and how light falls on it. Every stamp is made once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

FINE = 4  # Sub-pixels along a side: coverage comes in sixteenths, the least of which is still seen against any ground.


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A pentagram with its tip up: inside the line from a tip to the notch beside it."""
    x, y = x * 1.05, (y - 0.05) * 1.05
    angle = np.abs((np.arctan2(x, y) + math.pi / 5) % (2 * math.pi / 5) - math.pi / 5)
    along, across = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
    notch_x, notch_y = 0.42 * math.cos(math.pi / 5), 0.42 * math.sin(math.pi / 5)
    return (notch_x - 1) * across - notch_y * (along - 1) >= 0


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = x * 1.16, y * 1.14 + 0.12
    return (x**2 + y**2 - 1) ** 3 <= x**2 * y**3


Inside = Callable[[np.ndarray, np.ndarray], np.ndarray]

SHAPES: Mapping[str, Inside] = {
    "sphere": lambda x, y: x**2 + y**2 <= 1,
    "cube": lambda x, y: np.maximum(np.abs(x), np.abs(y)) <= 0.85,
    "cone": lambda x, y: 2 * np.abs(x) <= 1 - y,
    "ring": lambda x, y: (x**2 + y**2 <= 1) & (x**2 + y**2 >= 0.3),
    "cross": lambda x, y: np.minimum(np.abs(x), np.abs(y)) <= 0.3,
    "star": _star,
    "heart": _heart,
    "diamond": lambda x, y: 1.4 * np.abs(x) + np.abs(y) <= 1,
}
"""The shapes: whether points (x to the right, y up, both in −1 … 1) lie inside."""

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (214, 34, 40),
    "green": (36, 152, 62),
    "blue": (36, 78, 214),
    "yellow": (240, 206, 24),
    "purple": (134, 44, 168),
    "orange": (242, 128, 24),
    "pink": (240, 104, 176),
    "black": (28, 28, 30),
}
"""The colours in RGB; the grounds are lighter than any of them."""

SIZES: Mapping[str, float] = {"small": 0.19, "large": 0.3}
"""The sizes: sides as shares of the canvas."""

MATERIALS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "matte": lambda x, y: np.zeros_like(x),
    "shiny": lambda x, y: 0.5 * np.exp(-((x + 0.3) ** 2 + (y - 0.3) ** 2) / 0.15),
    "striped": lambda x, y: np.where((2.5 * (x + y)) % 2 < 1, -0.5, 0.0),
}
"""The materials: the light at points of a shape, from −1 (black) over 0 (its colour) to 1 (white)."""


class Stamp(NamedTuple):
    """A shape cut out tightly: every edge row and column is touched by it."""

    coverage: np.ndarray
    """How much of each pixel it covers, in 0 … 1; float32 [h, w, 1], read-only."""
    light: np.ndarray
    """What its material adds, in −1 … 1; float32 [h, w, 1], read-only."""


@lru_cache(maxsize=1024)
def stamp(shape: str, material: str, side: int) -> Stamp:
    """The stamp of a shape in a square of `side` pixels, by counting sub-pixels.

    >>> stamp("cube", "matte", 8).coverage[:, :, 0].shape
    (8, 8)
    >>> stamp("sphere", "matte", 8).coverage[0, :4, 0]
    array([0.    , 0.1875, 0.6875, 1.    ], dtype=float32)
    """
    middles = (np.arange(FINE * side) + 0.5) * (2 / (FINE * side)) - 1
    x, y = middles[None, :].repeat(len(middles), 0), -middles[:, None].repeat(len(middles), 1)

    def by_pixel(fine: np.ndarray) -> np.ndarray:
        return fine.astype(np.float64).reshape(side, FINE, side, FINE).mean((1, 3))

    coverage, light = by_pixel(SHAPES[shape](x, y)), by_pixel(MATERIALS[material](x, y))
    rows, columns = (np.flatnonzero(coverage.any(axis)) for axis in (1, 0))
    tight = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    cut = Stamp(*(np.ascontiguousarray(part[tight], np.float32)[:, :, None] for part in (coverage, light)))
    for part in cut:
        part.setflags(write=False)
    return cut


@lru_cache(maxsize=1024)
def extent(shape: str, side: int) -> tuple[int, int]:
    """Width and height in pixels of a shape's stamp."""
    height, width, _ = stamp(shape, "matte", side).coverage.shape
    return width, height
