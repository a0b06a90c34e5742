"""Scenes in motion: things that move in straight lines and bounce off the edges, through each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tectum.data.worlds.claim import noun_of, phrase
from tectum.data.worlds.draw import ground, paint
from tectum.data.worlds.scene import Scene, World, make_scene

_DIRECTIONS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


@dataclass(frozen=True, slots=True)
class Clip:
    """A scene at the start, the velocity (right, down) of each thing in pixels a frame, and the number of frames."""

    scene: Scene
    velocities: tuple[tuple[float, float], ...]
    frames: int


def make_clip(world: World, seed: int, index: int, frames: int = 16) -> Clip:
    """Clip number `index` ≥ 0: at least one thing moves, at 0.8 … 2.5 % of the canvas a frame along each axis it moves along.

    >>> from tectum.data.worlds.scene import pairs
    >>> describe(make_clip(pairs(), 0, 1))
    'the red block goes right and bounces, the pink heart goes down and right'
    """
    scene = make_scene(world, seed, index)
    dice = scene.dice("motion")
    mover = dice.below(len(scene.things))
    velocities = []
    for at in range(len(scene.things)):
        right, down = dice.pick(_DIRECTIONS[1:] if at == mover else _DIRECTIONS)
        speed = world.size * dice.uniform(0.008, 0.025)
        velocities.append((right * speed, down * speed))
    return Clip(scene, tuple(velocities), frames)


def tracks(clip: Clip) -> np.ndarray:
    """The boxes of the things in every frame, int64 [frames, n, 4].

    A position is the reflection of where the thing would be without walls, so it does not depend on the frames before.
    """
    boxes = np.array([thing.box for thing in clip.scene.things], np.int64)
    start, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    room = clip.scene.world.size - extent
    free = start + np.arange(clip.frames)[:, None, None] * np.array(clip.velocities)
    # |x| with the period of there and back again.
    phase = free % np.maximum(2 * room, 1)
    corner = np.rint(np.minimum(phase, 2 * room - phase)).astype(np.int64)
    return np.concatenate((corner, corner + extent), 2)


def film(clip: Clip) -> np.ndarray:
    """The frames, uint8 RGB [frames, size, size, 3].

    >>> from tectum.data.worlds.scene import pairs
    >>> film(make_clip(pairs(), 0, 1, frames=3)).shape
    (3, 64, 64, 3)
    """
    scene = clip.scene
    behind = ground(scene.ground, scene.world.size)
    frames = np.empty((clip.frames, *behind.shape), np.uint8)
    for frame, boxes in zip(frames, tracks(clip), strict=True):
        canvas = behind.copy()
        for thing, box in zip(scene.things, boxes, strict=True):
            paint(canvas, thing._replace(box=tuple(box)), scene)
        frame[:] = canvas + 0.5
    return frames


def heading(clip: Clip, at: int) -> tuple[str, bool]:
    """Where thing number `at` is first seen to go, as "left" or "up and right" ("" if it stays), and whether it turns back."""
    steps = np.sign(np.diff(tracks(clip)[:, at, :2], axis=0))
    words, turns = [], False
    for axis, (backward, forward) in ((1, ("up", "down")), (0, ("left", "right"))):
        seen = steps[:, axis][steps[:, axis] != 0]
        if len(seen):
            words.append(backward if seen[0] < 0 else forward)
            turns |= bool((seen != seen[0]).any())
    return " and ".join(words), turns


def describe(clip: Clip, number: int = 0) -> str:
    """What happens to a thing that no other is like, or else to all: each number is another draw.

    "the red ball moves left" is said of a thing that does so through the whole clip, "… and bounces" is added if it turns.
    """
    scene, dice = clip.scene, clip.scene.dice("motion", number)
    nouns = [noun_of(scene.world, thing) for thing in scene.things]
    alone = [at for at, noun in enumerate(nouns) if len(noun.among(scene)) == 1]
    told = [dice.pick(alone)] if alone and dice.chance(0.5) else list(range(len(nouns)))
    style = dice.below(2)
    verb = dice.pick(("moves", "goes"))
    parts = []
    for at in told:
        where, turns = heading(clip, at)
        does = f"{verb} {where}{' and bounces' if turns else ''}" if where else "stays still"
        parts.append(f"{phrase(nouns[at], style, 'the' if at in alone else 'a')} {does}")
    return ", ".join(parts)
