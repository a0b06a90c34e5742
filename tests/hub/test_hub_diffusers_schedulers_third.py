"""The third-order step with noise as diffusers has it is of first order; corrected, it is at least of second."""

import math

import pytest
import torch

from tectum.diffusion.grids import exponential
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.schedules import edm
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.state import Step, last, sample
from tectum.hub.diffusers.schedulers_steps import ByStep, TheirThird


class EachAlone:
    """For step i: one to sample i, nothing to the others. What comes out are the coefficients of the noises."""

    def __call__(self, x: torch.Tensor, step, here, there) -> torch.Tensor:
        noise = torch.zeros_like(x)
        noise[step] = 1
        return noise


def weak_order(make) -> float:
    """Of the variance, for one Gaussian, where a sample is a sum of the noises; nothing is sampled."""
    data = Mixture(*(torch.tensor(values, dtype=torch.float64) for values in ([[0.7]], [0.5], [1.0])))
    errors = []
    for steps in (80, 160, 320):
        x = torch.zeros(steps + 2, 1, dtype=torch.float64)
        x[steps] = 1
        y = last(sample(make(steps), data, x, exponential(edm(0.1, 10.0), steps, to_data=False)))[:, 0]
        weights = (y - y[-1])[: steps + 1].square()
        errors.append(abs((weights[:steps].sum() + weights[steps] * (0.5**2 + 10.0**2)).item() - (0.5**2 + 0.1**2)))
    return math.log2(errors[0] / errors[-1]) / 2


def test_the_sign_of_the_curvature_costs_an_order() -> None:
    noise = EachAlone()
    begun = tuple(Multistep(order, eta=1.0, noise=noise) for order in (1, 2))

    def theirs(steps: int) -> Step:
        return ByStep((*begun, *[TheirThird(noise)] * (steps - 2)))

    assert weak_order(theirs) == pytest.approx(1, abs=0.15)
    assert weak_order(lambda steps: Multistep(3, eta=1.0, noise=noise)) > 1.9
