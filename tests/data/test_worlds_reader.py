"""Worlds heard, moving, and read as datasets."""

import json
import pickle
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tectum.data.loader import prefetch
from tectum.data.order import batch_indices
from tectum.data.worlds import (
    RATE,
    Clip,
    WorldReader,
    answers,
    crowds,
    describe,
    film,
    heaps,
    make_clip,
    make_scene,
    note,
    pairs,
    picture,
    singles,
    sound,
    tracks,
)
from tectum.data.worlds.draw import ground
from tectum.data.worlds.motion import heading
from tectum.data.worlds.sound import PITCHES, TIMBRES
from tectum.data.worlds.stamp import COLOURS, MATERIALS, SHAPES, SIZES
from tectum.errors import DataError
from tectum.media.audio import read_sound
from tectum.media.image import ImageSpec

# Sounds


def spectrum(wave: np.ndarray) -> np.ndarray:
    power = np.abs(np.fft.rfft(wave, 4 * RATE)) ** 2
    return power / power.sum()


def test_no_two_notes_are_alike() -> None:
    """The spectra of no two things overlap by more than nine tenths."""
    spectra = {
        (shape, colour, size): spectrum(note(shape, colour, size)) for shape in SHAPES for colour in COLOURS for size in SIZES
    }
    for (a, first), (b, second) in combinations(spectra.items(), 2):
        assert np.minimum(first, second).sum() < 0.9, (a, b)


@pytest.mark.parametrize("size", SIZES)
def test_colour_and_shape_can_be_heard(size: str) -> None:
    """The pitch is the lowest strong line of the spectrum; the timbre is what stands at its multiples."""
    octave = {"large": 1, "small": 4}[size]
    for colour, pitch in PITCHES.items():
        for shape, strengths in TIMBRES.items():
            power = spectrum(note(shape, colour, size))
            lowest = np.flatnonzero(power > 0.1 * power.max())[0] / 4
            assert min(PITCHES, key=lambda name: abs(np.log(octave * PITCHES[name] / lowest))) == colour
            places = [round(4 * number * octave * pitch) for number in range(1, 6)]
            heard = np.array([power[at - 12 : at + 13].sum() ** 0.5 for at in places])
            wanted = np.pad(strengths, (0, 5 - len(strengths)))
            np.testing.assert_allclose(heard / heard[0], wanted / wanted[0], atol=0.03)


def test_materials_are_heard() -> None:
    loudness = {material: note("cube", "red", "large", material)[: RATE // 5].reshape(20, -1).std(1) for material in MATERIALS}
    steady = {material: one[2:-2] / one[2:-2].max() for material, one in loudness.items()}
    assert steady["matte"].min() > 0.8
    assert steady["shiny"][-1] < 0.2 and (np.diff(steady["shiny"]) < 0.05).all()
    assert steady["striped"].min() < 0.5 and steady["striped"][-6:].max() > 0.8


def test_a_scene_sounds_from_left_to_right() -> None:
    for index in range(30):
        scene = make_scene(heaps(), 0, index)
        wave = sound(scene)
        assert wave.dtype == np.float32 and np.abs(wave).max() <= 1 and np.array_equal(wave, sound(scene))
        parts = wave.reshape(len(scene.things), -1)
        order = sorted(scene.things, key=lambda thing: thing.box[0])
        for part, thing in zip(parts, order, strict=True):
            twins = [other for other in scene.things if other.box[0] == thing.box[0]]
            assert any(np.array_equal(part, note(*other[:4])) for other in twins)
            assert abs(part[0]) < 1e-3 and not part[-RATE // 25 :].any()


# Motion


@given(index=st.integers(0, 10**6), frames=st.integers(1, 120))
def test_things_keep_their_size_and_never_leave(index: int, frames: int) -> None:
    clip = make_clip(heaps(), 0, index, frames)
    boxes = tracks(clip)
    assert boxes.shape == (frames, len(clip.scene.things), 4)
    assert np.array_equal(boxes[0], [thing.box for thing in clip.scene.things])
    assert (boxes >= 0).all() and (boxes <= clip.scene.world.size).all()
    assert (boxes[:, :, 2:] - boxes[:, :, :2] == boxes[0, :, 2:] - boxes[0, :, :2]).all()
    # A longer clip begins as a shorter one does.
    assert np.array_equal(tracks(replace(clip, frames=frames + 5))[:frames], boxes)


def test_things_move_by_their_velocity_and_bounce_as_simulated() -> None:
    """Step by step with walls, another way than by reflecting where they would be without."""
    for index in range(40):
        clip = make_clip(pairs(), 1, index, 60)
        boxes = tracks(clip)
        assert any(velocity != (0, 0) for velocity in clip.velocities)
        for at, thing in enumerate(clip.scene.things):
            for axis in (0, 1):
                room = clip.scene.world.size - (thing.box[2 + axis] - thing.box[axis])
                place, speed = float(thing.box[axis]), clip.velocities[at][axis]
                for frame in range(60):
                    assert abs(boxes[frame, at, axis] - place) <= 0.5 + 1e-6
                    place += speed
                    if place < 0:
                        place, speed = -place, -speed
                    elif place > room:
                        place, speed = 2 * room - place, -speed


def test_frames_are_pictures_of_the_moved_things() -> None:
    for index in range(5):
        clip = make_clip(heaps(), 0, index, 12)
        frames = film(clip)
        assert frames.shape == (12, 64, 64, 3) and frames.dtype == np.uint8
        assert np.array_equal(frames[0], picture(clip.scene))
        for frame, boxes in zip(frames, tracks(clip), strict=True):
            moved = [thing._replace(box=tuple(box.tolist())) for thing, box in zip(clip.scene.things, boxes, strict=True)]
            assert np.array_equal(frame, picture(replace(clip.scene, things=tuple(moved))))
            empty = (ground(clip.scene.ground, 64) + 0.5).astype(np.uint8)
            rows, columns = (np.flatnonzero((frame != empty).any(2).any(axis)) for axis in (1, 0))
            assert (columns[0], rows[0]) == tuple(boxes[:, :2].min(0))
            assert (columns[-1] + 1, rows[-1] + 1) == tuple(boxes[:, 2:].max(0))


def centres(clip: Clip, at: int) -> np.ndarray:
    boxes = tracks(clip)[:, at]
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def test_what_is_said_of_a_movement_is_seen() -> None:
    texts = []
    for index in range(150):
        clip = make_clip(singles(), 0, index)
        text = describe(clip)
        texts.append(text)
        path = centres(clip, 0)
        steps = np.sign(np.diff(path, axis=0))
        for axis, (back, forth) in enumerate((("left", "right"), ("up", "down"))):
            seen = [step for step in steps[:, axis] if step]
            said = [word for word in (back, forth) if f" {word}" in text]
            assert said == ([] if not seen else [back if seen[0] < 0 else forth])
            assert "bounces" in text or len(set(seen)) < 2
        assert "bounces" not in text or any(len(set(steps[:, axis]) - {0}) == 2 for axis in (0, 1))
        assert text == describe(clip) and text.split()[1] == clip.scene.things[0].colour
    for word in ("left", "right", "up", "down", "bounces"):
        assert sum(word in text for text in texts) > 15


def test_things_that_stay_are_said_to_stay() -> None:
    clip = replace(make_clip(pairs(), 0, 3), velocities=((0.0, 0.0), (1.0, 0.0)))
    assert heading(clip, 0) == ("", False) and heading(clip, 1)[0] in ("left", "right")
    assert any("stays still" in describe(clip, number) for number in range(20))


# Datasets


EVERYTHING = ("image", "text", "audio", "boxes", "masks", "json")


def same(a: object, b: object) -> bool:
    if isinstance(a, tuple):
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


@pytest.mark.parametrize("holds", [EVERYTHING, ("video", "text"), ("image", "question")])
def test_samples_depend_on_their_number_alone(holds: tuple[str, ...]) -> None:
    reader = WorldReader(crowds(), seed=3, count=50, holds=holds)
    other = pickle.loads(pickle.dumps(reader))
    order = np.random.default_rng(0).permutation(50)
    again = {int(i): other[int(i)] for i in order}
    assert len(reader) == len(list(reader)) == 50
    for i, sample in enumerate(reader):
        assert sample.keys() == again[i].keys() == {"key", *holds} | ({"answer"} if "question" in holds else set())
        assert all(same(value, again[i][name]) for name, value in sample.items())
    assert len({sample["key"] for sample in reader}) == 50


def test_samples_are_what_the_media_readers_take() -> None:
    sample = WorldReader(heaps(), seed=0, count=3, holds=EVERYTHING)[2]
    assert ImageSpec(size=32).tensor(sample["image"]).shape == (3, 32, 32)
    assert len(read_sound(sample["audio"])) == len(sample["audio"][0])
    assert json.loads(json.dumps(sample["json"]))["things"][0]["colour"] in COLOURS
    assert len(sample["boxes"]) == len(sample["masks"]) == len(sample["json"]["things"])


def test_batches_come_from_a_loader() -> None:
    reader = WorldReader(pairs(), seed=0, count=64)

    def batch(step: int) -> tuple[torch.Tensor, list[str]]:
        samples = [reader[int(i)] for i in batch_indices(len(reader), 8, 0, step)]
        return torch.from_numpy(np.stack([sample["image"] for sample in samples])), [sample["text"] for sample in samples]

    texts = []
    for _, (images, some) in prefetch(batch, 0, 8, workers=2):
        assert images.shape == (8, 64, 64, 3)
        texts += some
    assert sorted(texts) == sorted(sample["text"] for sample in reader)


def test_answers_of_a_reader_are_those_of_the_world() -> None:
    reader = WorldReader(crowds(), seed=0, count=100, holds=("image", "question"))
    known = {answer for kind in ("colour", "shape", "count", "exists", "where") for answer in answers(crowds(), kind)}
    assert {sample["answer"] for sample in reader} <= known


def test_wrong_names_and_numbers() -> None:
    with pytest.raises(DataError, match="no 'smell'"):
        WorldReader(pairs(), seed=0, count=3, holds=("image", "smell"))
    with pytest.raises(DataError, match="still"):
        WorldReader(pairs(), seed=0, count=3, holds=("video", "question"))
    for index in (-1, 3):
        with pytest.raises(IndexError):
            WorldReader(pairs(), seed=0, count=3)[index]
