"""The evidence bound: every term against an independent computation, and the whole against the true likelihood."""

import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tectum.diffusion import tables
from tectum.diffusion.elbo import bits_per_dim, discrete_log_prob, prior_kl, step_kl
from tectum.diffusion.grids import exponential
from tectum.diffusion.marginals import forward, posterior
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.process import Process
from tectum.diffusion.schedules import vp
from tectum.diffusion.solvers.residual import Residual
from tectum.diffusion.weights import Integrated, UniformLam, simple, stratified

DOUBLE = torch.float64


def pair(n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(n, 3, 2, dtype=DOUBLE, generator=generator), torch.randn(n, 3, 2, dtype=DOUBLE, generator=generator)


def test_the_prior_term_is_the_divergence_of_two_normals(process: Process) -> None:
    x0, _ = pair()
    at = process.at(process.schedule.span[1])
    own = Normal(at.alpha * x0, at.sigma)
    expected = kl_divergence(own, Normal(torch.zeros_like(x0), math.sqrt(at.sigma**2 + at.alpha**2))).flatten(1).sum(1)
    torch.testing.assert_close(prior_kl(x0, at), expected, rtol=1e-9, atol=1e-9)


def test_a_step_term_is_the_divergence_of_posterior_and_model_and_the_gain_in_snr(process: Process) -> None:
    x0, estimate = pair()
    low, high = process.schedule.span
    here, there = process.at(low + 0.8 * (high - low)), process.at(low + 0.4 * (high - low))
    kernel = posterior(here, there)
    x = torch.randn_like(x0)
    for variance in (None, 1.5 * kernel.std**2, torch.full_like(x0, 0.7) * kernel.std**2):
        std = kernel.std if variance is None else torch.as_tensor(variance, dtype=DOUBLE).sqrt()
        model = Normal(kernel.on_x * x + kernel.on_x0 * estimate, std)
        expected = kl_divergence(Normal(kernel.on_x * x + kernel.on_x0 * x0, kernel.std), model).flatten(1).sum(1)
        torch.testing.assert_close(step_kl(x0, estimate, here, there, variance), expected, rtol=1e-8, atol=1e-8)
    gain = math.exp(2 * there.lam) - math.exp(2 * here.lam)
    torch.testing.assert_close(
        step_kl(x0, estimate, here, there), gain / 2 * ((x0 - estimate) ** 2).flatten(1).sum(1), rtol=1e-8, atol=1e-8
    )


def test_probabilities_of_all_values_sum_to_one_however_far_the_mean() -> None:
    values = torch.linspace(-1, 1, 256, dtype=DOUBLE)[:, None]
    for mean, std in ((0.0, 0.3), (0.99, 0.01), (-3.0, 0.05), (5.0, 0.01)):
        logs = discrete_log_prob(values, torch.full_like(values, mean), std)
        assert logs.isfinite().all() or std == 0.01
        assert logs.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    far = discrete_log_prob(torch.tensor([[0.0]], dtype=DOUBLE), torch.tensor([[-2.0]], dtype=DOUBLE), 0.1)
    near_edge = Normal(-2.0, 0.1).log_prob(torch.tensor(-1 / 255, dtype=DOUBLE)).item()
    assert near_edge - 8 < far.item() < near_edge  # of a narrow bin far out in the tail, where differences of Φ are 0
    assert bits_per_dim(torch.tensor([0.0]), torch.zeros(1, 5)).item() == 7.0


def bits_of_gaussian() -> tuple[Mixture, torch.Tensor]:
    data = Mixture(*(torch.tensor(values, dtype=DOUBLE) for values in ([[0.3]], [0.6], [1.0])))
    return data, torch.tensor([[0.9]], dtype=DOUBLE)


def test_the_bound_touches_the_likelihood_where_the_denoiser_is_exact() -> None:
    """log p at the least noise, averaged over what noise makes of x₀, is the bound's limit: nothing is lost on the way."""
    data, x0 = bits_of_gaussian()
    process = vp()
    low, high = -5.0, 4.0
    nodes, masses = gauss_hermite(40)

    def expect(values: torch.Tensor) -> float:
        return float(values @ masses)

    def error(lam: float) -> float:
        at = process.at_lam(lam)
        return expect((data(forward(x0, nodes[:, None], at), at) - x0)[:, 0] ** 2)

    end, start = process.at_lam(high), process.at_lam(low)
    exact = expect(data.log_prob(forward(x0, nodes[:, None], end), end))
    entropy = -0.5 * (1 + math.log(2 * math.pi * end.sigma**2))  # E log q(x_end | x₀)

    def bound(steps: torch.Tensor) -> float:
        total = prior(start)
        for here, there in pairwise(steps.tolist()):
            squared = torch.tensor([[math.sqrt(error(here))]], dtype=DOUBLE)
            total += step_kl(squared, torch.zeros(1, 1, dtype=DOUBLE), process.at_lam(here), process.at_lam(there)).item()
        return entropy - total

    def prior(at) -> float:  # the true marginal of the noisiest point stands for the prior: then the bound has no other loss
        mean, variance = at.alpha * 0.3, (0.6 * at.alpha) ** 2 + at.sigma**2
        own = Normal(torch.tensor(at.alpha * 0.9), at.sigma)
        return kl_divergence(own, Normal(torch.tensor(mean), math.sqrt(variance))).item()

    gaps = [exact - bound(torch.linspace(low, high, n + 1, dtype=DOUBLE)) for n in (50, 100, 200)]
    assert all(gap > 0 for gap in gaps)  # a bound, for every number of steps
    assert gaps[0] / gaps[1] == pytest.approx(2, abs=0.15) and gaps[1] / gaps[2] == pytest.approx(2, abs=0.1)  # and tight

    draw = UniformLam(process, low, high)
    lams = draw(stratified(2000, torch.tensor(0.5))).lam
    weight = Integrated(simple, draw)
    continuous = float(sum(weight(lam) * error(lam.item()) for lam in lams) / len(lams))
    assert entropy - prior(start) - continuous == pytest.approx(exact, abs=1e-5)


def gauss_hermite(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights for the mean over N(0, 1), by Golub and Welsch."""
    off = torch.arange(1, n, dtype=DOUBLE).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, vectors[0] ** 2


def test_with_the_best_variance_the_bound_of_a_short_table_is_the_entropy(bell: Mixture) -> None:
    """All terms of Ho et al. 2020, for values of 8 bits of N(0.5, 0.1²); the posterior's own variance costs half a bit."""
    process = tables.table(tables.linear_betas(100, 1e-3, 0.2))
    generator = torch.Generator().manual_seed(0)
    x0 = ((0.5 + 0.1 * torch.randn(20_000, 1, dtype=DOUBLE, generator=generator)) * 127.5).round() / 127.5
    best = own = prior_kl(x0, process.at(99))
    for t in range(99, 0, -1):
        here, there = process.at(t), process.at(t - 1)
        said = bell(forward(x0, torch.randn(x0.shape, dtype=DOUBLE, generator=generator), here), here)
        kernel = posterior(here, there)
        best = best + step_kl(x0, said, here, there, kernel.std**2 + kernel.on_x0**2 * Residual(0.1)(here))
        own = own + step_kl(x0, said, here, there)
    at = process.at(0)
    x = forward(x0, torch.randn(x0.shape, dtype=DOUBLE, generator=generator), at)
    last = discrete_log_prob(x0, bell(x, at), math.sqrt(Residual(0.1)(at)))
    entropy = 0.5 * math.log2(2 * math.pi * math.e * (0.1 * 127.5) ** 2)
    bits = bits_per_dim(best - last, x0, levels=2)
    assert bits.mean().item() == pytest.approx(entropy, abs=5 * bits.std().item() / math.sqrt(len(bits)))
    assert bits_per_dim(own - last, x0, levels=2).mean().item() > bits.mean().item() + 0.3


def test_terms_in_a_grid_add_up_to_the_gain_in_snr_for_a_constant_error() -> None:
    grid = exponential(vp(), 20, noise_min=0.1, noise_max=10.0, to_data=False)
    x0 = torch.ones(1, 1, dtype=DOUBLE)
    total = sum(step_kl(x0, 0 * x0, here, there).item() for here, there in pairwise(grid))
    assert total == pytest.approx((100 - 0.01) / 2, rel=1e-9)
