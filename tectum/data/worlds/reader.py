"""A world as a dataset: samples that a loader, a `Space` or any trainer reads like those of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tectum.data.sample import Sample
from tectum.data.worlds.claim import caption
from tectum.data.worlds.draw import boxes, masks, picture
from tectum.data.worlds.motion import describe, film, make_clip
from tectum.data.worlds.question import ask
from tectum.data.worlds.scene import Scene, World, make_scene
from tectum.data.worlds.sound import RATE, sound
from tectum.errors import DataError


class WorldReader:
    """`count` samples of a world; sample i is a pure function of (world, seed, i).

    Each has a "key" and what `holds` names: "image" (uint8 [s, s, 3]), "text" (a caption, or with "video" what moves),
    "audio" ((samples, 16000)), "boxes" (int64 [n, 4]), "masks" (bool [n, s, s]), "video" (uint8 [frames, s, s, 3]), "json"
    (the scene as data), and "question" with "answer", which choose the scene.

    Raises DataError for another name, and IndexError (as a list does) for a number outside 0 … count − 1.

    >>> from tectum.data.worlds.scene import pairs
    >>> reader = WorldReader(pairs(), seed=1, count=1000, holds=("image", "text", "audio"))
    >>> sorted(reader[7]), reader[7]["image"].shape
    (['audio', 'image', 'key', 'text'], (64, 64, 3))
    """

    def __init__(self, world: World, *, seed: int, count: int, holds: tuple[str, ...] = ("image", "text")) -> None:
        known = (*_MAKERS, "text", "video", "question")
        unknown = [name for name in holds if name not in known]
        if unknown:
            raise DataError(f"samples of a world hold no {unknown[0]!r}: choose of {', '.join(known)}")
        if "question" in holds and "video" in holds:
            raise DataError("questions are about still scenes: ask for video or for question, not both")
        self.world, self.seed, self.count, self.holds = world, seed, count, holds

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(f"sample {index} of {self.count}")
        sample: Sample = {}
        if "question" in self.holds:
            question = ask(self.world, self.seed, index)
            scene = question.scene
            sample |= {"question": question.text, "answer": question.answer}
        else:
            scene = make_scene(self.world, self.seed, index)
        if "video" in self.holds:
            clip = make_clip(self.world, self.seed, index)
            sample["video"] = film(clip)
        if "text" in self.holds:
            sample["text"] = describe(clip) if "video" in self.holds else caption(scene)
        return {"key": scene.key, **sample, **{name: make(scene) for name, make in _MAKERS.items() if name in self.holds}}


_MAKERS: Mapping[str, Callable[[Scene], Any]] = {
    "image": picture,
    "audio": lambda scene: (sound(scene), RATE),
    "boxes": boxes,
    "masks": masks,
    "json": Scene.record,
}
