"""How an autoencoder is trained: reconstruction, perceptual distance, KL, and an adversary (Esser et al. 2021, arXiv:2012.09841;
Rombach et al. 2022, arXiv:2112.10752, appendix G)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.errors import ConfigError
from tectum.nn.autoencoder import Autoencoder
from tectum.nn.grid import CONVOLUTIONS

FeatureNet = Callable[[Tensor], Sequence[Tensor]]
"""Grids [n, c, …] to feature maps [n, c', …] of several layers: any network will do that has learned what things look like."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencodingWeights:
    """What counts how much.

    perceptual: of `perceptual_distance`, beside 1 for the mean absolute error.
    kl: of the KL of a code from N(0, 1), in nats for each number of the grid. Small: it keeps the codes from growing without
        bound, while a denoiser learns how they are distributed.
    adversarial: of the adversary, times the ratio of gradients that `adaptive_weight` finds.

    Raises ConfigError if one is negative.
    """

    perceptual: float = 1.0
    kl: float = 1e-6
    adversarial: float = 0.0

    def __post_init__(self) -> None:
        if min(self.perceptual, self.kl, self.adversarial) < 0:
            raise ConfigError(f"the weights of an autoencoder's loss are 0 or more, not {self}")


def perceptual_distance(features: FeatureNet, a: Tensor, b: Tensor) -> Tensor:
    """How unlike two batches of grids [n, c, …] look to a network, [n]: LPIPS without learned weights (arXiv:1801.03924, eq. 1).

    Each feature map is scaled to unit length along its channels; squared differences are summed over channels, averaged over
    places, and over layers.

    >>> perceptual_distance(lambda x: [x], torch.ones(2, 3, 4, 4), 5 * torch.ones(2, 3, 4, 4))
    tensor([0., 0.])
    """
    distances = [
        (F.normalize(left, dim=1) - F.normalize(right, dim=1)).square().sum(1).flatten(1).mean(1)
        for left, right in zip(features(a), features(b), strict=True)
    ]
    return torch.stack(distances).mean(0)


class PatchAdversary(nn.Module):
    """Tells real grids from made ones, patch by patch (Isola et al. 2017, arXiv:1611.07004): [n, c, …] to logits [n, 1, …].

    Group norms where the original has batch norms, so that a verdict does not depend on the batch.

    >>> PatchAdversary(3, width=8, levels=2)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 1, 6, 6])
    """

    def __init__(self, channels: int, *, width: int = 64, levels: int = 3, dims: int = 2) -> None:
        super().__init__()
        conv = CONVOLUTIONS[dims]
        layers: list[nn.Module] = [conv(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for level in range(1, levels + 1):
            before, after = (width * min(2**k, 8) for k in (level - 1, level))
            layers += [
                conv(before, after, 4, stride=2 if level < levels else 1, padding=1, bias=False),
                nn.GroupNorm(1, after),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, conv(after, 1, 4, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, …] to logits [n, 1, …]: above zero for real."""
        return self.layers(x)


def hinge_loss(real: Tensor, made: Tensor) -> Tensor:
    """The adversary's: mean of max(0, 1 - real) and max(0, 1 + made) (Lim & Ye 2017, arXiv:1705.02894).

    >>> hinge_loss(torch.tensor([2.0]), torch.tensor([0.0]))
    tensor(0.5000)
    """
    return (F.relu(1 - real).mean() + F.relu(1 + made).mean()) / 2


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """|∇ reconstruction| / |∇ adversarial| at the decoder's last layer, at most 10⁴ (arXiv:2012.09841, eq. 7).

    So neither outweighs the other, whatever their units.
    """
    (first,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
    (second,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    return (first.norm() / (second.norm() + 1e-4)).clamp(max=1e4).detach()


def autoencoding_loss(
    autoencoder: Autoencoder,
    grids: Tensor,
    noise: Tensor,
    weights: AutoencodingWeights,
    *,
    features: FeatureNet | None = None,
    adversary: nn.Module | None = None,
) -> tuple[Tensor, dict[str, float | Tensor]]:
    """One scalar from which the autoencoder and its adversary both learn, and its parts to log.

    The adversary's verdict on what was made teaches the autoencoder through weights that get no gradient from it; its own loss
    sees what was made without a way back. So one optimizer serves both.

    Args:
        autoencoder: what is trained.
        grids: [n, c, …], pictures in -1 … 1.
        noise: unit normal, the shape of the code [n, latents, …].
        weights: what counts how much.
        features: for the perceptual distance; needed if it has a weight.
        adversary: such as `PatchAdversary`; needed if it has a weight.

    Raises:
        ConfigError: if something with a weight is not given.
    """
    if weights.perceptual and features is None:
        raise ConfigError("a perceptual distance needs features: give a network, or perceptual=0")
    if weights.adversarial and adversary is None:
        raise ConfigError("an adversarial loss needs an adversary: give one, or adversarial=0")
    code = autoencoder.encode(grids)
    made = autoencoder.decode(code.sample(noise)).float()
    error = (made - grids).abs().mean()
    kl = code.kl().mean() / grids[0].numel()
    stats: dict[str, float | Tensor] = {"error": error.detach(), "kl": kl.detach()}
    total = error
    if features is not None and weights.perceptual:
        distance = perceptual_distance(features, made, grids).mean()
        stats["perceptual"] = distance.detach()
        total = total + weights.perceptual * distance
    if adversary is not None and weights.adversarial:
        locked = {name: parameter.detach() for name, parameter in adversary.named_parameters()}
        fooled = -torch.func.functional_call(adversary, locked, made).float().mean()
        factor = adaptive_weight(total, fooled, autoencoder.decoder.conv_out.weight)
        verdict = hinge_loss(adversary(grids).float(), adversary(made.detach()).float())
        stats |= {"adversary": verdict.detach(), "adversarial weight": factor}
        total = total + weights.adversarial * factor * fooled + verdict
    return total + weights.kl * kl, stats
