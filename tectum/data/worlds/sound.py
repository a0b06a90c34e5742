"""Scenes as sounds: each thing a note, from left to right; its colour is the pitch, its shape the timbre."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from tectum.data.worlds.scene import Scene
from tectum.data.worlds.stamp import COLOURS

RATE = 16_000
SECONDS = 0.25  # of a note, with the pause after it
_PAUSE = 0.05

PITCHES: Mapping[str, float] = {colour: 180.0 * 2 ** (step / 8) for step, colour in enumerate(COLOURS)}
"""Hz of each colour for a large thing, an octave in eight steps; small things are two octaves higher."""

TIMBRES: Mapping[str, tuple[float, ...]] = {
    "sphere": (1.0,),
    "cube": (1.0, 0.0, 0.7, 0.0, 0.5),
    "cone": (1.0, 0.5, 0.33, 0.25, 0.2),
    "ring": (1.0, 1.0),
    "cross": (1.0, 0.0, 1.0),
    "star": (1.0, 0.0, 0.0, 1.0),
    "heart": (1.0, 0.7, 0.7),
    "diamond": (1.0, 0.0, 0.0, 0.0, 1.0),
}
"""Amplitudes of each shape's harmonics."""

_OCTAVES: Mapping[str, int] = {"small": 2, "large": 0}
_FADING: Mapping[str, float] = {"matte": 0.0, "shiny": 15.0, "striped": 0.0}  # per second; stripes flutter instead


def sound(scene: Scene) -> np.ndarray:
    """The notes of the things from left to right, float32 [n] in −1 … 1 at 16 kHz, a quarter of a second for each thing.

    >>> from tectum.data.worlds.scene import make_scene, pairs
    >>> sound(make_scene(pairs(), 0, 0)).shape
    (8000,)
    """
    things = sorted(scene.things, key=lambda thing: (thing.box[0], thing.box))
    return np.concatenate([note(thing.shape, thing.colour, thing.size, thing.material) for thing in things])


@lru_cache(maxsize=1024)
def note(shape: str, colour: str, size: str = "large", material: str = "matte") -> np.ndarray:
    """The note of a thing with the pause after it, float32 [4000], read-only.

    Shiny things ring and die away, striped things flutter twenty times a second.
    """
    time = np.arange(round((SECONDS - _PAUSE) * RATE)) / RATE
    pitch = PITCHES[colour] * 2 ** _OCTAVES[size]
    wave = sum(
        (strength * np.sin(2 * np.pi * pitch * number * time) for number, strength in enumerate(TIMBRES[shape], 1)),
        np.zeros_like(time),
    )
    edge = np.minimum(1, np.minimum(time, time[::-1]) / 0.01)
    flutter = 0.6 + 0.4 * np.cos(2 * np.pi * 20 * time) if material == "striped" else 1.0
    wave *= edge * np.exp(-_FADING[material] * time) * flutter
    whole = np.zeros(round(SECONDS * RATE), np.float32)
    whole[: len(wave)] = 0.5 * wave / np.abs(wave).max()
    whole.setflags(write=False)
    return whole
