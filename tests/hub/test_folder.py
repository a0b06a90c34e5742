"""A space on disk: the round trip, and what is refused."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tectum import hub
from tectum.errors import CheckpointError

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from tiny_space import TEXTS, tiny_space


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    space = tiny_space()
    space.background = {"text": space.embed(text=TEXTS)["text"]}
    space.calibration = {"text->image": (1.5, 0.5, -4.0)}
    hub.save(space, tmp_path / "tiny", dtype=torch.float32)
    return tmp_path / "tiny"


def test_round_trip_is_exact(folder: Path) -> None:
    before, after = tiny_space(), hub.load(folder)
    for (name, a), (other, b) in zip(before.state_dict().items(), after.state_dict().items(), strict=True):
        assert name == other and torch.equal(a, b)
    picture = np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)
    assert torch.equal(before.embed(image=[picture])["image"], after.embed(image=[picture])["image"])
    assert torch.equal(before.embed(text=TEXTS)["text"], after.embed(text=TEXTS)["text"])
    assert after.calibration == {"text->image": (1.5, 0.5, -4.0)} and not after.training
    assert torch.equal(after.background["text"], before.embed(text=TEXTS)["text"])


def test_half_precision_keeps_directions(tmp_path: Path) -> None:
    hub.save(tiny_space(), tmp_path / "half")
    a, b = tiny_space().embed(text=TEXTS)["text"], hub.load(tmp_path / "half").embed(text=TEXTS)["text"]
    assert float((a * b).sum(1).min()) > 0.9999


def test_the_fingerprint_changes_with_weights_tokenizer_and_preprocessing(folder: Path) -> None:
    first = hub.load(folder).fingerprint
    assert first == hub.load(folder).fingerprint and len(first) == 16
    hub.save(tiny_space(seed=1), folder, dtype=torch.float32)
    second = hub.load(folder).fingerprint
    preprocess = json.loads((folder / "preprocess.json").read_text())
    preprocess["audio"]["seconds"] = 0.6
    (folder / "preprocess.json").write_text(json.dumps(preprocess))
    assert len({first, second, hub.load(folder).fingerprint}) == 3


def test_saving_keeps_the_card_and_leaves_no_other_files(folder: Path) -> None:
    (folder / "README.md").write_text("card")
    hub.save(tiny_space(), folder)
    assert (folder / "README.md").read_text() == "card"
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("name", ["config.json", "preprocess.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_or_damaged_file_is_named(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=name):
        hub.load(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        hub.load(folder)


def test_files_that_contradict_each_other_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for change, message in (
        (lambda c: c.update(format=99), "format 99"),
        (lambda c: c["towers"]["image"]["grid"].update(widths=[8, 24]), "does not fit"),
        (lambda c: c["towers"]["text"]["text"].update(vocab_size=7), "contradicts itself"),
        (lambda c: c["towers"]["image"].update(kind="smell"), "unknown kind of tower"),
        (lambda c: c.pop("dim"), "does not describe a space"),
    ):
        broken = json.loads(json.dumps(config))
        change(broken)
        (folder / "config.json").write_text(json.dumps(broken))
        with pytest.raises(CheckpointError, match=message):
            hub.load(folder)


def test_models_are_found_by_name_and_a_misspelt_one_gets_a_hint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TECTUM_WEIGHTS", str(folder.parent))
    (info,) = [info for info in hub.available() if info.name == "tiny"]
    assert info.path == folder and info.modalities == ("image", "text", "audio")
    assert info.bytes == os.path.getsize(folder / "model.safetensors")
    assert hub.load("tiny").name == "tiny"
    with pytest.raises(CheckpointError, match="did you mean 'tiny'"):
        hub.load("tinny")
