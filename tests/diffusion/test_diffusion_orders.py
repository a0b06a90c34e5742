"""Orders of convergence, measured on data whose denoiser is known exactly; and the same trajectory in every frame."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tectum.diffusion.brownian import Brownian
from tectum.diffusion.grids import exponential, karras
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.noise import Independent
from tectum.diffusion.process import Frame, Process
from tectum.diffusion.schedules import edm
from tectum.diffusion.solvers.adams import Adams
from tectum.diffusion.solvers.ancestral import Ancestral, Fresh
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.plms import PLMS
from tectum.diffusion.solvers.runge_kutta import Churn, Heun
from tectum.diffusion.solvers.singlestep import Singlestep
from tectum.diffusion.solvers.state import Step, last, sample
from tectum.diffusion.solvers.unipc import UniPC

EDM = edm(0.02, 20.0)
FRAMES = ("vp", "ve", "flow")
Make = Callable[[Process], Step]

ORDERS: dict[str, tuple[Make, float]] = {
    "Euler": (lambda p: Ancestral(), 1),
    "Heun": (lambda p: Heun(), 2),
    "flow Heun": (lambda p: Heun("flow"), 2),
    "2M": (lambda p: Multistep(2, rule="bh2"), 2),
    "2M exact": (lambda p: Multistep(2), 2),
    "2M bh1": (lambda p: Multistep(2, rule="bh1"), 2),
    "3M corrected": (lambda p: Multistep(3), 3),
    "3M corrected, warmed up": (lambda p: Multistep(3, warmup=Singlestep(p, 3)), 3),
    "4M, warmed up": (lambda p: Multistep(4, warmup=Singlestep(p, 3)), 4),
    "2S": (lambda p: Singlestep(p, 2, "bh2"), 2),
    "2S exact": (lambda p: Singlestep(p, 2), 2),
    "3S": (lambda p: Singlestep(p, 3), 3),
    "UniPC-1": (lambda p: UniPC(1), 2),
    "UniPC-2": (lambda p: UniPC(2), 3),
    "UniPC-3": (lambda p: UniPC(3), 4),
    "PLMS": (lambda p: PLMS(), 2),
    "Adams-2": (lambda p: Adams(2), 2),
    "Adams-4, warmed up": (lambda p: Adams(4, warmup=Singlestep(p, 3)), 4),
    "2M of ε": (lambda p: Multistep(2, of="epsilon"), 2),
    "3M of ε, warmed up": (lambda p: Multistep(3, of="epsilon", warmup=Singlestep(p, 3, of="epsilon")), 3),
    "2S of ε": (lambda p: Singlestep(p, 2, "bh2", of="epsilon"), 2),
    "3S of ε": (lambda p: Singlestep(p, 3, of="epsilon"), 3),
    "UniPC-2 of ε": (lambda p: UniPC(2, of="epsilon"), 3),
    "UniPC-3 of ε": (lambda p: UniPC(3, of="epsilon"), 4),
}
SHORT = {"Adams-2", "Adams-4, warmed up", "2M of ε", "3M of ε, warmed up", "UniPC-2 of ε"}
"""Methods in ε need shorter steps before their order shows."""


@pytest.fixture(scope="module")
def exact(ring: Mixture, unit_noise: torch.Tensor) -> torch.Tensor:
    """x/α at the end, by 2,000 steps of fourth order."""
    grid = karras(EDM, 2000, to_data=False)
    return last(sample(UniPC(3), ring, unit_noise * 20, grid))


def run(make: Make, frame: Frame, ring: Mixture, noise: torch.Tensor, steps: int) -> list[torch.Tensor]:
    """x/α at all points."""
    process = replace(EDM, frame=frame)
    grid = karras(process, steps, to_data=False)
    states = sample(make(process), ring, noise * 20 * grid[0].alpha, grid)
    return [state.x / point.alpha for state, point in zip(states, grid, strict=True)]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", ORDERS)
def test_the_order_is_what_it_is_said_to_be(
    name: str, frame: Frame, ring: Mixture, unit_noise: torch.Tensor, exact: torch.Tensor
) -> None:
    make, order = ORDERS[name]
    counts = (80, 160, 320) if name in SHORT else (40, 80, 160)
    errors = [(run(make, frame, ring, unit_noise, steps)[-1] - exact).pow(2).mean().sqrt().item() for steps in counts]
    assert math.log2(errors[0] / errors[-1]) / 2 == pytest.approx(order, abs=0.15), errors


def test_the_published_third_order_is_second(ring: Mixture, unit_noise: torch.Tensor, exact: torch.Tensor) -> None:
    """Both are started alike, by a third-order step, so that nothing else is compared."""

    def errors(rule) -> list[float]:
        def make(process: Process) -> Step:
            return Multistep(3, rule=rule, warmup=Singlestep(process, 3))

        return [(run(make, "ve", ring, unit_noise, steps)[-1] - exact).pow(2).mean().sqrt().item() for steps in (160, 320)]

    published, corrected = errors("published"), errors("exact")
    assert 1.7 < math.log2(published[0] / published[1]) < 2.15
    assert math.log2(corrected[0] / corrected[1]) > 2.85
    assert corrected[1] < published[1] / 5


ALL: dict[str, Make] = {
    **{name: make for name, (make, _) in ORDERS.items()},
    "published 3M": lambda p: Multistep(3, rule="published"),
    "DDIM 0.5": lambda p: Ancestral(Independent(0, torch.arange(64)), 0.5),
    "Euler-ancestral": lambda p: Ancestral(Independent(0, torch.arange(64)), 1.0),
    "SDE 1": lambda p: Multistep(1, eta=1.0, noise=Brownian(0, torch.arange(64))),
    "SDE 2M": lambda p: Multistep(2, rule="bh2", eta=1.0, noise=Independent(0, torch.arange(64))),
    "SDE 3M": lambda p: Multistep(3, eta=0.5, noise=Independent(0, torch.arange(64))),
    "SDE 2S": lambda p: Singlestep(p, 2, "bh2", eta=1.0, noise=Brownian(0, torch.arange(64))),
    "SDE 2M of ε": lambda p: Multistep(2, of="epsilon", eta=0.7, noise=Independent(0, torch.arange(64))),
    "LCM": lambda p: Fresh(Independent(0, torch.arange(64))),
    "churn": lambda p: Churn(Heun(), p, Independent(0, torch.arange(64)), gamma=0.1, low=0.05, high=10.0, inflate=1.003),
}


@pytest.mark.parametrize("name", ALL)
def test_trajectories_agree_in_every_frame(name: str, ring: Mixture, unit_noise: torch.Tensor) -> None:
    reference = run(ALL[name], "ve", ring, unit_noise, 15)
    for frame in ("vp", "flow", "subvp"):
        for found, expected in zip(run(ALL[name], frame, ring, unit_noise, 15), reference, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


class EachAlone:
    """For step i: one to sample i, nothing to the others. What comes out are the coefficients of the noises."""

    def __call__(self, x: torch.Tensor, step, here, there) -> torch.Tensor:
        noise = torch.zeros_like(x)
        noise[step] = 1
        return noise


GAUSS = edm(0.1, 10.0)
STOCHASTIC = {
    "Euler-ancestral": (Ancestral(EachAlone(), 1.0), 1),
    "DDIM 0.5": (Ancestral(EachAlone(), 0.5), 1),
    "SDE 1": (Multistep(1, eta=1.0, noise=EachAlone()), 1),
    "SDE 2M": (Multistep(2, rule="bh2", eta=1.0, noise=EachAlone()), 2),
    "SDE 2M exact": (Multistep(2, eta=1.0, noise=EachAlone()), 2),
    "SDE 2M, η = ½": (Multistep(2, eta=0.5, noise=EachAlone()), 2),
    "SDE 1S": (Singlestep(GAUSS, 1, eta=1.0, noise=EachAlone()), 1),
    "SDE 2S": (Singlestep(GAUSS, 2, "bh2", eta=1.0, noise=EachAlone()), 2),
    "SDE 2S exact": (Singlestep(GAUSS, 2, eta=1.0, noise=EachAlone()), 2),
    "SDE 2M of ε": (Multistep(2, of="epsilon", eta=1.0, noise=EachAlone()), 2),
}


@pytest.mark.parametrize("name", STOCHASTIC)
def test_weak_orders_without_any_sampling(name: str) -> None:
    """For one Gaussian a sample is a sum of the noises, so its mean and variance are exact; the mean is right at any step."""
    step, order = STOCHASTIC[name]
    data = Mixture(*(torch.tensor(values, dtype=torch.float64) for values in ([[0.7]], [0.5], [1.0])))
    errors = []
    for steps in (80, 160, 320):
        grid, count = exponential(GAUSS, steps, to_data=False), 2 * steps  # noises: at most two a step
        x = torch.zeros(count + 2, 1, dtype=torch.float64)
        x[count] = 1
        y = last(sample(step, data, x, grid))[:, 0]
        weights = y - y[-1]
        mean = y[-1] + weights[count] * 0.7
        variance = weights[:count].square().sum() + weights[count] ** 2 * (0.5**2 + 10.0**2)
        assert mean.item() == pytest.approx(0.7, abs=1e-12)
        errors.append(abs(variance.item() - (0.5**2 + 0.1**2)))
    assert math.log2(errors[0] / errors[-1]) / 2 == pytest.approx(order, abs=0.15), errors


@pytest.mark.parametrize("name", ["Euler-ancestral", "SDE 2M", "SDE 2S"])
def test_strong_order_along_one_brownian_path(name: str, unit_noise: torch.Tensor) -> None:
    """N and 2N steps of the same path come closer to each other as 1/N."""
    noise = Brownian(3, torch.arange(64))
    step = {
        "Euler-ancestral": Ancestral(noise, 1.0),
        "SDE 2M": Multistep(2, eta=1.0, noise=noise),
        "SDE 2S": Singlestep(GAUSS, 2, eta=1.0, noise=noise),
    }[name]
    data = Mixture(*(torch.tensor(values, dtype=torch.float64) for values in ([[-1.0, 0.0], [1.0, 0.5]], [0.8, 0.6], [0.5, 0.5])))
    ends = [last(sample(step, data, unit_noise * 10, exponential(GAUSS, n, to_data=False))) for n in (16, 32, 64, 128, 256)]
    gaps = [(a - b).pow(2).mean().sqrt().item() for a, b in pairwise(ends)]
    assert math.log2(gaps[0] / gaps[-1]) / 3 == pytest.approx(1, abs=0.2), gaps
