"""Exact likelihood and inversion on data whose density is known."""

import math
from dataclasses import replace

import pytest
import torch

from tectum.diffusion.grids import Grid, karras
from tectum.diffusion.likelihood import Hutchinson, exact_trace, invert, log_likelihood
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.process import Point, Process
from tectum.diffusion.schedules import edm, vp
from tectum.diffusion.solvers.runge_kutta import Heun
from tectum.diffusion.solvers.state import last, sample

DOUBLE = torch.float64
EDM = edm(0.02, 20.0)


def inputs(ring: Mixture, unit_noise: torch.Tensor, process: Process) -> tuple[torch.Tensor, Point]:
    at = process.at_lam(-math.log(0.02))
    uniform = torch.rand(32, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    x0 = ring.sample(unit_noise[:32], uniform)
    return at.alpha * x0 + at.sigma * unit_noise[32:], at


def errors(ring: Mixture, unit_noise: torch.Tensor, process: Process, steps: int) -> torch.Tensor:
    x, at = inputs(ring, unit_noise, process)
    grid: Grid = karras(process, steps, to_data=False)
    return log_likelihood(ring, x, grid, prior=ring.log_prob).log_prob - ring.log_prob(x, at)


def test_the_error_falls_as_the_second_order_and_is_small_at_160_evaluations(ring: Mixture, unit_noise: torch.Tensor) -> None:
    means = [errors(ring, unit_noise, EDM, steps).abs().mean().item() for steps in (80, 160, 320)]  # two evaluations a step
    assert means[0] <= 1e-3
    assert math.log2(means[1] / means[2]) == pytest.approx(2, abs=0.15), means


def test_likelihoods_agree_in_every_frame(ring: Mixture, unit_noise: torch.Tensor) -> None:
    """Densities differ by the scale of x; their errors do not."""
    for frame in ("vp", "flow"):
        there, here = (errors(ring, unit_noise, process, 10) for process in (replace(EDM, frame=frame), EDM))
        torch.testing.assert_close(there, here, rtol=0, atol=1e-10)


def test_a_gaussian_prior_is_good_enough_where_noise_is_large(ring: Mixture, unit_noise: torch.Tensor) -> None:
    x, _ = inputs(ring, unit_noise, EDM)
    wide = edm(0.02, 200.0)
    grid = karras(wide, 40, to_data=False)
    plain, true = (log_likelihood(ring, x, grid, **more).log_prob for more in ({}, {"prior": ring.log_prob}))
    torch.testing.assert_close(plain, true, rtol=0, atol=1e-3)


def test_hutchinson_is_unbiased_and_exact_for_round_jacobians(ring: Mixture, unit_noise: torch.Tensor) -> None:
    x = unit_noise.clone().requires_grad_()
    at = EDM.at(0.7)
    exact = exact_trace(ring(x, at), x)
    many = Hutchinson(0, torch.arange(64), probes=200)(ring(x, at), x)
    one = Hutchinson(0, torch.arange(64))(ring(x, at), x)
    assert (many - exact).abs().mean() < 0.15 * (one - exact).abs().mean()
    single = Mixture(torch.zeros(1, 2, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE))
    torch.testing.assert_close(Hutchinson(1, torch.arange(64))(single(x, at), x), exact_trace(single(x, at), x))
    alone = unit_noise[5:6].clone().requires_grad_()  # the probe goes by who a sample is, not by where it stands
    torch.testing.assert_close(Hutchinson(0, torch.tensor([5]))(ring(alone, at), alone), one[5:6])


def test_an_estimated_trace_gives_an_unbiased_likelihood(bell: Mixture) -> None:
    """In one dimension every probe is exact."""
    x = torch.tensor([[0.4], [0.55]], dtype=DOUBLE)
    grid = karras(edm(0.005, 20.0), 80, to_data=False)
    found = log_likelihood(bell, x, grid, trace=Hutchinson(0, torch.arange(2)), prior=bell.log_prob)
    exact = log_likelihood(bell, x, grid, prior=bell.log_prob)
    torch.testing.assert_close(found.log_prob, exact.log_prob)
    torch.testing.assert_close(found.log_prob, bell.log_prob(x, edm().at(0.005)), rtol=0, atol=2e-3)


def test_inversion_leads_to_the_noise_that_sampling_comes_from(ring: Mixture, unit_noise: torch.Tensor) -> None:
    for process in (EDM, replace(EDM, frame="vp")):
        gaps = []
        for steps in (50, 100):
            grid = karras(process, steps, to_data=False)
            x = last(sample(Heun("flow"), ring, unit_noise * grid[0].sigma, grid))
            gaps.append(((invert(ring, x, grid) / grid[0].sigma - unit_noise) ** 2).mean().sqrt().item())
        assert gaps[1] < 1e-3 and gaps[0] / gaps[1] > 3.3
    same = log_likelihood(ring, x, grid)
    torch.testing.assert_close(same.noise, invert(ring, x, grid))


def test_a_grid_to_the_data_is_refused(ring: Mixture, unit_noise: torch.Tensor) -> None:
    for run in (log_likelihood, invert):
        with pytest.raises(ValueError, match="to_data=False"):
            run(ring, unit_noise, karras(vp(), 5))
