"""Relevance is the posterior of two Gaussians, and the null is not moved by the matches it contains."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from tectum.errors import DataError
from tectum.search.relevance import DEFAULT, Calibration, Null, calibration_for, fit, null_of, relevance, standard_score


@pytest.mark.parametrize(
    ("shift", "covariance"),
    [((3.0, 3.0), ((1.0, 0.0), (0.0, 1.0))), ((2.0, 1.0), ((0.7, 0.2), (0.2, 0.5))), ((3.0, 4.0), ((1.5, 0.9), (0.9, 2.0)))],
)
def test_fit_finds_the_closed_form_of_two_gaussians(shift: tuple[float, float], covariance: object) -> None:
    random = np.random.default_rng(0)
    negative = random.multivariate_normal((0, 0), covariance, 200_000)
    positive = random.multivariate_normal(shift, covariance, 50_000)
    found = fit(positive, negative)
    slopes = np.linalg.solve(covariance, shift)
    assert (found.query, found.item) == pytest.approx(tuple(slopes), rel=0.04, abs=0.03)
    assert found.offset == pytest.approx(-slopes @ shift / 2, rel=0.03)


def test_a_null_that_tells_nothing_is_left_out() -> None:
    random = np.random.default_rng(6)
    negative, positive = random.normal(0, 1, (20_000, 2)), random.normal((3, -0.5), 1, (5_000, 2))
    found = fit(positive, negative)
    assert found.item == 0 and found.query == pytest.approx(3, rel=0.05) and found.offset == pytest.approx(-4.5, rel=0.05)


def test_fit_is_the_minimum_that_another_optimiser_finds() -> None:
    random = np.random.default_rng(1)
    positive, negative = random.standard_t(5, (300, 2)) + 1.5, random.standard_t(5, (700, 2))
    found = fit(positive, negative)
    z, y = np.concatenate([positive, negative]), np.repeat([1.0, 0.0], [300, 700])

    def loss(w: np.ndarray) -> float:
        logits = z @ w[:2] + w[2]
        return float(np.logaddexp(0, logits).sum() - y @ logits + 5e-4 * (w[:2] ** 2).sum())

    other = minimize(loss, [0.0, 0.0, 0.0]).x
    assert (found.query, found.item, found.offset) == pytest.approx((*other[:2], other[2] - math.log(300 / 700)), abs=1e-3)


def test_fit_survives_classes_that_can_be_separated() -> None:
    found = fit(np.array([[5.0, 4.0], [6.0, 6.0]]), np.array([[-1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]))
    assert 0 < found.query < 100 and 0 < found.item < 100 and math.isfinite(found.offset)


@pytest.mark.parametrize(
    ("positive", "negative"),
    [([], [[1, 1]]), ([[1, 1]], []), ([[math.nan, 0]], [[0, 0]]), ([[0, 0], [1, 1]], [[2, 2], [3, 4]])],
)
def test_fit_refuses_what_has_no_answer(positive: list[list[float]], negative: list[list[float]]) -> None:
    with pytest.raises(DataError):
        fit(np.array(positive), np.array(negative))


def test_the_default_is_the_posterior_of_its_assumptions() -> None:
    for z in (-2.0, 0.0, 3.0, 3.2, 6.0):
        related, unrelated = 0.05 * math.exp(-((z - 4) ** 2) / 2), 0.95 * math.exp(-(z**2) / 2)
        assert relevance(z, Null(0.0, 1.0), prior=0.05) == pytest.approx(related / (related + unrelated), rel=1e-9)
        assert relevance(z, None, Null(0.0, 1.0), prior=0.05) == pytest.approx(related / (related + unrelated), rel=1e-9)


def test_an_item_that_is_near_to_everything_is_less_relevant() -> None:
    of_query, hub, plain = Null(0.0, 0.1), Null(0.35, 0.05), Null(0.0, 0.1)
    assert relevance(0.4, of_query, plain) > 0.95 > 0.2 > relevance(0.4, of_query, hub)
    swapped = Calibration(3.0, 1.0, -7.0), Calibration(1.0, 3.0, -7.0)
    assert relevance(0.4, of_query, hub, swapped[0]) == pytest.approx(relevance(0.4, hub, of_query, swapped[1]))


def test_the_posterior_is_calibrated_on_items_drawn_from_the_model() -> None:
    """Among items told p = 0.6…0.8, that share is relevant."""
    random = np.random.default_rng(2)
    related = random.random(400_000) < 0.01
    z = random.normal(4.0 * related, 1.0)
    told = np.array([relevance(value, Null(0.0, 1.0)) for value in z])
    bin_ = (told > 0.6) & (told < 0.8)
    assert bin_.sum() > 200 and related[bin_].mean() == pytest.approx(told[bin_].mean(), abs=0.08)


def test_null_of_gaussian_cosines_is_their_moments() -> None:
    cosines = np.random.default_rng(0).normal(0.12, 0.05, 5000)
    null = null_of(cosines)
    assert null is not None
    assert (null.mean, null.deviation) == pytest.approx((0.12, 0.05), rel=0.05)
    assert standard_score(0.22, null) == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_matches_among_the_librarys_own_do_not_raise_the_null(share: float) -> None:
    random = np.random.default_rng(3)
    background = random.normal(0.1, 0.05, 400)
    own = np.where(random.random(1000) < share, random.normal(0.35, 0.05, 1000), random.normal(0.1, 0.05, 1000))
    null = null_of(background, own)
    assert null is not None
    assert null.mean == pytest.approx(0.1, abs=0.02) and null.deviation == pytest.approx(0.05, abs=0.015)
    assert relevance(0.35, null) > 0.6


def test_the_null_adapts_to_a_library_whose_cosines_lie_higher() -> None:
    random = np.random.default_rng(4)
    background, own = random.normal(0.1, 0.05, 400), random.normal(0.15, 0.05, 1000)
    adapted, plain = null_of(background, own), null_of(background)
    assert adapted is not None and plain is not None
    assert adapted.mean > plain.mean + 0.015
    assert null_of(np.zeros(0), own).mean == pytest.approx(0.15, abs=0.01)  # type: ignore[union-attr]


def test_few_matches_in_a_library_without_background_are_found() -> None:
    random = np.random.default_rng(5)
    null = null_of(np.zeros(0), np.concatenate([random.normal(0.1, 0.04, 300), random.normal(0.5, 0.02, 60)]))
    assert null is not None and relevance(0.5, null) > 0.99 and relevance(0.2, null) < 0.3


def test_too_few_cosines_give_no_null_and_a_cautious_answer() -> None:
    assert null_of(np.zeros(10), np.zeros(63)) is None
    assert relevance(0.3, None) < 0.05 and relevance(0.5, None) == pytest.approx(0.5) and relevance(0.9, None) > 0.99


def test_copies_do_not_make_a_null_of_no_width() -> None:
    null = null_of(np.full(200, 0.2))
    assert null is not None and relevance(0.205, null) < 0.01


def test_calibrations_of_a_composed_query_are_averaged() -> None:
    known = {"text->image": (2.0, 1.0, -6.0), "audio->image": (4.0, 0.0, -10.0)}
    assert calibration_for(("text", "audio"), "image", known) == Calibration(3.0, 0.5, -8.0)
    assert calibration_for(("text",), "audio", known) == DEFAULT
