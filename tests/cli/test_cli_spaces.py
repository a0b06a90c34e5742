"""classify, embed, models and info against the model itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from running import Run

from tectum import hub
from tectum.data.embeddings import read_vectors

UNUSABLE = ("empty.png", "words.jpg", "broken.png")


def test_classify_gives_the_models_probabilities(tectum: Run, media: Path, weights: Path) -> None:
    files = [media / "a.png", media / "high.wav", media / "b.jpg"]
    done = tectum("classify", *files, "--labels", "dog, rain,cat", "--json")
    assert (done.status, done.err) == (0, "")
    answers = json.loads(done.out)
    assert [answer["path"] for answer in answers] == [str(file) for file in files]
    space = hub.load(weights / "space-mini")
    for answer, file in zip(answers, files, strict=True):
        expected = space.classify(["dog", "rain", "cat"], **{answer["kind"]: [file]})[0]
        torch.testing.assert_close(torch.tensor(list(answer["labels"].values())), expected, atol=1e-5, rtol=1e-4)
        assert list(answer["labels"]) == ["dog", "rain", "cat"]


def test_templates_are_used(tectum: Run, media: Path, weights: Path) -> None:
    done = tectum("classify", media / "a.png", "--labels", "dog,cat", "--template", "{}", "--template", "my {}", "--json")
    expected = hub.load(weights / "space-mini").classify(["dog", "cat"], templates=["{}", "my {}"], image=[media / "a.png"])
    assert list(json.loads(done.out)[0]["labels"].values()) == pytest.approx(expected[0].tolist(), abs=1e-5)


def test_classify_for_people_names_the_best(tectum: Run, media: Path) -> None:
    answer = json.loads(tectum("classify", media / "a.png", "--labels", "dog,cat", "--json").out)[0]["labels"]
    best = max(answer, key=lambda name: answer[name])
    row = tectum("classify", media / "a.png", "--labels", "dog,cat").out.splitlines()[1].split()
    assert row[:2] == [str(media / "a.png"), best]
    assert float(row[3]) == pytest.approx(answer[best], abs=0.006)


def test_broken_files_are_told_and_the_others_answered(tectum: Run, media: Path) -> None:
    names = ["a.png", *UNUSABLE, "b.jpg", "note.txt", "nowhere.png", "high.wav"]
    done = tectum("classify", *(media / name for name in names), "--labels", "dog,cat", "--json")
    assert done.status == 2
    assert [Path(answer["path"]).name for answer in json.loads(done.out)] == ["a.png", "b.jpg", "high.wav"]
    assert len(done.err.splitlines()) == 5
    assert all(name in done.err for name in (*UNUSABLE, "note.txt", "nowhere.png"))


@pytest.mark.parametrize(
    ("labels", "template"), [("", "{}"), ("dog", "{}"), ("dog,dog", "{}"), (" , ,", "{}"), ("a,b", "no place")]
)
def test_wrong_labels(tectum: Run, media: Path, labels: str, template: str) -> None:
    done = tectum("classify", media / "a.png", "--labels", labels, "--template", template)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1


def test_embed_writes_the_models_vectors(tectum: Run, media: Path, weights: Path, tmp_path: Path) -> None:
    names = ["note.txt", "a.png", "high.wav", "new\nline [bold]\x1b[31m 🐕.png", "a.png"]
    done = tectum("embed", *(media / name for name in names), "-o", "v.npz")
    assert (done.status, done.err) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["v.npz"]
    with np.load("v.npz", allow_pickle=False) as held:
        assert [Path(path).name for path in held["paths"]] == names
        assert held["kinds"].tolist() == ["text", "image", "audio", "image", "image"]
        space = hub.load(weights / "space-mini")
        assert (held["model"], held["fingerprint"]) == (space.name, space.fingerprint)
        expected = space.embed(text=[(media / "note.txt").read_text()], image=[media / "a.png"], audio=[media / "high.wav"])
        rows = torch.cat([expected["text"], expected["image"], expected["audio"]]).numpy()
        np.testing.assert_allclose(held["vectors"][:3], rows, atol=1e-5)
        np.testing.assert_array_equal(held["vectors"][1], held["vectors"][4])


def test_one_broken_file_among_many_costs_no_other(tectum: Run, media: Path) -> None:
    done = tectum("embed", *(media / name for name in ("a.png", "b.jpg", "broken.png", "c.bmp")), "-o", "v.npz")
    assert done.status == 2 and done.err.count("\n") == 1
    with np.load("v.npz") as held:
        assert [Path(path).name for path in held["paths"]] == ["a.png", "b.jpg", "c.bmp"]


@pytest.mark.parametrize("out", ["v.txt", "nowhere/v.npz"])
def test_embed_needs_a_place(tectum: Run, media: Path, out: str) -> None:
    done = tectum("embed", media / "a.png", "-o", out)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1


def test_nothing_is_written_if_no_file_can_be_used(tectum: Run, media: Path, tmp_path: Path) -> None:
    done = tectum("embed", media / "empty.png", "-o", "v.npz")
    assert done.status == 2 and done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_models(tectum: Run, weights: Path) -> None:
    listed = {model["name"]: model for model in json.loads(tectum("models", "--json").out)}
    assert listed["space-mini"]["path"] == str(weights / "space-mini")
    assert sorted(listed["space-mini"]["modalities"]) == ["audio", "image", "text"]
    assert "random weights" in tectum("models").out


def test_info_of_files_a_model_a_library_and_the_installation(tectum: Run, media: Path, weights: Path) -> None:
    def facts(*arguments: object) -> dict[str, object]:
        return json.loads(tectum("info", *arguments, "--json").out)  # type: ignore[no-any-return]

    picture = facts(media / "a.png")
    assert (picture["kind"], picture["pixels"], picture["bytes"]) == ("image", [32, 24], (media / "a.png").stat().st_size)
    sound = facts(media / "high.wav")
    assert (sound["kind"], sound["rate"], sound["channels"], sound["seconds"]) == ("audio", 16000, 1, 0.5)
    assert facts(media / "note.txt")["words"] == 7
    model = facts(weights / "space-mini")
    assert (model["dim"], model["fingerprint"]) == (16, hub.load(weights / "space-mini").fingerprint)
    assert facts("space-mini") == model
    assert "space-mini" in str(facts()["models"])
    tectum("index", media)
    library = facts("my.tectum")
    assert library["files"] == {"audio": 2, "image": 4, "text": 1}
    assert library["skipped"] == {"broken": 1, "empty": 1, "mislabelled": 1}
    told = tectum("info", "my.tectum").out
    assert "2 audio, 4 image, 1 text" in told


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_info_of_what_is_nothing(tectum: Run, path: str) -> None:
    done = tectum("info", path)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1


def test_small_vectors_are_the_models_within_their_rounding(tectum: Run, media: Path, tmp_path: Path) -> None:
    files = [media / "a.png", media / "high.wav", media / "note.txt"]
    assert tectum("embed", *files, "-o", "full.npz").status == 0
    done = tectum("embed", *files, "-o", "small.npz", "--dim", "8", "--dtype", "int8")
    assert (done.status, done.err) == (0, "") and "3 vectors of 8 numbers" in done.out
    expected = read_vectors(tmp_path / "full.npz").vectors[:, :8]
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    with np.load("small.npz") as held:
        assert held["vectors"].dtype == np.int8 and held["scales"].shape == (3,)
        bound = held["scales"][:, None] / 2
    assert (np.abs(read_vectors(tmp_path / "small.npz").vectors - expected) <= bound + 1e-7).all()
    assert tectum("embed", *files, "-o", "half.npz", "--dtype", "float16").status == 0
    assert read_vectors(tmp_path / "half.npz").vectors.dtype == np.float16


@pytest.mark.parametrize(("option", "value"), [("--dim", "0"), ("--dim", "17"), ("--dtype", "int4")])
def test_sizes_that_do_not_exist(tectum: Run, media: Path, tmp_path: Path, option: str, value: str) -> None:
    done = tectum("embed", media / "a.png", "-o", "v.npz", option, value)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []
