"""Pipelines of diffusers begin from a picture as its own image-to-image does, with any scheduler."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tectum.hub.diffusers.pipelines import load
from tectum.hub.diffusers.schedulers import KNOWN, Scheduler
from tectum.models.latent_diffusion import LatentDiffusion
from tectum.models.sampling import Edit, Sampling
from tectum.nn.unet import UNet
from tectum.nn.unet_config import tiny

diffusers = pytest.importorskip("diffusers")
from small_pipelines import NUMBERS, SD, START, TEXTS, assert_near, changed, copied  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"]
)
@torch.no_grad()
def test_pictures_from_a_picture_are_theirs(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders["sd"], tmp_path / "sd")
    getattr(diffusers, name)(**SD, steps_offset=1).save_pretrained(folder / "scheduler")
    changed(folder / "model_index.json", scheduler=["diffusers", name])
    model, picture = load(folder, compat=True), torch.rand(3, 16, 16) * 2 - 1
    assert model.autoencoder is not None
    pipeline = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(folder, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    latents = model.autoencoder.latents(picture[None]).expand(2, -1, -1, -1)  # taken as they are, and noised as ours
    noise = START.to(latents)
    module = sys.modules[type(pipeline).__module__]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "randn_tensor", lambda *_, **__: noise)
        made = pipeline(prompt=TEXTS, image=latents, strength=0.5, num_inference_steps=8, guidance_scale=3.0, output_type="np")
    expected = torch.from_numpy(made.images).permute(0, 3, 1, 2)
    edit = Edit(picture=picture, strength=0.5)
    *_, end = model.trajectory(TEXTS, Sampling(steps=8, guidance=3.0, seed=1), numbers=NUMBERS, edit=edit)
    assert_near((model.pictures(end.x) / 2 + 0.5).clamp(0, 1), expected)


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("name", KNOWN)
def test_every_scheduler_begins_from_a_picture(name: str, compat: bool) -> None:
    torch.manual_seed(0)
    scheduler, network, picture = Scheduler(name, {}), UNet(tiny()), torch.rand(3, 8, 8) * 2 - 1
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model = LatentDiffusion(network, lambda steps, noise: scheduler.plan(steps, noise=noise, compat=compat), (8, 8))
    moved = []
    for strength in (0.15, 1.0):
        with torch.no_grad():
            *_, end = model.trajectory(1, Sampling(steps=12), edit=Edit(picture=picture, strength=strength))
        assert end.step == 12
        moved.append((end.x[0] - picture).square().mean().sqrt())
    assert moved[0] < 0.7 * moved[1] < 1e3
