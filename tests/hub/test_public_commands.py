"""The command on a folder as transformers writes it: nothing about it needs to be known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tectum import hub
from tectum.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, pictures: list, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five pictures and a text."""
    made = tmp_path / "photos"
    made.mkdir()
    for i, picture in enumerate(pictures[:5]):
        picture.save(made / f"{i}.png")
    (made / "note.txt").write_text("a cab, a dab")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TECTUM_LIBRARY", raising=False)
    return made


@pytest.mark.parametrize("family", ["clip_folder", "siglip_folder"])
def test_index_search_similar_classify_and_embed(
    family: str, request: pytest.FixtureRequest, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model: Path = request.getfixturevalue(family)
    space = hub.load(model)

    def run(*arguments: object) -> Any:
        capsys.readouterr()
        assert main([*map(str, arguments), "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    (report,) = run("index", folder, "--model", model)
    assert report["added"] == 6 and report["skipped"] == []
    vectors = space.embed(image=sorted(folder.glob("*.png")))["image"]
    cosines = (space.embed(text=["a cab"])["text"] @ vectors.T)[0]
    found = run("search", "a cab", "--kind", "image", "--threshold", 0)["hits"]  # the library knows its model
    assert [Path(hit["path"]).name for hit in found] == [f"{i}.png" for i in cosines.argsort(descending=True)]
    np.testing.assert_allclose([hit["cosine"] for hit in found], cosines.sort(descending=True).values, atol=1e-5)
    assert Path(run("search", "--image", folder / "3.png", "--threshold", 0)["hits"][0]["path"]).name == "3.png"
    assert all(Path(hit["path"]).name != "3.png" for hit in run("similar", folder / "3.png", "--threshold", 0)["hits"])

    told = run("classify", folder / "1.png", folder / "2.png", "--labels", "cab,dab,ab", "--model", model)
    expected = space.classify(["cab", "dab", "ab"], image=[folder / "1.png", folder / "2.png"])
    np.testing.assert_allclose([list(item["labels"].values()) for item in told], expected, atol=1e-5)

    assert main(["embed", *map(str, sorted(folder.iterdir())), "--out", "photos.npz", "--model", str(model)]) == 0
    written = np.load("photos.npz")
    assert written["fingerprint"] == space.fingerprint
    images = written["vectors"][written["kinds"] == "image"]
    torch.testing.assert_close(torch.from_numpy(images), vectors, rtol=0, atol=1e-5)
