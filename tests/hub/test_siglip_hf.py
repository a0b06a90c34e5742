"""SigLIP and fixed-size SigLIP 2 as transformers saves them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tectum import hub
from tectum.errors import CheckpointError
from tectum.models.sigmoid_space import SigmoidSpace


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tokenizer": "t5"},
        {"text": {"hidden_act": "gelu", "layer_norm_eps": 0.01}, "vision": {"hidden_act": "quick_gelu", "layer_norm_eps": 0.1}},
        {"text": {"hidden_size": 32, "num_attention_heads": 2, "projection_size": 24}},
        {"text": {"max_position_embeddings": 7}, "vision": {"patch_size": 7}},
    ],
    ids=["SigLIP 2", "SigLIP", "activations and eps", "a narrower projection", "short texts, a patch that does not divide"],
)
def test_vectors_and_logits_equal_transformers(
    make: dict[str, Callable], oracle: Callable, same: Callable, pictures: list, texts: list, tmp_path: Path, options: dict
) -> None:
    folder = make["siglip"](tmp_path / "siglip", **options)
    space = hub.load(folder)
    expected = oracle(folder)
    same(space, expected)
    assert isinstance(space, SigmoidSpace)
    found = space.embed(image=pictures, text=texts)
    probability = space.probability("image", found["image"], "text", found["text"])
    torch.testing.assert_close(probability, expected["logits"].sigmoid(), rtol=0, atol=1e-4)


def test_texts_are_padded_to_the_full_length_and_lower_cased(siglip_folder: Path) -> None:
    space = hub.load(siglip_folder)
    ids = space.prepare("text", "AB c")
    assert len(ids) == 12 and ids.tolist()[4:] == [0] * 8
    assert torch.equal(ids, space.prepare("text", "ab c"))


def test_do_lower_case_is_carried_out_where_tokenizer_json_ignores_it(siglip_folder: Path, tmp_path: Path) -> None:
    """As the first SigLIP 2 folders were: a plain Gemma tokenizer, and a setting that nobody obeyed (COCO 48.6, not 52.1)."""
    folder = tmp_path / "siglip"
    shutil.copytree(siglip_folder, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit_settings(folder, tokenizer_class="GemmaTokenizer", do_lower_case=True)
    upper = hub.load(folder).prepare("text", "AB c")
    assert torch.equal(upper, hub.load(siglip_folder).prepare("text", "ab c"))
    edit_settings(folder, do_lower_case=False)
    assert not torch.equal(upper, hub.load(folder).prepare("text", "AB c"))


@pytest.mark.parametrize("size", [16, 56])
def test_another_picture_size_interpolates_the_positions_as_transformers(
    siglip_folder: Path, oracle: Callable, same: Callable, tmp_path: Path, size: int
) -> None:
    folder = tmp_path / "siglip"
    shutil.copytree(siglip_folder, folder)
    said = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**said, "size": {"height": size, "width": size}}))
    expected = oracle(folder, interpolate_pos_encoding=True)
    same(hub.load(folder), expected)
    same(hub.load(siglip_folder, image_size=size), expected)


def test_the_round_trips_are_exact_and_transformers_reads_what_is_saved(
    siglip_folder: Path, oracle: Callable, tmp_path: Path, texts: list
) -> None:
    space = hub.load(siglip_folder)
    hub.save(space, tmp_path / "ours", dtype=torch.float32)
    again = hub.load(tmp_path / "ours")
    assert isinstance(again, SigmoidSpace) and again.config == space.config
    assert torch.equal(again.embed(text=texts)["text"], space.embed(text=texts)["text"])
    hub.save(again, tmp_path / "theirs", layout="transformers")
    first, second = load_file(siglip_folder / "model.safetensors"), load_file(tmp_path / "theirs" / "model.safetensors")
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert first["logit_bias"].shape == second["logit_bias"].shape == (1,)
    before, after = oracle(siglip_folder), oracle(tmp_path / "theirs")
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert hub.load(tmp_path / "theirs").fingerprint == space.fingerprint


def test_the_scale_is_not_held_below_100(siglip_folder: Path) -> None:
    space = hub.load(siglip_folder)
    with torch.no_grad():
        space.log_scale["image-text"].fill_(4.77)
    assert space.scale("text", "image").item() == pytest.approx(117.92, abs=0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"padding_side": "left"}, "pads on the left"),
        ({"padding_side": None, "tokenizer_class": "Siglip2Tokenizer"}, "pads on the left .as Siglip2Tokenizer does unless told"),
        ({"add_eos_token": False}, "ends no text with an end token"),
        ({"pad_token": "<nothing>"}, "which tokenizer.json lacks"),
        ({"pad_token": None}, "names no pad_token"),
    ],
)
def test_a_tokenizer_unlike_that_in_training_is_refused(
    siglip_folder: Path, tmp_path: Path, settings: dict, message: str
) -> None:
    folder = tmp_path / "siglip"
    shutil.copytree(siglip_folder, folder)
    edit_settings(folder, **settings)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "padding": None}))
    with pytest.raises(CheckpointError, match=message):
        hub.load(folder)


def test_towers_that_end_in_different_widths_are_refused(make: dict[str, Callable[..., Path]], tmp_path: Path) -> None:
    folder = make["siglip"](tmp_path / "siglip", text={"projection_size": 20})
    with pytest.raises(CheckpointError, match="MAP head gives vectors of its width, 24, not 20"):
        hub.load(folder)


def edit_settings(folder: Path, **values: object) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | values
    kept = {key: value for key, value in settings.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(kept))
