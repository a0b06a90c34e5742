"""Every network of diffusers: its folder is read, gives the same numbers, and is written back to the bit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tectum.hub.diffusers import unet_condition
from tectum.hub.diffusers.folder import load_network, save_network
from tectum.hub.diffusers.parts import WEIGHTS, Component, named
from tectum.nn.unet import UNet
from tectum.nn.unet_config import UNetConfig, sd15, sdxl

diffusers = pytest.importorskip("diffusers")

TIMES = torch.tensor([0, 999])


def made(kind: str, options: Mapping[str, Any], folder: Path) -> Any:
    """One of theirs as after training, where no weight is 0 or 1, and its folder."""
    model = getattr(diffusers, kind)(**options)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        scale = 0.1 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
        if parameter.ndim == 1 and name.endswith("weight"):  # of a norm
            parameter.data += 1
    first, *others = getattr(model, "transformer_blocks", [None])
    for block in others:  # of a DiT, whose blocks all have the same embeddings
        block.norm1.emb.load_state_dict(first.norm1.emb.state_dict())
    model.eval().save_pretrained(folder)
    return model


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    assert 0.05 < theirs.std() < 20
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def written(component: Component[Any], folder: Path) -> Any:
    """What diffusers reads of what we write, of which every tensor is that of `folder` to the bit."""
    again = folder.with_name("again")
    save_network(component, again)
    first, second = (load_file(path / f"{WEIGHTS}.safetensors") for path in (folder, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first), "and of the same shape"
    restored = load_network(again, pooled=20)
    assert restored.network.config == component.network.config and restored.notes == component.notes
    name = json.loads((again / "config.json").read_text())["_class_name"]
    model, told = getattr(diffusers, name).from_pretrained(again, low_cpu_mem_usage=False, output_loading_info=True)
    assert not any(told.values()), told
    return model.eval()


def inputs(config: UNetConfig, size: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
    """A grid, and all that a U-Net asks for, ours and theirs."""
    torch.manual_seed(1)
    cond: dict[str, Tensor] = {}
    theirs: dict[str, Any] = {}
    if config.context is not None:
        theirs["encoder_hidden_states"] = cond["tokens"] = torch.randn(2, 5, config.context)
        if not any(level.attend and level.attend.only_context for level in config.levels):  # where they forget the mask
            theirs["encoder_attention_mask"] = cond["mask"] = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    if config.told.classes:
        theirs["class_labels"] = cond["class"] = torch.tensor([config.told.classes - 1, 0])
    if config.told.guidance:
        from diffusers import LatentConsistencyModelPipeline as Lcm

        cond["guidance"] = torch.tensor([7.5, 1.0])
        theirs["timestep_cond"] = Lcm.get_guidance_scale_embedding(None, cond["guidance"] - 1, config.told.guidance)  # type: ignore[arg-type]
    if config.told.pooled:
        cond["pooled"] = torch.randn(2, config.told.pooled)
        if config.told.sizes:
            cond["sizes"] = torch.tensor([[1024, 768, 0, 0, 1024, 1024], [512, 640, 3, 9, 1024, 512]])
            theirs["added_cond_kwargs"] = {"text_embeds": cond["pooled"], "time_ids": cond["sizes"]}
        else:
            theirs["class_labels"] = cond["pooled"]
    return torch.randn(2, config.channels_in, *size), cond, theirs


SD: dict[str, Any] = {
    "block_out_channels": (32, 64), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "layers_per_block": 1,
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 24, "attention_head_dim": 2,
    "norm_num_groups": 8, "sample_size": 64,
}  # fmt: skip
XL: dict[str, Any] = {
    "block_out_channels": (16, 32, 64), "layers_per_block": 1, "cross_attention_dim": 24, "attention_head_dim": (1, 2, 4),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "transformer_layers_per_block": (1, 2, 3),
    "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 68, "norm_num_groups": 8,
}  # fmt: skip
BOTH = {"down_block_types": ("CrossAttnDownBlock2D",) * 2, "up_block_types": ("CrossAttnUpBlock2D",) * 2}
CONDITIONAL: dict[str, dict[str, Any]] = {
    "SD 1.5": SD,
    "SD 2: linear, heads by level": {**SD, "use_linear_projection": True, "attention_head_dim": (4, 8), "upcast_attention": True},
    "SDXL": XL,
    "three blocks on a level, two below": {**SD, "layers_per_block": (3, 2)},
    "LCM": {**SD, "time_cond_proj_dim": 10},
    "inpainting, times as in DDPM": {**SD, "in_channels": 9, "flip_sin_to_cos": False, "freq_shift": 1},
    "BK-SDM: no middle": {**SD, "mid_block_type": None},
    "upscaler: the context alone, classes": {**SD, **BOTH, "only_cross_attention": (True, False), "num_class_embeds": 5},
    "unCLIP": {**SD, "class_embed_type": "projection", "projection_class_embeddings_input_dim": 11},
    "scale and shift, large eps, a narrow embedding": {
        **SD, "resnet_time_scale_shift": "scale_shift", "norm_eps": 1e-2, "time_embedding_dim": 40, "dropout": 0.1,
    },
}  # fmt: skip


@pytest.mark.parametrize("size", [(8, 12), (7, 9)], ids=["even", "odd"])
@pytest.mark.parametrize("options", CONDITIONAL.values(), ids=CONDITIONAL.keys())
def test_the_conditional_unet(options: dict[str, Any], size: tuple[int, int], tmp_path: Path) -> None:
    theirs = made("UNet2DConditionModel", options, tmp_path / "unet")
    component = load_network(tmp_path / "unet", pooled=20)
    x, cond, given = inputs(component.network.config, size)
    with torch.no_grad():
        expected = theirs(x, TIMES, **given).sample
        assert_near(component.network(x, TIMES, cond), expected)
        if size == (8, 12):
            assert torch.equal(written(component, tmp_path / "unet")(x, TIMES, **given).sample, expected)


DDPM: dict[str, Any] = {
    "out_channels": 6, "block_out_channels": (16, 32, 32), "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), "attention_head_dim": None, "norm_num_groups": 8,
    "flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0, "norm_eps": 1e-6, "sample_size": 32,
}  # fmt: skip


def test_a_conditional_unet_that_attends_to_nothing_is_written_as_a_plain_one(tmp_path: Path) -> None:
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    theirs = made(
        "UNet2DConditionModel", {**SD, **blocks, "mid_block_type": None, "use_linear_projection": True}, tmp_path / "unet"
    )
    component, x = load_network(tmp_path / "unet"), torch.randn(2, 4, 8, 12)
    save_network(component, tmp_path / "again")
    again = diffusers.UNet2DModel.from_pretrained(tmp_path / "again", low_cpu_mem_usage=False).eval()
    with torch.no_grad():
        assert torch.equal(again(x, TIMES).sample, theirs(x, TIMES, None).sample)
        assert_near(component.network(x, TIMES), again(x, TIMES).sample)


UNCONDITIONAL: dict[str, dict[str, Any]] = {
    "DDPM": DDPM,
    "heads, classes, scale and shift": {
        **DDPM, "attention_head_dim": 8, "resnet_time_scale_shift": "scale_shift", "num_class_embeds": 4, "norm_eps": 1e-5,
        "flip_sin_to_cos": True, "freq_shift": 0, "downsample_padding": 1, "attn_norm_num_groups": 8,
    },
    "no attention in the middle": {**DDPM, "add_attention": False},
    "no middle, a narrow embedding": {**DDPM, "mid_block_type": None, "time_embedding_dim": 40},
}  # fmt: skip


@pytest.mark.parametrize("options", UNCONDITIONAL.values(), ids=UNCONDITIONAL.keys())
def test_the_unconditional_unet(options: dict[str, Any], tmp_path: Path) -> None:
    theirs = made("UNet2DModel", options, tmp_path / "unet")
    component = load_network(tmp_path / "unet")
    x, cond, given = inputs(component.network.config, (8, 12))
    with torch.no_grad():
        expected = theirs(x, TIMES, **given).sample
        assert_near(component.network(x, TIMES, cond), expected)
        assert torch.equal(written(component, tmp_path / "unet")(x, TIMES, **given).sample, expected)


KL: dict[str, Any] = {
    "block_out_channels": (16, 32, 32), "layers_per_block": 2, "norm_num_groups": 8, "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3,
}  # fmt: skip
AUTOENCODERS: dict[str, dict[str, Any]] = {
    "Stable Diffusion": KL,
    "SDXL": {**KL, "scaling_factor": 0.13025, "force_upcast": False},
    "SD 3": {
        **KL, "latent_channels": 6, "use_quant_conv": False, "use_post_quant_conv": False, "scaling_factor": 1.5305,
        "shift_factor": 0.0609,
    },
    "no attention": {**KL, "mid_block_add_attention": False},
    "by channel": {**KL, "scaling_factor": 0.5, "latents_mean": [-1.6, 0.25, 2.7, 0.0], "latents_std": [8.0, 4.0, 2.0, 0.5]},
}  # fmt: skip


@pytest.mark.parametrize("options", AUTOENCODERS.values(), ids=AUTOENCODERS.keys())
def test_the_autoencoder(options: dict[str, Any], tmp_path: Path) -> None:
    theirs = made("AutoencoderKL", options, tmp_path / "vae")
    component = load_network(tmp_path / "vae")
    ours, config = component.network, theirs.config
    torch.manual_seed(1)
    x, noise = torch.randn(2, 3, 12, 8), torch.randn(2, ours.config.latents, 3, 2)
    means = torch.tensor(config.latents_mean or [config.shift_factor or 0.0]).reshape(-1, 1, 1)
    stds = torch.tensor(config.latents_std or [1.0]).reshape(-1, 1, 1)
    with torch.no_grad():
        expected, found = theirs.encode(x).latent_dist, ours.encode(x)
        assert_near(found.mean, expected.mode())
        torch.testing.assert_close(found.log_variance, expected.logvar, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.kl(), expected.kl(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(-found.log_density(noise), expected.nll(noise), rtol=1e-5, atol=1e-5)
        z = expected.mean + expected.std * noise
        latents = (z - means) * config.scaling_factor / stds  # as in their pipelines
        torch.testing.assert_close(ours.latents(x, noise), latents, rtol=0, atol=1e-5)
        assert_near(ours.decode(z), theirs.decode(z).sample)
        assert_near(ours.grids(latents), theirs.decode(z).sample)
        again = written(component, tmp_path / "vae")
        assert torch.equal(again.decode(z).sample, theirs.decode(z).sample)
    assert again.config.force_upcast == config.force_upcast and again.config.sample_size == 512


DIT: dict[str, Any] = {
    "num_attention_heads": 4, "attention_head_dim": 8, "in_channels": 4, "out_channels": 8, "num_layers": 3, "sample_size": 8,
    "num_embeds_ada_norm": 5,
}  # fmt: skip
OLD = {
    "patch_size": 2, "attention_bias": True, "activation_fn": "gelu-approximate", "norm_type": "ada_norm_zero",
    "norm_elementwise_affine": False,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("kind", "more"), [("DiTTransformer2DModel", {}), ("Transformer2DModel", OLD)])
def test_the_diffusion_transformer_in_their_way_and_in_its_authors(kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    theirs = made(kind, {**DIT, **more}, tmp_path / "transformer")
    torch.manual_seed(1)
    x, times, classes = torch.randn(3, 4, 8, 8), torch.tensor([0, 500, 999]), torch.tensor([0, 4, 5])
    component, right = load_network(tmp_path / "transformer", compat=True), load_network(tmp_path / "transformer")
    with torch.no_grad():
        expected = theirs(x, timestep=times, class_labels=classes).sample
        assert_near(component.network(x, times, {"class": classes}), expected)
        again = tmp_path / "again"
        save_network(component, again)
        first, second = (load_file(path / f"{WEIGHTS}.safetensors") for path in (tmp_path / "transformer", again))
        assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
        model = diffusers.DiTTransformer2DModel.from_pretrained(again, low_cpu_mem_usage=False).eval()
        assert torch.equal(model(x, times, classes).sample, expected)
        for block in theirs.transformer_blocks:  # theirs, mended
            block.norm1.emb.time_proj.downscale_freq_shift = 0
            block.norm3.eps = 1e-6
        mended = theirs(x, timestep=times, class_labels=classes).sample
        assert_near(right.network(x, times, {"class": classes}), mended)
    distance = (mended - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    assert distance[0] < 1e-3 < 0.05 < distance[2], "the two agree at time 0 and nowhere else"


def test_half_precision_and_shards_are_read_and_written_exactly(tmp_path: Path) -> None:
    theirs = made("UNet2DConditionModel", SD, tmp_path / "unet").half()
    theirs.save_pretrained(tmp_path / "half", variant="fp16")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    first = load_file(tmp_path / "half" / f"{WEIGHTS}.fp16.safetensors")
    for name in ("half", "shards"):
        save_network(load_network(tmp_path / name), tmp_path / name, dtype=torch.float16)
        assert [path.name for path in (tmp_path / name).glob("*.safetensors*")] == [f"{WEIGHTS}.safetensors"]
        second = load_file(tmp_path / name / f"{WEIGHTS}.safetensors")
        assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("kind", "options"), [("UNet2DModel", DDPM), ("AutoencoderKL", KL)])
@pytest.mark.parametrize("kernels", [False, True])
def test_attention_under_its_old_names_is_the_same(kind: str, options: dict, kernels: bool, tmp_path: Path) -> None:
    """As in the weights of Stable Diffusion 1.5 and of DDPM; some conversions left 1×1 convolutions."""
    made(kind, options, tmp_path / "new")
    config, tensors = (tmp_path / "new" / "config.json").read_text(), load_file(tmp_path / "new" / f"{WEIGHTS}.safetensors")
    old = {}
    for key, tensor in tensors.items():
        named = key
        for new, before in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            named = named.replace(f".{new}.", f".{before}.")
        old[named] = tensor[..., None, None].clone() if kernels and named != key and tensor.ndim == 2 else tensor
    assert old.keys() != tensors.keys()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text(config)
    save_file(old, tmp_path / "old" / f"{WEIGHTS}.safetensors")
    states = [load_network(tmp_path / name).network.state_dict() for name in ("new", "old")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (sd15(), {"cross_attention_dim": 768}),
        (
            sdxl(),
            {
                "block_out_channels": (320, 640, 1280),
                "down_block_types": XL["down_block_types"],
                "up_block_types": XL["up_block_types"],
                "cross_attention_dim": 2048,
                "attention_head_dim": (5, 10, 20),
                "transformer_layers_per_block": (1, 2, 10),
                "use_linear_projection": True,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
            },
        ),
    ],
    ids=["Stable Diffusion 1", "SDXL"],
)
def test_the_presets_are_the_published_configurations(config: UNetConfig, published: dict[str, Any]) -> None:
    with torch.device("meta"):
        theirs, ours = diffusers.UNet2DConditionModel(**published), UNet(config)
    found = named(ours, unet_condition.rules(config))
    assert found.keys() == theirs.state_dict().keys()
    for key, tensor in theirs.state_dict().items():
        assert found[key].numel() == tensor.numel() and found[key].shape == tensor.shape[: found[key].ndim]
    heads = [block.num_attention_heads for block in theirs.down_blocks if hasattr(block, "num_attention_heads")]
    assert heads == [level.attend.heads for level in config.levels if level.attend]
