"""index, search and similar, with a real model of random weights: what is exact must be found, mistakes are told in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from running import Run

USABLE = {"a.png", "b.jpg", "c.bmp", "new\nline [bold]\x1b[31m 🐕.png", "high.wav", "low.flac", "note.txt"}
UNUSABLE = {"empty.png": "empty", "words.jpg": "mislabelled", "broken.png": "broken"}


def found(run: Run, *arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert (done.status, done.err) == (0, ""), done.err
    answer: dict[str, Any] = json.loads(done.out)
    return answer


def names(answer: dict[str, Any]) -> list[str]:
    return [Path(hit["path"]).name for hit in answer["hits"]]


def test_index_tells_what_it_did_and_what_it_skipped(tectum: Run, media: Path) -> None:
    done = tectum("index", media)
    assert (done.status, done.err) == (0, "")
    assert "7 added" in done.out
    assert "skipped: 1 broken, 1 empty, 1 mislabelled" in done.out
    assert all(name in done.out for name in UNUSABLE)
    again = tectum("index")  # the folders of before
    assert "7 unchanged" in again.out and "added" not in again.out


def test_index_follows_the_folder(tectum: Run, media: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(media, tmp_path / "mine")
    tectum("index", folder)
    (folder / "a.png").unlink()
    shutil.copy(media / "c.bmp", folder / "b.bmp")
    (folder / "note.txt").write_text("Something else.")
    (report,) = found(tectum, "index", folder)  # type: ignore[misc]
    assert [report[key] for key in ("added", "removed", "changed", "reused")] == [1, 1, 1, 1]
    assert {Path(skip["path"]).name: skip["reason"] for skip in report["skipped"]} == UNUSABLE


def test_everything_finds_itself_first_and_similar_leaves_it_out(tectum: Run, media: Path) -> None:
    tectum("index", media)
    everything = found(tectum, "search", "rain", "--threshold", 0)
    assert set(names(everything)) == USABLE
    for option, name in (("--image", "b.jpg"), ("--audio", "high.wav"), ("--image", "new\nline [bold]\x1b[31m 🐕.png")):
        answer = found(tectum, "search", option, media / name, "--kind", option[2:], "--threshold", 0)
        assert names(answer)[0] == name
        assert answer["hits"][0]["cosine"] == pytest.approx(1, abs=1e-4)
        assert {hit["kind"] for hit in answer["hits"]} == {option[2:]}
        others = found(tectum, "similar", media / name, "--kind", option[2:], "--threshold", 0)
        assert names(others) == names(answer)[1:]
    assert len(found(tectum, "search", "rain", "--threshold", 0, "-k", 2)["hits"]) == 2


def test_composed_queries_are_the_sum_of_their_parts(tectum: Run, media: Path, weights: Path) -> None:
    import numpy as np

    from tectum import hub

    tectum("index", media)
    answer = found(tectum, "search", "rain", "--image", media / "a.png", "--audio", media / "low.flac", "--threshold", 0)
    space = hub.load(weights / "space-mini")
    vectors = space.embed(text=["rain"], image=[media / "a.png"], audio=[media / "low.flac"])
    total = sum(vector[0].numpy() for vector in vectors.values())
    total = total / np.linalg.norm(total)
    target = space.embed(image=[media / "b.jpg"])["image"][0].numpy()
    (hit,) = [hit for hit in answer["hits"] if hit["path"].endswith("b.jpg")]
    assert hit["cosine"] == pytest.approx(float(total @ target), abs=1e-4)


def test_a_table_for_people(tectum: Run, media: Path) -> None:
    tectum("index", media)
    done = tectum("search", "rain", "--threshold", 0)
    lines = done.out.splitlines()
    assert len(lines) == 1 + len(USABLE)
    assert lines[0].split() == ["relevance", "kind", "file", "text"]
    assert "\x1b" not in done.out and "new\\nline [bold]\\x1b[31m 🐕.png" in done.out
    relevance = [float(line.split()[2]) for line in lines[1:]]
    assert relevance == sorted(relevance, reverse=True)


def test_nothing_found_says_how_near_it_came(tectum: Run, media: Path) -> None:
    tectum("index", media)
    best = found(tectum, "search", "rain", "--threshold", 0)["hits"][0]["relevance"]
    done = tectum("search", "rain", "--threshold", 1)
    assert done.status == 0
    assert done.out == f"nothing found: the best of 7 files has relevance {best:.2f}, below the threshold of 1.00\n"
    answer = found(tectum, "search", "rain", "--threshold", 1)
    assert (answer["found"], answer["hits"], answer["best_below"]) == (False, [], pytest.approx(best))


def test_a_page_is_written(tectum: Run, media: Path, tmp_path: Path) -> None:
    tectum("index", media)
    for arguments in (("search", "rain"), ("similar", media / "a.png"), ("similar", media / "note.txt")):
        done = tectum(*arguments, "--threshold", 0, "--html", "out.html")
        assert done.status == 0 and done.out.endswith("the page is out.html\n")
        assert "<!doctype html>" in (tmp_path / "out.html").read_text()
        (tmp_path / "out.html").unlink()


def test_the_library_can_come_from_the_environment(tectum: Run, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TECTUM_LIBRARY", "other.tectum")
    tectum("index", media)
    assert Path("other.tectum").is_dir() and not Path("my.tectum").exists()


def test_rebuild_reads_all_folders_again(tectum: Run, media: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    shutil.copy(media / "a.png", second / "z.png")
    tectum("index", media, second)
    reports: Any = found(tectum, "index", "--rebuild")
    assert [report["added"] for report in reports] == [7, 1]
    shutil.rmtree(second)
    done = tectum("index")
    assert done.status == 0
    assert done.err == f"tectum: {second} is not there: its files stay in the index\n"


def test_rebuild_mends_a_damaged_library(tectum: Run, media: Path) -> None:
    tectum("index", media)
    Path("my.tectum/library.json").write_text("{")
    done = tectum("index", media)
    assert done.status == 2 and "--rebuild" in done.err
    (report,) = found(tectum, "index", "--rebuild", media)
    assert report["added"] == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("search", "x"), "there is no library at"),
        (("search",), "there is no library at"),
        (("index",), "give a folder"),
        (("index", "nowhere"), "does not exist"),
        (("similar", "nowhere.png"), "there is no library at"),
        (("index", ".", "--model", "space-mimi"), "did you mean 'space-mini'?"),
        (("search", "x", "-k", "0"), "-k"),
        (("search", "x", "--threshold", "2"), "--threshold"),
        (("search", "x", "--kind", "video"), "--kind"),
        (("serch", "x"), "search"),
    ],
)
def test_mistakes_are_one_line_and_exit_with_2(tectum: Run, arguments: tuple[str, ...], words: str) -> None:
    done = tectum(*arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1 and words in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("search",), "nothing to search for"),
        (("search", "  "), "nothing to search for"),
        (("search", "--image", "nowhere.png"), "nowhere.png"),
        (("similar", "nowhere.png"), "nowhere.png"),
    ],
)
def test_mistakes_with_a_library(tectum: Run, media: Path, arguments: tuple[str, ...], words: str) -> None:
    tectum("index", media)
    done = tectum(*arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1 and words in done.err
