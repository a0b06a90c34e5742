"""Solvers against the formulas of their papers, written out."""

import itertools
import math

import pytest
import torch

from tectum.diffusion.denoiser import Denoiser
from tectum.diffusion.grids import karras, trailing, uniform
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.noise import Independent
from tectum.diffusion.predictions import Prediction
from tectum.diffusion.schedules import edm, flow
from tectum.diffusion.solvers.ancestral import Ancestral, Fresh
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.plms import PLMS
from tectum.diffusion.solvers.residual import unit
from tectum.diffusion.solvers.runge_kutta import Churn, Heun
from tectum.diffusion.solvers.singlestep import Singlestep
from tectum.diffusion.solvers.state import State, last, sample
from tectum.diffusion.solvers.unipc import UniPC
from tectum.diffusion.tables import linear_betas, scaled_linear_betas, table

DOUBLE = torch.float64
SD = table(scaled_linear_betas())
WHO = torch.arange(64)
NOISE = Independent(0, WHO)


class Fixed:
    """The same noise at every step."""

    def __init__(self, z: torch.Tensor) -> None:
        self.z = z

    def __call__(self, x, step, here, there) -> torch.Tensor:
        return self.z


def test_one_formula_is_ddim_euler_flow_euler_ddpm_and_euler_ancestral(ring: Mixture, unit_noise: torch.Tensor) -> None:
    x, z = unit_noise, unit_noise.flip(0)
    here, there = SD.at(700), SD.at(400)
    x0 = ring(x, here)
    noise = (x - here.alpha * x0) / here.sigma
    for eta in (0.0, 0.4, 1.0):  # Song et al. 2020, eq. 12 and 16
        a, b = here.alpha**2, there.alpha**2
        s = eta * math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b)
        expected = there.alpha * x0 + math.sqrt(1 - b - s**2) * noise + s * z
        torch.testing.assert_close(Ancestral(Fixed(z), eta)(State(x), ring, here, there).x, expected)
    here, there = edm().at(5.0), edm().at(2.0)
    x0 = ring(5 * x, here)
    euler = 5 * x + (2.0 - 5.0) * (5 * x - x0) / 5.0
    torch.testing.assert_close(Ancestral()(State(5 * x), ring, here, there).x, euler)
    up = math.sqrt(2.0**2 * (5.0**2 - 2.0**2) / 5.0**2)  # Euler-ancestral of k-diffusion
    down = math.sqrt(2.0**2 - up**2)
    expected = 5 * x + (down - 5.0) * (5 * x - x0) / 5.0 + up * z
    torch.testing.assert_close(Ancestral(Fixed(z), 1.0)(State(5 * x), ring, here, there).x, expected)
    here, there = flow(3.0).at(0.8), flow(3.0).at(0.5)
    x0 = ring(x, here)
    velocity = (x - x0) / here.sigma
    torch.testing.assert_close(Ancestral()(State(x), ring, here, there).x, x + (there.sigma - here.sigma) * velocity)


def test_both_variances_of_ddpm_and_the_learned_one_between_them() -> None:
    betas = torch.tensor(linear_betas(), dtype=DOUBLE)
    power, process = (1 - betas).cumprod(0), table(linear_betas())
    x, zero, one = (
        torch.zeros(3, 2, 4, dtype=DOUBLE),
        (lambda x, at: torch.zeros_like(x)),
        Fixed(torch.ones(3, 2, 4, dtype=DOUBLE)),
    )

    def variance(step: Ancestral, t: int, denoiser=zero) -> float:
        return step(State(x), denoiser, process.at(t), process.at(t - 1)).x[0, 0, 0].item() ** 2

    for t in (1, 100, 999):
        small = (betas[t] * (1 - power[t - 1]) / (1 - power[t])).item()
        large = betas[t].item()
        assert variance(Ancestral(one, 1.0), t) == pytest.approx(small, rel=1e-8)
        assert variance(Ancestral(one, 1.0, residual=unit), t) == pytest.approx(large, rel=1e-8)
        for said, share in ((-1.0, 0.0), (1.0, 1.0), (0.0, 0.5), (0.5, 0.75)):

            def network(x, time, cond, said=said) -> torch.Tensor:
                return torch.cat([0 * x, 0 * x + said], 1)

            learned = Denoiser(network, Prediction("x0"), learned_variance=True)
            expected = math.exp(share * math.log(large) + (1 - share) * math.log(small))  # Nichol & Dhariwal 2021, eq. 15
            assert variance(Ancestral(one, 1.0, learned=True), t, learned) == pytest.approx(expected, rel=1e-8)
    end = Ancestral(one, 1.0, learned=True)(State(x), learned, process.at(0), process.data())
    assert torch.equal(end.x, torch.zeros_like(x))
    with pytest.raises(ValueError, match="learned_variance=True"):
        variance(Ancestral(one, 1.0, learned=True), 5)


def test_dpm_solver_2m_and_2s_are_their_algorithms(ring: Mixture, unit_noise: torch.Tensor) -> None:
    """Lu et al. 2022, arXiv:2211.01095, algorithms 2 and 1, written out."""
    grid = trailing(SD, 5)[:-1]
    x, old, old_h = unit_noise, None, None
    for here, there in itertools.pairwise(grid):
        d = ring(x, here)
        h = there.lam - here.lam
        mixed = d if old is None else (1 + h / (2 * old_h)) * d - h / (2 * old_h) * old
        x = there.sigma / here.sigma * x - there.alpha * math.expm1(-h) * mixed
        old, old_h = d, h
    torch.testing.assert_close(last(sample(Multistep(2, rule="bh2"), ring, unit_noise, grid)), x)

    x = unit_noise
    for here, there in itertools.pairwise(grid):
        d, h = ring(x, here), there.lam - here.lam
        middle = SD.at_lam(here.lam + h / 2)
        u = middle.sigma / here.sigma * x - middle.alpha * math.expm1(-h / 2) * d
        x = there.sigma / here.sigma * x - there.alpha * math.expm1(-h) * ring(u, middle)
    torch.testing.assert_close(last(sample(Singlestep(SD, 2, "bh2"), ring, unit_noise, grid)), x)


def test_third_order_in_the_notation_of_the_published_code(ring: Mixture, unit_noise: torch.Tensor) -> None:
    """As it is shipped, D2 is a divided difference; doubled, it is the second derivative that its coefficient was made for."""
    grid = trailing(SD, 6)[:-1]
    for rule, factor in (("published", 1.0), ("exact", 2.0)):
        *_, before, _ = states = list(sample(Multistep(3, rule=rule), ring, unit_noise, grid))
        (d0, l0), (d1, l1), (d2, l2) = [(one.x0, one.at.lam) for one in states[-1].past]
        here, there = grid[-2], grid[-1]
        h, h0, h1 = there.lam - l0, l0 - l1, l1 - l2
        r0, r1 = h0 / h, h1 / h
        first, second = (d0 - d1) / r0, (d1 - d2) / r1
        slope = first + r0 / (r0 + r1) * (first - second)
        curve = factor * (first - second) / (r0 + r1)
        phi1, phi2 = math.expm1(-h), math.expm1(-h) / h + 1
        x = there.sigma / here.sigma * before.x - there.alpha * phi1 * d0 + there.alpha * phi2 * slope
        x = x - there.alpha * (phi2 / h - 0.5) * curve
        torch.testing.assert_close(states[-1].x, x)


def test_unipc_of_first_order_is_a_trapezoid_after_ddim(ring: Mixture, unit_noise: torch.Tensor) -> None:
    grid = trailing(SD, 4)[:-1]
    predicted, corrected, old = unit_noise, unit_noise, None
    for i, (here, there) in enumerate(itertools.pairwise(grid)):
        d = ring(predicted, here)
        if i:
            before = grid[i - 1]
            h = here.lam - before.lam
            corrected = here.sigma / before.sigma * corrected - here.alpha * math.expm1(-h) * (old + d) / 2
        h = there.lam - here.lam
        predicted = there.sigma / here.sigma * corrected - there.alpha * math.expm1(-h) * d
        old = d
    torch.testing.assert_close(last(sample(UniPC(1), ring, unit_noise, grid)), predicted)


def test_flow_heun_is_heun_on_the_velocity(ring: Mixture, unit_noise: torch.Tensor) -> None:
    grid = uniform(flow(), 5, start=1.0, end=0.2, to_data=False)
    x = unit_noise
    for here, there in itertools.pairwise(grid):

        def velocity(x, at):
            return (x - ring(x, at)) / at.sigma

        k = velocity(x, here)
        dt = there.sigma - here.sigma
        x = x + dt / 2 * (k + velocity(x + dt * k, there))
    torch.testing.assert_close(last(sample(Heun("flow"), ring, unit_noise, grid)), x)


def test_plms_is_its_weights_on_the_noises(ring: Mixture, unit_noise: torch.Tensor) -> None:
    grid = trailing(SD, 8)[:-1]

    def transfer(x, noise, here, there):
        return there.alpha * (x - here.sigma * noise) / here.alpha + there.sigma * noise

    def predicted(x, at):
        return (x - at.alpha * ring(x, at)) / at.sigma

    x, noises = unit_noise, []
    weights = {2: (3, -1), 3: (23, -16, 5), 4: (55, -59, 37, -9)}
    for here, there in itertools.pairwise(grid):
        noises = [predicted(x, here), *noises][:4]
        if len(noises) == 1:
            noise = (noises[0] + predicted(transfer(x, noises[0], here, there), there)) / 2
        else:
            chosen = weights[len(noises)]
            noise = sum(w * e for w, e in zip(chosen, noises, strict=True)) / sum(chosen)
        x = transfer(x, noise, here, there)
    torch.testing.assert_close(last(sample(PLMS(), ring, unit_noise, grid)), x)


def test_lcm_draws_all_noise_anew(ring: Mixture, unit_noise: torch.Tensor) -> None:
    grid = trailing(SD, 4)
    states = list(sample(Fresh(NOISE), ring, unit_noise, grid))
    for i in range(4):
        z = NOISE(unit_noise, i, grid[i], grid[i + 1])
        torch.testing.assert_close(states[i + 1].x, grid[i + 1].alpha * ring(states[i].x, grid[i]) + grid[i + 1].sigma * z)


def test_churn_is_the_algorithm_of_the_paper(ring: Mixture, unit_noise: torch.Tensor) -> None:
    """Karras et al. 2022, algorithm 2."""
    grid = karras(edm(0.05, 20.0), 10)
    churn = Churn(Heun(), edm(), NOISE, gamma=0.25, low=0.1, high=8.0, inflate=1.007)
    x = unit_noise * 20
    for i, (here, there) in enumerate(itertools.pairwise(grid)):
        gamma = 0.25 if 0.1 <= here.sigma <= 8.0 else 0.0
        lifted = edm().at(here.sigma * (1 + gamma))
        x = x + math.sqrt(lifted.sigma**2 - here.sigma**2) * 1.007 * NOISE(x, i, here, lifted)
        k = (x - ring(x, lifted)) / lifted.sigma
        y = x + (there.sigma - lifted.sigma) * k
        if there.sigma:
            y = x + (there.sigma - lifted.sigma) / 2 * (k + (y - ring(y, there)) / there.sigma)
        x = y
    torch.testing.assert_close(last(sample(churn, ring, unit_noise * 20, grid)), x, rtol=1e-6, atol=1e-6)
