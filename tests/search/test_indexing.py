"""A library follows its folder, and works no more than it must."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_space import FakeSpace
from small_media import make_old, make_picture, make_sound, make_text

from tectum.errors import LibraryError
from tectum.nn.inference import multiplies_bfloat16
from tectum.search.indexing import IndexConfig
from tectum.search.library import Library
from tectum.search.store import In
from tectum.search.stores import open_store


def counts(report: object) -> tuple[int, int, int, int]:
    return report.added, report.changed, report.removed, report.unchanged  # type: ignore[attr-defined]


def rows_in(library: Library, kind: str) -> int:
    return open_store(str(library.path / "vectors" / kind)).count()


def test_the_first_run_adds_and_the_second_does_nothing(library: Library, media: Path, space: FakeSpace) -> None:
    first = library.add(media)
    assert counts(first) == (103, 0, 0, 0) and not first.skipped and not first.reused
    assert {kind: build.recall for kind, build in first.builds.items()} == {"image": 1.0, "audio": 1.0, "text": 1.0}
    prepared = space.prepared
    second = library.add(media)
    assert counts(second) == (0, 0, 0, 103) and not second.builds and space.prepared == prepared
    info = library.info()
    assert dict(info.files) == {"audio": 2, "image": 100, "text": 1} and info.roots == [str(media)]
    assert (info.model, info.dim, info.fingerprint) == ("fake", 64, "fake-1") and info.bytes > 0


def test_vectors_are_those_of_the_model(library: Library, media: Path) -> None:
    library.add(media)
    stored = {row.fields["content"]: row.vector for row in open_store(str(library.path / "vectors" / "image")).get()}
    other = FakeSpace()
    for hit in library.search(image=media / "red" / "3.png", k=50, threshold=0):
        if hit.kind == "image":
            vector = other.embed(image=[hit.path])["image"][0].numpy()
            assert np.abs(np.array(list(stored.values())) - vector).max(axis=1).min() < 1e-6


def test_changed_removed_and_new_files(library: Library, media: Path) -> None:
    library.add(media)
    make_picture(media / "red" / "0.png", "blue", 999)
    (media / "red" / "1.png").unlink()
    make_picture(media / "more" / "x.png", "green", 998)
    shutil.rmtree(media / "sounds")
    report = library.add(media)
    assert counts(report) == (1, 1, 3, 99)
    assert rows_in(library, "image") == 100 and rows_in(library, "audio") == 0
    assert library.search(text="high", kind="audio").considered == 0
    hits = library.search(text="blue", k=100, kind="image")
    assert str(media / "red" / "0.png") in {hit.path for hit in hits}


def test_touched_moved_and_copied_files_are_not_encoded_again(library: Library, media: Path, space: FakeSpace) -> None:
    library.add(media)
    encoded, prepared = space.encoded, space.prepared
    os.utime(media / "red" / "0.png", (1, 1))
    (media / "red" / "1.png").rename(media / "blue" / "renamed.png")
    shutil.copy(media / "red" / "2.png", media / "copy.png")
    report = library.add(media)
    assert counts(report) == (2, 0, 1, 102) and report.reused == 2
    assert (space.encoded, space.prepared) == (encoded, prepared)
    assert rows_in(library, "image") == 100


def test_copies_are_one_hit(library: Library, media: Path, space: FakeSpace) -> None:
    shutil.copy(media / "red" / "2.png", media / "copy.png")
    shutil.copy(media / "red" / "2.png", media / "another.png")
    report = library.add(media)
    assert report.added == 105 and report.reused == 2
    hit = library.search(image=media / "copy.png", k=1).hits[0]
    assert [hit.path, *hit.copies] == sorted(str(media / name) for name in ("another.png", "copy.png", "red/2.png"))
    (media / "another.png").unlink()
    library.add(media)
    hit = library.search(image=media / "copy.png", k=1).hits[0]
    assert [hit.path, *hit.copies] == [str(media / "copy.png"), str(media / "red" / "2.png")]


def test_only_what_lies_under_the_folder_leaves(library: Library, media: Path, tmp_path: Path) -> None:
    beside = make_picture(tmp_path / "media2" / "x.png", "red", 5000)
    library.add(media)
    library.add(beside.parent)
    shutil.rmtree(media / "red")
    assert library.add(media / "blue").removed == 0
    beside.unlink()
    assert library.add(media).removed == 20
    assert library.info().files["image"] == 81
    assert library.add(tmp_path / "media2").removed == 1


def test_single_files(library: Library, media: Path, tmp_path: Path) -> None:
    assert library.add(media / "red" / "0.png").added == 1
    assert library.add(str(media / "red" / "0.png")).unchanged == 1
    odd = make_text(tmp_path / "paper.pdf", "%PDF")
    report = library.add(odd)
    assert report.added == 0 and report.reasons == {"unsupported": 1}
    with pytest.raises(LibraryError, match="does not exist"):
        library.add(tmp_path / "nothing.png")
    assert library.remove(media) == 1 and rows_in(library, "image") == 0
    assert library.info().roots == [str(odd)]


def test_broken_files_are_remembered_and_tried_again_when_changed(library: Library, media: Path, space: FakeSpace) -> None:
    bad = media / "bad.png"
    bad.write_bytes((media / "red" / "0.png").read_bytes()[:60])
    (media / "empty.jpg").touch()
    make_text(media / "text.jpg", "this is no picture")
    make_old(media)
    first = library.add(media)
    assert first.reasons == {"broken": 1, "empty": 1, "mislabelled": 1} and not any(skip.remembered for skip in first.skipped)
    prepared = space.prepared
    second = library.add(media)
    assert [skip.path for skip in second.skipped] == [skip.path for skip in first.skipped]
    assert all(skip.remembered for skip in second.skipped) and space.prepared == prepared
    make_picture(bad, "green", 77)
    third = library.add(media)
    assert third.added == 1 and third.reasons == {"empty": 1, "mislabelled": 1}
    # And a good one that breaks leaves the index.
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    fourth = library.add(media)
    assert fourth.reasons["broken"] == 1 and rows_in(library, "image") == 100


def test_a_vector_that_is_no_number_is_a_skip(
    library: Library, media: Path, space: FakeSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = space.encode
    monkeypatch.setattr(space, "encode", lambda kind, items: encode(kind, items) * (float("nan") if kind == "audio" else 1))
    report = library.add(media)
    assert report.added == 101 and report.reasons == {"broken": 2}


def test_kinds_that_the_model_does_not_know_are_skipped(library: Library, media: Path, space: FakeSpace) -> None:
    space.modalities = ("image", "text")
    report = library.add(media)
    assert report.added == 101 and report.reasons == {"unsupported": 2}
    with pytest.raises(LibraryError, match="not audio"):
        library.search(audio=media / "sounds" / "hum.flac")


def test_a_decoder_that_fails_in_its_own_way_stops_nothing(
    library: Library, media: Path, space: FakeSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = space.prepare

    def failing(kind: str, source: object) -> object:
        if str(source).endswith("3.png"):
            raise RecursionError("too deep")
        return prepare(kind, source)

    monkeypatch.setattr(space, "prepare", failing)
    report = library.add(media)
    assert report.reasons == {"broken": 10} and "RecursionError" in report.skipped[0].message
    monkeypatch.undo()
    assert library.add(media).added == 10


def test_batches_do_not_change_what_is_stored(tmp_path: Path, media: Path) -> None:
    stored = []
    for number, config in enumerate((IndexConfig(), IndexConfig(workers=1, ahead=1, encode_batch=3, write_rows=1))):
        library = Library(tmp_path / f"{number}.tectum", FakeSpace(), config=config)
        library.add(media)
        stored.append([open_store(str(library.path / "vectors" / kind)).get() for kind in ("image", "audio", "text")])
    for a, b in zip(*stored, strict=True):
        assert [(row.id, row.fields) for row in a] == [(row.id, row.fields) for row in b]
        np.testing.assert_array_equal([row.vector for row in a], [row.vector for row in b])


def test_an_interrupt_keeps_what_was_encoded(tmp_path: Path, media: Path, space: FakeSpace) -> None:
    library = Library(tmp_path / "my.tectum", space, config=IndexConfig(encode_batch=8, ahead=8))

    def stop(done: int, total: int, path: str) -> None:
        if done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.add(media, progress=stop)
    kept = sum(library.info().files.values())
    assert 40 <= kept < 50
    encoded = space.encoded
    report = library.add(media)
    assert counts(report) == (103 - kept, 0, 0, kept)
    assert space.encoded - encoded <= 103 - kept + 10
    # The stores of all kinds are put in order by the run that comes to the end, even if it has little to add.
    assert report.builds.keys() == {"image", "audio", "text"}


def test_progress_counts_every_file(library: Library, media: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    library.add(media, progress=lambda *call: calls.append(call))
    assert [done for done, _, _ in calls] == list(range(104)) and {total for _, total, _ in calls} == {103}
    calls.clear()
    library.add(media, progress=lambda *call: calls.append(call))
    assert calls == [(103, 103, "")]


def test_lost_and_stray_rows_are_healed(library: Library, media: Path, space: FakeSpace) -> None:
    """As after a power cut: the catalog knows a content whose rows are gone, and the store holds rows nothing knows."""
    library.add(media)
    store = open_store(str(library.path / "vectors" / "image"))
    rows = store.get()
    store.delete(In("id", frozenset(row.id for row in rows[:7])))
    stray = [type(rows[0])("f" * 40 + "-000", rows[0].vector, {**rows[0].fields, "content": "f" * 40})]
    store.upsert(stray)
    report = library.add(media)
    assert counts(report) == (7, 0, 0, 96)
    assert [row.id for row in store.get()] == [row.id for row in rows]


def test_a_file_that_changes_between_two_ticks_of_the_clock_is_seen(library: Library, media: Path) -> None:
    path = make_text(media / "fresh.txt", "red")
    stat = path.stat()
    library.add(media)
    path.write_text("blu", encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert library.add(media).changed == 1


def test_the_library_does_not_index_itself_or_hidden_files(media: Path, space: FakeSpace) -> None:
    library = Library(media / "inside", space)
    make_picture(media / ".thumbnails" / "x.png")
    make_picture(media / ".hidden.png")
    make_picture(media / "other.tectum" / "x.png")
    make_text(media / "program.py", "x = 1")
    assert library.add(media).added == 103
    make_text(library.path / "stray.txt", "hello")
    report = library.add(media)
    assert report.added == 0 and report.ignored == 3


def test_sounds_and_pictures_count_as_their_content_says(library: Library, tmp_path: Path) -> None:
    make_sound(tmp_path / "in" / "a.wav")
    make_picture(tmp_path / "in" / "picture.gif")
    make_picture(tmp_path / "in" / "sound.wav")
    report = library.add(tmp_path / "in")
    # A PNG named .gif is still a picture; a PNG named .wav is mislabelled.
    assert report.added == 2 and report.reasons == {"mislabelled": 1}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_is_indexed_in_bfloat16_only_if_it_says_so_and_the_hardware_can(tmp_path: Path, precision: str) -> None:
    make_picture(tmp_path / "red.png", "red", 0)
    space = FakeSpace(precision=precision)
    assert Library(tmp_path / "my.tectum", space).add(tmp_path / "red.png").added == 1
    assert space.halved == {precision == "bf16" and multiplies_bfloat16()}
