"""Filtering of pairs: an independent mixture fit, Bayes' rule, the loss it explains, and a run that noise ruins without it."""

import importlib
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture
from torch.nn import functional as F

from tectum.contrastive.filtering import (
    Mixture,
    co_teach,
    fit_mixture,
    forget_rate,
    keep_best,
    mixture_posterior,
    pair_cosines,
    pair_losses,
)
from tectum.contrastive.loss import info_nce

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def two_bells(n: int, share: float, stds: tuple[float, float], seed: int = 0) -> torch.Tensor:
    """Values around 0 and, of a share, around 5."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(n, generator=generator) >= share
    noise = torch.randn(n, dtype=torch.float64, generator=generator)
    return torch.where(first, noise * stds[0], 5 + noise * stds[1])


@pytest.mark.parametrize(("share", "stds"), [(0.4, (1.0, 1.0)), (0.2, (0.5, 1.5)), (0.7, (1.5, 0.4))])
def test_a_mixture_is_recovered_and_as_likely_as_another_implementation_finds(share: float, stds: tuple[float, float]) -> None:
    values = two_bells(8000, share, stds)
    mixture = fit_mixture(values)
    torch.testing.assert_close(mixture.weights, torch.tensor([1 - share, share], dtype=torch.float64), atol=0.02, rtol=0)
    torch.testing.assert_close(mixture.means, torch.tensor([0.0, 5.0], dtype=torch.float64), atol=0.1, rtol=0)
    torch.testing.assert_close(mixture.stds, torch.tensor(stds, dtype=torch.float64), atol=0.1, rtol=0)
    theirs = GaussianMixture(2, tol=1e-8, max_iter=1000, random_state=0).fit(values[:, None].numpy())
    ours = (mixture._joint(values).logsumexp(1) - math.log(2 * math.pi) / 2).mean().item()
    assert ours == pytest.approx(theirs.score(values[:, None].numpy()), abs=1e-4)


def test_between_the_means_the_posterior_is_bayes_rule() -> None:
    mixture = Mixture(*torch.tensor([[0.3, 0.7], [0.0, 4.0], [0.5, 2.0]], dtype=torch.float64))
    x = torch.linspace(0, 4, 9, dtype=torch.float64)
    parts = [w * torch.distributions.Normal(m, s).log_prob(x).exp() for w, m, s in zip(*mixture, strict=True)]
    torch.testing.assert_close(mixture.posterior(x), parts[0] / (parts[0] + parts[1]))


@settings(max_examples=50)
@given(
    weight=st.floats(0.05, 0.95), gap=st.floats(0.1, 10), first=st.floats(0.05, 5), second=st.floats(0.05, 5), at=st.floats(-5, 5)
)
def test_the_posterior_never_rises_with_the_loss(weight: float, gap: float, first: float, second: float, at: float) -> None:
    mixture = Mixture(*torch.tensor([[weight, 1 - weight], [at, at + gap], [first, second]], dtype=torch.float64))
    posterior = mixture.posterior(torch.linspace(at - 50, at + 50, 501))
    assert bool((posterior.diff() <= 1e-12).all()) and bool(((posterior >= 0) & (posterior <= 1)).all())


@settings(max_examples=10)
@given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_the_posterior_does_not_depend_on_the_unit_of_the_loss(scale: float, shift: float) -> None:
    values = two_bells(300, 0.4, (1.0, 0.7))
    torch.testing.assert_close(mixture_posterior(scale * values + shift), mixture_posterior(values), atol=1e-4, rtol=0)


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0, 1.0], [1.0, 2.0], [1.0, 2.0, 3.0, math.nan]])
def test_what_has_no_two_components_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="two components"):
        mixture_posterior(torch.tensor(values))


def test_one_far_value_is_a_component_of_finite_width() -> None:
    posterior = mixture_posterior(torch.tensor([0.0] * 50 + [9.0]))
    assert posterior[:50].min() > 0.99 and posterior[50] < 0.01


@given(n=st.integers(1, 30), rows=st.integers(1, 40), seed=st.integers(0, 99))
def test_the_mean_of_the_pair_losses_is_the_loss(n: int, rows: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = (F.normalize(torch.randn(n, 5, dtype=torch.float64, generator=generator), dim=-1) for _ in "ab")
    losses = pair_losses(a, b, 12.0, rows=rows)
    torch.testing.assert_close(losses.mean(), info_nce(a, b, 12.0).loss)
    torch.testing.assert_close(losses, pair_losses(a, b, 12.0))
    torch.testing.assert_close(pair_cosines(a, b), torch.einsum("nd,nd->n", a, b))


@given(n=st.integers(1, 20), rows=st.integers(1, 25), seed=st.integers(0, 99))
def test_pairs_with_one_id_are_no_negatives_of_each_other(n: int, rows: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = (F.normalize(torch.randn(n, 5, dtype=torch.float64, generator=generator), dim=-1) for _ in "ab")
    ids = torch.randint(max(1, n // 2), (n,), generator=generator)
    losses = pair_losses(a, b, 12.0, ids=ids, rows=rows)
    for pair in range(n):
        others = ids != ids[pair]
        others[pair] = True
        label = others[:pair].sum()
        by_row, by_column = (F.cross_entropy(12 * x[pair] @ y[others].T, label) for x, y in ((a, b), (b, a)))
        torch.testing.assert_close(losses[pair], (by_row + by_column) / 2)


def test_losses_of_half_precision_vectors_are_those_of_single_precision() -> None:
    a, b = (F.normalize(torch.randn(9, 16), dim=-1).bfloat16() for _ in "ab")
    with torch.autocast("cpu", torch.bfloat16):
        losses = pair_losses(a, b, 50.0)
    torch.testing.assert_close(losses, pair_losses(a.float(), b.float(), 50.0))


def test_vectors_that_are_no_pairs_are_refused() -> None:
    eye = torch.eye(3)
    for b, ids in ((eye[:2], None), (eye[0], None), (eye, torch.arange(2))):
        with pytest.raises(ValueError, match="are no pairs"):
            pair_losses(eye, b, 1.0, ids=ids)


@given(scores=st.lists(st.floats(-5, 5), min_size=1, max_size=40), share=st.floats(0, 1))
def test_the_best_are_kept_and_as_many_as_asked(scores: list[float], share: float) -> None:
    values = torch.tensor(scores)
    kept = keep_best(values, share)
    assert int(kept.sum()) == max(1, round(share * len(scores)))
    assert bool(kept.all()) or values[kept].min() >= values[~kept].max()


def test_a_share_beyond_one_and_scores_that_are_no_numbers_are_refused() -> None:
    for scores, share in (([1.0], 1.1), ([1.0, math.nan], 0.5)):
        with pytest.raises(ValueError, match="give a share in 0 … 1"):
            keep_best(torch.tensor(scores), share)


def test_each_model_learns_from_what_is_easy_for_the_other() -> None:
    first, second = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([4.0, 3.0, 2.0, 1.0])
    for_first, for_second = co_teach(first, second, 0.5)
    assert for_first.tolist() == [False, False, True, True] and for_second.tolist() == [True, True, False, False]
    assert bool(torch.stack(co_teach(first, second, 0.0)).all())
    assert [forget_rate(step, noise=0.4, ramp=10) for step in (0, 5, 10, 99)] == [0.0, 0.2, 0.4, 0.4]
    assert forget_rate(3, noise=0.4, ramp=0) == 0.4


def test_noise_ruins_a_plain_run_and_each_filter_brings_most_of_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    noise = importlib.import_module("challenge_noise")
    (challenge,) = noise.CHALLENGES
    plain = challenge.runs["plain"](0, "adamw")
    assert plain < 0.5
    for fix in ("mixture model of the losses", "co-teaching", "best 60 % by that model"):  # which saw 400 checked pairs
        assert challenge.runs[fix](0, "adamw") - plain > 0.8 * (1 - plain), fix
