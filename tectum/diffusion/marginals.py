"""The Gaussians of the process in closed form: q(x_t | x₀), q(x_t | x_s), q(x_s | x_t, x₀), for any two points in any frame."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from tectum.diffusion.process import Point
from tectum.diffusion.scalars import Scalar, combine, divide, sqrt, where


class Kernel(NamedTuple):
    """N(on_x x + on_x0 x₀, std²)."""

    on_x: Scalar
    on_x0: Scalar
    std: Scalar


def forward(x0: Tensor, noise: Tensor, at: Point) -> Tensor:
    """x_t = α x₀ + σ ε, [n, …]: α is √ᾱ_t of DDPM, the whole product (Ho et al. 2020, arXiv:2006.11239, eq. 4), not √α_t.

    >>> import torch
    >>> from tectum.diffusion.schedules import flow
    >>> forward(torch.tensor([[4.0]]), torch.tensor([[8.0]]), flow().at(0.75))
    tensor([[7.]])
    """
    return combine((at.alpha, x0), (at.sigma, noise))


def pure_noise(noise: Tensor, at: Point, data_std: float = 0.0) -> Tensor:
    """Where to start sampling: noise ε of unit variance, scaled to what x has there, √(σ² + α² data_std²).

    In the frame vp with data_std = 1 that is ε itself, as most samplers have it. Unless α = 0 there, it forgets the mean α
    E[x₀].
    """
    return combine((sqrt(at.sigma**2 + at.alpha**2 * data_std**2), noise))


def transition(here: Point, there: Point) -> Kernel:
    """q(x_there | x_here) of the forward process, from less noise to more.

    >>> from tectum.diffusion.schedules import edm
    >>> transition(edm().at(0.0), edm().at(4.0))
    Kernel(on_x=1.0, on_x0=0.0, std=4.0)
    """
    on_x = divide(there.alpha, here.alpha)
    return Kernel(on_x, 0.0, sqrt(there.sigma**2 - (on_x * here.sigma) ** 2))


def posterior(here: Point, there: Point, eta: Scalar = 1.0) -> Kernel:
    """q_η(x_there | x_here, x₀), from more noise to less, however far apart.

    η = 1 is the true posterior of the process (Ho et al. 2020, arXiv:2006.11239, eq. 7, for neighbours; Kingma et al. 2021,
    arXiv:2107.00630, eq. 25, for any two). Other η give other families with the same marginals (Song et al. 2020, DDIM,
    arXiv:2010.02502, eq. 7 and 16): 0 adds no noise. From a point to itself it does nothing.

    >>> from tectum.diffusion.schedules import edm
    >>> posterior(edm().at(2.0), edm().at(1.0))
    Kernel(on_x=0.25, on_x0=0.75, std=0.8660254037844386)
    """
    ratio = where(here.sigma == 0, 1.0, divide(there.sigma, here.sigma))
    if not isinstance(eta, Tensor) and eta == 0:
        return Kernel(ratio, there.alpha - ratio * here.alpha, 0.0)
    lost = 1 - (ratio * divide(here.alpha, there.alpha)) ** 2  # 1 - e^(-2h), h = λ_there - λ_here
    on_x = ratio * sqrt(1 - eta**2 * lost)
    return Kernel(on_x, there.alpha - on_x * here.alpha, there.sigma * eta * sqrt(lost))
