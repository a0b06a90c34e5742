"""CLIP as transformers saves it: the same vectors, the same bits back, and everything doubtful refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tectum import hub
from tectum.errors import CheckpointError, ConfigError

UNUSUAL: dict[str, dict[str, Any]] = {
    "defaults": {},
    "exact gelu in one tower": {"vision": {"hidden_act": "gelu"}},
    "other activations": {"vision": {"hidden_act": "gelu_new"}, "text": {"hidden_act": "relu"}},
    "large eps": {"vision": {"layer_norm_eps": 0.1}, "text": {"layer_norm_eps": 0.01}},
    "other depths and heads": {"vision": {"num_hidden_layers": 1}, "text": {"num_attention_heads": 1, "num_hidden_layers": 3}},
    "a patch that does not divide": {"vision": {"image_size": 32, "patch_size": 7}},
    "a wider resize than crop": {"pictures": {"size": {"shortest_edge": 37}}},
    "bilinear, other mean": {"pictures": {"resample": 2, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}},
    "squashed": {"pictures": {"size": {"height": 32, "width": 32}, "do_center_crop": False}},
    "another factor": {"pictures": {"rescale_factor": 1 / 127.5}},
    "no rescaling": {"pictures": {"do_rescale": False}},
    "not normalised": {"pictures": {"do_normalize": False}},
    "an embedding table longer than the vocabulary": {"text": {"vocab_size": 600}},
    "fewer positions than the tokenizer's length": {"text": {"max_position_embeddings": 9}},
    "the legacy end of text": {"text": {"eos_token_id": 2}},
    "an added token": {"added": ["cab"]},
    "an end that is not the highest id": {"end": 7},
    "an end of id 2, which transformers takes for the legacy": {"end": 2},
    "a wide projection": {"dim": 57},
    "one patch": {"vision": {"patch_size": 32}},
    "an added token and the legacy end of text": {"added": ["cab"], "text": {"eos_token_id": 2}},
}


@pytest.mark.parametrize("options", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_vectors_and_logits_equal_transformers(
    make: dict[str, Callable[..., Path]], oracle: Callable, same: Callable, tmp_path: Path, options: dict
) -> None:
    folder = make["clip"](tmp_path / "clip", **options)
    same(hub.load(folder), oracle(folder))


@pytest.mark.parametrize("size", [16, 24, 56])
def test_another_picture_size_interpolates_the_positions_as_transformers(
    make: dict[str, Callable[..., Path]], oracle: Callable, same: Callable, tmp_path: Path, size: int
) -> None:
    crop = {"size": {"shortest_edge": size}, "crop_size": size}
    folder = make["clip"](tmp_path / "clip", pictures=crop)
    expected = oracle(folder, interpolate_pos_encoding=True)
    same(hub.load(folder), expected)
    usual = hub.load(make["clip"](tmp_path / "usual"))
    usual_print = usual.fingerprint
    resized = hub.load(tmp_path / "usual", image_size=size)
    same(resized, expected)
    assert resized.fingerprint != usual_print
    hub.save(resized, tmp_path / "again", layout="transformers")
    assert_same_tensors(folder, tmp_path / "again")  # the weights themselves are not interpolated
    same(hub.load(tmp_path / "again"), expected)


def test_a_folder_before_version_5_is_read_alike(clip_folder: Path, tmp_path: Path, pictures: list, texts: list) -> None:
    """vocab.json and merges.txt, a preprocessor_config.json of whole numbers, position_ids, configuration in "…_dict"."""
    old = tmp_path / "old"
    shutil.copytree(clip_folder, old)
    tokenizer = json.loads((old / "tokenizer.json").read_text())
    (old / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
    (old / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in tokenizer["model"]["merges"]))
    said = json.loads((old / "processor_config.json").read_text())["image_processor"]
    kept = {key: said[key] for key in ("do_resize", "do_center_crop", "do_normalize", "image_mean", "image_std", "resample")}
    kind = {"feature_extractor_type": "CLIPFeatureExtractor"}
    (old / "preprocessor_config.json").write_text(json.dumps({**kept, **kind, "size": 32, "crop_size": 32}))
    for name in ("tokenizer.json", "processor_config.json"):
        (old / name).unlink()
    config = json.loads((old / "config.json").read_text())
    config["text_config_dict"], config["text_config"] = config["text_config"], {"hidden_size": 1}
    del config["vision_config"]["hidden_act"], config["vision_config"]["layer_norm_eps"]  # left to the class's defaults
    (old / "config.json").write_text(json.dumps(config))
    weights = load_file(old / "model.safetensors")
    weights["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(weights, old / "model.safetensors")
    a, b = hub.load(clip_folder).embed(image=pictures, text=texts), hub.load(old).embed(image=pictures, text=texts)
    assert all(torch.equal(a[modality], b[modality]) for modality in a)


def test_the_round_trip_is_exact_and_transformers_reads_what_is_saved(
    clip_folder: Path, oracle: Callable, tmp_path: Path
) -> None:
    hub.save(hub.load(clip_folder), tmp_path / "again", layout="transformers")
    assert_same_tensors(clip_folder, tmp_path / "again")
    before, after = oracle(clip_folder), oracle(tmp_path / "again")
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert hub.load(tmp_path / "again").fingerprint == hub.load(clip_folder).fingerprint


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_vectors_and_comes_back_to_the_bit(
    clip_folder: Path, oracle: Callable, same: Callable, tmp_path: Path, dtype: torch.dtype
) -> None:
    half = tmp_path / "half"
    shutil.copytree(clip_folder, half)
    stored = {key: tensor.to(dtype) for key, tensor in load_file(half / "model.safetensors").items()}
    save_file(stored, half / "model.safetensors")
    same(hub.load(half), oracle(half))
    hub.save(hub.load(half), tmp_path / "again", layout="transformers", dtype=dtype)
    assert_same_tensors(half, tmp_path / "again")


def test_our_own_layout_keeps_it_exactly(clip_folder: Path, tmp_path: Path, pictures: list, texts: list) -> None:
    space = hub.load(clip_folder)
    hub.save(space, tmp_path / "ours", dtype=torch.float32)
    again = hub.load(tmp_path / "ours")
    assert again.config == space.config
    a, b = space.embed(image=pictures, text=texts), again.embed(image=pictures, text=texts)
    assert all(torch.equal(a[modality], b[modality]) for modality in a)
    hub.save(again, tmp_path / "theirs", layout="transformers")
    assert_same_tensors(clip_folder, tmp_path / "theirs")


def test_weights_in_shards_are_put_together(clip_folder: Path, tmp_path: Path) -> None:
    from transformers import CLIPModel

    shards = tmp_path / "shards"
    shutil.copytree(clip_folder, shards)
    (shards / "model.safetensors").unlink()
    CLIPModel.from_pretrained(clip_folder).save_pretrained(shards, max_shard_size="40KB")
    assert len(list(shards.glob("model-*.safetensors"))) > 1
    assert hub.load(shards).fingerprint == hub.load(clip_folder).fingerprint
    next(shards.glob("model-*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match=r"model-0000\d-of-.*copy the file again"):
        hub.load(shards)


def change_config(folder: Path, section: str | None = None, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (config if section is None else config[section]).update(values)
    (folder / "config.json").write_text(json.dumps(config))


def drop(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "an unknown model": (lambda f: change_config(f, model_type="siglip2"), "fixed-size models are read, not the NaFlex"),
    "no activation known here": (lambda f: change_config(f, "text_config", hidden_act="mish"), "activation 'mish': known"),
    "a width of words": (lambda f: change_config(f, "vision_config", hidden_size="wide"), "hidden_size as 'wide'"),
    "heads that do not divide": (lambda f: change_config(f, "vision_config", num_attention_heads=5), "5 heads do not divide"),
    "a section that is a list": (lambda f: change_config(f, text_config=[1]), "text_config that is no object"),
    "grey pictures": (lambda f: change_config(f, "vision_config", num_channels=1), "only RGB"),
    "an enormous table": (lambda f: change_config(f, "text_config", vocab_size=2**30), "where the configuration gives"),
    "another end token": (lambda f: change_config(f, "text_config", eos_token_id=7), "pools texts at eos_token_id 7"),
    "a small table": (lambda f: change_config(f, "text_config", vocab_size=99), "contradicts itself: .* 99 tokens"),
    "a missing layer": (lambda f: change_config(f, "text_config", num_hidden_layers=3), r"lacks 16 tensors \(text_model.*, …\)"),
    "a layer too many": (lambda f: change_config(f, "text_config", num_hidden_layers=1), r"holds, beyond .* 16 tensors"),
    "a missing tensor": (lambda f: edit_weights(f, lambda w: w.pop("logit_scale")), r"lacks 1 tensor \(logit_scale\)"),
    "a stray tensor": (lambda f: edit_weights(f, lambda w: w.update(odd=torch.ones(1))), r"1 tensor \(odd\)"),
    "a wrong shape": (lambda f: edit_weights(f, lambda w: w.update(logit_scale=torch.ones(3))), r"logit_scale is \[3\]"),
    "no tokenizer": (lambda f: drop(f, "tokenizer.json"), "nor vocab.json and merges.txt"),
    "a damaged tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json is damaged"),
    "no picture settings": (lambda f: drop(f, "processor_config.json"), "no preprocessor_config.json"),
    "a file cut short": (lambda f: cut(f / "model.safetensors"), "model.safetensors cannot be read"),
    "damaged weights": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "model.safetensors cannot be read"),
    "a pickle": (pickled, r"pytorch_model.bin, a format that can run code .*weights_only=True"),
    "no weights": (lambda f: drop(f, "model.safetensors"), "holds no model.safetensors"),
}


@pytest.mark.parametrize(("damage", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_damaged_or_contradictory_is_told_in_a_sentence(
    clip_folder: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        hub.load(folder)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"resample": 1}, "resample is 1"),
        ({"do_resize": False}, "do_resize is false"),
        ({"crop_size": {"height": 32, "width": 16}}, "not square"),
        ({"size": {"shortest_edge": 20}}, "less than the 32"),
        ({"size": {"longest_edge": 20}}, "gives no square"),
        ({"do_center_crop": False}, "gives no square"),
        ({"image_mean": [0.5]}, "three numbers"),
        ({"image_std": "x"}, "x"),
        ({"image_processor_type": "OddImageProcessor"}, "OddImageProcessor, which is not known"),
    ],
)
def test_pictures_that_cannot_be_prepared_alike_are_refused(clip_folder: Path, tmp_path: Path, said: dict, message: str) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    processor = json.loads((folder / "processor_config.json").read_text())
    processor["image_processor"].update(said)
    (folder / "processor_config.json").write_text(json.dumps(processor))
    with pytest.raises(CheckpointError, match=message):
        hub.load(folder)


def test_what_transformers_would_read_as_another_model_is_not_saved_for_it(
    make: dict[str, Callable[..., Path]], tmp_path: Path, texts: list
) -> None:
    """An end token of id 2 that is pooled by its id: the layout has no word for it, open_clip's and ours have."""
    space = hub.load(make["clip"](tmp_path / "clip", end=2, vision={"hidden_act": "gelu"}, text={"hidden_act": "gelu"}))
    assert space.config.towers["text"].text.pool == "highest"
    hub.save(space, tmp_path / "ours", dtype=torch.float32)
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    config["towers"]["text"]["clip_text"]["pool"] = "eos"
    (tmp_path / "ours" / "config.json").write_text(json.dumps(config))
    by_id = hub.load(tmp_path / "ours")
    vectors = by_id.embed(text=texts)["text"]
    assert (vectors - space.embed(text=texts)["text"]).abs().max() > 1e-3
    with pytest.raises(CheckpointError, match="an end token of id 2 cannot be saved"):
        hub.save(by_id, tmp_path / "x", layout="transformers")
    hub.save(by_id, tmp_path / "open_clip", layout="open_clip")
    assert torch.equal(hub.load(tmp_path / "open_clip").embed(text=texts)["text"], vectors)


def test_options_that_do_not_fit_are_refused(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="says its activation is 'quick_gelu', not 'gelu'"):
        hub.load(clip_folder, activation="gelu")
    with pytest.raises(ConfigError, match="less than one patch of 8"):
        hub.load(clip_folder, image_size=7)
    with pytest.raises(CheckpointError, match="is a file: give the folder"):
        hub.load(clip_folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="no layout 'keras'"):
        hub.save(hub.load(clip_folder), tmp_path / "x", layout="keras")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no readable config\.json"):
        hub.load(tmp_path / "empty")


def assert_same_tensors(a: Path, b: Path) -> None:
    first, second = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(first[key].dtype == second[key].dtype and torch.equal(first[key], second[key]) for key in first)
