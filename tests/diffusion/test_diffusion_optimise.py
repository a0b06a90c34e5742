"""Grids found from the denoiser itself."""

import itertools

import pytest
import torch

from tectum.diffusion.grids import Grid, exponential, karras
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.optimise import optimised
from tectum.diffusion.schedules import edm
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.state import last, sample
from tectum.diffusion.solvers.unipc import UniPC

EDM = edm(0.02, 20.0)


def fresh(n: int, seed: int) -> torch.Tensor:
    return 20 * torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("steps", "order"), [(5, 1), (10, 1), (5, 2), (10, 2)])
def test_it_beats_the_usual_grids_on_samples_it_has_not_seen(ring: Mixture, steps: int, order) -> None:
    x = fresh(256, 1)
    exact = last(sample(UniPC(3), ring, x, karras(EDM, 300)))
    found = optimised(ring, fresh(32, 2), karras(EDM, 32), steps, order=order)

    def error(grid: Grid) -> float:
        return (last(sample(Multistep(order), ring, x, grid)) - exact).pow(2).mean().sqrt().item()

    assert len(found) == steps + 1
    assert all(a.sigma > b.sigma for a, b in itertools.pairwise(found))
    usual = min(error(karras(EDM, steps)), error(exponential(EDM, steps)))
    assert error(found) < (0.75 if order == 1 else 0.6) * usual


def test_with_as_many_steps_as_there_are_it_takes_them_all(ring: Mixture) -> None:
    fine = karras(EDM, 7)
    assert optimised(ring, fresh(8, 0), fine, 7) == fine
    assert optimised(ring, fresh(8, 0), fine, 1) == (fine[0], fine[-1])
    with pytest.raises(ValueError, match="8 steps through 8 candidates"):
        optimised(ring, fresh(8, 0), fine, 8)
