"""Strides: a step over many entries of a table keeps the spread of the data."""

import math

import pytest
import torch

from tectum.diffusion.grids import Grid, exponential, karras, leading, linspace
from tectum.diffusion.marginals import forward
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.schedules import edm, flow
from tectum.diffusion.solvers.ancestral import Ancestral
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.residual import Measured, Residual, measure
from tectum.diffusion.solvers.state import last, sample
from tectum.diffusion.solvers.unipc import UniPC
from tectum.diffusion.tables import linear_betas, table

DOUBLE = torch.float64


def spread_of(step, data: Mixture, grid: Grid) -> tuple[float, float]:
    """Mean and standard deviation of samples started from N(0, 1), exactly: a sample is a sum of the noises."""
    steps = len(grid) - 1
    x = torch.zeros(steps + 2, 1, dtype=DOUBLE)
    x[steps] = 1
    y = last(sample(step, data, x, grid))[:, 0]
    return y[-1].item(), (y - y[-1]).square().sum().sqrt().item()


class EachAlone:
    """For step i: one to sample i, nothing to the others."""

    def __call__(self, x: torch.Tensor, step: int, here, there) -> torch.Tensor:
        noise = torch.zeros_like(x)
        noise[step] = 1
        return noise


@pytest.mark.parametrize("steps", [250, 100, 50])
def test_a_strided_sampler_keeps_the_spread_of_the_data(bell: Mixture, steps: int) -> None:
    """N(0.5, 0.1²) with the exact denoiser: the reference text's way gives 0.36, 0.64 and 0.80, ours 0.10 within 2 %."""
    process = table(linear_betas())
    betas = torch.tensor(linear_betas(), dtype=DOUBLE)
    power = (1 - betas).cumprod(0)
    variance = 1.0
    for left in reversed(range(steps)):  # the posterior of neighbours, taken over strides
        t = left * (1000 // steps)
        total = power[t] * 0.01 + 1 - power[t]
        slope = ((1 - betas[t] / total) / (1 - betas[t]).sqrt()).item()
        variance = slope**2 * variance + (betas[t].item() if left else 0.0)
    assert math.sqrt(variance) == pytest.approx({250: 0.36, 100: 0.64, 50: 0.80}[steps], abs=0.01)

    generator = torch.Generator().manual_seed(0)
    x0 = 0.5 + 0.1 * torch.randn(4000, 1, dtype=DOUBLE, generator=generator)
    noise = torch.randn(4000, 1, dtype=DOUBLE, generator=generator)
    for grid in (leading(process, steps), linspace(process, steps), exponential(process, steps)):
        best = Ancestral(EachAlone(), 1.0, residual=measure(bell, x0, noise, grid))
        mean, std = spread_of(best, bell, grid)
        assert mean == pytest.approx(0.5, rel=0.02) and std == pytest.approx(0.1, rel=0.02)
    for step in (
        Multistep(2, rule="bh2"),
        Multistep(3),
        UniPC(2),
        UniPC(3),
        Multistep(2, rule="bh2", eta=1.0, noise=EachAlone()),
    ):
        mean, std = spread_of(step, bell, exponential(process, steps))
        assert mean == pytest.approx(0.5, rel=0.02) and std == pytest.approx(0.1, rel=0.02)


def test_with_the_true_residual_steps_of_any_length_are_exact_for_gaussian_data(bell: Mixture) -> None:
    process = edm(0.001, 500.0)
    for steps in (1, 3, 10):
        grid = karras(process, steps, to_data=False)
        _, std = spread_of(Ancestral(EachAlone(), 1.0, residual=Residual(0.1)), bell, grid)
        assert std == pytest.approx(math.sqrt(0.1**2 + 0.001**2), rel=1e-5)


def test_the_measured_residual_is_the_true_one(ring: Mixture) -> None:
    generator = torch.Generator().manual_seed(0)
    n = 4000
    x0 = ring.sample(torch.randn(n, 2, dtype=DOUBLE, generator=generator), torch.rand(n, dtype=DOUBLE, generator=generator))
    noise = torch.randn(n, 2, dtype=DOUBLE, generator=generator)
    grid = karras(edm(0.05, 20.0), 8)
    found = measure(ring, x0, noise, grid)
    for at in grid[:-1]:
        assert found(at) == pytest.approx(ring.residual(forward(x0, noise, at), at).mean().item(), rel=0.1)
    assert found(edm().at(1e-9)) == found.values[0] and found(edm().at(1e9)) == found.values[-1]
    torch.testing.assert_close(found(edm().at(torch.tensor([1.0, 5.0])))[0].item(), found(edm().at(1.0)))
    assert Measured((0.0, 1.0), (1.0, 3.0))(flow().at(0.25)) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="two of them"):
        measure(ring, x0, noise, grid[-2:])
