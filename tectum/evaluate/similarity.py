"""How alike two models see the same items: linear CKA and representational similarity analysis (RSA).

Neither needs the vectors of the two models to be comparable, or of one length; only the items must be the same, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tectum.errors import EvaluationError
from tectum.evaluate.cosines import as_matrix
from tectum.evaluate.measurement import Measurement, of_sums
from tectum.evaluate.score import Passport, Score

Distance = Literal["correlation", "cosine", "euclidean"]
Correlation = Literal["spearman", "pearson"]


def linear_cka(x: object, y: object, *, unbiased: bool = False) -> Score:
    """Linear centred kernel alignment of features [n, d] and [n, e] of the same items (Kornblith et al. 2019, arXiv:1905.00414).

    ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of centred features: 1 where they differ by rotation and scale. Features of d ≫ n look alike whatever
    they are; `unbiased` takes the estimator of HSIC without that bias (Song et al. 2012, eq. 5), whose expectation is 0 for
    unrelated features, and needs 4 items. No interval: `minibatch_cka` has one.

    Raises:
        EvaluationError: if the items are not as many, or a number is not finite.

    >>> turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    >>> x = np.array([[1.0, 2.0], [0.0, 1.0], [4.0, -1.0], [2.0, 2.0]])
    >>> round(linear_cka(x, 3 * x @ turn + 1).value, 9)
    1.0
    """
    a, b = _pair(x, y)
    sums = _hsics(a, b, unbiased) if len(a) >= (4 if unbiased else 2) else np.full(3, math.nan)
    return Score(float(_cka(sums[None])[0]), None, len(a), Passport("linear-cka", {"unbiased": unbiased}))


def minibatch_cka(x: object, y: object, *, batch_size: int = 256, ids: Sequence[str] | None = None) -> Measurement:
    """Unbiased linear CKA from the means over batches of its three HSIC terms (Nguyen et al. 2021, arXiv:2010.15327, eq. 3).

    A batch is an item of the measurement and bears the id of its first row; so it has an interval, and shards made of whole
    batches merge. Rows left over after the last whole batch are not used. Shuffle the rows first if they have an order.

    Raises:
        EvaluationError: if the items are not as many, a number is not finite, or the batches have fewer than 4 rows.
    """
    if batch_size < 4:
        raise EvaluationError(f"batches of {batch_size} are too small for an unbiased estimate: give at least 4")
    a, b = _pair(x, y)
    starts = range(0, len(a) - batch_size + 1, batch_size)
    sums = [_hsics(a[at : at + batch_size], b[at : at + batch_size], True) for at in starts]
    names = tuple(str(at) if ids is None else ids[at] for at in starts)
    passport = Passport("minibatch-cka", {"batch": batch_size})
    return Measurement(passport, of_sums(_cka), names, np.array(sums, np.float64).reshape(-1, 3))


def _cka(sums: np.ndarray) -> np.ndarray:
    both, first, second = sums.T
    return np.divide(both, np.sqrt(np.maximum(first * second, 0)), out=np.full(len(sums), math.nan), where=first * second > 0)


def _hsics(a: Tensor, b: Tensor, unbiased: bool) -> np.ndarray:
    """HSIC, up to a factor, of (a, b), (a, a) and (b, b)."""
    a, b = a - a.mean(0), b - b.mean(0)
    if not unbiased:
        return np.array([float((u.T @ v).square().sum()) for u, v in ((a, b), (a, a), (b, b))])
    n = len(a)
    found = []
    for u, v in ((a, b), (a, a), (b, b)):
        # Kernels uuᵀ and vvᵀ without their diagonals, never written out: their product's trace, row sums and total sums.
        u_own, v_own = u.square().sum(1), v.square().sum(1)
        trace = (u.T @ v).square().sum() - u_own @ v_own
        u_rows, v_rows = u @ u.sum(0) - u_own, v @ v.sum(0) - v_own
        total = trace + u_rows.sum() * v_rows.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (u_rows @ v_rows)
        found.append(float(total) / (n * (n - 3)))
    return np.array(found)


def rdm(features: object, distance: Distance = "correlation") -> Tensor:
    """The representational dissimilarity matrix [n, n], float64, of features [n, d] (Kriegeskorte et al. 2008).

    "correlation" is one minus Pearson's r of two rows, "cosine" one minus their cosine, "euclidean" their distance.

    Raises:
        EvaluationError: if a number is not finite, there is no such distance, or a row has no direction (after centring).

    >>> rdm([[1.0, 2.0], [2.0, 1.0]], "euclidean")
    tensor([[0.0000, 1.4142],
            [1.4142, 0.0000]], dtype=torch.float64)
    """
    if distance not in get_args(Distance):
        raise EvaluationError(f"there is no distance {distance!r}: choose one of {', '.join(get_args(Distance))}")
    matrix = _finite(features, "features")
    if distance == "euclidean":
        result = torch.cdist(matrix, matrix, compute_mode="donot_use_mm_for_euclid_dist")
    else:
        if distance == "correlation":
            matrix = matrix - matrix.mean(1, keepdim=True)
        lengths = matrix.norm(dim=1, keepdim=True)
        if not (lengths > 0).all():
            row = int((lengths[:, 0] > 0).int().argmin())
            raise EvaluationError(f"row {row} is constant and has no {distance} with another: leave it out, or take euclidean")
        unit = matrix / lengths
        result = 1 - unit @ unit.T
    return result.clamp_(min=0).fill_diagonal_(0)


def rsa(
    x: object,
    y: object,
    *,
    distance: Distance = "correlation",
    correlation: Correlation = "spearman",
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Score:
    """The correlation of two models' dissimilarities over all pairs of items (Kriegeskorte et al. 2008).

    The interval draws items, and leaves out pairs of an item with its own copy; ranks are those of all items. Time and memory
    grow with n², up to some thousand items.

    Args:
        x: features [n, d] of one model.
        y: features [n, e] of another, of the same items.
        distance: of two items, see `rdm`.
        correlation: of the dissimilarities; "spearman" is that of their ranks, ties sharing their mean rank.
        resamples, level, seed: of the bootstrap; 0 resamples for no interval.

    Raises:
        EvaluationError: if the items are not as many, or as `rdm` does.

    >>> rsa([[0.0], [1.0], [3.0]], [[5.0], [4.0], [9.0]], distance="euclidean").value  # distances 1, 3, 2 and 1, 4, 5
    0.5
    """
    if correlation not in get_args(Correlation):
        raise EvaluationError(f"there is no correlation {correlation!r}: choose one of {', '.join(get_args(Correlation))}")
    a, b = _pair(x, y)
    n = len(a)
    passport = Passport("rsa", {"distance": distance, "correlation": correlation})
    if n < 3:
        return Score(math.nan, None, n, passport)
    upper = torch.triu_indices(n, n, 1)
    first, second = (_spread(rdm(one, distance)[upper[0], upper[1]], correlation, n) for one in (a, b))
    # A weighted Pearson's r from six sums over pairs, each a quadratic form in the weights of the items.
    products = (1 - torch.eye(n, dtype=torch.float64), first, second, first * second, first**2, second**2)

    def pearson(weights: Tensor) -> np.ndarray:
        count, p, q, pq, pp, qq = (((weights @ matrix) * weights).sum(1).numpy() for matrix in products)
        with np.errstate(invalid="ignore", divide="ignore"):
            cov, var_p, var_q = pq - p * q / count, pp - p * p / count, qq - q * q / count
            # What rounding leaves of a variance of zero is no variance.
            return np.where((var_p > 1e-12 * pp) & (var_q > 1e-12 * qq), cov / np.sqrt(var_p * var_q), math.nan)

    value = float(pearson(torch.ones(1, n, dtype=torch.float64))[0])
    if not resamples or math.isnan(value):
        return Score(value, None, n, passport)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    known = pearson(torch.from_numpy(drawn.astype(np.float64)))
    known = known[~np.isnan(known)]
    if not len(known):
        return Score(value, None, n, passport)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Score(value, (float(low), float(high)), n, passport)


def _spread(values: Tensor, correlation: Correlation, n: int) -> Tensor:
    """Values of pairs, or their ranks, about their mean as a symmetric matrix [n, n] with a diagonal of zeros."""
    if correlation == "spearman":
        # Equal distances differ by rounding, and would get different ranks.
        values = (values / values.max().clamp(min=1e-300) * 2**40).round()
        _, which, counts = values.unique(return_inverse=True, return_counts=True)
        values = (counts.cumsum(0) - (counts - 1) / 2)[which].double()
    values = values - values.mean()
    matrix = torch.zeros(n, n, dtype=torch.float64)
    row, column = torch.triu_indices(n, n, 1)
    matrix[row, column] = values
    return matrix + matrix.T


def _pair(x: object, y: object) -> tuple[Tensor, Tensor]:
    a, b = _finite(x, "the first model's features"), _finite(y, "the second model's features")
    if len(a) != len(b):
        raise EvaluationError(f"{len(a)} and {len(b)} rows are not the same items: give features of the same items in one order")
    return a, b


def _finite(values: object, name: str) -> Tensor:
    matrix = as_matrix(values, name).double()
    wrong = ~torch.isfinite(matrix).all(1)
    if wrong.any():
        raise EvaluationError(f"{name} have a row {int(wrong.int().argmax())} that is not finite: leave that item out of both")
    return matrix
