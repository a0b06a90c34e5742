"""The evidence lower bound, term by term and in closed form, in nats summed over the elements of a sample.

-log p(x₀) ≤ prior + Σ steps + reconstruction (Ho et al. 2020, arXiv:2006.11239, eq. 5;
Kingma et al. 2021, arXiv:2107.00630, eq. 11).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tectum.diffusion.marginals import posterior
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import Scalar, placed, spread


def prior_kl(x0: Tensor, at: Point, data_std: float = 1.0) -> Tensor:
    """KL(q(x_T | x₀) ‖ N(0, σ² + α² data_std²)), [n]: what sampling loses by starting from pure noise.

    >>> from tectum.diffusion.schedules import flow
    >>> prior_kl(torch.ones(1, 3), flow().at(1.0))
    tensor([0.])
    """
    alpha, sigma = spread(at.alpha, x0), spread(at.sigma, x0)
    return _gaussian_kl(alpha * x0, sigma**2, sigma**2 + alpha**2 * data_std**2)


def step_kl(x0: Tensor, estimate: Tensor, here: Point, there: Point, variance: Tensor | Scalar | None = None) -> Tensor:
    """KL(q(x_there | x_here, x₀) ‖ p(x_there | x_here)), [n], for a model whose mean is the posterior's at its estimate of x₀.

    With the posterior's own variance it is ½ (SNR(there) - SNR(here)) ‖x₀ - estimate‖² (Kingma et al. 2021, eq. 13-14).

    Args:
        x0: the data, [n, …].
        estimate: what the denoiser says at `here`, [n, …].
        here: the noisier point.
        there: the other; its σ must be above 0, the last step being the reconstruction.
        variance: of the model, that of the posterior if left out; a tensor [n, …] if it is learned.

    >>> from tectum.diffusion.schedules import edm
    >>> step_kl(torch.ones(1, 2), torch.zeros(1, 2), edm().at(2.0), edm().at(1.0))  # ½ (1 - ¼) · 2
    tensor([0.7500])
    """
    kernel = posterior(here, there)
    own = spread(kernel.std**2, x0)
    return _gaussian_kl(spread(kernel.on_x0, x0) * (x0 - estimate), own, own if variance is None else variance)


def discrete_log_prob(x0: Tensor, mean: Tensor, std: Tensor | Scalar, levels: int = 256) -> Tensor:
    """log P(x₀) of values at `levels` equal steps from -1 to 1 under N(mean, std²) gathered into bins, [n].

    The outer bins reach to infinity, so that the probabilities sum to one (Ho et al. 2020, eq. 13). The reconstruction term
    is minus this, with what the denoiser says at the least noise as the mean.

    >>> grid = torch.linspace(-1, 1, 4)[:, None]
    >>> discrete_log_prob(grid, torch.zeros(4, 1), 0.5, levels=4).exp().sum()
    tensor(1.)
    """
    half = 1 / (levels - 1)
    spreading = spread(std, x0) if not isinstance(std, Tensor) or std.ndim < x0.ndim else std
    upper = torch.where(x0 > 1 - half, math.inf, (x0 + half - mean) / spreading)
    lower = torch.where(x0 < half - 1, -math.inf, (x0 - half - mean) / spreading)
    # Beyond the mean, the mirrored bin is taken: far out on the right all probabilities are 1, and their difference is lost.
    mirrored = lower > 0
    upper, lower = torch.where(mirrored, -lower, upper), torch.where(mirrored, -upper, lower)
    high, low = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    return (high + (-(low - high).exp()).log1p()).flatten(1).sum(1)


def bits_per_dim(nats: Tensor, x: Tensor, levels: int = 256) -> Tensor:
    """Negative log-densities in nats of samples x [n, …] scaled to -1 … 1, as bits for each of their elements at `levels` values.

    For probabilities of discrete values (`discrete_log_prob` in the bound) take levels = 2: nothing is left to discretise.

    >>> bits_per_dim(torch.tensor([2 * math.log(2.0)]), torch.zeros(1, 2), levels=2)
    tensor([1.])
    """
    return nats / (math.log(2) * x[0].numel()) + math.log2(levels / 2)


def _gaussian_kl(shift: Tensor, own: Tensor | Scalar, model: Tensor | Scalar) -> Tensor:
    """KL(N(a, own) ‖ N(a + shift, model)), elementwise, summed."""
    ratio = placed(own / model, shift)
    return (ratio - 1 - ratio.log() + shift**2 / model).flatten(1).sum(1) / 2
