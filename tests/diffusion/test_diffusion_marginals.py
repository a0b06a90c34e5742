"""The Gaussians of the process, against Bayes' rule and the formulas of the papers."""

import math

import pytest
import torch

from tectum.diffusion import tables
from tectum.diffusion.marginals import forward, posterior, pure_noise, transition
from tectum.diffusion.process import Process
from tectum.diffusion.schedules import edm

DOUBLE = torch.float64


def three(process: Process) -> tuple:
    low, high = process.schedule.span
    return tuple(process.at(low + share * (high - low)) for share in (0.2, 0.5, 0.9))


def test_steps_of_the_forward_process_compose_to_its_marginals(process: Process) -> None:
    near, middle, far = three(process)
    first, second, both = transition(near, middle), transition(middle, far), transition(near, far)
    assert second.on_x * first.on_x == pytest.approx(both.on_x, rel=1e-12)
    assert (second.on_x * first.std) ** 2 + second.std**2 == pytest.approx(both.std**2, rel=1e-11)
    assert both.on_x * near.alpha == pytest.approx(far.alpha, rel=1e-12)
    assert (both.on_x * near.sigma) ** 2 + both.std**2 == pytest.approx(far.sigma**2, rel=1e-12)


def test_the_posterior_is_bayes_rule_across_any_stride(process: Process) -> None:
    near, _, far = three(process)
    step, kernel = transition(near, far), posterior(far, near)
    # x_near | x₀ ~ N(α x₀, σ²) and x_far | x_near ~ N(on_x x_near, std²): precisions add.
    precision = 1 / near.sigma**2 + step.on_x**2 / step.std**2
    assert kernel.std**2 == pytest.approx(1 / precision, rel=1e-9)
    assert kernel.on_x == pytest.approx(step.on_x / step.std**2 / precision, rel=1e-9)
    assert kernel.on_x0 == pytest.approx(near.alpha / near.sigma**2 / precision, rel=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_all_families_keep_the_marginals(process: Process, eta: float) -> None:
    """DDIM, lemma 1: x_near made from x_far and x₀ has the marginal of x_near, for every η."""
    near, _, far = three(process)
    kernel = posterior(far, near, eta)
    assert kernel.on_x * far.alpha + kernel.on_x0 == pytest.approx(near.alpha, rel=1e-12)
    assert (kernel.on_x * far.sigma) ** 2 + kernel.std**2 == pytest.approx(near.sigma**2, rel=1e-12)


def test_between_neighbours_it_is_the_formula_of_ddpm() -> None:
    """Ho et al. 2020, eq. 7."""
    betas = torch.tensor(tables.linear_betas(), dtype=DOUBLE)
    power = (1 - betas).cumprod(0)
    process = tables.table(betas.tolist())
    for t in (1, 10, 500, 999):
        kernel = posterior(process.at(t), process.at(t - 1))
        assert kernel.std**2 == pytest.approx(((1 - power[t - 1]) / (1 - power[t]) * betas[t]).item(), rel=1e-9)
        assert kernel.on_x == pytest.approx(((1 - betas[t]).sqrt() * (1 - power[t - 1]) / (1 - power[t])).item(), rel=1e-9)
        assert kernel.on_x0 == pytest.approx((power[t - 1].sqrt() * betas[t] / (1 - power[t])).item(), rel=1e-9)


def test_the_ends_and_standing_still() -> None:
    process = tables.table(tables.scaled_linear_betas(), zero_terminal=True)
    from_noise = posterior(process.at(999), process.at(500))
    assert from_noise.on_x == 0 and from_noise.on_x0 == pytest.approx(process.at(500).alpha)
    assert posterior(process.at(500), process.data()) == (0.0, 1.0, 0.0)
    for at in (process.data(), process.at(500)):
        assert posterior(at, at, 0.7) == pytest.approx((1.0, 0.0, 0.0), abs=1e-15)


def test_noising_is_the_closed_form_and_its_moments_are_right() -> None:
    process = tables.table(tables.linear_betas())
    generator = torch.Generator().manual_seed(0)
    x0 = 0.5 + 0.1 * torch.randn(200_000, 1, dtype=DOUBLE, generator=generator)
    noise = torch.randn(200_000, 1, dtype=DOUBLE, generator=generator)
    for t in (0, 250, 999):
        at = process.at(t)
        x = forward(x0, noise, at)
        std = math.sqrt((0.1 * at.alpha) ** 2 + at.sigma**2)
        assert x.mean().item() == pytest.approx(0.5 * at.alpha, abs=5 * std / math.sqrt(len(x)))
        assert x.std().item() == pytest.approx(std, rel=0.01)


def test_sampling_from_noise_alone_forgets_the_mean_by_the_closed_form() -> None:
    """Data N(m, 1) by Stable Diffusion's schedule: -6.83 % of m, -7.60 % with "leading" at 50 steps."""
    process = tables.table(tables.scaled_linear_betas())
    assert round(100 * process.at(999).alpha, 2) == 6.83
    assert round(100 * process.at(981).alpha, 2) == 7.60
    noise = torch.ones(1, 3, dtype=DOUBLE)
    torch.testing.assert_close(pure_noise(noise, process.at(981), data_std=1.0), noise)
    torch.testing.assert_close(pure_noise(noise, edm().at(3.0), data_std=4.0), 5 * noise)
