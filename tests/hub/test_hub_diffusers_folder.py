"""Folders of whole pipelines, there and back; and the authors' own tensors of the diffusion Transformer."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from tectum.errors import CheckpointError
from tectum.hub.diffusers import autoencoder, dit, unet, unet_condition
from tectum.hub.diffusers.dit import ORIGINAL, load_original, original
from tectum.hub.diffusers.folder import load_network, load_pipeline, save_network, save_pipeline
from tectum.hub.keymap import Rule
from tectum.nn.autoencoder import Autoencoder, tiny_autoencoder
from tectum.nn.dit import DiT, grid_positions
from tectum.nn.dit import dit as published
from tectum.nn.timestep import sinusoid
from tectum.nn.unet import UNet
from tectum.nn.unet_config import sdxl, tiny

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.6.0",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "safety_checker": [None, None],
    "requires_safety_checker": False,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    folder = tmp_path / "pipeline"
    save_network(UNet(tiny(context=6)), folder / "unet")
    save_network(Autoencoder(tiny_autoencoder()), folder / "vae")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "PNDMScheduler", "steps_offset": 1}')
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    return folder


def test_a_pipeline_is_read_and_written_back(folder: Path) -> None:
    pipeline = load_pipeline(folder)
    assert pipeline.kind == "StableDiffusionPipeline" and pipeline.networks.keys() == {"unet", "vae"}
    assert pipeline.others == {"scheduler": ("diffusers", "PNDMScheduler"), "safety_checker": None}
    assert pipeline.settings == {"requires_safety_checker": False}
    again = folder.with_name("again")
    save_pipeline(pipeline, again)
    index = json.loads((again / "model_index.json").read_text())
    assert index == {key: value for key, value in INDEX.items() if key != "_diffusers_version"}
    for name in ("unet/diffusion_pytorch_model.safetensors", "vae/config.json", "scheduler/scheduler_config.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    save_pipeline(load_pipeline(again), again)  # over itself
    assert load_pipeline(again).others == pipeline.others and (again / "scheduler" / "scheduler_config.json").exists()


def test_what_is_read_is_ready_to_run_and_to_train(folder: Path) -> None:
    unet = load_pipeline(folder).networks["unet"].network
    assert not unet.training and all(p.requires_grad and p.is_leaf and p.dtype == torch.float32 for p in unet.parameters())
    assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    unet(torch.randn(1, 3, 4, 4), torch.tensor([1.0]), {"tokens": torch.randn(1, 2, 6)}).sum().backward()
    assert unet.conv_out.bias.grad.abs().min() > 0


def test_an_index_that_does_not_fit_its_folder_is_refused(folder: Path) -> None:
    for change, message in (
        ({"text_encoder": ["transformers", "CLIPTextModel"]}, "names a part 'text_encoder' that is not there"),
        ({"../unet": ["diffusers", "UNet2DConditionModel"]}, r"names a part '\.\./unet' that is not there"),
    ):
        (folder / "model_index.json").write_text(json.dumps(INDEX | change))
        with pytest.raises(CheckpointError, match=message):
            load_pipeline(folder)
    (folder / "model_index.json").unlink()
    with pytest.raises(CheckpointError, match=r"model_index\.json cannot be read"):
        load_pipeline(folder)
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        load_network(folder)


def test_saving_leaves_other_files_and_no_half_written_folder(folder: Path) -> None:
    (folder / "unet" / "README.md").write_text("card")
    save_network(load_network(folder / "unet"), folder / "unet")
    assert sorted(path.name for path in (folder / "unet").iterdir()) == [
        "README.md", "config.json", "diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    assert sorted(path.name for path in folder.iterdir()) == ["model_index.json", "scheduler", "unet", "vae"]


@pytest.mark.parametrize(
    "rules",
    [unet.RULES, unet_condition.rules(sdxl()), autoencoder.RULES, dit.RULES, ORIGINAL],
)
def test_no_table_names_a_tensor_twice(rules: tuple[Rule, ...]) -> None:
    ours, theirs = [part for rule in rules for part in rule.parts], [rule.theirs for rule in rules]
    assert len(set(ours)) == len(ours) and len(set(theirs)) == len(theirs)


def by_the_paper(state: dict[str, Tensor], x: Tensor, times: Tensor, classes: Tensor, heads: int) -> Tensor:
    """DiT in plain operations on its authors' tensors (Peebles & Xie 2023, §3.2), for latents of 4×6 in patches of 2."""

    def linear(name: str, y: Tensor) -> Tensor:
        return y @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def modulated(y: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(y, y.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]

    y = F.conv2d(x, state["x_embedder.proj.weight"], state["x_embedder.proj.bias"], stride=2).flatten(2).transpose(1, 2)
    y = y + grid_positions((2, 3), y.shape[-1])
    told = linear("t_embedder.mlp.2", F.silu(linear("t_embedder.mlp.0", sinusoid(times, 256, order="cos_sin"))))
    told = F.silu(told + state["y_embedder.embedding_table.weight"][classes])
    for i in range(2):
        block = f"blocks.{i}"
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = linear(f"{block}.adaLN_modulation.1", told).chunk(6, dim=1)
        qkv = linear(f"{block}.attn.qkv", modulated(y, shift, scale)).unflatten(-1, (3, heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        y = y + gate[:, None] * linear(f"{block}.attn.proj", mixed.transpose(1, 2).flatten(2))
        hidden = F.gelu(linear(f"{block}.mlp.fc1", modulated(y, shift_mlp, scale_mlp)), approximate="tanh")
        y = y + gate_mlp[:, None] * linear(f"{block}.mlp.fc2", hidden)
    y = linear("final_layer.linear", modulated(y, *linear("final_layer.adaLN_modulation.1", told).chunk(2, dim=1)))
    return torch.einsum("nhwpqc->nchpwq", y.unflatten(2, (2, 2, 8)).unflatten(1, (2, 3))).reshape(-1, 8, 4, 6)


def test_the_authors_tensors_give_the_authors_numbers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = published(2, 24, 3)
    model = DiT(config)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape) * (0.1 if parameter.ndim < 2 else parameter[0].numel() ** -0.5)
    state = {key: tensor.detach().clone() for key, tensor in original(model).items()}
    save_file({**state, "pos_embed": torch.zeros(1, 6, 24)}, tmp_path / "dit.safetensors")
    again = load_original(tmp_path / "dit.safetensors", config)
    assert all(torch.equal(tensor, state[key]) for key, tensor in original(again).items())
    x, times, classes = torch.randn(3, 4, 4, 6), torch.tensor([0.0, 500.0, 999.0]), torch.tensor([0, 4, 1000])
    with torch.no_grad():
        expected = by_the_paper(state, x, times, classes, heads=3)
        torch.testing.assert_close(again(x, times, {"class": classes}), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.1
    with pytest.raises(CheckpointError, match=r"lacks \d+ tensors"):
        load_original(tmp_path / "dit.safetensors", replace(config, blocks=3))
