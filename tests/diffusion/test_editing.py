"""Editing with a sampler, on Gaussians whose best denoiser is known: what is kept, what is found again, what lies between."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from tectum.diffusion.editing import Beside, Keeping, backwards, noised, slerp
from tectum.diffusion.grids import exponential, tail, uniform
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.noise import Independent
from tectum.diffusion.schedules import flow, vp_cosine
from tectum.diffusion.solvers.ancestral import Ancestral
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.runge_kutta import Heun
from tectum.diffusion.solvers.state import last, sample
from tectum.diffusion.solvers.unipc import UniPC

TWO = Mixture(
    means=torch.tensor([[-2.0, -2.0], [2.0, 2.0]]).double(), stds=torch.full((2,), 0.1).double(), weights=torch.full((2,), 0.5)
)
NOISE = Independent(3, torch.arange(2000)).start((2,), torch.float64)


def test_a_change_begins_with_the_marginal_of_its_first_point() -> None:
    grid = tail(uniform(flow(), 10, start=1.0, end=0.1), 0.6)
    start = noised(torch.full((2000, 2), 2.0).double(), NOISE, grid)
    assert grid[0].sigma == pytest.approx(0.6)
    torch.testing.assert_close(start.x.mean(0), torch.full((2,), 0.8).double(), rtol=0, atol=0.05)
    torch.testing.assert_close(start.x.std(0), torch.full((2,), 0.6).double(), rtol=0.05, atol=0)


def test_less_strength_keeps_more() -> None:
    data = torch.full((2000, 2), 2.0).double()
    kept = []
    for strength in (0.3, 0.6, 1.0):
        grid = tail(uniform(flow(), 20, start=1.0, end=0.05), strength)
        kept.append((last(sample(Multistep(2), TWO, noised(data, NOISE, grid), grid)).mean(1) > 0).double().mean().item())
    assert kept[0] == 1.0 and kept[0] >= kept[1] > kept[2]
    assert abs(kept[2] - 0.5) < 0.05  # all of it is new


@pytest.mark.parametrize("step", [Ancestral(), Multistep(2), UniPC(2), Heun()])
def test_what_is_outside_the_hole_comes_back_exactly_and_the_hole_fits_it(step: object) -> None:
    data = torch.where(torch.arange(2000)[:, None] % 2 == 0, 2.0, -2.0).double().expand(-1, 2)
    hole = torch.tensor([[True, False]])
    grid = exponential(vp_cosine(), 60, noise_min=1e-3)
    start = noised(torch.zeros_like(data), NOISE.flip(0), grid)
    fits = []
    for turns in (1, 8):
        keeping = Keeping(step, data, NOISE, hole, turns, Independent(5, torch.arange(2000)))  # type: ignore[arg-type]
        end = last(sample(keeping, TWO, start, grid))
        assert torch.equal(end[:, 1], data[:, 1])
        fits.append(((end[:, 0] - data[:, 1]).abs() < 0.6).double().mean().item())  # the two numbers belong together
    assert 0.7 < fits[0] < 0.9 and fits[1] > 0.97, fits


def test_going_back_to_the_noise_and_forth_again_errs_with_the_order_of_the_solver() -> None:
    data = TWO.means[torch.arange(64) % 2] + 0.1 * NOISE[:64]
    errors = []
    for steps in (40, 80, 160):
        grid = exponential(vp_cosine(), steps, noise_min=0.02, to_data=False)
        start = noised(data, NOISE[64:128], grid[-1:])
        noise = last(sample(Heun(), TWO, start, backwards(grid)))
        errors.append((last(sample(Heun(), TWO, noise, grid)) - start.x).square().mean().sqrt().item())
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(slope > 1.6 for slope in slopes), (errors, slopes)


def test_a_grid_without_noise_has_no_way_back() -> None:
    with pytest.raises(ValueError, match="no way back"):
        backwards(uniform(flow(), 1, start=1.0, end=0.5)[1:])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_between_two_noises_there_is_as_much_noise(share: float) -> None:
    a, b = Independent(1, torch.arange(50)).start((3, 16, 16)), Independent(2, torch.arange(50)).start((3, 16, 16))
    between = slerp(a, b, share)
    torch.testing.assert_close(between.std(), torch.tensor(1.0), rtol=0.02, atol=0)
    torch.testing.assert_close(slerp(a, b, torch.full((50,), share)), between)
    if share in (0.0, 1.0):
        torch.testing.assert_close(between, b if share else a)


def test_between_a_noise_and_itself_is_itself() -> None:
    a = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(slerp(a, a, 0.4), a)


def test_a_network_is_shown_another_grid_at_its_own_sizes() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 3, 1)
    network = Beside(lambda x, time, cond: conv(x) + cond["bias"], "small")
    x, small, bias = torch.randn(2, 3, 8, 8), torch.randn(2, 2, 4, 4), torch.randn(2, 3, 1, 1)
    shown = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(network(x, torch.zeros(2), {"small": small, "bias": bias}), conv(torch.cat((x, shown), 1)) + bias)
    with pytest.raises(ValueError, match="'small'"):
        network(x, torch.zeros(2), {})
