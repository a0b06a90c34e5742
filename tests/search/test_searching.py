"""What is asked for is found, comparably over kinds, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_space import FakeSpace
from small_media import make_picture, make_text

from tectum.errors import LibraryError, MediaError
from tectum.search.indexing import FIELDS
from tectum.search.library import Library
from tectum.search.relevance import prior_of
from tectum.search.stores import open_store

Names = Callable[[object], list[str]]


def test_words_find_pictures_sounds_and_passages(library: Library, media: Path, names: Names) -> None:
    library.add(media)
    red = library.search(text="red", k=50)
    assert sorted(names(red)) == sorted(f"red/{i}.png" for i in range(20)) and red.considered == 103
    assert names(library.search(text="high")) == ["sounds/whistle.wav"]
    assert names(library.search(text="low", kind="audio")) == ["sounds/hum.flac"]
    (note,) = library.search(text="yellow", kind="text").hits
    assert "yellow" in note.excerpt
    text = (media / "notes.txt").read_text()
    assert text[note.start : note.end] == note.excerpt


def test_hits_of_different_kinds_are_merged_by_relevance(library: Library, media: Path) -> None:
    library.add(media)
    results = library.search(text="yellow", k=30)
    assert {hit.kind for hit in results} == {"image", "text"}
    assert [hit.relevance for hit in results] == sorted((hit.relevance for hit in results), reverse=True)
    assert all(0.5 <= hit.relevance <= 1 and -1 <= hit.cosine <= 1 + 1e-6 for hit in results)


def test_what_matches_nothing_finds_nothing(library: Library, media: Path) -> None:
    library.add(media)
    for words in ("zebra", "the quarterly report", "unicorn", "purple"):
        results = library.search(text=words)
        assert len(results) == 0 and not results.hits and results.considered == 103
        assert results.best_below is not None and 0 <= results.best_below < 0.5
    assert len(library.search(text="zebra", threshold=0, k=5)) == 5


def test_a_library_of_nothing_but_matches_is_found(library: Library, tmp_path: Path) -> None:
    for seed in range(150):
        make_picture(tmp_path / "in" / f"{seed}.png", "red", seed)
    library.add(tmp_path / "in")
    assert len(library.search(text="red", k=200)) == 150
    assert not library.search(text="blue").hits


def test_pictures_and_sounds_are_queries_too(library: Library, media: Path, names: Names) -> None:
    library.add(media)
    found = names(library.search(image=media / "green" / "7.png", k=5))
    assert found[0] == "green/7.png" and all(name.startswith("green/") for name in found)
    assert names(library.search(audio=media / "sounds" / "hum.flac")) == ["sounds/hum.flac"]


def test_parts_of_a_query_are_composed(library: Library, media: Path, names: Names, space: FakeSpace) -> None:
    library.add(media)
    both = library.search(text="blue", image=media / "red" / "0.png", k=30, kind="image")
    assert {name.split("/")[0] for name in names(both)} == {"red", "blue"} and both.queries == ("text", "image")


def test_calibrations_of_the_model_are_used(media: Path, tmp_path: Path) -> None:
    space = FakeSpace(background=128)
    library = Library(tmp_path / "my.tectum", space)
    library.add(media)
    before = library.search(text="red", kind="image", k=1).hits[0]
    space.calibration["text->image"] = (1e-9, 1e-9, 0.0)
    after = library.search(text="red", kind="image", k=1, threshold=0).hits[0]
    prior = prior_of(library.info().vectors["image"])
    assert before.relevance > 0.9 and after.relevance == pytest.approx(prior, abs=1e-6) and after.cosine == before.cosine


def test_search_equals_brute_force(tmp_path: Path) -> None:
    """Cosines and order are those of all vectors compared one by one, over a library put in by hand."""
    space = FakeSpace(dim=16, background=128)
    library = Library(tmp_path / "my.tectum", space)
    folder = tmp_path / "in"
    for i in range(60):
        make_text(folder / f"{i}.txt", f"word{i}")
    library.add(folder)
    texts = {f"{i}.txt": space.embed(text=[f"word{i}"])["text"][0].numpy() for i in range(60)}
    query = space.embed(text=["word17 and more"])["text"][0].numpy()
    expected = sorted(texts, key=lambda name: -float(texts[name] @ query))[:10]
    results = library.search_vector(query, k=10, threshold=0)
    assert [Path(hit.path).name for hit in results] == expected
    np.testing.assert_allclose([hit.cosine for hit in results], [texts[name] @ query for name in expected], atol=1e-6)


def test_a_text_is_one_hit_however_many_passages_fit(library: Library, tmp_path: Path) -> None:
    make_text(tmp_path / "in" / "red.txt", "\n\n".join(f"It is red again {i}. {'word ' * 90}" for i in range(120)))
    for i in range(6):
        make_text(tmp_path / "in" / f"other{i}.txt", f"also red {i}")
    library.add(tmp_path / "in")
    assert library.info().vectors["text"] > 120
    results = library.search(text="red", k=7, threshold=0)
    assert sorted(Path(hit.path).name for hit in results) == sorted(["red.txt", *(f"other{i}.txt" for i in range(6))])


def test_similar_leaves_out_the_file_and_its_copies(library: Library, media: Path, tmp_path: Path, names: Names) -> None:
    (media / "copy.png").write_bytes((media / "red" / "2.png").read_bytes())
    library.add(media)
    found = names(library.similar(media / "red" / "2.png", k=30))
    assert "red/2.png" not in found and "copy.png" not in found and len(found) == 19
    outside = make_picture(tmp_path / "outside.png", "blue", 4321)
    assert len(library.similar(outside, k=30, kind="image")) == 20
    assert library.similar(media / "notes.txt", threshold=0, kind="image").hits
    with pytest.raises(MediaError):
        library.similar(tmp_path / "missing.png")


def test_without_background_the_librarys_own_vectors_make_the_null(media: Path, tmp_path: Path, names: Names) -> None:
    library = Library(tmp_path / "my.tectum", FakeSpace())
    library.add(media)
    assert sorted(names(library.search(text="red", kind="image", k=40))) == sorted(f"red/{i}.png" for i in range(20))
    assert not library.search(text="zebra").hits
    # Two sounds are no distribution: only cosines above one half count.
    assert all(hit.cosine > 0.5 for hit in library.search(text="high", kind="audio"))


def test_a_large_library_uses_a_fair_sample_for_its_null(tmp_path: Path) -> None:
    space = FakeSpace(dim=32, background=128)
    library = Library(tmp_path / "my.tectum", space)
    library.add(make_text(tmp_path / "a.txt", "hello"))
    random = np.random.default_rng(0)
    vectors = random.standard_normal((3000, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    from tectum.search.catalog import Catalog, Content, File
    from tectum.search.query import Searcher
    from tectum.search.store import Row

    store = open_store("memory:")
    store.create(32, FIELDS)
    hashes = [random.bytes(20).hex() for _ in vectors]
    rows = [
        Row(f"{name}-000", vector, {"content": name, "part": 0, "start": 0, "end": 0, "excerpt": ""})
        for name, vector in zip(hashes, vectors, strict=True)
    ]
    store.upsert(rows)
    catalog = Catalog(tmp_path / "catalog.sqlite")
    catalog.write(
        files=[File(f"/{name}", 1, 1, "image", name) for name in hashes], contents=[Content("image", name, 1) for name in hashes]
    )
    searcher = Searcher(catalog, lambda kind: store, space)
    sample = searcher._sample(searcher._current(), "image")
    assert sample is not None and 900 < len(sample) < 1150
    results = searcher.search(vectors[5], ("image",), k=3, kinds=("image",), threshold=0.5, without=None)
    assert results.hits[0].path == f"/{hashes[5]}" and results.considered == 3000


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "nothing to search for"),
        ({"text": "  \n"}, "nothing to search for"),
        ({"text": "red", "kind": "video"}, "kind is one of"),
        ({"text": "red", "k": 0}, "k is at least 1"),
        ({"text": "red", "threshold": 1.5}, "threshold"),
    ],
)
def test_questions_without_sense_are_refused(library: Library, media: Path, options: dict[str, object], says: str) -> None:
    library.add(media / "notes.txt")
    with pytest.raises(LibraryError, match=says):
        library.search(**options)  # type: ignore[arg-type]


def test_there_must_be_a_library_to_search(library: Library, tmp_path: Path) -> None:
    for action in (
        lambda: library.search(text="red"),
        library.info,
        lambda: library.similar("x.png"),
        lambda: library.remove("x.png"),
    ):
        with pytest.raises(LibraryError, match=r"there is no library at .*tectum index"):
            action()
    assert not library.path.exists()
