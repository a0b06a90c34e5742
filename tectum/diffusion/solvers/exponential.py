"""The exponential integrator that all higher-order solvers in λ are made of.

With D(x, λ) the denoiser, the probability-flow equation has the solution (Lu et al. 2022, DPM-Solver++, arXiv:2211.01095,
eq. 8)

    x_t = σ_t/σ_s x_s + α_t ∫ e^{-(λ_t - λ)} D dλ   from λ_s to λ_t,

in which all but D is exact. Here D is replaced by the polynomial in λ through the evaluations given, and that is
integrated exactly. The stochastic equation has (1+η)λ for λ in the exponent, σ_t/σ_s e^{-ηh} before x_s, and noise of
standard deviation σ_t √(1 - e^{-2ηh}).

The same with ε for D is DPM-Solver (Lu et al. 2022, arXiv:2206.00927, prop. 3.1),

    x_t = α_t/α_s x_s - α_t ∫ e^{-λ} ε dλ   from λ_s to λ_t,

which is the equation above with signal and noise exchanged: α for σ and -λ for λ. So no coefficient is made twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from tectum.diffusion.process import Point
from tectum.diffusion.scalars import Scalar, combine, divide, exp, finite, sqrt, where
from tectum.diffusion.solvers.state import Seen, surely, taken

Rule = Literal["exact", "bh1", "bh2", "published"]
"""How the polynomial is integrated: "exact", or as others have it.

With two evaluations they take h²/2 ("bh1") or h (1 - e^{-h})/2 ("bh2", also called midpoint) for the integral of the
slope, which is of the same order. With three they take half the integral of the curvature ("published", which is "bh2" with
two), and that loses one."""
Of = Literal["x0", "epsilon"]
"""What the polynomial goes through. That of x₀ is the better one where guidance is strong; that of ε has no end at the data, and
no start in pure noise."""


def advance(
    x: Tensor,
    here: Point,
    there: Point,
    seen: Sequence[Seen],
    *,
    eta: float = 0.0,
    rule: Rule = "exact",
    of: Of = "x0",
    noise: Tensor | None = None,
) -> Tensor:
    """x at `there` from x at `here` and up to four evaluations, of which the first was made at `here`.

    Where the step has no end in λ (to the data, or from pure noise) or no length, the first evaluation alone is used.

    Raises:
        ValueError: if it is of ε and starts from pure noise.

    >>> import torch
    >>> from tectum.diffusion.schedules import edm
    >>> here, there = edm().at(1.0), edm().at(0.5)
    >>> advance(torch.ones(1), here, there, [Seen(here, torch.zeros(1), torch.ones(1))])
    tensor([0.5000])
    """
    if of == "epsilon":
        terms = _terms_of_noise(x, here, there, seen, eta, rule)
    else:
        kept, weights = coefficients(here, there, [one.at for one in seen], eta, rule)
        terms = []
        for weight, one in zip(weights, seen, strict=True):
            own, share = taken(weight, one)
            terms.append((share, one.said))
            if one.x is x:
                kept = kept + own
            elif one.mix is not None:
                terms.append((own, one.x))
        terms.insert(0, (kept, x))
    if noise is not None:
        terms.append((noise_std(here, there, eta, of), noise))
    return combine(*terms)


def _terms_of_noise(
    x: Tensor, here: Point, there: Point, seen: Sequence[Seen], eta: float, rule: Rule
) -> list[tuple[Scalar, Tensor]]:
    """Of the polynomial through ε = (x - α x₀)/σ, without ever making an ε."""
    if surely(here.alpha == 0):
        raise ValueError("a solver of ε cannot start where there is no signal: leave that end of the grid out, or take one of x₀")
    kept, weights = coefficients(_mirror(here), _mirror(there), [_mirror(one.at) for one in seen], rule=rule)
    # The stochastic equation has (1+η) times the drift of ε; the last step, to the data, has no noise to make up for it.
    drift = where(there.sigma == 0, 1.0, 1 + eta)
    terms = [(kept, x)]
    for weight, one in zip(weights, seen, strict=True):
        share = divide(drift * weight, where(one.at.sigma == 0, 1.0, one.at.sigma))
        own, on_said = taken(-share * one.at.alpha, one)
        terms += [(share + own, one.x), (on_said, one.said)]
    return terms


def _mirror(at: Point) -> Point:
    return Point(at.time, at.sigma, at.alpha)


def coefficients(
    here: Point, there: Point, nodes: Sequence[Point], eta: float = 0.0, rule: Rule = "exact"
) -> tuple[Scalar, list[Scalar]]:
    """What x is multiplied with, and each of the evaluations."""
    kept = where(here.sigma == 0, 1.0, divide(there.sigma, here.sigma))
    if eta:
        kept = kept * (kept * _signal(here, there)) ** eta
    first = there.alpha - kept * here.alpha
    if len(nodes) == 1:
        return kept, [first]
    speed = 1 + eta
    h = speed * (there.lam - here.lam)
    usable = finite(h) & (h != 0)
    h = where(usable, h, 1.0)
    # Places of the other evaluations, the newest first. One at pure noise is infinitely far, and its weight 0.
    places = [where(usable, speed * (node.lam - here.lam), -float(i)) for i, node in enumerate(nodes[1:], start=1)]
    integrals = [where(usable, there.alpha * integral, 0.0) for integral in newton(_moments(h, len(nodes)), places, h, rule)]
    return kept, through(first, integrals, places)


def through(first: Scalar, integrals: Sequence[Scalar], places: Sequence[Scalar]) -> list[Scalar]:
    """Weights of values at 0 and at the places, from the integrals that their divided differences are multiplied with."""
    weights: list[Scalar] = [first]
    nodes: list[Scalar] = [0.0]
    products: list[Scalar] = [1.0]  # for each node Π (p_i - p_j) over the others so far
    for integral, place in zip(integrals, places, strict=True):
        own: Scalar = 1.0
        for i, node in enumerate(nodes):
            own = own * (place - node)
            products[i] = products[i] * (node - place)
            weights[i] = weights[i] + divide(integral, products[i])
        nodes.append(place)
        products.append(own)
        weights.append(divide(integral, own))
    return weights


def noise_std(here: Point, there: Point, eta: float, of: Of = "x0") -> Scalar:
    """σ_t √(1 - e^{-2ηh}); of ε σ_t √(η (e^{2h} - 1)), but 0 at the data."""
    if of == "epsilon":
        gain = (there.alpha * divide(here.sigma, here.alpha)) ** 2 - there.sigma**2
        return where(there.sigma == 0, 0.0, sqrt(eta * gain))
    ratio = where(here.sigma == 0, 1.0, divide(there.sigma, here.sigma)) * _signal(here, there)
    return there.sigma * sqrt(1 - ratio ** (2 * eta))


def _signal(here: Point, there: Point) -> Scalar:
    """α_s/α_t; 1 for a step that stays in pure noise."""
    return where(there.alpha == 0, 1.0, divide(here.alpha, there.alpha))


def _moments(h: Scalar, count: int) -> list[Scalar]:
    """∫₀ʰ e^{-(h-τ)} τᵏ dτ for k = 0, 1, …: h^k - k times the one before."""
    moments: list[Scalar] = [1 - exp(-h)]
    for k in range(1, count):
        moments.append(h**k - k * moments[-1])
    return moments


def newton(m: list[Scalar], places: list[Scalar], h: Scalar, rule: Rule = "exact") -> list[Scalar]:
    """∫ w(τ) τ (τ - p₁) … (τ - p_{k-1}) dτ for k = 1, 2, …, from m_k = ∫ w(τ) τᵏ dτ; the rules are for w = e^{-(h-τ)}.

    It is what Newton's divided differences are multiplied with.
    """
    integrals = [m[1]] if places else []
    if len(places) == 1 and rule != "exact":
        integrals = [h**2 / 2 if rule == "bh1" else m[0] * h / 2]
    if len(places) > 1:
        integrals.append((m[2] / 2 if rule == "published" else m[2]) - places[0] * m[1])
    if len(places) > 2:
        integrals.append(m[3] - (places[0] + places[1]) * m[2] + places[0] * places[1] * m[1])
    return integrals
