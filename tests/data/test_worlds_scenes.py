"""Scenes and their pictures: repeatable, as the world says, and drawn where the boxes say."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tectum.data.worlds import Scene, World, crowds, heaps, make_scene, masks, pairs, picture, singles
from tectum.data.worlds.draw import boxes, ground
from tectum.data.worlds.stamp import COLOURS, MATERIALS, SHAPES, SIZES, stamp
from tectum.errors import ConfigError

PRESETS = {"singles": singles(), "pairs": pairs(), "crowds": crowds(), "heaps": heaps()}
preset = pytest.mark.parametrize("world", PRESETS.values(), ids=PRESETS)


def scenes(world: World, count: int = 60, seed: int = 1) -> list[Scene]:
    return [make_scene(world, seed, index) for index in range(count)]


def drawn(scene: Scene) -> np.ndarray:
    """The pixels [size, size] that differ from the ground."""
    empty = (ground(scene.ground, scene.world.size) + 0.5).astype(np.uint8)
    return (picture(scene) != empty).any(2)


def extent(pixels: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@preset
def test_a_scene_depends_on_world_seed_and_index_alone(world: World) -> None:
    forwards = [make_scene(world, 3, index) for index in range(20)]
    backwards = [make_scene(replace(world), 3, index) for index in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert all(np.array_equal(picture(a), picture(b)) for a, b in zip(forwards, backwards[::-1], strict=True))
    keys = {make_scene(world, seed, index, attempt).key for seed in range(3) for index in range(5) for attempt in range(2)}
    assert len(keys) == 30
    assert len({scene.things for scene in scenes(world, 200)}) == 200


@preset
@pytest.mark.parametrize("size", [24, 64, 97])
def test_scenes_are_as_the_world_says(world: World, size: int) -> None:
    world = replace(world, size=size)
    for scene in scenes(world):
        assert world.things[0] <= len(scene.things) <= world.things[1]
        for thing in scene.things:
            assert thing.shape in world.shapes and thing.size in world.sizes and thing.material in world.materials
            assert thing.colour in world.colours
            left, top, right, bottom = thing.box
            assert 0 <= left < right <= size and 0 <= top < bottom <= size
        assert picture(scene).shape == (size, size, 3)


@preset
def test_a_thing_alone_is_drawn_exactly_in_its_box(world: World) -> None:
    for scene in scenes(world):
        for thing in scene.things:
            alone = replace(scene, things=(thing,))
            assert extent(drawn(alone)) == thing.box
            assert np.array_equal(masks(alone)[0], drawn(alone))


@preset
def test_masks_part_the_drawn_pixels_among_the_things(world: World) -> None:
    for scene in scenes(world):
        seen = masks(scene)
        assert seen.sum(0).max() == 1
        assert np.array_equal(seen.any(0), drawn(scene))
        for thing, mask in zip(scene.things, seen, strict=True):
            assert mask.any() and np.array_equal(boxes(replace(scene, things=(thing,))), [thing.box])
            left, top, right, bottom = extent(mask)
            assert thing.box[0] <= left and thing.box[1] <= top and right <= thing.box[2] and bottom <= thing.box[3]
            if not world.overlap:
                assert (left, top, right, bottom) == thing.box


@given(index=st.integers(0, 10**6), overlap=st.sampled_from([0.0, 0.2, 0.6]))
def test_nearer_boxes_hide_no_more_than_is_allowed(index: int, overlap: float) -> None:
    scene = make_scene(replace(heaps(), overlap=overlap), 0, index)
    for at, thing in enumerate(scene.things):
        left, top, right, bottom = thing.box
        hidden = sum(
            max(0, min(right, r) - max(left, x)) * max(0, min(bottom, b) - max(top, y))
            for x, y, r, b in (nearer.box for nearer in scene.things[at + 1 :])
        )
        assert hidden <= overlap * (right - left) * (bottom - top)


def test_pairs_are_unlike_and_crowds_repeat() -> None:
    for scene in scenes(pairs(), 300):
        first, second = scene.things
        assert first.colour != second.colour and first.shape != second.shape
    alike = [len({(t.colour, t.shape) for t in scene.things}) < len(scene.things) for scene in scenes(crowds(), 300)]
    assert 0.1 < np.mean(alike) < 0.7


@pytest.mark.parametrize("world", [singles(), pairs(), crowds(), heaps()], ids=PRESETS)
@pytest.mark.parametrize("every", [2, 4, 5])
def test_held_out_pairs_are_never_seen_and_nothing_else_is_unseen(world: World, every: int) -> None:
    parts = {part: replace(world, every=every, part=part) for part in ("all", "seen", "unseen")}
    seen, unseen = set(parts["seen"].combinations), set(parts["unseen"].combinations)
    assert seen | unseen == set(parts["all"].combinations) and not seen & unseen
    # Every word is learnt, so what is new about the unseen part is how they go together.
    assert {colour for colour, _ in seen} == set(world.colours) and {shape for _, shape in seen} == set(world.shapes)
    for part, allowed in (("seen", seen), ("unseen", unseen)):
        assert {(t.colour, t.shape) for scene in scenes(parts[part], 100) for t in scene.things} <= allowed


def test_words_are_used_evenly() -> None:
    things = [thing for scene in scenes(pairs(), 2000) for thing in scene.things]
    for names, known in (([t.colour for t in things], COLOURS), ([t.shape for t in things], SHAPES)):
        shares = np.array([names.count(name) for name in known]) / len(things)
        error = np.sqrt(1 / len(known) / len(things))
        assert np.abs(shares - 1 / len(known)).max() < 5 * error


def reference(shape: str, side: int) -> np.ndarray:
    """The shape drawn by Pillow's polygons in a square of `side` pixels; bool, cut tightly."""
    n, middle = 8 * side, 4 * side
    image = Image.new("L", (n, n))
    pen = ImageDraw.Draw(image)

    def polygon(*points: tuple[float, float]) -> None:
        pen.polygon([(middle + x * middle, middle - y * middle) for x, y in points], 255)

    if shape in ("sphere", "ring"):
        pen.ellipse((0, 0, n, n), 255)
        if shape == "ring":
            inner = 0.3**0.5 * middle
            pen.ellipse((middle - inner, middle - inner, middle + inner, middle + inner), 0)
    elif shape == "cube":
        polygon((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85))
    elif shape == "cone":
        polygon((-1, -1), (1, -1), (0, 1))
    elif shape == "cross":
        polygon((-0.3, -1), (0.3, -1), (0.3, 1), (-0.3, 1))
        polygon((-1, -0.3), (1, -0.3), (1, 0.3), (-1, 0.3))
    elif shape == "diamond":
        polygon((0, 1), (1 / 1.4, 0), (0, -1), (-1 / 1.4, 0))
    elif shape == "star":
        turns = [(0.2 * k * np.pi, 1.0 if k % 2 == 0 else 0.42) for k in range(10)]
        polygon(*[(r * np.sin(a), r * np.cos(a)) for a, r in turns])
    elif shape == "heart":
        t = np.linspace(0, 2 * np.pi, 200)
        x, y = 16 * np.sin(t) ** 3, 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        polygon(*zip(x / 17, y / 17, strict=True))
    fine = np.asarray(image) > 0
    left, top, right, bottom = extent(fine)
    return fine[top:bottom, left:right]


@pytest.mark.parametrize("side", [12, 19, 40])
def test_every_stamp_is_most_like_its_own_shape(side: int) -> None:
    """By the overlap with shapes that another program draws."""

    def likeness(cut: np.ndarray, shape: str) -> float:
        image = Image.fromarray(reference(shape, side).astype(np.float32))
        other = np.asarray(image.resize(cut.shape[::-1], Image.Resampling.BOX))
        return float(np.minimum(cut, other).sum() / np.maximum(cut, other).sum())

    for shape in SHAPES:
        cut = stamp(shape, "matte", side).coverage[:, :, 0]
        found = {name: likeness(cut, name) for name in SHAPES}
        assert max(found, key=found.__getitem__) == shape, found
        assert found[shape] > 0.75, found


@given(
    shape=st.sampled_from(list(SHAPES)),
    material=st.sampled_from(list(MATERIALS)),
    colour=st.sampled_from(list(COLOURS)),
    index=st.integers(0, 1000),
)
def test_the_colour_can_be_read_from_the_pixels(shape: str, material: str, colour: str, index: int) -> None:
    """Of fully covered pixels without light or shadow."""
    world = World(size=96, things=(1, 1), shapes=(shape,), colours=(colour,), materials=(material,))
    scene = make_scene(world, 0, index)
    cut = stamp(shape, material, world.side(scene.things[0].size))
    left, top, right, bottom = scene.things[0].box
    pure = (cut.coverage[:, :, 0] == 1) & (np.abs(cut.light[:, :, 0]) < 0.01)
    found = picture(scene)[top:bottom, left:right][pure].astype(int)
    assert len(found) and np.abs(found - COLOURS[colour]).max() <= 2


@preset
def test_grounds_are_light_and_all_kinds_occur(world: World) -> None:
    kinds = set()
    for scene in scenes(world, 100):
        kinds.add(scene.ground.kind)
        behind = ground(scene.ground, world.size)
        assert behind.min() >= 190 and behind.max() <= 255
    assert kinds == set(world.grounds)


@pytest.mark.parametrize(
    "options",
    [
        {"things": (0, 2)},
        {"things": (3, 2)},
        {"things": (1, 40)},
        {"shapes": ("cube", "cube")},
        {"shapes": ("egg",)},
        {"colours": ()},
        {"grounds": ()},
        {"relations": ("near",)},
        {"repeats": 1.5},
        {"overlap": 1.0},
        {"partial": -0.1},
        {"part": "seen"},
        {"every": 1, "part": "unseen"},
        {"size": 12},
    ],
)
def test_a_world_that_cannot_be_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError):
        World(**options)


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(ConfigError, match="is empty"):
        World(colours=("red",), shapes=("cube",), every=2, part="seen")


def test_sizes_stand_apart() -> None:
    assert all(larger > 1.3 * smaller for smaller, larger in pairwise(sorted(SIZES.values())))
