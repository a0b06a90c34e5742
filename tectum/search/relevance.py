"""From cosines to probabilities: how far a cosine stands above what unrelated items reach, seen from both of its ends.

Cosines of different modalities, queries and items are not comparable: a photograph and its caption may reach 0.3 where two
photographs of nothing in common reach 0.5, and some items are near to everything. So the query is compared with items that have
nothing to do with it, and the item with queries that have nothing to do with it: two null distributions. Against each a cosine is
a standard score z = (cosine − μ) / σ, and the log-likelihood ratio of relevance is taken as linear in both (exact where related
and unrelated pairs both score normally with the same covariance). `fit` finds slopes and offset when a model is trained.
Between items of one kind, where a cosine is the same from both ends, the query's null stands for both.

The prior is of the library: who searches expects to find something, so one item in as many as there are, within bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from tectum.errors import DataError

PRIORS = (0.01, 0.1)
CLIP = 2.5
MIN_NULL = 64
# A null narrower than this is made of copies, and would call anything else certain.
MIN_DEVIATION = 0.005
_RIDGE = 1e-3


@dataclass(frozen=True, slots=True)
class Calibration:
    """Log-likelihood ratio of relevance = query · z against the query's null + item · z against the item's + offset."""

    query: float
    item: float
    offset: float


@dataclass(frozen=True, slots=True)
class Null:
    """Mean and standard deviation of the cosines of one query with unrelated items, or of one item with unrelated queries."""

    mean: float
    deviation: float


DEFAULT = Calibration(2.0, 2.0, -8.0)
"""For models that ship none: the mean of both z is N(0, 1) for unrelated pairs and N(4, 1) for related ones.

The log-likelihood ratio of N(Δ, 1) to N(0, 1) is Δ z − Δ² / 2. With one item in a hundred related, an item is more likely
relevant than not from z = 3.15 on.
"""
# Without any null, nothing is known about the scale of a cosine: only vectors closer than 60 degrees are called relevant.
_WITHOUT_NULL = (20.0, -10.0)


def null_of(background: np.ndarray, own: np.ndarray | None = None) -> Null | None:
    """The null distribution of a query (or an item), from cosines [m] with what is unrelated and [n] with a library's own items.

    Some of the items may be true matches, which must not raise the null: what lies more than 2.5 deviations above is left out,
    by median and median absolute deviation (× 1.4826, its factor for a Gaussian) for the unrelated items, and by their mean and
    deviation for the library's own, which adapt the null to what the library holds; they count at most as much as the unrelated
    ones. A library of nothing but matches is so still told by the unrelated items.

    Returns:
        None if there are fewer than 64 cosines to go by.

    >>> null = null_of(np.linspace(-0.1, 0.1, 100))
    >>> round(null.mean, 3), round(null.deviation, 3)
    (0.012, 0.048)
    """
    background = np.asarray(background, dtype=np.float64)
    own = np.zeros(0) if own is None or len(own) < MIN_NULL else np.asarray(own, dtype=np.float64)
    if len(background) < MIN_NULL:
        kept = _without_matches(np.concatenate([background, own]))
        return _moments(kept) if len(background) + len(own) >= MIN_NULL else None
    kept = _without_matches(background)
    null = _moments(kept)
    own = own[own <= null.mean + CLIP * null.deviation]
    if not len(own):
        return null
    # Moments of the mixture of both; the library's share of the weight is at most one half.
    share = min(len(own), len(kept)) / (len(kept) + min(len(own), len(kept)))
    theirs = _moments(own)
    mean = (1 - share) * null.mean + share * theirs.mean
    between = (1 - share) * (null.mean - mean) ** 2 + share * (theirs.mean - mean) ** 2
    within = (1 - share) * null.deviation**2 + share * theirs.deviation**2
    return Null(mean, math.sqrt(between + within))


def standard_score(cosine: float, null: Null) -> float:
    """z: standard deviations above the null's mean."""
    return (cosine - null.mean) / null.deviation


def prior_of(items: int) -> float:
    """The share of a library's items that a query is expected to mean: one of them, but 1 to 10 in a hundred.

    >>> prior_of(3), prior_of(25), prior_of(1_000_000)
    (0.1, 0.04, 0.01)
    """
    return min(max(1 / max(items, 1), PRIORS[0]), PRIORS[1])


def relevance(
    cosine: float,
    of_query: Null | None,
    of_item: Null | None = None,
    calibration: Calibration = DEFAULT,
    prior: float = PRIORS[0],
) -> float:
    """The probability in [0, 1] that an item is what was asked for.

    Where one null is not known, z against the other stands for both. Without any it is sigmoid(20 · cosine − 10), cautious on
    purpose: one half at a cosine of 0.5, under 0.05 below 0.35.

    >>> round(relevance(0.30, Null(0.10, 0.05)), 3), round(relevance(0.20, Null(0.10, 0.05)), 3)
    (0.968, 0.01)
    >>> round(relevance(0.30, Null(0.10, 0.05), Null(0.25, 0.05)), 3)  # An item that is near to everything.
    0.069
    """
    known = [null for null in (of_query, of_item) if null is not None]
    if not known:
        return _sigmoid(_WITHOUT_NULL[0] * cosine + _WITHOUT_NULL[1])
    of_query, of_item = known[0], known[-1]
    ratio = calibration.query * standard_score(cosine, of_query) + calibration.item * standard_score(cosine, of_item)
    return _sigmoid(ratio + calibration.offset + math.log(prior / (1 - prior)))


def calibration_for(queries: Sequence[str], kind: str, known: Mapping[str, Sequence[float]]) -> Calibration:
    """The calibration of a query of several modalities: the mean over its parts' "modality->kind", the default where unknown."""
    parts = [known.get(f"{query}->{kind}", astuple(DEFAULT)) for query in queries]
    return Calibration(*np.mean(np.asarray(parts, dtype=np.float64), axis=0).tolist())


def fit(positive: np.ndarray, negative: np.ndarray) -> Calibration:
    """Logistic regression of "is related" on both standard scores, by Newton's method, freed of the sample's share of positives.

    The loss is convex with one minimum; a ridge of 0.001 on the slopes keeps it finite if the classes can be separated. For
    Gaussians N(0, Σ) and N(Δ, Σ) the slopes tend to Σ⁻¹Δ, and the offset to −Δᵀ Σ⁻¹ Δ / 2. No slope is below zero: a null that
    tells nothing more than the other one is left out.

    Args:
        positive: standard scores [n, 2] of related pairs, against the query's null and against the item's.
        negative: standard scores [m, 2] of unrelated pairs.

    Raises:
        DataError: if a class is empty, a score is not finite, or related pairs score no higher.

    >>> fit(np.array([[3.0, 4.0], [4.0, 4.0], [5.0, 6.0]]), np.array([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])).query > 0
    True
    """
    scores = [np.asarray(some, np.float64).reshape(-1, 2) for some in (positive, negative)]
    related, unrelated = map(len, scores)
    z = np.concatenate(scores)
    if not related or not unrelated or not np.isfinite(z).all():
        raise DataError(f"a calibration needs finite scores of related and unrelated pairs, not {related} and {unrelated}")
    label = np.repeat([1.0, 0.0], [related, unrelated])
    start = math.log(related / unrelated)
    weights = _newton(np.c_[z, np.ones(len(z))], label, start)
    if weights[:2].min() < 0:
        z = z * (weights[:2] >= 0)
        weights = _newton(np.c_[z, np.ones(len(z))], label, start)
    if not weights[:2].max() > 0 or weights[:2].min() < 0:
        raise DataError("related pairs score no higher than unrelated ones, so no calibration fits: check the pairs")
    query, item, offset = weights.tolist()
    return Calibration(query, item, offset - start)


def _newton(design: np.ndarray, label: np.ndarray, start: float) -> np.ndarray:
    """The weights [3] of the least regularised logistic loss."""
    ridge = np.array([_RIDGE, _RIDGE, 0.0])
    weights = np.array([0.0, 0.0, start])
    loss = _loss(weights, design, label)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -500, 500)))
        gradient = design.T @ (p - label) + ridge * weights
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(ridge + 1e-12)
        step = np.linalg.solve(hessian, gradient)
        while _loss(weights - step, design, label) > loss and np.abs(step).max() > 1e-12:
            step /= 2
        weights = weights - step
        loss = _loss(weights, design, label)
        if np.abs(step).max() < 1e-10:
            break
    return weights


def _loss(weights: np.ndarray, design: np.ndarray, label: np.ndarray) -> float:
    logits = design @ weights
    return float((np.logaddexp(0.0, logits) - label * logits).sum() + 0.5 * _RIDGE * (weights[:2] ** 2).sum())


def _without_matches(cosines: np.ndarray) -> np.ndarray:
    if not len(cosines):
        return cosines
    median = float(np.median(cosines))
    deviation = max(1.4826 * float(np.median(np.abs(cosines - median))), MIN_DEVIATION)
    return cosines[cosines <= median + CLIP * deviation]


def _moments(cosines: np.ndarray) -> Null:
    """The Gaussian whose upper half is that of the cosines.

    Unrelated items come in kinds: to a photograph all photographs are nearer than all drawings. A match has to stand out of the
    nearer kind, so the lower half says nothing. The upper half of N(μ, σ²) has mean μ + √(2/π) σ and variance (1 − 2/π) σ².
    """
    upper = cosines[cosines >= np.median(cosines)]
    deviation = max(float(upper.std()) / math.sqrt(1 - 2 / math.pi), MIN_DEVIATION)
    return Null(float(upper.mean()) - math.sqrt(2 / math.pi) * deviation, deviation)


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
