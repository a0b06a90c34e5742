"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) of generated features.

A set of items stands for the union of balls around them, each as wide as the distance to its k-th nearest other item.
Precision is the share of generated items inside the real balls, recall the share of real items inside the generated ones.
Density counts how many real balls a generated item lies in, and coverage is the share of real balls with a generated item
inside. All distances go through tiles, so memory does not grow with the number of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tectum.errors import EvaluationError
from tectum.evaluate.features import Features, check_alike
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.score import Passport, Setting

_TILE = 2048


@dataclass(frozen=True, slots=True)
class Manifold:
    """The four measurements, with the balls of the other set held fixed: precision and density have a value for each
    generated item, recall and coverage for each real one, so that two generators are compared on the same real items.
    """

    precision: Measurement
    recall: Measurement
    density: Measurement
    coverage: Measurement


def manifold(real: Features, generated: Features, *, k: int = 5) -> Manifold:
    """Precision, recall, density and coverage; the passport of each names k and the counts that it depends on.

    A ball includes its edge, as in the definition by Kynkäänniemi et al.; so every metric of x and x is 1 or more, also with
    duplicates. For two sets of one distribution the coverage is `expected_coverage`, whatever that distribution is.

    Args:
        real: n items.
        generated: m items.
        k: neighbours, fewer than n and m; 5 as in Naeem et al., 3 in Kynkäänniemi et al.

    Raises:
        PassportError: if the features were made differently.
        EvaluationError: if their sizes differ, or a set has no k other items.

    >>> real = Features.of([[0.0], [1.0], [2.0], [9.0]])
    >>> found = manifold(real, Features.of([[0.5], [1.5], [50.0]]), k=1)
    >>> found.precision.values(), found.coverage.score().value
    ({'000000000': 1.0, '000000001': 1.0, '000000002': 0.0}, 0.75)
    """
    settings = check_alike(real, generated, least=2)
    if not 1 <= k < min(len(real), len(generated)):
        raise EvaluationError(
            f"k is {k}, and there are {len(real)} real and {len(generated)} generated items: "
            "k must be at least 1 and smaller than both"
        )
    x, y = real.vectors, generated.vectors
    real_radius, generated_radius = (_nearest(z, z, k, True)[0][:, -1] for z in (x, y))  # squared
    around = torch.zeros(len(y), dtype=torch.float64, device=x.device)  # real balls around each generated item
    inside, covered = torch.zeros(2, len(x), dtype=torch.bool, device=x.device)
    for rows, columns, squared in squared_distances(x, y):
        in_real = squared <= real_radius[rows, None]
        around[columns] += in_real.sum(0)
        covered[rows] |= in_real.any(1)
        inside[rows] |= (squared <= generated_radius[columns]).any(1)

    def measured(metric: str, items: Features, values: Tensor, **counts: int) -> Measurement:
        made: dict[str, Setting] = {**settings, "k": k, **counts}
        return Measurement.mean(Passport(metric, made), items.ids, values.double().cpu().numpy())

    n, m = len(real), len(generated)
    return Manifold(
        precision=measured("precision", generated, around > 0, real=n),
        recall=measured("recall", real, inside, generated=m),
        density=measured("density", generated, around / k, real=n),
        coverage=measured("coverage", real, covered, real=n, generated=m),
    )


def expected_coverage(n: int, m: int, k: int) -> float:
    """The coverage of n real by m generated items of the same continuous distribution (Naeem et al. 2020, lemma 2).

    >>> round(expected_coverage(10_000, 10_000, 5), 4)
    0.9688
    """
    missed = 1.0
    for i in range(k):
        missed *= (n - 1 - i) / (n + m - 1 - i)
    return 1 - missed


def squared_distances(x: Tensor, y: Tensor, *, upper: bool = False) -> Iterator[tuple[slice, slice, Tensor]]:
    """Squared Euclidean distances between the rows of x [n, d] and y [m, d]: (rows of x, rows of y, tile), in float64.

    What is below the rounding of the product is 0, so that equal rows are at distance 0. With `upper`, only the tiles on and
    above the diagonal, which are all there is to know of the distances within one set.
    """
    d = x.shape[1]
    for top in range(0, len(x), _TILE):
        a = x[top : top + _TILE].double()
        for left in range(top if upper else 0, len(y), _TILE):
            b = y[left : left + _TILE].double()
            lengths = a.square().sum(1)[:, None] + b.square().sum(1)
            tile = torch.addmm(lengths, a, b.T, alpha=-2)
            tile.masked_fill_(tile <= lengths.mul_(4 * d * torch.finfo(torch.float64).eps), 0.0)
            yield slice(top, top + len(a)), slice(left, left + len(b)), tile


def nearest(x: Tensor, y: Tensor, k: int, *, others: bool = False) -> tuple[Tensor, Tensor]:
    """Distances and row numbers [n, k] of the k rows of y [m, d] nearest to each row of x [n, d], the nearest first.

    With `others`, x and y are the same items, and none is its own neighbour.
    """
    squared, numbers = _nearest(x, y, k, others)
    return squared.sqrt(), numbers


def _nearest(x: Tensor, y: Tensor, k: int, others: bool) -> tuple[Tensor, Tensor]:
    best = torch.full((len(x), k), torch.inf, dtype=torch.float64, device=x.device)
    numbers = torch.zeros(len(x), k, dtype=torch.long, device=x.device)

    def update(rows: slice, columns: slice, tile: Tensor) -> None:
        names = torch.arange(columns.start, columns.stop, device=x.device).expand_as(tile)
        best[rows], at = torch.cat((best[rows], tile), 1).topk(k, largest=False)
        numbers[rows] = torch.cat((numbers[rows], names), 1).gather(1, at)

    for rows, columns, tile in squared_distances(x, y, upper=others):
        if others and rows == columns:
            tile.fill_diagonal_(torch.inf)
        update(rows, columns, tile)
        if others and rows != columns:
            update(columns, rows, tile.T)
    return best, numbers
