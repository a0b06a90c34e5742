"""Grids: exactly N steps, at exactly the right points."""

import itertools
import math
from fractions import Fraction

import pytest
import torch

from tectum.diffusion import grids
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.process import Process
from tectum.diffusion.schedules import edm, flow, vp, vp_cosine
from tectum.diffusion.solvers.adams import Adams
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.plms import PLMS
from tectum.diffusion.solvers.runge_kutta import Heun
from tectum.diffusion.solvers.singlestep import Singlestep
from tectum.diffusion.solvers.state import last, sample
from tectum.diffusion.solvers.unipc import UniPC
from tectum.diffusion.tables import linear_betas, scaled_linear_betas, table

SD = table(scaled_linear_betas())
BROKEN = (61, 103, 121, 122, 201, 206)  # of the 62 for which trailing by floating point has one step too many


def times(grid: grids.Grid) -> list[float]:
    """Of the steps."""
    return [point.time for point in grid[:-1]]


@pytest.mark.parametrize("steps", [*range(1, 64), *BROKEN, 499, 500, 501, 999, 1000])
def test_table_spacings_are_exact_for_every_number_of_steps(steps: int) -> None:
    """Against fractions; Python's own rounding of a fraction is to the even number, too."""
    T = 1000
    trailing = [round(Fraction(T * left, steps)) - 1 for left in range(steps, 0, -1)]
    assert times(grids.trailing(SD, steps)) == trailing
    assert len(trailing) == steps and trailing[0] == T - 1 and min(trailing) >= 0
    assert times(grids.leading(SD, steps)) == [left * (T // steps) for left in range(steps)][::-1]
    if steps > 1:
        assert times(grids.linspace(SD, steps)) == [round(Fraction((T - 1) * left, steps - 1)) for left in range(steps)][::-1]
    for grid in (grids.trailing(SD, steps), grids.leading(SD, steps), grids.linspace(SD, steps)):
        assert len(set(times(grid))) == steps
        assert grid[-1] == SD.data()


def test_points_of_a_table_are_its_entries() -> None:
    power = (1 - torch.tensor(scaled_linear_betas(), dtype=torch.float64)).cumprod(0)
    for point in grids.trailing(SD, 61)[:-1]:
        assert point.alpha == pytest.approx(power[int(point.time)].sqrt().item(), rel=1e-12)


def test_short_tables_and_odd_lengths() -> None:
    for length, steps in itertools.product((1, 2, 7, 10), range(1, 11)):
        if steps <= length:
            process = table(linear_betas(length, 0.1, 0.5))
            for make in (grids.trailing, grids.leading, grids.linspace):
                found = times(make(process, steps))
                assert len(found) == steps and found == sorted(found, reverse=True) and min(found) >= 0


def test_karras_and_exponential_follow_their_formulas_in_every_frame() -> None:
    for process in (edm(), Process(edm().schedule, "vp"), Process(edm().schedule, "flow")):
        n = 18
        found = [point.sigma / point.alpha for point in grids.karras(process, n)[:-1]]
        expected = [(80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(n)]
        assert found == pytest.approx(expected, rel=1e-9)
        open_ended = grids.exponential(process, n, to_data=False)
        assert len(open_ended) == n + 1
        jumps = [b.lam - a.lam for a, b in itertools.pairwise(open_ended)]
        assert jumps == pytest.approx([math.log(80 / 0.002) / n] * n, rel=1e-9)
    assert len(grids.karras(edm(), 1)) == 2
    between = grids.karras(SD, 10, noise_min=0.03, noise_max=14.0)
    assert all(a.time > b.time for a, b in itertools.pairwise(between[:-1]))  # fractional times, none of them twice
    assert any(point.time % 1 for point in between)


def test_a_flow_in_equal_steps_is_a_straight_line_with_the_shift_in_it_once() -> None:
    grid = grids.uniform(flow(3.0), 28, start=1.0, end=1 / 28)
    assert [point.sigma for point in grid] == pytest.approx(
        [3 * t / (1 + 2 * t) for t in (i / 28 for i in range(28, -1, -1))], abs=1e-12
    )


def test_the_end_of_a_grid_is_the_data_or_where_it_was_told() -> None:
    assert grids.uniform(vp(), 5)[-1] == vp().data()
    assert grids.uniform(vp(), 5, to_data=False)[-1].time == pytest.approx(1e-3)
    assert len(grids.uniform(vp(), 5, to_data=False)) == 6
    assert [point.time for point in grids.tail(grids.trailing(SD, 50), 0.6)][:2] == [599.0, 579.0]
    assert grids.tail(grids.trailing(SD, 50), 1.0) == grids.trailing(SD, 50)
    assert len(grids.tail(grids.trailing(SD, 50), 0.001)) == 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: grids.trailing(SD, 0), "between 1 and 1000"),
        (lambda: grids.trailing(SD, 1001), "1001 steps do not fit"),
        (lambda: grids.leading(SD, 1000, offset=1), "offset = 1 leaves the table"),
        (lambda: grids.trailing(flow(), 10), "Straight is no table"),
        (lambda: grids.karras(flow(), 0), "0 steps goes nowhere"),
        (lambda: grids.karras(edm(), 5, rho=0.0), "rho = 0.0"),
        (lambda: grids.karras(edm(), 5, noise_max=0.001), "falling"),
        (lambda: grids.exponential(table(linear_betas(), zero_terminal=True), 5), "needs noise_max"),
        (lambda: grids.tail(grids.trailing(SD, 5), 1.5), "strength = 1.5"),
        (lambda: grids.budgets([]), "a grid for each sample"),
        (lambda: grids.at_times(edm(), []), "at least one step"),
    ],
)
def test_what_makes_no_grid_is_refused(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_batch_of_budgets_is_its_samples_one_by_one(ring: Mixture, unit_noise: torch.Tensor) -> None:
    each = [grids.karras(edm(), steps, noise_max=20.0) for steps in (3, 11, 6)]
    x = unit_noise[:3] * 20
    solvers = [Multistep(1), Multistep(3), Heun(), Heun("flow"), PLMS(), Singlestep(edm(), 2), Singlestep(edm(), 3), UniPC(3)]
    solvers += [Adams(), Multistep(2, of="epsilon"), UniPC(2, of="epsilon")]
    for step in solvers:
        together = last(sample(step, ring, x, grids.budgets(each)))
        alone = torch.cat([last(sample(step, ring, x[i : i + 1], grid)) for i, grid in enumerate(each)])
        torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_grids_of_tensors_are_the_same_grids(ring: Mixture, unit_noise: torch.Tensor) -> None:
    grid = grids.uniform(vp_cosine(), 8)
    for order in (1, 2, 3, 4):
        numbers, tensors = (last(sample(Multistep(order), ring, unit_noise, one)) for one in (grid, grids.on_device(grid)))
        torch.testing.assert_close(tensors, numbers, rtol=1e-10, atol=1e-10)
