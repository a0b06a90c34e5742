"""Features: what is refused, what order and shards may not change, and extraction from folders."""

from __future__ import annotations

import doctest
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tectum.errors import EvaluationError, MediaError, PassportError
from tectum.evaluate.features import Features, SpaceExtractor, batches, check_alike, extract, hash_of, merge, normal_interval
from tectum.models.space import Space

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from tiny_space import tiny_space

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def space() -> Space:
    return tiny_space()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cats").mkdir()
    for name in ("b.png", "a.jpg", "cats/é 猫.png", "cats/B.PNG"):
        Image.fromarray(RNG.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(tmp_path / name)
    for name in ("rain.wav", "cats/purr.flac"):
        soundfile.write(tmp_path / name, RNG.normal(size=8000) * 0.1, 16_000)
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


@given(st.integers(1, 30), st.integers(1, 5), st.randoms(use_true_random=False))
def test_neither_order_nor_shards_change_a_bit(n: int, shards: int, random: object) -> None:
    vectors = np.random.default_rng(n).normal(size=(n, 3))
    ids = [f"item {i}" for i in range(n)]
    whole = Features.of(vectors, ids=ids)
    order = list(range(n))
    random.shuffle(order)  # type: ignore[attr-defined]
    parts = [Features.of(vectors[order[i::shards]], ids=[ids[j] for j in order[i::shards]]) for i in range(min(n, shards))]
    merged = merge(parts)
    assert merged.ids == whole.ids == tuple(sorted(ids))
    assert torch.equal(merged.vectors, whole.vectors)


def test_rows_without_ids_keep_their_order() -> None:
    vectors = RNG.normal(size=(1200, 2))
    features = Features.of(vectors)
    assert torch.equal(features.vectors, torch.from_numpy(vectors))
    assert int(features.ids[1100]) == 1100


@pytest.mark.parametrize(
    ("vectors", "ids", "complaint"),
    [
        (np.ones(5), (), r"shape \[5\]"),
        (np.ones((5, 2, 2)), (), r"shape \[5, 2, 2\]"),
        (np.ones((5, 0)), (), r"shape \[5, 0\]"),
        (np.ones((2, 2)), ("a",), "2 features need as many ids, not 1"),
        (np.ones((3, 2)), ("b", "a", "b"), "item 'b' is there twice"),
        (np.array([[1, 2], [3, np.nan]]), ("a.png", "b.png"), "item 'b.png' hold NaN or infinity"),
        (np.array([[np.inf, 2], [3, 4]]), ("é", "b"), "item 'é' hold NaN or infinity"),
    ],
)
def test_what_is_no_table_of_features_is_refused(vectors: np.ndarray, ids: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(EvaluationError, match=complaint) as caught:
        Features.of(vectors, ids=ids)
    assert "\n" not in str(caught.value)


def test_any_kind_of_array_will_do() -> None:
    counts = np.arange(6, dtype=np.uint8).reshape(3, 2)
    counts.flags.writeable = False
    for given_as in (counts, counts[::-1][::-1], counts.tolist(), torch.from_numpy(counts.copy()), torch.arange(6.0).view(3, 2)):
        assert Features.of(given_as).vectors.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]


def test_what_was_made_differently_is_not_compared() -> None:
    bicubic, bilinear = (Features.of(np.ones((2, 2)), settings={"filter": name}) for name in ("bicubic", "bilinear"))
    with pytest.raises(PassportError, match="filter is bicubic in one and bilinear in the other"):
        check_alike(bicubic, bilinear)
    with pytest.raises(PassportError, match="filter is bicubic in one and bilinear in the other"):
        merge([bicubic, bilinear])
    with pytest.raises(EvaluationError, match="features of 2 and of 3 numbers"):
        check_alike(Features.of(np.ones((2, 2))), Features.of(np.ones((2, 3))))
    with pytest.raises(EvaluationError, match="1 of at least 2 items"):
        check_alike(Features.of(np.ones((2, 2))), Features.of(np.ones((1, 2))), least=2)
    with pytest.raises(EvaluationError, match="nothing to merge"):
        merge([])
    with pytest.raises(EvaluationError, match="'000000000' is there twice"):
        merge([Features.of(np.ones((1, 2))), Features.of(np.ones((1, 2)))])


def test_a_folder_gives_the_files_of_the_extractors_modality(space: Space, folder: Path) -> None:
    found = extract(SpaceExtractor(space, "image"), folder, batch_size=3)
    assert found.ids == tuple(sorted(["a.jpg", "b.png", "cats/B.PNG", "cats/é 猫.png"]))
    alone = space.embed(image=[folder / name for name in found.ids])["image"]
    torch.testing.assert_close(found.vectors, alone, rtol=0, atol=2e-6)
    assert extract(SpaceExtractor(space, "audio"), str(folder)).ids == ("cats/purr.flac", "rain.wav")


def test_lists_and_dicts_of_items_and_batches(space: Space) -> None:
    extractor = SpaceExtractor(space, "image")
    pictures = [Image.fromarray(RNG.integers(0, 255, (8, 8, 3), dtype=np.uint8)) for _ in range(5)]
    listed = extract(extractor, pictures)
    named = extract(extractor, dict(zip("edcba", pictures, strict=True)))
    torch.testing.assert_close(listed.vectors, named.vectors.flip(0), rtol=0, atol=2e-6)
    parts = list(batches(extractor, pictures, batch_size=2))
    assert [len(part) for part in parts] == [2, 2, 1]
    torch.testing.assert_close(merge(parts).vectors, listed.vectors, rtol=0, atol=2e-6)


def test_the_settings_hold_weights_and_preprocessing(space: Space) -> None:
    settings = SpaceExtractor(space, "image").settings
    assert settings["extractor"] == "tiny/image"
    assert (settings["size"], settings["filter"], settings["antialias"]) == (32, "bicubic", True)
    assert settings == SpaceExtractor(tiny_space(), "image").settings
    assert settings["weights"] != SpaceExtractor(tiny_space(seed=1), "image").settings["weights"]
    sound = SpaceExtractor(space, "audio").settings
    assert (sound["rate"], sound["seconds"]) == (16_000, 0.5)
    made = extract(SpaceExtractor(space, "image"), [np.zeros((8, 8, 3), np.uint8)]).settings
    assert made == {**settings, "dtype": "float32"}


def test_the_hash_knows_names_shapes_types_and_numbers() -> None:
    weights = {"a": torch.arange(4.0), "b": torch.zeros(())}
    changed = [
        {"a": torch.arange(4.0), "c": torch.zeros(())}, {"a": torch.arange(4.0).view(2, 2), "b": torch.zeros(())},
        {"a": torch.arange(4.0).double(), "b": torch.zeros(())}, {"a": torch.arange(4.0), "b": torch.ones(())},
    ]  # fmt: skip
    assert len({hash_of(weights), *map(hash_of, changed)}) == 5
    assert hash_of(weights) == hash_of(dict(reversed(weights.items())))


def test_a_broken_or_missing_item_stops_the_extraction(space: Space, folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").write_bytes((folder / "b.png").read_bytes()[:100])
    with pytest.raises(MediaError, match=r"broken\.png"):
        extract(SpaceExtractor(space, "image"), folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match=r"empty holds no image file \(\.jpg, "):
        extract(SpaceExtractor(space, "image"), tmp_path / "empty")
    with pytest.raises(EvaluationError, match="no item to take features of"):
        extract(SpaceExtractor(space, "image"), [])
    with pytest.raises(EvaluationError, match="tiny has no tower for pictures or sounds named 'text'"):
        SpaceExtractor(space, "text")  # type: ignore[arg-type]


def test_the_normal_interval_is_symmetric() -> None:
    low, high = normal_interval(3.0, 4.0, 0.95)
    assert (low + high) / 2 == pytest.approx(3)
    assert (high - low) / 2 == pytest.approx(2 * 1.959964, rel=1e-6)


def test_the_guide_is_true() -> None:
    guide = Path(__file__).parents[2] / "docs" / "evaluate-generation.md"
    done = doctest.testfile(str(guide), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert (done.failed, done.attempted > 20) == (0, True)
