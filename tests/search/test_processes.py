"""Several processes and one library: kills lose little, readers see whole states, writers take turns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from fake_space import FakeSpace
from small_media import make_old, make_picture, make_text

from tectum.errors import LibraryError
from tectum.search import lance
from tectum.search.indexing import IndexConfig
from tectum.search.library import Library
from tectum.search.store import Row

_INDEX = """
import sys
from fake_space import FakeSpace
from tectum.search.indexing import IndexConfig
from tectum.search.library import Library
config = IndexConfig(encode_batch=4, write_rows=8, ahead=4)
library = Library(sys.argv[1], FakeSpace(background=128, slow=float(sys.argv[3])), config=config)
print("ready", flush=True)
library.add(sys.argv[2], progress=lambda done, total, path: print(done, flush=True))
print("end", flush=True)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def wait_for(process: subprocess.Popen[str], done: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().isdigit() and int(line) >= done:
            return
    raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize("moments", [(9, 30, 70)])
def test_killed_runs_lose_at_most_a_batch_and_are_finished_by_the_next(
    tmp_path: Path, media: Path, moments: tuple[int, ...]
) -> None:
    for moment in moments:
        process = start(_INDEX, tmp_path / "my.tectum", media, 0.002)
        wait_for(process, moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kept = sum(Library(tmp_path / "my.tectum").info().files.values())
        # At most one batch waits to be written, one to be encoded for each kind, and one was under way.
        assert kept >= moment - (8 + 3 * 4 + 8)
    space = FakeSpace(background=128)
    library = Library(tmp_path / "my.tectum", space)
    kept = sum(library.info().files.values())
    report = library.add(media)
    assert (report.added, report.unchanged) == (103 - kept, kept) and space.encoded < 110 - kept + 20
    fresh = Library(tmp_path / "fresh.tectum", FakeSpace(background=128))
    fresh.add(media)
    for words in ("red", "high", "yellow", "zebra"):
        assert library.search(text=words, k=30, threshold=0).hits == fresh.search(text=words, k=30, threshold=0).hits


def test_ctrl_c_in_another_process_keeps_what_was_encoded(tmp_path: Path, media: Path) -> None:
    process = start(_INDEX, tmp_path / "my.tectum", media, 0.002)
    wait_for(process, 40)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0 and "KeyboardInterrupt" in errors
    assert sum(Library(tmp_path / "my.tectum").info().files.values()) >= 28


def test_the_second_writer_is_told_who_writes_and_readers_go_on(tmp_path: Path, media: Path) -> None:
    process = start(_INDEX, tmp_path / "my.tectum", media, 0.01)
    wait_for(process, 20)
    library = Library(tmp_path / "my.tectum", FakeSpace(background=128))
    with pytest.raises(LibraryError, match=f"written by process {process.pid}"):
        library.add(media)
    with pytest.raises(LibraryError, match=f"written by process {process.pid}"):
        Library.rebuild(tmp_path / "my.tectum", FakeSpace())
    assert library.search(text="blue", threshold=0).considered > 0
    process.kill()
    process.communicate()
    assert library.add(media).unchanged > 0


_SEARCH = """
import json, os, sys
from fake_space import FakeSpace
from tectum.search.library import Library
library = Library(sys.argv[1], FakeSpace(background=128))
seen = []
print(0, flush=True)
while len(seen) < 5 or not os.path.exists(sys.argv[2]):
    results = library.search(text="red", k=200, threshold=0.0, kind="image")
    seen.append([results.considered, len(results.hits), len({hit.path for hit in results.hits})])
print(json.dumps(seen), flush=True)
"""


def test_two_readers_see_whole_states_while_one_process_writes(tmp_path: Path) -> None:
    """Each change replaces every picture: a reader must see all of them, old or new, and never a mixture with holes."""
    folder = tmp_path / "in"
    number = 40
    for i in range(number):
        make_picture(folder / f"{i}.png", "red", i)
    space = FakeSpace(background=128)
    library = Library(tmp_path / "my.tectum", space, config=IndexConfig(write_rows=1000))
    library.add(folder)
    stop = tmp_path / "stop"
    readers = [start(_SEARCH, library.path, stop) for _ in range(2)]
    for reader in readers:
        wait_for(reader, 0)
    for rounds in range(1, 7):
        for i in range(number):
            make_picture(folder / f"{i}.png", "red", 1000 * rounds + i)
        assert library.add(folder).changed == number
    stop.touch()
    for reader in readers:
        output, errors = reader.communicate(timeout=300)
        assert reader.returncode == 0, errors
        seen = json.loads(output.splitlines()[-1])
        assert all(state == [number, number, number] for state in seen), seen


def test_another_model_is_refused_and_rebuild_accepts_it(tmp_path: Path, media: Path) -> None:
    library = Library(tmp_path / "my.tectum", FakeSpace())
    library.add(media)
    with pytest.raises(LibraryError, match=r"made with fake \(fake-1\).*--model fake.*--rebuild"):
        Library(tmp_path / "my.tectum", FakeSpace(fingerprint="fake-2"))
    other = Library.rebuild(tmp_path / "my.tectum", FakeSpace(dim=32, fingerprint="fake-2"))
    # The first object learns that the folder is another library now.
    with pytest.raises(LibraryError, match="there is no library"):
        library.search(text="red")
    assert other.add(media).added == 103 and other.info().dim == 32
    with pytest.raises(LibraryError, match="was made with"):
        library.search(text="red")


def test_a_long_lived_reader_follows_a_rebuild(tmp_path: Path, media: Path) -> None:
    space = FakeSpace(background=128)
    reader = Library(tmp_path / "my.tectum", space)
    reader.add(media)
    assert reader.search(text="red", k=50).considered == 103
    Library.rebuild(tmp_path / "my.tectum", space).add(media / "red")
    results = reader.search(text="red", k=50)
    assert results.considered == 20 and len(results) == 20


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, media: Path) -> None:
    make_text(tmp_path / "thesis" / "chapter1.txt", "years of work")
    for make in (
        lambda: Library(tmp_path / "thesis", FakeSpace()).add(media),
        lambda: Library.rebuild(tmp_path / "thesis", FakeSpace()),
    ):
        with pytest.raises(LibraryError, match=r"no library and holds other files.*chapter1"):
            make()
    assert os.listdir(tmp_path / "thesis") == ["chapter1.txt"]
    with pytest.raises(LibraryError, match="is a file"):
        Library(tmp_path / "thesis" / "chapter1.txt")


def test_a_damaged_or_newer_library_is_named(tmp_path: Path, media: Path) -> None:
    library = Library(tmp_path / "my.tectum", FakeSpace())
    library.add(media / "red" / "0.png")
    description = library.path / "library.json"
    good = description.read_text()
    for bad, says in (("{", "library.json cannot be read"), (good.replace('"format": 1', '"format": 9'), "format 9")):
        description.write_text(bad)
        with pytest.raises(LibraryError, match=says):
            Library(library.path, FakeSpace())
    description.write_text(good)
    (library.path / "catalog.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(LibraryError, match=r"catalog\.sqlite cannot be opened"):
        Library(library.path, FakeSpace()).info()
    assert Library.rebuild(library.path, FakeSpace()).add(media / "red").added == 20


def test_a_run_killed_while_the_library_is_made_leaves_one_that_can_be_used(tmp_path: Path, media: Path) -> None:
    make_old(media)
    library = tmp_path / "my.tectum"
    library.mkdir()
    (library / "vectors" / "image").mkdir(parents=True)
    (library / ".library.json.123.part").write_text("{")
    assert Library(library, FakeSpace()).add(media).added == 103


def test_threads_share_a_library(tmp_path: Path, media: Path) -> None:
    library = Library(tmp_path / "my.tectum", FakeSpace(background=128))
    library.add(media)
    expected = {words: library.search(text=words, k=30).hits for words in ("red", "high", "yellow", "zebra")}
    with ThreadPoolExecutor(4) as pool:
        for words, hits in pool.map(lambda words: (words, library.search(text=words, k=30).hits), [*expected] * 10):
            assert hits == expected[words]


_READ = """
import os, sys
import numpy as np
from tectum.search.lance import LanceStore
store, rounds = LanceStore(sys.argv[1]), 0
print(0, flush=True)
while rounds < 5 or not os.path.exists(sys.argv[2]):
    assert len(store.search(np.eye(8)[0], 5)) == 5 and len(store.get()) >= 50
    rounds += 1
print(rounds, flush=True)
"""


@pytest.mark.filterwarnings("ignore:optimize")
def test_a_reader_survives_files_that_are_cleaned_away_under_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "KEEP_VERSIONS", timedelta(0))
    monkeypatch.setattr(lance, "_MANY_FRAGMENTS", 1)
    store = lance.LanceStore(tmp_path / "store")
    store.create(8, {})
    random = np.random.default_rng(0)

    def rows(number: int) -> list[Row]:
        vectors = random.standard_normal((number, 8))
        return [Row(random.bytes(8).hex(), vector / np.linalg.norm(vector)) for vector in vectors]

    store.upsert(rows(50))
    reader = start(_READ, tmp_path / "store", tmp_path / "stop")
    wait_for(reader, 0)
    for _ in range(60):
        store.upsert(rows(3))
        store.upsert(rows(3))
        store.optimize()
    (tmp_path / "stop").touch()
    _, errors = reader.communicate(timeout=300)
    assert reader.returncode == 0, errors
