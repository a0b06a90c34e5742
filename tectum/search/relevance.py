"""From cosines to probabilities: how far a cosine stands above what unrelated items reach with the same query.

Cosines of different modalities and queries are not comparable: a photograph and its caption may reach 0.3 where two photographs
of nothing in common reach 0.5. So each query is first compared with items that have nothing to do with it, its null distribution;
a cosine becomes a standard score z = (cosine − μ) / σ, and the log-odds of relevance are taken as linear in z (exact where
related and unrelated items both score normally with the same variance). `fit` finds slope and offset when a model is trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tectum.errors import DataError

PRIOR = 0.01
CLIP = 2.5
MIN_NULL = 64
# A null narrower than this is made of copies, and would call anything else certain.
MIN_DEVIATION = 0.005
_ASSUMED_SEPARATION = 4.0
_RIDGE = 1e-3


@dataclass(frozen=True, slots=True)
class Calibration:
    """Log-odds of relevance = slope · z + offset."""

    slope: float
    offset: float


@dataclass(frozen=True, slots=True)
class Null:
    """Mean and standard deviation of one query's cosines with unrelated items of one kind."""

    mean: float
    deviation: float


def _default_calibration() -> Calibration:
    """For models that ship none: z of unrelated items N(0, 1), of related ones N(Δ, 1) with Δ = 4, one item in a hundred related.

    The log-likelihood ratio of two such Gaussians is Δ·z − Δ²/2, so slope = Δ and offset = −Δ²/2 + ln(0.01 / 0.99): an item is
    more likely relevant than not from z = 3.15 on, however many items there are.
    """
    return Calibration(_ASSUMED_SEPARATION, -(_ASSUMED_SEPARATION**2) / 2 + math.log(PRIOR / (1 - PRIOR)))


DEFAULT = _default_calibration()
# Without any null, nothing is known about the scale of a cosine: only vectors closer than 60 degrees are called relevant.
_WITHOUT_NULL = Calibration(20.0, -10.0)


def null_of(background: np.ndarray, own: np.ndarray | None = None) -> Null | None:
    """The null distribution of a query, from its cosines [m] with unrelated items and [n] with a library's own.

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


def relevance(cosine: float, null: Null | None, calibration: Calibration = DEFAULT) -> float:
    """The probability in [0, 1] that an item is what was asked for.

    Without a null it is sigmoid(20 · cosine − 10), cautious on purpose: one half at a cosine of 0.5, under 0.05 below 0.35.

    >>> round(relevance(0.30, Null(0.10, 0.05)), 3), round(relevance(0.20, Null(0.10, 0.05)), 3)
    (0.968, 0.01)
    """
    if null is None:
        return _sigmoid(_WITHOUT_NULL.slope * cosine + _WITHOUT_NULL.offset)
    return _sigmoid(calibration.slope * standard_score(cosine, null) + calibration.offset)


def calibration_for(queries: Sequence[str], kind: str, known: Mapping[str, Sequence[float]]) -> Calibration:
    """The calibration of a query of several modalities: the mean over its parts' "modality->kind", the default where unknown."""
    parts = [known.get(f"{query}->{kind}", (DEFAULT.slope, DEFAULT.offset)) for query in queries]
    slope, offset = np.mean(np.asarray(parts, dtype=np.float64), axis=0)
    return Calibration(float(slope), float(offset))


def fit(z_positive: np.ndarray, z_negative: np.ndarray, prior: float = PRIOR) -> Calibration:
    """Logistic regression of "is related" on z by Newton's method, moved from the sample's share of positives to a prior.

    The loss is convex with one minimum; a ridge of 0.001 on the slope keeps it finite if the classes can be separated. For two
    Gaussians N(0, σ²) and N(Δ, σ²) the result tends to slope = Δ/σ² and offset = −Δ²/(2σ²) + ln(prior / (1 − prior)).

    Args:
        z_positive: standard scores [n] of related pairs.
        z_negative: standard scores [m] of unrelated pairs.
        prior: share of related items to assume when searching.

    Raises:
        DataError: if a class is empty, a score is not finite, the prior is not between 0 and 1, or related pairs score no higher.

    >>> fit(np.array([3.0, 4.0, 5.0]), np.array([-1.0, 0.0, 1.0])).slope > 0
    True
    """
    z = np.concatenate([np.asarray(z_positive, np.float64).ravel(), np.asarray(z_negative, np.float64).ravel()])
    positives, negatives = np.size(z_positive), np.size(z_negative)
    if not positives or not negatives or not np.isfinite(z).all():
        raise DataError(f"a calibration needs finite scores of related and unrelated pairs, not {positives} and {negatives}")
    if not 0 < prior < 1:
        raise DataError(f"the prior is a share between 0 and 1, not {prior}")
    label = np.concatenate([np.ones(positives), np.zeros(negatives)])
    design = np.stack([z, np.ones_like(z)], axis=1)
    ridge = np.array([_RIDGE, 0.0])
    weights = np.array([0.0, math.log(positives / negatives)])
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
    slope, offset = float(weights[0]), float(weights[1])
    if slope <= 0:
        raise DataError("related pairs score no higher than unrelated ones, so no calibration fits: check the pairs")
    return Calibration(slope, offset - math.log(positives / negatives) + math.log(prior / (1 - prior)))


def _loss(weights: np.ndarray, design: np.ndarray, label: np.ndarray) -> float:
    logits = design @ weights
    return float((np.logaddexp(0.0, logits) - label * logits).sum() + 0.5 * _RIDGE * weights[0] ** 2)


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
