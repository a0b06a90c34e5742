"""Which pairs to believe when some do not belong together, by their losses or by a model that is trained already.

What comes out goes into `Targets.confidence`: a doubtful pair attracts less, and its two halves stay negatives for the others.
Or it chooses what a data set keeps. A network fits what is right before what is wrong (Arpit et al. 2017, arXiv:1706.05394), so
that for a while, after the first epochs, a large loss is a sign of a wrong pair.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

SHARPEST = 1e-3
"""Least standard deviation of a component, as a share of that of all values: a component cannot close on a single value."""


class Mixture(NamedTuple):
    """Two Gaussians on a line, the lower one first; weights, means and standard deviations [2], float64."""

    weights: Tensor
    means: Tensor
    stds: Tensor

    def posterior(self, values: Tensor) -> Tensor:
        """Probability [n], float64, that values [n] come from the lower component; it never rises with the value.

        Of two unequal widths the wider component wins at both ends, and the lowest losses of all would count as wrong: beyond
        the value where Bayes' rule turns around, its answer at that value holds.
        """
        values = values.detach().double()
        precision = self.stds**-2
        bend = precision[0] - precision[1]
        if bend != 0:  # the log-odds are a parabola; its summit lies below both means, or its foot above them
            turn = ((self.means * precision)[0] - (self.means * precision)[1]) / bend
            values = values.clamp(min=turn) if bend > 0 else values.clamp(max=turn)
        return self._joint(values).softmax(1)[:, 0]

    def _joint(self, values: Tensor) -> Tensor:
        """Log-density of each value together with each component, up to a constant [n, 2]."""
        return self.weights.log() - self.stds.log() - ((values[:, None] - self.means) / self.stds).square() / 2


def fit_mixture(values: Tensor, *, rounds: int = 200) -> Mixture:
    """A mixture of two Gaussians that makes values [n] likely, by expectation-maximisation (Dempster et al. 1977).

    It climbs from a cut at the mean, where neither component is empty, to the nearest summit of the likelihood.

    Args:
        values: a number of each pair.
        rounds: at most; it ends when no value changes sides any more by as much as 10⁻⁶.

    Raises:
        ValueError: if there are fewer than four values, one is not finite, or all are equal.

    >>> values = torch.cat((torch.linspace(-1, 1, 60), torch.linspace(9, 11, 40)))
    >>> mixture = fit_mixture(values)
    >>> mixture.weights.tolist(), mixture.means.round().tolist()
    ([0.6..., 0.4...], [..., 10.0])
    """
    x = values.detach().double()
    if x.ndim != 1 or len(x) < 4 or not bool(x.isfinite().all()) or not bool(x.std() > 0):
        raise ValueError("two components are fitted to a row of four or more finite values that are not all equal")
    least = SHARPEST * x.std()
    share = torch.stack((x <= x.mean(), x > x.mean()), 1).double()
    for _ in range(rounds):
        mass = share.sum(0).clamp(min=1e-9)
        means = (share * x[:, None]).sum(0) / mass
        stds = ((share * (x[:, None] - means).square()).sum(0) / mass).sqrt().clamp(min=least)
        mixture = Mixture(mass / len(x), means, stds)
        before, share = share, mixture._joint(x).softmax(1)
        if (share - before).abs().max() < 1e-6:
            break
    order = mixture.means.argsort()
    return Mixture(*(parameter[order] for parameter in mixture))


def mixture_posterior(losses: Tensor) -> Tensor:
    """Probability [n] that each pair is a right one, from the losses [n] of all pairs (DivideMix, arXiv:2002.07394).

    It never rises with the loss. Give the losses of many pairs, all by the same weights: `pair_losses` over the data set. Raises
    as `fit_mixture`.
    """
    return fit_mixture(losses).posterior(losses).to(losses.dtype)


@torch.no_grad()
def pair_losses(a: Tensor, b: Tensor, scale: Tensor | float, *, ids: Tensor | None = None, rows: int = 1024) -> Tensor:
    """The loss [n] of each pair, whose mean is `info_nce(a, b, scale).loss`, in single precision or better, without gradients.

    Args:
        a: unit vectors [n, d].
        b: their partners [n, d].
        scale: inverse temperature s > 0.
        ids: of the pairs [n]. Pairs with equal ids, such as copies of a caption, are no negatives of each other; all are when
            left out.
        rows: at most `rows` · n logits exist at any one time.

    Raises:
        ValueError: if the shapes do not fit.

    >>> eye = torch.eye(3)
    >>> pair_losses(eye, eye[[0, 2, 1]], 2.0)
    tensor([0.2395, 2.2395, 2.2395])
    """
    if a.ndim != 2 or a.shape != b.shape or (ids is not None and ids.shape != a.shape[:1]):
        raise ValueError(f"vectors {tuple(a.shape)} and {tuple(b.shape)} are no pairs: give both as [n, d], and ids as [n]")
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    a, b = a.to(dtype), b.to(dtype)
    by_row, by_column = a.new_empty(len(a)), a.new_full((len(b),), -math.inf)
    with torch.autocast(a.device.type, enabled=False):
        for start in range(0, len(a), rows):
            logits = scale * a[start : start + rows] @ b.T
            if ids is not None:
                same = ids[start : start + rows, None] == ids
                same.diagonal(start).fill_(False)
                logits = logits.masked_fill(same, -math.inf)
            by_row[start : start + rows] = logits.logsumexp(1)
            by_column = torch.logaddexp(by_column, logits.logsumexp(0))
    return (by_row + by_column) / 2 - scale * pair_cosines(a, b)


def pair_cosines(a: Tensor, b: Tensor) -> Tensor:
    """The cosine [n] of each pair of unit vectors a, b [n, d]: the CLIP score, where a trained CLIP made them.

    >>> pair_cosines(torch.eye(2), torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    tensor([0.6000, 1.0000])
    """
    return (a * b).sum(-1)


def keep_best(scores: Tensor, share: float) -> Tensor:
    """Which [n] are the best `share` of all by their scores [n]; of equal ones the earlier. At least one is kept.

    With the cosines of a trained model this is the filter by CLIP score of DataComp (arXiv:2304.14108, §4.1), whose best share
    is 0.3 of a pool from the web.

    Raises:
        ValueError: if the share is not in 0 … 1 or a score is NaN.

    >>> keep_best(torch.tensor([0.1, 0.9, 0.5, 0.5]), 0.5)
    tensor([False,  True,  True, False])
    """
    if not 0 <= share <= 1 or bool(scores.isnan().any()):
        raise ValueError(f"the best {share} of the scores are asked for: give a share in 0 … 1, and scores that are numbers")
    kept = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    count = min(len(scores), max(1, round(share * len(scores))))
    kept[scores.argsort(descending=True, stable=True)[:count]] = True
    return kept


def forget_rate(step: int, *, noise: float, ramp: int) -> float:
    """The share of pairs that co-teaching leaves out at a step (from 0): from 0 up to `noise` over `ramp` steps, then level.

    >>> [forget_rate(step, noise=0.4, ramp=100) for step in (0, 50, 300)]
    [0.0, 0.2, 0.4]
    """
    return noise * min(step / max(ramp, 1), 1.0)


def co_teach(first: Tensor, second: Tensor, forget: float) -> tuple[Tensor, Tensor]:
    """Which pairs [n] of a batch the first and the second model learn from: those that are easy for the *other* one.

    Co-teaching (Han et al. 2018, arXiv:1804.06872, algorithm 1): two models that start from other weights err in other ways, so
    that the errors of one are not fed back to itself.

    Args:
        first: losses [n] of the first model, and
        second: of the second, for the same pairs.
        forget: share to leave out, see `forget_rate`.

    >>> co_teach(torch.tensor([0.1, 5.0]), torch.tensor([5.0, 0.1]), 0.5)
    (tensor([False,  True]), tensor([ True, False]))
    """
    return keep_best(-second, 1 - forget), keep_best(-first, 1 - forget)
