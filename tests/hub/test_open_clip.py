"""open_clip's and OpenAI's layouts. Neither library is at hand: their tensors are made from transformers' by the published
conversion, written out here a second time, and must give transformers' vectors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tectum import hub
from tectum.errors import CheckpointError

SAME_WITHIN_BLOCKS = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
TOKENIZER_ONLY = shutil.ignore_patterns("[!t]*")
WIDE = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1}


def converted(folder: Path) -> dict[str, torch.Tensor]:
    """transformers' tensors under OpenAI's names."""
    theirs = load_file(folder / "model.safetensors")
    made = {
        "visual.conv1.weight": theirs["vision_model.embeddings.patch_embedding.weight"],
        "visual.class_embedding": theirs["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": theirs["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": theirs["visual_projection.weight"].T.contiguous(),
        "token_embedding.weight": theirs["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": theirs["text_model.embeddings.position_embedding.weight"],
        "text_projection": theirs["text_projection.weight"].T.contiguous(),
        "logit_scale": theirs["logit_scale"],
    }
    for kind in ("weight", "bias"):
        made[f"visual.ln_pre.{kind}"] = theirs[f"vision_model.pre_layrnorm.{kind}"]
        made[f"visual.ln_post.{kind}"] = theirs[f"vision_model.post_layernorm.{kind}"]
        made[f"ln_final.{kind}"] = theirs[f"text_model.final_layer_norm.{kind}"]
        for tower, prefix in (("vision_model", "visual."), ("text_model", "")):
            for i in range(2):
                layer, block = f"{tower}.encoder.layers.{i}", f"{prefix}transformer.resblocks.{i}"
                joined = [theirs[f"{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                made[f"{block}.attn.in_proj_{kind}"] = torch.cat(joined)
                made[f"{block}.attn.out_proj.{kind}"] = theirs[f"{layer}.self_attn.out_proj.{kind}"]
                for name, other in SAME_WITHIN_BLOCKS.items():
                    made[f"{block}.{name}.{kind}"] = theirs[f"{layer}.{other}.{kind}"]
    return made


@pytest.fixture(scope="module")
def wide(make: dict[str, Callable[..., Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of transformers whose heads are 64 wide, as OpenAI's all are."""
    return make["clip"](tmp_path_factory.mktemp("wide") / "wide", text=WIDE, vision=WIDE)


@pytest.fixture
def openai(wide: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(wide, tmp_path / "openai", ignore=TOKENIZER_ONLY)
    extra = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(16), "vocab_size": torch.tensor(515)}
    save_file(converted(wide) | extra, folder / "model.safetensors")
    return folder


@pytest.fixture
def open_clip(clip_folder: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(clip_folder, tmp_path / "open_clip", ignore=TOKENIZER_ONLY)
    save_file(converted(clip_folder), folder / "open_clip_model.safetensors")
    vision = {"image_size": 32, "layers": 2, "width": 24, "patch_size": 8, "head_width": 8, "mlp_ratio": 2.0}
    text = {"context_length": 16, "vocab_size": 515, "width": 32, "heads": 4, "layers": 2, "mlp_ratio": 1.5}
    model = {"embed_dim": 20, "vision_cfg": vision, "text_cfg": text, "quick_gelu": True}
    mean_and_std = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    pictures = {"size": 32, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0, **mean_and_std}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": pictures}))
    return folder


@pytest.fixture
def open_clip_pictures(pictures: list) -> list:
    """Without an odd margin, where open_clip cuts one pixel beside transformers."""
    return [pictures[0], pictures[2], pictures[0].resize((50, 50))]


def edit(folder: Path, part: str | None = None, **values: object) -> None:
    said = json.loads((folder / "open_clip_config.json").read_text())
    (said["model_cfg"] if part is None else said["model_cfg"][part]).update(values)
    (folder / "open_clip_config.json").write_text(json.dumps(said))


def test_openai_tensors_give_the_vectors_and_do_not_tell_the_activation(
    openai: Path, wide: Path, oracle: Callable, same: Callable, open_clip_pictures: list, texts: list
) -> None:
    with pytest.raises(CheckpointError, match=r"does not say which activation .* give activation='quick_gelu'"):
        hub.load(openai)
    same(hub.load(openai, activation="quick_gelu"), oracle(wide, pictures=open_clip_pictures), pictures=open_clip_pictures)
    other = hub.load(openai, activation="gelu")
    assert (other.embed(text=texts)["text"] - hub.load(wide).embed(text=texts)["text"]).abs().max() > 1e-3


def test_open_clip_gives_the_vectors(
    open_clip: Path, clip_folder: Path, oracle: Callable, same: Callable, open_clip_pictures: list
) -> None:
    expected = oracle(clip_folder, pictures=open_clip_pictures)
    space = hub.load(open_clip)
    same(space, expected, pictures=open_clip_pictures)

    weights = load_file(open_clip / "open_clip_model.safetensors")
    parts = ("token_embedding", "positional_embedding", "text_projection", "transformer.", "ln_final")
    custom = {f"text.{key}" if key.startswith(parts) else key: tensor for key, tensor in weights.items()}
    save_file({f"module.{key}": tensor for key, tensor in custom.items()}, open_clip / "open_clip_model.safetensors")
    edit(open_clip, custom_text=True)
    assert hub.load(open_clip).fingerprint == space.fingerprint

    (open_clip / "open_clip_model.safetensors").rename(open_clip / "open_clip_pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"open_clip_pytorch_model\.bin, a format that can run code"):
        hub.load(open_clip)


def test_positions_are_interpolated_as_open_clip_does(open_clip: Path) -> None:
    """With antialiasing, which in PyTorch is another kernel even when the grid grows."""
    space = hub.load(open_clip, image_size=56)
    encoder = space.tower("image").encoder
    grid = encoder.positions[1:].T.reshape(1, -1, 4, 4)
    larger = torch.nn.functional.interpolate(grid, (7, 7), mode="bicubic", antialias=True, align_corners=False)
    pixels = torch.rand(2, 3, 56, 56)
    with torch.no_grad():
        expected = encoder(pixels)
        encoder.positions = torch.nn.Parameter(torch.cat((encoder.positions[:1], larger[0].flatten(1).T)))
        torch.testing.assert_close(encoder(pixels), expected)


@pytest.mark.parametrize("layout", ["openai", "open_clip", "transformers"])
def test_every_layout_leads_to_every_other_and_back_to_the_bit(openai: Path, wide: Path, tmp_path: Path, layout: str) -> None:
    given = "quick_gelu" if layout == "openai" else None
    hub.save(hub.load(wide), tmp_path / "there", layout=layout)
    there = hub.load(tmp_path / "there", activation=given)
    hub.save(there, tmp_path / "back", layout="transformers")
    first, second = load_file(wide / "model.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    if layout != "transformers":
        name = "model" if layout == "openai" else "open_clip_model"
        saved, published = load_file(tmp_path / "there" / f"{name}.safetensors"), converted(wide)
        assert saved.keys() == published.keys() and all(torch.equal(saved[key], published[key]) for key in saved)
    if layout == "open_clip":
        config = json.loads((tmp_path / "there" / "open_clip_config.json").read_text())["model_cfg"]
        assert config["quick_gelu"] is True and config["vision_cfg"]["mlp_ratio"] == 4.0


def test_one_layout_takes_the_place_of_another_and_of_nothing_else(wide: Path, tmp_path: Path) -> None:
    space, folder = hub.load(wide), tmp_path / "model"
    hub.save(space, folder)
    (folder / "README.md").write_text("card")
    for layout in ("transformers", "open_clip", "openai", "transformers"):
        hub.save(space, folder, layout=layout)
        again = hub.load(folder, activation="quick_gelu" if layout == "openai" else None)
        assert torch.equal(again.embed(text=["a cab"])["text"], space.embed(text=["a cab"])["text"])
        assert (folder / "README.md").read_text() == "card" and len(list(folder.glob("*.safetensors"))) == 1
    hub.save(space, folder)
    assert hub.load(folder).fingerprint != space.fingerprint  # ours again: in half precision


def test_a_folder_with_both_layouts_is_read_as_transformers(open_clip: Path, clip_folder: Path) -> None:
    for file in clip_folder.iterdir():
        shutil.copy(file, open_clip)
    assert hub.load(open_clip).fingerprint == hub.load(clip_folder).fingerprint
    (open_clip / "model.safetensors").unlink()
    assert hub.load(open_clip).config.towers["image"].grid.antialias


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("vision_cfg", {"timm_model_name": "vit"}, "asks for timm_model_name = 'vit'"),
        ("vision_cfg", {"layers": [3, 4, 6, 3]}, "layers as"),
        ("vision_cfg", {"pool_type": "avg"}, "pools by 'avg'"),
        ("text_cfg", {"hf_model_name": "roberta"}, "asks for hf_model_name"),
        ("text_cfg", {"no_causal_mask": True}, "asks for no_causal_mask"),
        ("vision_cfg", {"pos_embed_type": "sin_cos_2d"}, "positions of type 'sin_cos_2d'"),
        ("text_cfg", {"tokenizer_kwargs": {"clean": "canonicalize"}}, "asks for tokenizer_kwargs"),
        ("text_cfg", {"pool_type": "eos", "eos_id": 2}, "pools texts at eos_id 2, but the tokenizer ends them with 514"),
        ("text_cfg", {"heads": 5}, "5 heads do not divide"),
        ("text_cfg", {"width": 48}, "where the configuration gives"),
        (None, {"multimodal_cfg": {"a": 1}}, "asks for multimodal_cfg"),
        (None, {"text_cfg": None}, "lacks model_cfg, vision_cfg or text_cfg"),
    ],
)
def test_other_architectures_are_refused(open_clip: Path, part: str | None, values: dict, message: str) -> None:
    edit(open_clip, part, **values)
    with pytest.raises(CheckpointError, match=message):
        hub.load(open_clip)


def test_what_a_layout_cannot_hold_is_not_saved_in_it(
    make: dict[str, Callable[..., Path]], clip_folder: Path, siglip_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="heads of 64 numbers, and this model has 8"):
        hub.save(hub.load(clip_folder), tmp_path / "x", layout="openai")
    with pytest.raises(CheckpointError, match="one activation for both towers"):
        hub.save(hub.load(siglip_folder), tmp_path / "x", layout="open_clip")
    mixed = make["clip"](tmp_path / "mixed", vision={"hidden_act": "gelu"})
    with pytest.raises(CheckpointError, match="one activation for both towers"):
        hub.save(hub.load(mixed), tmp_path / "x", layout="open_clip")
    assert [path.name for path in tmp_path.iterdir()] == ["mixed"]
