"""tectum info on a folder of diffusers: its parts, and how far its pictures are from those made there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from running import Run

from tectum.hub.diffusers import dit
from tectum.hub.diffusers.described import network_change
from tectum.hub.diffusers.folder import save_network
from tectum.hub.diffusers.parts import Component
from tectum.hub.diffusers.schedulers import Scheduler, save
from tectum.nn.autoencoder import Autoencoder, tiny_autoencoder
from tectum.nn.conditions import ConditionConfig
from tectum.nn.dit import DiT, DiTConfig
from tectum.nn.unet import UNet
from tectum.nn.unet_config import tiny

TRAILING = {"timestep_spacing": "trailing"}


def make(folder: Path, kind: str, networks: dict[str, Any], scheduler: Scheduler) -> Path:
    """A pipeline's folder of random weights."""
    index: dict[str, Any] = {"_class_name": kind, "scheduler": ["diffusers", scheduler.name], "safety_checker": [None, None]}
    for name, network in networks.items():
        save_network(network, folder / name)
        index[name] = ["diffusers", json.loads((folder / name / "config.json").read_text())["_class_name"]]
    save(scheduler, folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_parts_and_corrections_are_told(tectum: Run, tmp_path: Path) -> None:
    network = UNet(tiny())
    scheduler = Scheduler("DDIMScheduler", TRAILING)
    folder = make(tmp_path / "ddim", "DDIMPipeline", {"unet": Component(network, {"sample_size": 8})}, scheduler)
    facts = json.loads(tectum("info", folder, "--json").out)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert facts["pipeline"] == "DDIMPipeline" and facts["makes pictures"] == "yes"
    assert facts["unet"] == f"UNet2DModel, {count:,} parameters" and facts["safety_checker"] == "none"
    assert facts["scheduler"] == "DDIMScheduler"
    assert facts["bytes"] == sum(file.stat().st_size for file in folder.glob("*/*"))
    for steps in (20, 30, 50):
        changes = scheduler.changes(steps)
        expected = {"all": changes.all, **changes.each} if changes.each else {}
        assert facts[f"changed from diffusers at {steps} steps"] == pytest.approx(expected)
    assert facts["changed from diffusers at 30 steps"]["stride"] > 1e-4, "1000/30 is no whole number"
    told = tectum("info", folder).out
    assert "% of the contrast: " in told and "stride" in told


def test_of_a_transformer_the_times_are_told(tectum: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    told = ConditionConfig(features=256, shift=1.0, classes=10, null_class=True)
    network = DiT(DiTConfig(channels_in=4, channels_out=8, patch=2, width=24, blocks=1, heads=2, told=told, eps_mlp=1e-5))
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape) * (0.1 if parameter.ndim < 2 else parameter[0].numel() ** -0.5)
    networks = {"transformer": Component(network, {"sample_size": 8}), "vae": Autoencoder(tiny_autoencoder())}
    folder = make(tmp_path / "dit", "DiTPipeline", networks, Scheduler("DDIMScheduler", {"clip_sample": False}))
    facts = json.loads(tectum("info", folder, "--json").out)
    ours, theirs = (dit.load(folder / "transformer", json.loads((folder / "transformer/config.json").read_text()), compat=compat)
                    for compat in (False, True))  # fmt: skip
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        here, there = (part.network(x, torch.tensor([500.0]), {"class": torch.tensor([0])}) for part in (ours, theirs))
    expected = ((here - there).norm() / there.norm()).item()
    assert expected > 0.01 and network_change(folder) == pytest.approx(expected, rel=1e-4)
    assert facts["changed from diffusers in the network"]["times"] == pytest.approx(expected, rel=1e-4)


def test_foreign_and_broken_folders_are_told_in_a_sentence(tectum: Run, tmp_path: Path) -> None:
    folder = make(tmp_path / "other", "FluxPipeline", {"unet": UNet(tiny())}, Scheduler("DDIMScheduler", {}))
    assert "no, its parts load one by one" in tectum("info", folder).out
    (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "VQDiffusionScheduler"}')
    assert "there is no solver for VQDiffusionScheduler here" in tectum("info", folder).out
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(b"\xff" * 100)
    done = tectum("info", folder)
    assert done.status and "diffusion_pytorch_model.safetensors cannot be read" in done.err
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"]}')
    assert "names a part 'vae' that is not there" in tectum("info", folder).err
