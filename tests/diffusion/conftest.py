"""Data whose denoiser is known exactly, and processes of every kind."""

import math

import pytest
import torch

from tectum.diffusion import schedules, tables
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.process import Process
from tectum.diffusion.zero_terminal import ZeroTerminal

PROCESSES = {
    "linear": schedules.vp(),
    "scaled linear": schedules.vp_scaled(),
    "cosine": schedules.vp_cosine(),
    "sigmoid": schedules.vp_sigmoid(),
    "sub-VP": schedules.sub_vp(),
    "VE": schedules.ve(),
    "EDM": schedules.edm(),
    "flow": schedules.flow(),
    "shifted flow": schedules.flow(3.0),
    "zero-terminal": Process(ZeroTerminal(schedules.LinearBeta())),
    "table": tables.table(tables.linear_betas()),
    "Stable Diffusion": tables.table(tables.scaled_linear_betas()),
    "cosine table": tables.table(tables.cosine_betas()),
    "sigmoid table": tables.table(tables.sigmoid_betas()),
    "zero-terminal table": tables.table(tables.scaled_linear_betas(), zero_terminal=True),
}


@pytest.fixture(params=PROCESSES)
def process(request: pytest.FixtureRequest) -> Process:
    """Every kind of process in turn."""
    return PROCESSES[request.param]


@pytest.fixture(scope="session")
def ring() -> Mixture:
    """Eight Gaussians of different widths on a circle, float64 [8, 2]."""
    angle = torch.arange(8, dtype=torch.float64) / 8 * 2 * math.pi
    stds = torch.linspace(0.2, 0.5, 8, dtype=torch.float64)
    return Mixture(2 * torch.stack([angle.cos(), angle.sin()], 1), stds, torch.full((8,), 1 / 8, dtype=torch.float64))


@pytest.fixture(scope="session")
def bell() -> Mixture:
    """N(0.5, 0.1²): the example of the reference text, float64."""
    return Mixture(*(torch.tensor(values, dtype=torch.float64) for values in ([[0.5]], [0.1], [1.0])))


@pytest.fixture(scope="session")
def unit_noise() -> torch.Tensor:
    """Unit normal numbers, float64 [64, 2]."""
    return torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
