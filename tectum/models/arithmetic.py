"""Sums and differences of vectors of several modalities: "this beach" + "that sound of waves" − "people"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def compose(
    vectors: Sequence[np.ndarray],
    weights: Sequence[float] | None = None,
    *,
    means: Sequence[np.ndarray] | None = None,
    onto: np.ndarray | None = None,
) -> np.ndarray:
    """The unit vector [dim], float32, of a weighted sum of unit vectors; weights may be negative.

    The vectors of a modality lie in a cone about their mean μ (the modality gap, arXiv:2203.02053). A plain sum adds up cones as
    well as contents, and the mean of a foreign modality favours whatever items happen to lie its way. With `means` only contents
    are added, c = Σ wᵢ (xᵢ − μᵢ) / ρᵢ, where ρ = √(1 − ‖μ‖²) is the root mean square length of x − μ, so that a modality in a
    narrow cone has as much say. `onto` moves them into the cone about a mean μ: μ + ρ c, which leaves one vector moved onto its
    own modality as it is. Without it items far from their own mean gain, for they have more of every content.

    The means must be those of the kind of items at hand: means of other data add an error of their own, and where the gap is
    small a plain sum is better than they are (docs/binding.md measures it).

    Args:
        vectors: unit vectors [dim].
        weights: 1 each when left out.
        means: of the modality of each vector; none: the plain sum.
        onto: the mean of the modality that the result shall lie with.

    Raises:
        ValueError: if the parts cancel, there are none, or the numbers of them differ.

    >>> compose([np.array([1.0, 0.0]), np.array([0.0, 1.0])]).round(3)
    array([0.707, 0.707], dtype=float32)
    """
    parts = np.asarray(vectors, np.float64)
    factors = np.ones(len(parts)) if weights is None else np.asarray(weights, np.float64)
    if not len(parts) or len(factors) != len(parts) or (means is not None and len(means) != len(parts)):
        raise ValueError(f"{len(parts)} vectors need at least one, and as many weights and means")
    if means is not None:
        centres = np.asarray(means, np.float64)
        parts = (parts - centres) / _spread(centres)[:, None]
    total = factors @ parts
    if not np.linalg.norm(total) > 1e-6:
        raise ValueError("the parts cancel one another, so that nothing is left to look for")
    if onto is not None:
        centre = np.asarray(onto, np.float64)
        total = centre + _spread(centre[None])[0] * total
    return np.asarray(total / np.linalg.norm(total), np.float32)


def _spread(means: np.ndarray) -> np.ndarray:
    """Root mean square distance [n] of unit vectors from their means [n, dim]; a floor for those that are all but equal."""
    return np.sqrt(np.maximum(1 - (means**2).sum(1), 1e-6))
