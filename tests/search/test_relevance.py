"""Relevance is the posterior of two Gaussians, and the null is not moved by the matches it contains."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from tectum.errors import DataError
from tectum.search.relevance import DEFAULT, Calibration, Null, calibration_for, fit, null_of, relevance, standard_score


@pytest.mark.parametrize(("separation", "deviation", "prior"), [(3.0, 1.0, 0.01), (2.0, 0.7, 0.2), (4.0, 1.5, 0.5)])
def test_fit_finds_the_closed_form_of_two_gaussians(separation: float, deviation: float, prior: float) -> None:
    random = np.random.default_rng(0)
    negative = random.normal(0, deviation, 200_000)
    positive = random.normal(separation, deviation, 50_000)
    found = fit(positive, negative, prior)
    slope = separation / deviation**2
    assert found.slope == pytest.approx(slope, rel=0.03)
    assert found.offset == pytest.approx(
        -slope * separation / 2 + math.log(prior / (1 - prior)), abs=0.12 + 0.02 * slope * separation
    )


def test_fit_is_the_minimum_that_another_optimiser_finds() -> None:
    random = np.random.default_rng(1)
    positive, negative = random.standard_t(5, 300) + 1.5, random.standard_t(5, 700)
    found = fit(positive, negative, prior=0.3)
    z, y = np.concatenate([positive, negative]), np.repeat([1.0, 0.0], [300, 700])
    other = minimize(lambda w: np.logaddexp(0, z * w[0] + w[1]).sum() - y @ (z * w[0] + w[1]) + 5e-4 * w[0] ** 2, [0.0, 0.0]).x
    shift = math.log(0.3 / 0.7) - math.log(300 / 700)
    assert (found.slope, found.offset) == pytest.approx((other[0], other[1] + shift), abs=1e-3)


def test_fit_survives_classes_that_can_be_separated() -> None:
    found = fit(np.array([5.0, 6.0]), np.array([-1.0, 0.0, 1.0]))
    assert 0 < found.slope < 100 and math.isfinite(found.offset)


@pytest.mark.parametrize(
    ("positive", "negative", "prior"),
    [([], [1.0], 0.1), ([1.0], [], 0.1), ([math.nan], [0.0], 0.1), ([1.0, 2.0], [0.0, 0.5], 1.0), ([0.0, 1.0], [2.0, 3.0], 0.1)],
)
def test_fit_refuses_what_has_no_answer(positive: list[float], negative: list[float], prior: float) -> None:
    with pytest.raises(DataError):
        fit(np.array(positive), np.array(negative), prior)


def test_the_default_is_the_posterior_of_its_assumptions() -> None:
    for z in (-2.0, 0.0, 3.0, 3.2, 6.0):
        related, unrelated = 0.01 * math.exp(-((z - 4) ** 2) / 2), 0.99 * math.exp(-(z**2) / 2)
        assert relevance(z, Null(0.0, 1.0), DEFAULT) == pytest.approx(related / (related + unrelated), rel=1e-9)


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
    known = {"text->image": (2.0, -6.0), "audio->image": (4.0, -10.0)}
    assert calibration_for(("text", "audio"), "image", known) == Calibration(3.0, -8.0)
    assert calibration_for(("text",), "audio", known) == DEFAULT
