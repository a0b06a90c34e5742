"""A text-to-image model survives its folder, and damaged folders are named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tectum.errors import CheckpointError
from tectum.hub.generators import load_text_to_image, save_text_to_image
from tectum.hub.names import available, load
from tectum.media.text import train_bpe
from tectum.models.sampling import Sampling
from tectum.models.text_to_image import TextToImage, tiny
from tectum.nn.unet_config import tiny as unet_tiny


@pytest.fixture(scope="module")
def model() -> TextToImage:
    torch.manual_seed(0)
    tokenizer = train_bpe(["a red apple", "a green pear"] * 2, vocab_size=300, context=8)
    made = TextToImage(tiny(tokenizer.vocab_size), tokenizer).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


@pytest.fixture
def folder(model: TextToImage, tmp_path: Path) -> Path:
    save_text_to_image(model, tmp_path / "tiny", dtype=torch.float32)
    return tmp_path / "tiny"


def test_what_is_loaded_paints_the_same_pictures(model: TextToImage, folder: Path) -> None:
    again = load_text_to_image(folder)
    assert again.config == model.config
    sampling = Sampling(steps=3, seed=4)
    assert torch.equal(again.generate(["a red apple"], sampling), model.generate(["a red apple"], sampling))


def test_a_model_with_a_u_net_survives_too(model: TextToImage, tmp_path: Path) -> None:
    unet = unet_tiny(channels=2, context=16)
    config = replace(model.config, denoiser=replace(unet, told=replace(unet.told, pooled=16)))
    torch.manual_seed(1)
    made = TextToImage(config, model.prompts.tokenizer).eval()
    for parameter in made.network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_text_to_image(made, tmp_path / "unet", dtype=torch.float32)
    again = load_text_to_image(tmp_path / "unet")
    assert again.config == config
    assert torch.equal(again.generate(["a red apple"], Sampling(steps=2)), made.generate(["a red apple"], Sampling(steps=2)))


def test_half_precision_is_half_the_size_and_nearly_the_same(model: TextToImage, folder: Path) -> None:
    save_text_to_image(model, folder.with_name("half"))
    half = folder.with_name("half") / "model.safetensors"
    assert half.stat().st_size < 0.6 * (folder / "model.safetensors").stat().st_size
    sampling = Sampling(steps=3, guidance=1.0)
    near, exact = (one.generate(["a red apple"], sampling).float() for one in (load_text_to_image(half.parent), model))
    assert (near - exact).abs().mean() < 2


def test_it_is_listed_with_its_kind_and_is_not_taken_for_a_space(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TECTUM_WEIGHTS", str(folder.parent))
    (listed,) = [one for one in available() if one.name == "tiny"]
    assert (listed.kind, listed.modalities) == ("text_to_image", ("text", "image"))
    assert load_text_to_image("tiny").config.name == "tiny"
    with pytest.raises(CheckpointError, match="tiny"):
        load("tiny")


@pytest.mark.parametrize(
    "damage, sentence",
    [
        ({"type": "space"}, "says type 'space'"),
        ({"format": 9}, "format 9"),
        ({"size": 17}, "does not describe"),
        ({"text": {}}, "does not describe"),
        ({"surprise": 1}, "does not describe"),
    ],
)
def test_a_damaged_description_is_named(folder: Path, damage: dict[str, object], sentence: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(CheckpointError, match=sentence):
        load_text_to_image(folder)


def test_missing_and_foreign_weights_are_named(folder: Path, model: TextToImage) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_text_to_image(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_text_to_image(folder)
