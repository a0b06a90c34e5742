"""Guidance: what each is defined as, on denoisers made of tensors."""

import pytest
import torch

from tectum.diffusion.denoiser import Denoiser
from tectum.diffusion.grids import budgets, karras, trailing
from tectum.diffusion.guidance import Apart, Clamped, ClassifierFree, Given, Projected, Thresholded, Within, extrapolate
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.predictions import Prediction
from tectum.diffusion.process import Point
from tectum.diffusion.schedules import edm, vp
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.state import last, sample
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
