"""tectum demo with a model of random weights: everything runs, twice, and what is written can be used."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from running import Run

from tectum.cli import example_media


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example media, made once."""
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("examples")
    example_media.make_example_media(folder)
    return folder


def test_examples_are_usable_media_and_made_once(examples: Path) -> None:
    from tectum.media.kinds import sniff

    files = [path for path in examples.rglob("*") if path.is_file()]
    kinds = [sniff(path) for path in files]
    pictures = len(example_media.PHOTOGRAPHS) + len(example_media.QUESTION_PHOTOGRAPHS)
    sounds = len(example_media.SOUNDS) + len(example_media.QUESTION_SOUNDS)
    assert [kinds.count(kind) for kind in ("image", "audio", "text")] == [pictures, sounds, len(example_media.NOTES)]
    before = {path: path.stat().st_mtime_ns for path in files}
    library = example_media.make_example_media(examples)
    assert {path: path.stat().st_mtime_ns for path in examples.rglob("*") if path.is_file()} == before
    assert library.name == "library"


def test_questions_are_not_in_the_library(examples: Path) -> None:
    contents = {path.read_bytes() for path in (examples / "library").rglob("*") if path.is_file()}
    assert not contents & {path.read_bytes() for path in (examples / "questions").iterdir()}


def test_the_demo_runs_and_its_commands_can_be_typed(tectum: Run, examples: Path) -> None:
    shutil.copytree(examples, "examples/media")
    done = tectum("demo")
    assert (done.status, done.err) == (0, "")
    wanted = len(example_media.PHOTOGRAPHS) + len(example_media.SOUNDS) + len(example_media.NOTES)
    assert f"{wanted} added" in done.out
    page = Path("demo.html").read_text()
    assert "<!doctype html>" in page and "http://" not in page and "https://" not in page
    commands = [line.removeprefix("$ ") for line in done.out.splitlines() if line.startswith("$ ")]
    assert len(commands) == 8
    for command in (commands[0], commands[4], commands[5], commands[6]):
        assert tectum(*shlex.split(command)[1:]).status == 0
    assert f"{wanted} unchanged" in tectum("demo").out


def test_ones_own_folder(tectum: Run, media: Path) -> None:
    shutil.copytree(media, "my pictures")
    done = tectum("demo", "--media", "my pictures", "--out", "page.html")
    assert (done.status, done.err) == (0, "")
    assert "7 added" in done.out and "skipped: 1 broken, 1 empty, 1 mislabelled" in done.out
    assert Path("demo-my pictures.tectum").is_dir() and Path("page.html").exists() and not Path("examples").exists()
    assert "--library 'demo-my pictures.tectum'" in done.out


def test_a_folder_without_media(tectum: Run) -> None:
    Path("bare").mkdir()
    done = tectum("demo", "--media", "bare")
    assert (done.status, done.err) == (0, "")
    assert "no media found" in done.out


def test_no_folder(tectum: Run) -> None:
    done = tectum("demo", "--media", "nowhere")
    assert (done.status, done.err.count("\n")) == (2, 1)


def test_another_model_rebuilds_the_demo(tectum: Run, media: Path, weights: Path, tmp_path: Path) -> None:
    shutil.copytree(media, "own")
    assert tectum("demo", "--media", "own").status == 0
    other = tmp_path / "other"
    shutil.copytree(weights / "space-mini", other)
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace("random weights", "random weights too"))
    done = tectum("demo", "--media", "own", "--model", other)
    assert (done.status, done.err) == (0, "") and "7 added" in done.out
