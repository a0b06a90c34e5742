"""What of diffusers is not read, or not written, is told and never guessed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tectum.errors import CheckpointError
from tectum.hub.diffusers.folder import load_network, save_network
from tectum.hub.diffusers.parts import WEIGHTS
from tectum.nn.autoencoder import Autoencoder, tiny_autoencoder
from tectum.nn.conditions import ConditionConfig
from tectum.nn.dit import DiT, dit
from tectum.nn.unet import UNet
from tectum.nn.unet_config import Attend, Level, tiny

PLAIN = tiny()
TEXT = tiny(context=6)
DIT = replace(dit(2, 24, 3), told=ConditionConfig(features=256, shift=1.0, classes=5, null_class=True), eps_mlp=1e-5)
FRESH = {
    "UNet2DModel": lambda: UNet(PLAIN),
    "UNet2DConditionModel": lambda: UNet(TEXT),
    "AutoencoderKL": lambda: Autoencoder(tiny_autoencoder()),
    "DiTTransformer2DModel": lambda: DiT(DIT),
}


def changed(kind: str, folder: Path, **options: Any) -> Path:
    """A folder of this class whose config.json says something else."""
    save_network(FRESH[kind](), folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | options))
    return folder


UNETS = [
    ({"center_input_sample": True}, "center_input_sample to True, .* must be False"),
    ({"time_embedding_type": "fourier"}, "time_embedding_type to 'fourier', .* must be 'positional'"),
    ({"mid_block_scale_factor": 0.7}, "mid_block_scale_factor to 0.7"),
    ({"downsample_padding": 2}, "downsample_padding to 2, .* must be 0 or 1"),
    ({"act_fn": "gelu"}, "act_fn to 'gelu', .* must be 'silu' or 'swish'"),
    ({"resnet_time_scale_shift": "ada_group"}, "resnet_time_scale_shift to 'ada_group'"),
    ({"class_embed_type": "timestep"}, "class_embed_type to 'timestep'"),
    ({"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]}, "down_block_types to .* each must be 'DownBlock2D' or"),
    ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "up_block_types to .* they must mirror"),
    ({"block_out_channels": [32, 64, 64]}, "block_out_channels for 3 levels, and has 2"),
    ({"block_out_channels": [32, "64"]}, "block_out_channels as '64', which is no whole number"),
    ({"block_out_channels": 32}, "block_out_channels as 32, where a list is needed"),
    ({"norm_eps": "small"}, "norm_eps as 'small', which is no number"),
    ({"norm_num_groups": None}, "norm_num_groups as None, which is no whole number"),
    ({"free_lunch": 1}, "an option 'free_lunch' that is not known here"),
    ({"sampler": 1}, "an option 'sampler' that is not known here"),
]
OTHERS = [
    ("UNet2DModel", {"downsample_type": "resnet"}, "downsample_type to 'resnet'"),
    ("UNet2DModel", {"attention_head_dim": 7}, "attention_head_dim to 7, .* do not fill a width of 64"),
    ("UNet2DModel", {"attn_norm_num_groups": 4}, "the group norm of all others"),
    ("UNet2DModel", {"attn_norm_num_groups": None, "resnet_time_scale_shift": "scale_shift"}, "the group norm of all others"),
    ("UNet2DModel", {"mid_block_type": "UNetMidBlock2DCrossAttn"}, "mid_block_type to 'UNetMidBlock2DCrossAttn'"),
    ("UNet2DConditionModel", {"mid_block_type": "UNetMidBlock2D"}, "mid_block_type to 'UNetMidBlock2D'"),
    ("UNet2DConditionModel", {"norm_num_groups": 24}, "an impossible configuration: 24 groups do not divide a width of 32"),
    ("UNet2DConditionModel", {"num_attention_heads": 2}, "num_attention_heads to 2, .* must be None"),
    ("UNet2DConditionModel", {"attention_head_dim": [2, 7]}, "7 heads do not divide a width of 64"),
    ("UNet2DConditionModel", {"attention_head_dim": 0}, "attention_head_dim to 0, .* 1 or more"),
    ("UNet2DConditionModel", {"attention_head_dim": [2, 2, 2]}, "attention_head_dim for 3 levels, and has 2"),
    ("UNet2DConditionModel", {"cross_attention_dim": [6, 8]}, "all levels must attend to the same tokens"),
    ("UNet2DConditionModel", {"transformer_layers_per_block": [[1, 2], 1]}, "which is no whole number"),
    ("UNet2DConditionModel", {"dual_cross_attention": True}, "dual_cross_attention to True"),
    ("UNet2DConditionModel", {"encoder_hid_dim": 4}, "encoder_hid_dim to 4"),
    ("UNet2DConditionModel", {"addition_embed_type": "image"}, "addition_embed_type to 'image'"),
    ("UNet2DConditionModel", {"class_embed_type": "projection", "num_class_embeds": 3}, "it must stand alone"),
    ("UNet2DConditionModel", {"class_embed_type": "projection"}, "projection_class_embeddings_input_dim as None"),
    ("UNet2DConditionModel", {"resnet_out_scale_factor": 2.0}, "resnet_out_scale_factor to 2.0"),
    ("UNet2DConditionModel", {"conv_in_kernel": 1}, "conv_in_kernel to 1"),
    ("UNet2DConditionModel", {"attention_type": "gated"}, "attention_type to 'gated'"),
    ("AutoencoderKL", {"down_block_types": ["AttnDownEncoderBlock2D"] * 2}, "each must be 'DownEncoderBlock2D'"),
    ("AutoencoderKL", {"out_channels": 4}, "out_channels to 4, .* it must be in_channels"),
    ("AutoencoderKL", {"latents_std": [1.0] * 4}, "it goes together with latents_std"),
    ("AutoencoderKL", {"latents_std": [1.0, 0.0, 1.0, 1.0], "latents_mean": [0.0] * 4}, "each must be above 0"),
    ("AutoencoderKL", {"latents_std": [1.0] * 3, "latents_mean": [0.0] * 3}, "scale has 3 numbers for 4 channels"),
    ("AutoencoderKL", {"scaling_factor": 0.0}, "a scale of 0"),
    ("DiTTransformer2DModel", {"norm_type": "ada_norm"}, "norm_type to 'ada_norm', .* must be 'ada_norm_zero'"),
    ("DiTTransformer2DModel", {"attention_bias": False}, "attention_bias to False"),
    ("DiTTransformer2DModel", {"_class_name": "PixArtTransformer2DModel"}, "of the class 'PixArtTransformer2DModel': read here"),
]


@pytest.mark.parametrize("kind", ["UNet2DModel", "UNet2DConditionModel"])
@pytest.mark.parametrize(("options", "message"), UNETS)
def test_options_that_neither_unet_has_are_refused(kind: str, options: dict, message: str, tmp_path: Path) -> None:
    refused(kind, options, message, tmp_path)


@pytest.mark.parametrize(("kind", "options", "message"), OTHERS)
def test_options_of_one_class_are_refused(kind: str, options: dict, message: str, tmp_path: Path) -> None:
    refused(kind, options, message, tmp_path)


def refused(kind: str, options: dict, message: str, tmp_path: Path) -> None:
    folder = changed(kind, tmp_path / "network", **options)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_network(folder)
    assert str(folder / "config.json") in str(caught.value) and "\n" not in str(caught.value)


def test_private_options_change_nothing_and_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = changed("UNet2DModel", tmp_path / "network", _diffusers_version="0.0.1", _name_or_path="elsewhere")
    assert load_network(folder).network.config == PLAIN
    changed("UNet2DModel", folder, layers_per_block=2)
    with pytest.raises(
        CheckpointError, match=r"lacks \d+ tensors .*: the file is incomplete or its configuration belongs to another"
    ):
        load_network(folder)
    (folder / f"{WEIGHTS}.safetensors").rename(folder / f"{WEIGHTS}.bin")
    with pytest.raises(CheckpointError, match=r"holds its weights in diffusion_pytorch_model\.bin, a format that can run code"):
        load_network(folder)


def test_the_width_of_a_text_is_asked_for_where_no_file_says_it(tmp_path: Path) -> None:
    config = replace(TEXT, told=replace(TEXT.told, pooled=10, sizes=6, size_features=4))
    save_network(UNet(config), tmp_path / "unet")
    with pytest.raises(CheckpointError, match="does not say how wide the vector of a whole text is: give pooled"):
        load_network(tmp_path / "unet")
    for wrong in (9, 34, 40, 0):
        with pytest.raises(CheckpointError, match="embeds 34 numbers"):
            load_network(tmp_path / "unet", pooled=wrong)
    assert load_network(tmp_path / "unet", pooled=10).network.config == config
    (tmp_path / "text_encoder_2").mkdir()
    (tmp_path / "text_encoder_2" / "config.json").write_text('{"projection_dim": 10}')
    assert load_network(tmp_path / "unet").network.config == config


def unet(**options: Any) -> nn.Module:
    return UNet(replace(PLAIN, **options))


def text(**options: Any) -> nn.Module:
    return UNet(replace(TEXT, **options))


def levels(*attends: Attend | None, **options: Any) -> dict[str, Any]:
    return {"levels": tuple(Level(width=32, blocks=1, attend=attend) for attend in attends), **options}


HEADS = levels(Attend(heads=4), Attend(heads=2), middle=Attend(heads=2))
MIXED = levels(Attend(heads=2), Attend(heads=2, depth=1), middle=Attend(heads=2, depth=1))
OTHER_MIDDLE = levels(Attend(heads=2, depth=1), middle=Attend(heads=2, depth=2))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: UNet(tiny(dims=3)), "grids of 3 dimensions"),
        (lambda: unet(told=ConditionConfig(features=16)), "16 features of the time beside a first width of 32"),
        (lambda: unet(told=ConditionConfig(features=32, bandwidth=1.0)), "random Fourier features"),
        (
            lambda: unet(told=ConditionConfig(features=32, pooled=5)),
            "a vector of a text, or a weight of guidance in a UNet2DModel",
        ),
        (lambda: unet(levels=(Level(width=32, blocks=1), Level(width=64))), "levels of different numbers of blocks"),
        (lambda: unet(**HEADS), "heads of different widths"),
        (lambda: unet(middle=Attend(heads=2, depth=1)), "spatial Transformers in a UNet2DModel"),
        (lambda: text(**MIXED), "attention that is no spatial Transformer in a UNet2DConditionModel"),
        (lambda: text(middle=None), "two blocks in the middle without attention"),
        (lambda: text(**OTHER_MIDDLE), "attention in the middle that differs from the last level's"),
        (lambda: text(middle=Attend(heads=2, depth=1, only_context=True)), "attention to the context alone in the middle"),
        (lambda: text(told=ConditionConfig(features=32, classes=2, pooled=5)), "a class beside a vector of a text"),
        (lambda: Autoencoder(tiny_autoencoder(dims=1)), "grids of 1 dimensions"),
        (lambda: DiT(replace(DIT, told=replace(DIT.told, shift=0.0))), "the authors' way.*load with compat=True"),
        (lambda: DiT(replace(DIT, told=replace(DIT.told, order="sin_cos"))), "told in this way"),
        (lambda: DiT(replace(DIT, told=ConditionConfig(features=256))), "told no class"),
        (lambda: DiT(replace(DIT, context=6)), "tokens to attend to"),
        (lambda: DiT(replace(DIT, dims=1)), "grids of 1 dimensions"),
    ],
)
def test_what_diffusers_has_no_words_for_is_not_written(network: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"diffusers has no words for .*{message}"):
        save_network(network(), tmp_path / "network")
    assert not list(tmp_path.iterdir())


def test_a_transformer_whose_blocks_know_different_times_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_network(DiT(DIT), tmp_path / "dit")
    path = tmp_path / "dit" / f"{WEIGHTS}.safetensors"
    tensors = load_file(path)
    tensors["transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"] += 1
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"linear_1\.bias differs from block 0's"):
        load_network(tmp_path / "dit")
