"""Adaptive steps: the error is what was asked for, for each sample by its own steps."""

from itertools import pairwise

import pytest
import torch

from tectum.diffusion.grids import karras
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.process import Process
from tectum.diffusion.schedules import edm, flow
from tectum.diffusion.solvers.adaptive import Adaptive
from tectum.diffusion.solvers.state import last, sample
from tectum.diffusion.solvers.unipc import UniPC

EDM = edm(0.02, 20.0)


@pytest.fixture(scope="module")
def exact(ring: Mixture, unit_noise: torch.Tensor) -> torch.Tensor:
    return last(sample(UniPC(3), ring, unit_noise * 20, karras(EDM, 1000, to_data=False)))


def test_a_smaller_tolerance_is_a_smaller_error_for_more_steps(
    ring: Mixture, unit_noise: torch.Tensor, exact: torch.Tensor
) -> None:
    errors, steps = [], []
    for tolerance in (1e-2, 1e-3, 1e-4, 1e-5):
        done = Adaptive(EDM, rtol=tolerance, atol=tolerance, attempts=400)(ring, unit_noise * 20, EDM.at(20.0), EDM.at(0.02))
        assert (done.lam == EDM.at(0.02).lam).all()
        assert (done.attempts >= done.steps).all()
        errors.append((done.x - exact).pow(2).mean().sqrt().item())
        steps.append(done.steps.double().mean().item())
    assert all(a > 4 * b for a, b in pairwise(errors)), errors
    assert all(1.5 < b / a < 3.0 for a, b in pairwise(steps)), steps  # 10^(1/3) more of a third-order step
    assert errors[2] < 10 * 1e-4


def test_samples_take_their_own_steps_and_are_the_same_alone(ring: Mixture, unit_noise: torch.Tensor) -> None:
    run = Adaptive(EDM, rtol=1e-4)
    together = run(ring, unit_noise * 20, EDM.at(20.0), EDM.at(0.02))
    assert together.steps.unique().numel() > 1
    alone = run(ring, unit_noise[9:10] * 20, EDM.at(20.0), EDM.at(0.02))
    torch.testing.assert_close(alone.x, together.x[9:10], rtol=1e-9, atol=1e-9)
    assert alone.steps.item() == together.steps[9].item()


def test_an_end_that_is_not_reached_is_reported(ring: Mixture, unit_noise: torch.Tensor) -> None:
    done = Adaptive(EDM, rtol=1e-6, atol=1e-6, attempts=5, ask_every=0)(ring, unit_noise * 20, EDM.at(20.0), EDM.at(0.02))
    assert (done.lam < EDM.at(0.02).lam).all() and (done.attempts == 5).all()
    with pytest.raises(ValueError, match="two finite λ"):
        Adaptive(flow())(ring, unit_noise, flow().at(1.0), flow().at(0.1))
    with pytest.raises(ValueError, match="an attempt at least"):
        Adaptive(EDM, attempts=0)


def test_it_waits_for_no_device_when_told_not_to_ask() -> None:
    run = Adaptive(Process(EDM.schedule, "vp"), attempts=3, ask_every=0)
    point = run.process.at(torch.tensor(20.0, device="meta"))
    end = run.process.at(torch.tensor(0.02, device="meta"))
    assert run(lambda x, at: x * 0, torch.zeros(4, 2, device="meta"), point, end).x.shape == (4, 2)
