"""Scenes as pictures, boxes and masks."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from tectum.data.worlds.dice import Dice
from tectum.data.worlds.scene import Ground, Scene, Thing
from tectum.data.worlds.stamp import COLOURS, Stamp, stamp


def picture(scene: Scene) -> np.ndarray:
    """The scene, anti-aliased, uint8 RGB [size, size, 3].

    >>> from tectum.data.worlds.scene import make_scene, pairs
    >>> picture(make_scene(pairs(), 0, 0)).shape
    (64, 64, 3)
    """
    canvas = ground(scene.ground, scene.world.size)
    for thing in scene.things:
        paint(canvas, thing, scene)
    return (canvas + 0.5).astype(np.uint8)


def paint(canvas: np.ndarray, thing: Thing, scene: Scene) -> None:
    """Lay a thing over float32 RGB [size, size, 3] in 0 … 255, in place."""
    coverage, paints = _painted(thing.shape, thing.colour, thing.material, scene.world.side(thing.size))
    left, top, right, bottom = thing.box
    behind = canvas[top:bottom, left:right]
    behind *= 1 - coverage
    behind += paints


def boxes(scene: Scene) -> np.ndarray:
    """The boxes of the things, hidden parts included, int64 [n, 4]: left, top, right, bottom, the last two excluded."""
    return np.array([thing.box for thing in scene.things], np.int64)


def masks(scene: Scene) -> np.ndarray:
    """Where each thing is seen: the pixels it is drawn in, less those that a nearer thing is drawn in; bool [n, size, size]."""
    size = scene.world.size
    seen = np.zeros((len(scene.things), size, size), bool)
    for at, thing in enumerate(scene.things):
        left, top, right, bottom = thing.box
        drawn = cut(scene, thing).coverage[:, :, 0] > 0
        seen[:at, top:bottom, left:right] &= ~drawn
        seen[at, top:bottom, left:right] = drawn
    return seen


def cut(scene: Scene, thing: Thing) -> Stamp:
    """The stamp of a thing; it fills the thing's box."""
    return stamp(thing.shape, thing.material, scene.world.side(thing.size))


def ground(behind: Ground, size: int) -> np.ndarray:
    """The ground alone, float32 [size, size, 3] in 0 … 255, never darker than 190."""
    first, second = np.array(behind.colours, np.float32)
    if behind.kind == "plain":
        return np.full((size, size, 3), first, np.float32)
    dice = Dice(behind.number)
    if behind.kind == "speckle":
        # Raw bits stay the same from one version of numpy to the next.
        bits = np.random.PCG64(behind.number).random_raw((size * size + 7) // 8).view(np.uint8)[: size * size]
        return first + (bits.reshape(size, size, 1) % 16).astype(np.float32) - 8
    along = np.arange(size, dtype=np.float32)
    if behind.kind == "checks":
        cell, start = size * dice.uniform(0.1, 0.25), dice.uniform(0, size)
        odd = ((along + start) // cell % 2).astype(bool)
        share = (odd[:, None] ^ odd[None, :])[:, :, None]
        return np.where(share, second, first)
    angle = dice.uniform(0, 2 * math.pi)
    slope = (along[:, None] * math.sin(angle) + along[None, :] * math.cos(angle)) / (1.5 * size)
    return first + (slope - slope.min())[:, :, None] * (second - first)


@lru_cache(maxsize=4096)
def _painted(shape: str, colour: str, material: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Coverage [h, w, 1], and colour times coverage [h, w, 3]; read-only."""
    coverage, light = stamp(shape, material, side)
    pure = np.array(COLOURS[colour], np.float32)
    paints = (pure * (1 - np.abs(light)) + 255 * np.maximum(light, 0)) * coverage
    paints.setflags(write=False)
    return coverage, paints
