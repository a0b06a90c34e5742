"""Loss weights and times of training, as functions of λ."""

import math

import pytest
import torch
from scipy import stats

from tectum.diffusion import weights
from tectum.diffusion.denoiser import Denoiser, loss
from tectum.diffusion.marginals import forward
from tectum.diffusion.predictions import KINDS, Prediction
from tectum.diffusion.process import Process
from tectum.diffusion.schedules import edm, flow, vp, vp_cosine
from tectum.diffusion.tables import linear_betas, table

DOUBLE = torch.float64
LAMS = torch.linspace(-4, 4, 33, dtype=DOUBLE)
ALL = [
    weights.simple,
    weights.plain_x0,
    weights.plain_v,
    weights.plain_flow,
    weights.truncated_snr,
    weights.MinSNR(5.0),
    weights.P2(1.0, 1.0),
    weights.UnitVariance(0.5),
    weights.SigmoidWeight(2.0),
]


def network(x: torch.Tensor, time: torch.Tensor, cond) -> torch.Tensor:
    return torch.sin(3 * x) + time.reshape(-1, 1, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weight", ALL, ids=lambda w: getattr(w, "__name__", type(w).__name__))
def test_the_loss_is_the_weight_times_the_error_in_x0_whatever_is_predicted(process: Process, kind, weight) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(4, 3, 2, dtype=DOUBLE, generator=generator) for _ in range(2))
    low, high = process.schedule.span
    at = process.at(low + (high - low) * torch.tensor([0.1, 0.3, 0.6, 0.8], dtype=DOUBLE))
    denoiser = Denoiser(network, Prediction(kind, 0.5), time_input="flow")
    found = loss(denoiser, x0, noise, at, weight)
    error = ((x0 - denoiser(forward(x0, noise, at), at)) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(found, weight(at.lam) * error, rtol=1e-6, atol=1e-9)


def test_a_plain_weight_is_the_plain_error_of_its_prediction() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(5, 3, 2, dtype=DOUBLE, generator=generator) for _ in range(2))
    for kind, weight, process in (
        ("epsilon", weights.simple, vp()),
        ("x0", weights.plain_x0, vp()),
        ("v", weights.plain_v, vp_cosine()),
        ("flow", weights.plain_flow, flow(3.0)),
        ("edm", weights.UnitVariance(0.5), edm()),
    ):
        at = weights.UniformTimes(process)(weights.stratified(5, torch.tensor(0.5)))
        denoiser = Denoiser(network, Prediction(kind, 0.5), time_input="flow")
        value, _ = denoiser.predict(forward(x0, noise, at), at)
        plain = ((value - denoiser.prediction.target(x0, noise, at)) ** 2).flatten(1).mean(1)
        torch.testing.assert_close(loss(denoiser, x0, noise, at, weight), plain, rtol=1e-9, atol=0)


def test_min_snr_is_right_for_every_prediction() -> None:
    """Hang et al. 2023, and what was mended later elsewhere: min(SNR, γ)/SNR for ε, min(SNR, γ)/(SNR + 1) for v."""
    at, snr = vp().at_lam(LAMS), (2 * LAMS).exp()
    weight = weights.MinSNR(5.0)(LAMS)
    on_epsilon = weight * Prediction("epsilon").x0_mix(at).second ** 2
    torch.testing.assert_close(on_epsilon, snr.clamp(max=5) / snr)
    torch.testing.assert_close(weight * Prediction("v").x0_mix(at).second ** 2, snr.clamp(max=5) / (snr + 1))
    zero = vp_cosine().at(1.0)  # pure noise: the weight is 0, not 0/0
    assert weights.MinSNR(5.0)(torch.tensor([zero.lam])).item() * Prediction("v").x0_mix(zero).second ** 2 == 0


def test_the_other_weights_are_those_of_their_papers() -> None:
    snr = (2 * LAMS).exp()
    torch.testing.assert_close(weights.P2(0.5, 2.0)(LAMS) / snr, (2 + snr) ** -0.5)
    torch.testing.assert_close(weights.SigmoidWeight(2.0)(LAMS) / snr, (2 - 2 * LAMS).sigmoid())
    sigma = (-LAMS).exp()
    torch.testing.assert_close(weights.UnitVariance(0.5)(LAMS), (sigma**2 + 0.25) / (0.5 * sigma) ** 2)
    torch.testing.assert_close(weights.plain_flow(LAMS), 1 / flow().at_lam(LAMS).sigma ** 2)
    assert weights.truncated_snr(LAMS).min() == 1


def test_draws_have_the_density_they_say() -> None:
    uniform = weights.stratified(20_001, torch.tensor(0.5))
    for draw in (
        weights.UniformTimes(vp()),
        weights.UniformTimes(vp_cosine()),
        weights.UniformTimes(flow(3.0)),
        weights.NormalLam(edm(), 1.2, 1.2),
        weights.UniformLam(vp(), -4.0, 3.0),
    ):
        lams = draw(uniform).lam.sort().values
        share = torch.trapezoid(draw.density(lams), lams)
        assert share.item() == pytest.approx(1.0, abs=2e-3)
        middle = lams[5000:15001]
        assert torch.trapezoid(draw.density(middle), middle).item() == pytest.approx(0.5, abs=1e-4)


def test_logit_normal_and_log_normal_are_normal_in_lambda() -> None:
    uniform = weights.stratified(2000, torch.tensor(0.5))
    time = weights.logit_normal(flow(), 0.5, 0.8)(uniform).sigma
    assert stats.kstest(torch.logit(time).numpy(), "norm", args=(0.5, 0.8)).statistic < 1e-3
    noise = weights.log_normal(edm(), -1.2, 1.2)(uniform).sigma
    assert stats.kstest(noise.log().numpy(), "norm", args=(-1.2, 1.2)).statistic < 1e-3


def test_stratified_numbers_are_one_in_each_part_and_steps_of_a_table_are_alike_often() -> None:
    numbers = weights.stratified(64, torch.tensor(0.3))
    assert (numbers * 64).floor().tolist() == list(range(64))
    for edge in (0.0, 1.0):
        assert ((weights.stratified(3, torch.tensor(edge)) > 0) & (weights.stratified(3, torch.tensor(edge)) < 1)).all()
    times = weights.UniformSteps(table(linear_betas(50)))(weights.stratified(200, torch.tensor(0.5))).time
    assert torch.bincount(times.long()).tolist() == [4] * 50


def test_training_by_the_loss_finds_the_exact_denoiser() -> None:
    """The best linear network for Gaussian data predicts the posterior mean; here by least squares, at a single noise."""
    generator = torch.Generator().manual_seed(0)
    x0 = 0.5 + 0.1 * torch.randn(50_000, 1, dtype=DOUBLE, generator=generator)
    noise = torch.randn(50_000, 1, dtype=DOUBLE, generator=generator)
    at = edm().at(torch.full((50_000,), 0.2, dtype=DOUBLE))
    slope, offset = (torch.zeros((), dtype=DOUBLE, requires_grad=True) for _ in range(2))
    denoiser = Denoiser(
        lambda x, time, cond: slope * x + offset, Prediction("edm", 0.1), time_input="log_noise", scale_input=True
    )
    optimizer = torch.optim.LBFGS([slope, offset], max_iter=50)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(denoiser, x0, noise, at, weights.UnitVariance(0.1)).mean()
        value.backward()
        return value

    optimizer.step(closure)
    x = torch.tensor([[0.1], [0.9]], dtype=DOUBLE)
    expected = 0.5 + (x - 0.5) * 0.1**2 / (0.1**2 + 0.2**2)
    found = denoiser(x, edm().at(0.2)).detach()
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


def test_networks_are_told_the_time_in_their_own_units() -> None:
    told = []

    def network(x: torch.Tensor, time: torch.Tensor, cond) -> torch.Tensor:
        told.append((time, x))
        return torch.zeros_like(x)

    x = torch.full((2, 3), 2.0)
    Denoiser(network, Prediction("epsilon"))(x, table(linear_betas()).at(500))
    Denoiser(network, Prediction("flow"), time_input="flow", time_scale=1000.0)(x, flow(3.0).at(0.5))
    Denoiser(network, Prediction("edm", 0.5), time_input="log_noise", scale_input=True)(x, edm().at(2.0))
    assert [time[0].item() for time, _ in told] == pytest.approx([500.0, 750.0, math.log(2) / 4])
    assert [tuple(time.shape) for time, _ in told] == [(2,)] * 3
    assert told[2][1][0, 0].item() == pytest.approx(2 / math.sqrt(4 + 0.25))
    # The same network in another frame is told the same and answers for the same sample.
    denoiser = Denoiser(network, Prediction("edm", 0.5), time_input="log_noise", scale_input=True)
    at = vp().at_lam(-math.log(2.0))
    denoiser(x * at.alpha, at)
    torch.testing.assert_close(told[3][1], told[2][1])
