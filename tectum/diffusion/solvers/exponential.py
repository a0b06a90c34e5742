"""The exponential integrator that all higher-order solvers in λ are made of.

With D(x, λ) the denoiser, the probability-flow equation has the solution (Lu et al. 2022, DPM-Solver++, arXiv:2211.01095,
eq. 8)

    x_t = σ_t/σ_s x_s + α_t ∫ e^{-(λ_t - λ)} D dλ   from λ_s to λ_t,

in which all but D is exact. Here D is replaced by the polynomial in λ through the evaluations given, and that is
integrated exactly. The stochastic equation has (1+η)λ for λ in the exponent, σ_t/σ_s e^{-ηh} before x_s, and noise of
standard deviation σ_t √(1 - e^{-2ηh}).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from tectum.diffusion.process import Point
from tectum.diffusion.scalars import Scalar, combine, divide, exp, finite, sqrt, where
from tectum.diffusion.solvers.state import Seen

Rule = Literal["exact", "bh1", "bh2", "published"]
"""How the polynomial is integrated: "exact", or as others have it.

With two evaluations they take h²/2 ("bh1") or h (1 - e^{-h})/2 ("bh2", also called midpoint) for the integral of the
slope, which is of the same order. With three they take half the integral of the curvature ("published", which is "bh2" with
two), and that loses one."""


def advance(
    x: Tensor,
    here: Point,
    there: Point,
    seen: Sequence[Seen],
    *,
    eta: float = 0.0,
    rule: Rule = "exact",
    noise: Tensor | None = None,
) -> Tensor:
    """x at `there` from x at `here` and up to four evaluations, of which the first was made at `here`.

    Where the step has no end in λ (to the data, or from pure noise) or no length, the first evaluation alone is used.

    >>> import torch
    >>> from tectum.diffusion.schedules import edm
    >>> here, there = edm().at(1.0), edm().at(0.5)
    >>> advance(torch.ones(1), here, there, [Seen(here, torch.zeros(1), torch.ones(1))])
    tensor([0.5000])
    """
    kept, weights = coefficients(here, there, [one.at for one in seen], eta, rule)
    terms = [(kept, x), *((weight, one.x0) for weight, one in zip(weights, seen, strict=True))]
    if noise is not None:
        terms.append((noise_std(here, there, eta), noise))
    return combine(*terms)


def coefficients(
    here: Point, there: Point, nodes: Sequence[Point], eta: float = 0.0, rule: Rule = "exact"
) -> tuple[Scalar, list[Scalar]]:
    """What x is multiplied with, and each of the evaluations."""
    kept = where(here.sigma == 0, 1.0, divide(there.sigma, here.sigma))
    if eta:
        kept = kept * (kept * divide(here.alpha, there.alpha)) ** eta
    first = there.alpha - kept * here.alpha
    if len(nodes) == 1:
        return kept, [first]
    speed = 1 + eta
    h = speed * (there.lam - here.lam)
    usable = finite(h) & (h != 0)
    h = where(usable, h, 1.0)
    # Places of the other evaluations, the newest first. One at pure noise is infinitely far, and its weight 0.
    places = [where(usable, speed * (node.lam - here.lam), -float(i)) for i, node in enumerate(nodes[1:], start=1)]
    moments = _moments(h, len(nodes))
    weights: list[Scalar] = [first, *[0.0] * len(places)]
    for order, integral in enumerate(_newton(moments, places, h, rule), start=1):
        shared = where(usable, there.alpha * integral, 0.0)
        for i in range(order + 1):
            weights[i] = weights[i] + divide(shared, _product(i, order, [0.0, *places]))
    return kept, weights


def noise_std(here: Point, there: Point, eta: float) -> Scalar:
    """σ_t √(1 - e^{-2ηh})."""
    ratio = where(here.sigma == 0, 1.0, divide(there.sigma, here.sigma)) * divide(here.alpha, there.alpha)
    return there.sigma * sqrt(1 - ratio ** (2 * eta))


def _moments(h: Scalar, count: int) -> list[Scalar]:
    """∫₀ʰ e^{-(h-τ)} τᵏ dτ for k = 0, 1, …: h^k - k times the one before."""
    moments: list[Scalar] = [1 - exp(-h)]
    for k in range(1, count):
        moments.append(h**k - k * moments[-1])
    return moments


def _newton(m: list[Scalar], places: list[Scalar], h: Scalar, rule: Rule) -> list[Scalar]:
    """∫ e^{-(h-τ)} τ (τ - p₁) … (τ - p_{k-1}) dτ for k = 1, 2, …: what Newton's divided differences are multiplied with."""
    integrals = [m[1]]
    if len(places) == 1 and rule != "exact":
        integrals = [h**2 / 2 if rule == "bh1" else m[0] * h / 2]
    if len(places) > 1:
        integrals.append((m[2] / 2 if rule == "published" else m[2]) - places[0] * m[1])
    if len(places) > 2:
        integrals.append(m[3] - (places[0] + places[1]) * m[2] + places[0] * places[1] * m[1])
    return integrals


def _product(i: int, order: int, places: list[Scalar]) -> Scalar:
    """Π (p_i - p_j) over the other j ≤ order."""
    product: Scalar = 1.0
    for j in range(order + 1):
        if j != i:
            product = product * (places[i] - places[j])
    return product
