"""Folders that break indexers: links in circles, odd names, pipes, closed doors, files that lie."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_media import make_old, make_picture, make_sound, make_text

from tectum.search import scan as scanning
from tectum.search.catalog import Catalog, File
from tectum.search.library import Library
from tectum.search.scan import scan

ODD_NAMES = [
    "two\nlines.png", "emoji 🐕🌧️.png", "-rf.png", "<img src=x onerror=alert(1)>.png", "a'b\"c`d.png", "%20&amp;.png", "‮gnp.png",
    " leading and trailing .png", "back\\slash.png", "tab\there.png", "é composed.png",
    "é decomposed.png", "x" * 240 + ".png", "quote'; DROP TABLE files;--.png", "UPPER.PNG", "\x1b[31mred.png",
]  # fmt: skip


def paths(folder: Path) -> list[str]:
    return [os.path.relpath(entry.path, folder) for entry in scan(str(folder)).entries]


def test_names_of_every_sort_are_indexed_found_and_forgotten(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    names = [name for name in ODD_NAMES if not name.startswith(".")]
    for seed, name in enumerate(names):
        make_picture(folder / name, "red", seed)
    raw = os.fsencode(folder) + b"/\xff\xfe undecodable \x80.png"
    shutil.copy(make_picture(tmp_path / "x.png", "red", 99), os.fsdecode(raw))
    report = library.add(folder)
    assert report.added == len(names) + 1 and not report.skipped
    found = {hit.path for hit in library.search(text="red", k=100)}
    assert found == {*(str(folder / name) for name in names), os.fsdecode(raw)}
    assert all(os.path.isfile(path) for path in found)
    os.unlink(raw)
    (folder / names[0]).unlink()
    again = library.add(folder)
    assert (again.removed, again.unchanged) == (2, len(names) - 1)
    assert library.similar(folder / names[1], k=100).considered == len(names) - 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name and b"/" not in name),
    siblings=st.binary(max_size=3),
)
def test_any_bytes_are_a_path_to_the_catalog(tmp_path: Path, name: bytes, siblings: bytes) -> None:
    catalog = Catalog(tmp_path / "catalog.sqlite")
    path = "/folder/" + os.fsdecode(name)
    other = "/folder" + os.fsdecode(siblings.replace(b"\0", b"").replace(b"/", b"")) + "x/" + os.fsdecode(name)
    catalog.write(
        files=[File(path, 1, 2, "image", "c", "", path), File(other, 3, 4, "image", "d")], removed=list(catalog.files())
    )
    assert set(catalog.files()) == {path, other} and set(catalog.files("/folder")) == {path}
    assert set(catalog.files(path)) == {path} and set(catalog.files("/")) == {path, other}
    assert catalog.paths("image", ["c", "d"]) == {"c": [path], "d": [other]}
    catalog.close()


def test_links_in_circles_end_and_no_file_comes_twice(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    make_picture(folder / "z" / "one.png", "red", 1)
    make_picture(tmp_path / "outside" / "two.png", "red", 2)
    (folder / "a_link").symlink_to(folder / "z", target_is_directory=True)
    (folder / "z" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "z" / "self").symlink_to(folder / "z" / "self")
    (folder / "to_outside").symlink_to(tmp_path / "outside", target_is_directory=True)
    (tmp_path / "outside" / "back").symlink_to(folder, target_is_directory=True)
    (folder / "again.png").symlink_to(folder / "z" / "one.png")
    (folder / "third.png").symlink_to(make_picture(tmp_path / "alone.png", "red", 3))
    (folder / "nowhere.png").symlink_to(tmp_path / "missing.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    assert paths(folder) == ["z/one.png", "to_outside/two.png", "third.png"]
    report = library.add(folder)
    assert report.added == 3 and report.reasons == {"unreadable": 2}
    assert len(library.search(text="red")) == 3


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/2.png", "b/1.png", "a/x/3.png", "c.png", "B.png"):
        make_picture(tmp_path / "in" / name)
    expected = ["B.png", "c.png", "a/x/3.png", "b/1.png", "b/2.png"]
    assert paths(tmp_path / "in") == expected
    listing = os.scandir

    class Backwards:
        def __init__(self, folder: str) -> None:
            self.entries = sorted(listing(folder), key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> object:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(scanning.os, "scandir", Backwards)
    assert paths(tmp_path / "in") == expected


def test_pipes_and_devices_are_not_opened(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    make_picture(folder / "good.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    report = library.add(folder)
    assert report.added == 1 and report.reasons == {"unsupported": 2}
    assert library.add(folder / "pipe.png").reasons == {"unsupported": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_what_is_closed_is_told_and_kept(library: Library, media: Path) -> None:
    library.add(media)
    try:
        (media / "red").chmod(0)
        (media / "blue" / "0.png").chmod(0)
        os.utime(media / "blue" / "0.png")
        report = library.add(media)
        assert report.reasons == {"unreadable": 2} and report.removed == 0
    finally:
        (media / "red").chmod(0o755)
        (media / "blue" / "0.png").chmod(0o644)
    assert library.add(media).reasons == {}


def test_folders_that_cannot_be_listed_are_told_and_their_files_kept(
    library: Library, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(media)
    listing = os.scandir

    def closed(folder: str | Path) -> object:
        if str(folder).endswith("red"):
            raise PermissionError(13, "Permission denied", str(folder))
        return listing(folder)

    monkeypatch.setattr(scanning.os, "scandir", closed)
    report = library.add(media)
    assert [(skip.path, skip.reason) for skip in report.skipped] == [(str(media / "red"), "unreadable")]
    assert report.removed == 0 and library.info().files["image"] == 100


def bomb(path: Path, side: int = 50_000) -> None:
    """A PNG of side² pixels in some kilobytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress(b"\0" * 100_000, 9)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_a_folder_of_broken_things_is_survived_counted_and_listed(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    good = make_picture(folder / "good.png", "red", 1)
    make_sound(folder / "good.wav")
    make_text(folder / "good.md", "red words")
    (folder / "truncated.png").write_bytes(good.read_bytes()[:-200])
    bomb(folder / "bomb.png")
    (folder / "empty.jpg").touch()
    (folder / "empty.txt").touch()
    make_text(folder / "text.jpg", "I am text")
    make_text(folder / "spaces.txt", " \n\t\n")
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 10)
    (folder / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(5000))
    soundfile.write(folder / "silent.flac", np.zeros(8000 * 60), 8000)
    (folder / "header.wav").write_bytes((folder / "good.wav").read_bytes()[:40])
    (folder / "folder.png").mkdir()
    with open(folder / "sparse.png", "wb") as file:
        file.write(good.read_bytes())
        file.truncate(300 << 20)
    make_old(folder)
    report = library.add(folder)
    assert report.added == 3, report
    told = {os.path.basename(skip.path): skip.reason for skip in report.skipped}
    assert told.keys() == {
        "truncated.png", "bomb.png", "empty.jpg", "empty.txt", "text.jpg", "spaces.txt", "binary.txt", "noise.mp3", "silent.flac",
        "header.wav", "sparse.png",
    }  # fmt: skip
    assert (told["bomb.png"], told["sparse.png"], told["empty.jpg"], told["text.jpg"]) == ("huge", "huge", "empty", "mislabelled")
    assert (told["truncated.png"], told["silent.flac"], told["spaces.txt"]) == ("broken", "empty", "empty")
    assert sum(report.reasons.values()) == 11
    assert all(os.path.basename(skip.path) in skip.message and "\n" not in skip.message for skip in report.skipped)
    again = library.add(folder)
    assert again.unchanged == 3 and {skip.path for skip in again.skipped} == {skip.path for skip in report.skipped}
