"""Sums of vectors on spaces whose structure is known: contents add up, and the gap between modalities does not count."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_space import TEXTS, tiny_space

from tectum.errors import ConfigError
from tectum.models.arithmetic import compose
from tectum.models.space import Space, Term

CONCEPTS, DIM = 12, 32


class World:
    """Each concept is a direction, an item the sum of its concepts; pictures and sounds lie about means of their own.

    The sounds' mean points the way of pictures of concept 11, which a plain sum takes for content.
    """

    def __init__(self, gap: float = 2.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        basis = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0].T
        self.concepts = basis[:CONCEPTS]
        self.offsets = {"image": gap * basis[20], "audio": gap * (basis[21] + basis[11])}

    def item(self, kind: str, *concepts: int) -> np.ndarray:
        vector = self.offsets[kind] + self.concepts[list(concepts)].sum(0)
        return vector / np.linalg.norm(vector)

    def mean(self, kind: str) -> np.ndarray:
        return np.mean([self.item(kind, a, b) for a in range(CONCEPTS) for b in range(a)], 0)


def first(query: np.ndarray, items: dict[tuple[int, ...], np.ndarray]) -> tuple[int, ...]:
    return max(items, key=lambda key: float(query @ items[key]))


def test_a_beach_and_the_sound_of_waves_find_the_beach_with_waves() -> None:
    """Concepts added over the gap find the picture of both, for every two concepts; a plain sum often finds another."""
    world = World()
    pictures = {(a, b): world.item("image", a, b) for a in range(CONCEPTS) for b in range(a)}
    means = [world.mean("image"), world.mean("audio")]
    plain, centred = 0, 0
    for a, b in pictures:
        parts = [world.item("image", a), world.item("audio", b)]
        plain += first(compose(parts), pictures) == (a, b)
        centred += (
            first(compose(parts, means=means), pictures) == first(compose(parts, means=means, onto=means[0]), pictures) == (a, b)
        )
    assert centred == len(pictures)
    assert plain < 0.9 * len(pictures)


def test_what_is_taken_away_is_gone() -> None:
    world = World()
    pictures = {(a, b): world.item("image", a, b) for a in range(CONCEPTS) for b in range(a)}
    means = [world.mean("image"), world.mean("audio"), world.mean("audio")]
    for a, b, c in ((5, 3, 7), (9, 2, 1), (11, 4, 8)):
        parts = [world.item("image", a, b), world.item("audio", b), world.item("audio", c)]
        found = first(compose(parts, [1, -1, 1], means=means), pictures)
        assert set(found) == {a, c}


def test_onto_gives_the_cosines_of_that_modality_and_leaves_its_own_items_alone() -> None:
    world = World()
    means = {kind: world.mean(kind) for kind in ("image", "audio")}
    picture, sound = world.item("image", 4, 2), world.item("audio", 4, 2)
    np.testing.assert_allclose(compose([picture], means=[means["image"]], onto=means["image"]), picture, atol=1e-6)
    moved = compose([sound], means=[means["audio"]], onto=means["image"])
    assert moved @ picture > 0.95 > sound @ picture + 0.5


@given(seed=st.integers(0, 99), factor=st.floats(0.1, 10))
def test_invariances(seed, factor) -> None:
    """The length of all weights, and the order of the parts, mean nothing; without means it is the normalised sum."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(3, 8))
    parts /= np.linalg.norm(parts, axis=1, keepdims=True)
    means, weights = rng.normal(size=(3, 8)) / 9, np.array([1.0, -0.5, 2.0])
    whole = compose(list(parts), weights, means=means)
    assert np.linalg.norm(whole) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(compose(list(parts), factor * weights, means=means), whole, atol=1e-5)
    np.testing.assert_allclose(compose(list(parts[::-1]), weights[::-1], means=means[::-1]), whole, atol=1e-6)
    plain = weights @ parts
    np.testing.assert_allclose(compose(list(parts), weights), plain / np.linalg.norm(plain), atol=1e-6)
    np.testing.assert_allclose(compose(list(parts), weights, means=0 * means), compose(list(parts), weights), atol=1e-6)


@pytest.fixture(scope="module")
def space() -> Space:
    return tiny_space()


def test_a_space_composes_items(space) -> None:
    picture, draw = np.zeros((20, 20, 3), np.uint8), torch.Generator().manual_seed(0)
    means = {kind: 0.2 * torch.randn(space.dim, generator=draw) for kind in ("image", "text")}
    terms = Term("image", picture), Term("text", TEXTS[0], -0.5)
    vectors = [space.embed(image=[picture])["image"][0].numpy(), space.embed(text=TEXTS[:1])["text"][0].numpy()]
    centres = [mean.numpy() for mean in means.values()]
    expected = compose(vectors, [1, -0.5], means=centres, onto=centres[1])
    np.testing.assert_allclose(space.compose(*terms, means=means, onto="text").numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(space.compose(*terms, means=means).numpy(), compose(vectors, [1, -0.5], means=centres), atol=1e-6)
    np.testing.assert_allclose(space.compose(*terms).numpy(), compose(vectors, [1, -0.5]), atol=1e-6)


def test_mistakes_are_told(space) -> None:
    with pytest.raises(ConfigError, match="these 2 terms make no query: the parts cancel"):
        space.compose(Term("text", TEXTS[0]), Term("text", TEXTS[0], -1.0))
    with pytest.raises(ConfigError, match="these 0 terms make no query"):
        space.compose()
    with pytest.raises(ConfigError, match="the mean of image, text is not given: add it to means"):
        space.compose(Term("text", TEXTS[0]), onto="image")
    with pytest.raises(ConfigError, match="the mean of text is not given"):
        space.compose(Term("text", TEXTS[0]), means={"image": torch.zeros(12)}, onto="image")
    with pytest.raises(ConfigError, match="no video tower"):
        space.compose(Term("video", 1))
    with pytest.raises(ValueError, match="as many weights"):
        compose([np.ones(2)], [1.0, 2.0])
