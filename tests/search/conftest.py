"""A folder of small media, and a model that knows their colours and pitches."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_space import COLOURS, FakeSpace
from small_media import make_old, make_picture, make_sound, make_text

from tectum.search.library import Library


@pytest.fixture
def space() -> FakeSpace:
    return FakeSpace(background=128)


@pytest.fixture
def library(tmp_path: Path, space: FakeSpace) -> Library:
    return Library(tmp_path / "my.tectum", space)


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """20 pictures of each of five colours, two sounds and a text."""
    folder = tmp_path / "media"
    for colour in COLOURS:
        for seed in range(20):
            make_picture(folder / colour / f"{seed}.png", colour, seed)
    make_sound(folder / "sounds" / "whistle.wav", "high")
    make_sound(folder / "sounds" / "hum.flac", "low")
    make_text(
        folder / "notes.txt", "Something blue.\n\n" + "Nothing of note here, only words. " * 30 + "\n\nAt last something yellow."
    )
    make_old(folder)
    return folder


@pytest.fixture
def names(media: Path) -> Callable[[object], list[str]]:
    """The paths of hits relative to the media folder."""
    return lambda hits: [os.path.relpath(hit.path, media) for hit in hits]  # type: ignore[attr-defined]
