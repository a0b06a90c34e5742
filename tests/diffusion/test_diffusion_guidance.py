"""Guidance: what each is defined as, on denoisers made of tensors."""

from itertools import pairwise

import pytest
import torch

from tectum.diffusion.denoiser import Denoiser
from tectum.diffusion.grids import budgets, karras, trailing
from tectum.diffusion.guidance import (
    Apart,
    Clamped,
    ClassifierFree,
    Given,
    Projected,
    Thresholded,
    Within,
    extrapolate,
    recall,
)
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.predictions import Prediction
from tectum.diffusion.process import Point
from tectum.diffusion.schedules import edm, vp
from tectum.diffusion.solvers.ancestral import Ancestral
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.remembering import Remembering
from tectum.diffusion.solvers.runge_kutta import Heun
from tectum.diffusion.solvers.state import last, sample
from tectum.diffusion.solvers.unipc import UniPC
from tectum.diffusion.tables import scaled_linear_betas, table

DOUBLE = torch.float64


class Network:
    """Predicts ε as a smooth function of x, time and a vector; remembers the sizes of its batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, x: torch.Tensor, time: torch.Tensor, cond) -> torch.Tensor:
        self.sizes.append(len(x))
        return torch.tanh(x + cond["word"][:, :, None]) * (1 + time.reshape(-1, 1, 1) / 1000)


def setting(n: int = 3) -> tuple[Network, Denoiser, torch.Tensor, dict, dict, Point]:
    generator = torch.Generator().manual_seed(0)
    network = Network()
    x = torch.randn(n, 2, 4, dtype=DOUBLE, generator=generator)
    cond, negative = ({"word": torch.randn(n, 2, dtype=DOUBLE, generator=generator)} for _ in range(2))
    return network, Denoiser(network, Prediction("epsilon")), x, cond, negative, table(scaled_linear_betas()).at(600)


def test_classifier_free_is_one_call_and_the_formula_in_noise() -> None:
    network, denoiser, x, cond, negative, at = setting()
    guided = ClassifierFree(denoiser, cond, negative, 7.5)(x, at)
    assert network.sizes == [6]
    noises = [denoiser.prediction.convert(denoiser(x, at, given), x, at, Prediction("epsilon")) for given in (cond, negative)]
    noise = Prediction("x0").convert(guided, x, at, Prediction("epsilon"))
    noises = [Prediction("x0").to_epsilon(denoiser(x, at, given), x, at) for given in (cond, negative)]
    torch.testing.assert_close(noise, noises[1] + 7.5 * (noises[0] - noises[1]))
    torch.testing.assert_close(ClassifierFree(denoiser, cond, negative, 1.0)(x, at), Given(denoiser, cond)(x, at))
    torch.testing.assert_close(ClassifierFree(denoiser, cond, negative, 0.0)(x, at), Given(denoiser, negative)(x, at))
    torch.testing.assert_close(Apart(Given(denoiser, cond), Given(denoiser, negative), 7.5)(x, at), guided)


def test_a_weight_and_a_time_for_each_sample() -> None:
    _, denoiser, x, cond, negative, _ = setting()
    grid = budgets([trailing(table(scaled_linear_betas()), steps) for steps in (2, 3, 4)])
    guided = ClassifierFree(denoiser, cond, negative, torch.tensor([1.0, 3.0, 9.0]))(x, grid[1])
    for i, weight in enumerate((1.0, 3.0, 9.0)):
        one = [{name: value[i : i + 1] for name, value in given.items()} for given in (cond, negative)]
        at = Point(*(value[i].item() for value in grid[1]))
        torch.testing.assert_close(guided[i : i + 1], ClassifierFree(denoiser, *one, weight)(x[i : i + 1], at))


def test_conditions_that_do_not_fit_one_batch_are_refused() -> None:
    _, denoiser, _, cond, _, _ = setting()
    with pytest.raises(ValueError, match="same names and shapes"):
        ClassifierFree(denoiser, cond, {"word": torch.zeros(3, 7)}, 2.0)
    with pytest.raises(ValueError, match="same names and shapes"):
        ClassifierFree(denoiser, cond, {}, 2.0)


def test_rescaling_brings_back_the_standard_deviation_of_what_it_is_told() -> None:
    _, denoiser, x, cond, negative, at = setting()
    alone = Given(denoiser, cond)(x, at)
    for kind in (None, Prediction("epsilon"), Prediction("v")):
        full = ClassifierFree(denoiser, cond, negative, 9.0, rescale=1.0, rescaled_as=kind)(x, at)
        stds = [Prediction("x0").convert(value, x, at, kind or Prediction("x0")).std((1, 2)) for value in (full, alone)]
        torch.testing.assert_close(*stds)
    plain, half, full = (ClassifierFree(denoiser, cond, negative, 9.0, rescale=share)(x, at) for share in (0.0, 0.5, 1.0))
    torch.testing.assert_close(half, (plain + full) / 2)


def test_projected_guidance_leaves_out_what_is_parallel_and_keeps_to_its_radius() -> None:
    generator = torch.Generator().manual_seed(0)
    with_, without = (torch.randn(5, 3, 4, dtype=DOUBLE, generator=generator) for _ in range(2))
    step = Projected()(with_, without, 4.0) - with_
    torch.testing.assert_close((step * with_).flatten(1).sum(1), torch.zeros(5, dtype=DOUBLE))
    torch.testing.assert_close(Projected(parallel=1.0)(with_, without, 4.0), extrapolate(with_, without, 4.0))
    near = Projected(parallel=1.0, radius=0.5)(with_, without, 4.0) - with_
    torch.testing.assert_close(near.flatten(1).norm(dim=1), torch.full((5,), 1.5, dtype=DOUBLE))
    torch.testing.assert_close(Projected(radius=1e9)(with_, without, 4.0), Projected()(with_, without, 4.0))
    assert Projected(radius=1.0)(with_, with_, 4.0).isfinite().all()


def test_an_interval_asks_the_guided_only_there() -> None:
    network, denoiser, x, cond, negative, _ = setting()
    guided = ClassifierFree(denoiser, cond, negative, 3.0)
    within = Within(guided, Given(denoiser, cond), low=0.3, high=3.0)
    for noise, size in ((0.1, 3), (1.0, 6), (9.0, 3)):
        network.sizes.clear()
        within(x, edm().at(noise))
        assert network.sizes == [size]
    at = edm().at(torch.tensor([0.1, 1.0, 9.0]))
    found = within(x, at)
    torch.testing.assert_close(found[1], guided(x, at)[1])
    torch.testing.assert_close(found[[0, 2]], Given(denoiser, cond)(x, at)[[0, 2]])


def test_limits() -> None:
    x = torch.tensor([[3.0, -1.0], [0.2, 0.1]])
    assert Clamped(lambda x, at: x)(x, edm().at(1.0)).abs().max() == 1
    limited = Thresholded(lambda x, at: x, quantile=1.0, ceiling=2.0)(x, edm().at(1.0))
    torch.testing.assert_close(limited, torch.tensor([[1.0, -0.5], [0.2, 0.1]]))


def test_guidance_towards_a_class_sharpens_it(ring: Mixture, unit_noise: torch.Tensor) -> None:
    """Of exact denoisers: the class is one component, without it all are; guided samples lie beyond the component's mean."""
    one = Mixture(ring.means[:1], ring.stds[:1], torch.ones(1, dtype=DOUBLE))
    grid = karras(edm(), 40)
    plain = last(sample(Multistep(2), one, unit_noise * 80, grid))
    guided = last(sample(Multistep(2), Apart(one, ring, 2.0), unit_noise * 80, grid))
    assert guided[:, 0].mean() > plain[:, 0].mean() + 0.01
    assert guided.std(0).mean() < plain.std(0).mean()


def test_the_learned_variance_of_a_guided_model_is_that_of_its_condition() -> None:
    def network(x: torch.Tensor, time: torch.Tensor, cond) -> torch.Tensor:
        return torch.cat([x, cond["word"][:, :, None].expand_as(x)], 1)

    _, _, x, cond, negative, at = setting()
    denoiser = Denoiser(network, Prediction("epsilon"), learned_variance=True)
    share = ClassifierFree(denoiser, cond, negative, 3.0).estimate(x, at).share
    torch.testing.assert_close(share, (cond["word"][:, :, None].expand_as(x) + 1) / 2)
    torch.testing.assert_close(share, Given(denoiser, cond).estimate(x, at).share)
    assert vp().at(0.5).alpha < 1


def guided_by_memory(combine: Projected) -> tuple[Apart, Mixture, Mixture]:
    good = Mixture(torch.tensor([[1.0, 0.0]], dtype=DOUBLE), torch.tensor([0.3], dtype=DOUBLE), torch.ones(1, dtype=DOUBLE))
    bad = Mixture(torch.tensor([[0.0, 0.5]], dtype=DOUBLE), torch.tensor([0.9], dtype=DOUBLE), torch.ones(1, dtype=DOUBLE))
    return Apart(good, bad, 4.0, combine), good, bad


def test_adaptive_projected_guidance_is_the_algorithm_of_the_paper(unit_noise: torch.Tensor) -> None:
    """Sadat et al. 2024, algorithm 1, written out along a run of DDIM."""
    guided, good, bad = guided_by_memory(Projected(parallel=0.2, radius=0.4, momentum=-0.5))
    grid = karras(edm(), 12)
    x, average = unit_noise * 80, torch.zeros_like(unit_noise)
    for here, there in pairwise(grid):
        with_, without = good(x, here), bad(x, here)
        average = with_ - without - 0.5 * average
        difference = average * torch.minimum(torch.ones(64, 1, dtype=DOUBLE), 0.4 / average.norm(dim=1, keepdim=True))
        unit = with_ / with_.norm(dim=1, keepdim=True)
        along = (difference * unit).sum(1, keepdim=True) * unit
        x0 = with_ + 3.0 * (difference - along + 0.2 * along)
        x = there.sigma / here.sigma * x + (1 - there.sigma / here.sigma) * x0
    torch.testing.assert_close(last(sample(Remembering(Ancestral()), guided, unit_noise * 80, grid)), x)


def test_the_memory_is_in_the_state_and_nowhere_else(unit_noise: torch.Tensor) -> None:
    """Runs may be interleaved, continued and branched; a solver with several evaluations remembers all of them."""
    guided, good, _ = guided_by_memory(Projected(momentum=-0.5))
    grid = karras(edm(), 9)
    for step in (Remembering(Multistep(3)), Remembering(Heun()), Remembering(UniPC(2))):
        whole = list(sample(step, guided, unit_noise * 80, grid))
        runs = [sample(step, guided, unit_noise[i : i + 32] * 80, grid) for i in (0, 32)]
        for one, two, both in zip(*runs, whole, strict=True):  # two runs, in turns
            torch.testing.assert_close(torch.cat([one.x, two.x]), both.x, rtol=1e-12, atol=1e-12)
        again = last(sample(step, guided, whole[4], grid[4:]))
        torch.testing.assert_close(again, whole[-1].x, rtol=0, atol=0)
        forgotten = last(sample(step, guided, whole[4]._replace(memory=None), grid[4:]))
        assert not torch.allclose(forgotten, again)
    plain = last(sample(Remembering(Ancestral()), good, unit_noise, grid))  # whoever has nothing to remember is left alone
    torch.testing.assert_close(plain, last(sample(Ancestral(), good, unit_noise, grid)), rtol=0, atol=0)
    with pytest.raises(ValueError, match="Remembering"):
        guided(unit_noise, grid[0])


def test_a_memory_waits_outside_the_interval_and_passes_through_limits(unit_noise: torch.Tensor) -> None:
    guided, good, _ = guided_by_memory(Projected(momentum=-0.5))
    within = Clamped(Thresholded(Within(guided, good, low=0.3, high=3.0), quantile=1.0), 0.9)
    _, memory = recall(within, unit_noise, edm().at(9.0), None)
    assert memory is None
    x0, first = recall(within, unit_noise, edm().at(1.0), None)
    assert first is not None and x0.abs().max() <= 0.9
    _, kept = recall(within, unit_noise, edm().at(9.0), first)
    assert kept is first
    at = edm().at(torch.tensor([1.0, 9.0]).repeat(32))
    _, each = recall(within, unit_noise, at, first)
    _, all_inside = recall(within, unit_noise, edm().at(1.0), first)
    assert each is not None and all_inside is not None
    torch.testing.assert_close(each[0::2], all_inside[0::2])
    torch.testing.assert_close(each[1::2], first[1::2])


def test_a_distilled_guidance_is_a_condition_like_any_other(unit_noise: torch.Tensor) -> None:
    """The student is told w; here it is exact, so each sample ends where the guided teacher takes it."""
    ones = torch.ones(1, dtype=DOUBLE)
    one, all_ = Mixture(ones[:, None], 0.2 * ones, ones), Mixture(0 * ones[:, None], 0.8 * ones, ones)

    def student(x: torch.Tensor, time: torch.Tensor, cond) -> torch.Tensor:
        at = edm().at(time.to(DOUBLE))
        return extrapolate(one(x, at), all_(x, at), cond["guidance"])

    w = torch.tensor([1.0, 2.0, 3.5], dtype=DOUBLE)
    x, grid = unit_noise[:3, :1] * 80, karras(edm(), 8)
    found = last(sample(Multistep(2), Given(Denoiser(student, Prediction("x0")), {"guidance": w}), x, grid))
    torch.testing.assert_close(found, last(sample(Multistep(2), Apart(one, all_, w), x, grid)))
