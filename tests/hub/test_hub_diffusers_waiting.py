"""Nothing waits for a graphics card while a picture is made, shown without one.

Tensors on "meta" have no numbers: whoever asks for one (`item`, `bool`, a mask as an index) is refused, as a card would be waited
for. What is left is data that crosses between devices, which is looked for here.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from tectum.diffusion.brownian import Brownian
from tectum.diffusion.grids import uniform
from tectum.diffusion.noise import Noise
from tectum.diffusion.schedules import flow
from tectum.hub.diffusers.schedulers import KNOWN, Scheduler
from tectum.models.latent_diffusion import LatentDiffusion
from tectum.models.sampling import Route, Sampling
from tectum.nn.unet import UNet
from tectum.nn.unet_config import tiny

COPIES = (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor, torch.Tensor.to)


class Crossings(TorchFunctionMode):
    """The functions whose result lies elsewhere than what it is made of; a single number costs nothing on the way to a card."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        source = args[1 if func is torch.Tensor.new_tensor else 0] if func in COPIES else (args, kwargs)
        given = [x for x in tree_leaves(source) if isinstance(x, Tensor) and (x.ndim or func in COPIES)]
        kinds = {x.device.type for x in given} or {"cpu" if func in COPIES else "anywhere"}
        made = {x.device.type for x in tree_leaves(result) if isinstance(x, Tensor)}
        if "anywhere" not in kinds and len(kinds | made) > 1:
            self.found.append(func.__name__)
        return result


@pytest.mark.parametrize(
    "cross",
    [
        lambda far: torch.ones(2).to(far.device),
        lambda far: torch.tensor([1.0], device=far.device),
        lambda far: torch.as_tensor(2.0, device=far.device),
        lambda far: far.new_tensor([1.0]),
        lambda far: far[torch.tensor([0])],
    ],
)
def test_crossings_are_found(cross) -> None:
    far = torch.ones(2, device="meta")
    with Crossings() as crossings:
        far * torch.tensor(2.0) + far.new_full((2,), 3.0)
        assert not crossings.found
        cross(far)
    assert len(crossings.found) == 1


@pytest.mark.parametrize("name", KNOWN)
def test_no_step_waits(name: str) -> None:
    def planner(steps: int, noise: Noise) -> Route:
        return Scheduler(name, {}).plan(steps, noise=noise)

    painter = LatentDiffusion(UNet(tiny(classes=10)), planner, (8, 8)).eval().to("meta")
    states: Iterator = iter(painter.trajectory([1, 2], Sampling(steps=6, guidance=5.0)))
    with torch.inference_mode():
        next(states)  # what is wanted is told first
        with Crossings() as crossings:
            *_, end = states
            pictures = painter.finished(end)
    assert pictures.shape == (2, 3, 8, 8) and pictures.is_meta
    assert not crossings.found


def test_noise_on_a_path_is_made_where_it_is_used() -> None:
    noise, x = Brownian(3, torch.arange(2, device="meta")), torch.ones((2, 3, 8, 8), device="meta")
    grid = uniform(flow(), 3)
    with Crossings() as crossings:
        for step in range(3):
            noise(x, step, grid[step], grid[step + 1])
    assert not crossings.found
