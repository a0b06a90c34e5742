"""One learned inverse temperature for each pair of modalities, with its limit as part of the optimizer step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

MAX_SCALE = 100.0


class Temperatures(nn.ParameterDict):
    """The logarithms of the inverse temperatures of pairs of modalities (CLIP, arXiv:2103.00020, §2.5), by "a-b" in order.

    A clamp in the forward pass would stop the gradient of whatever stands above it, for good. Here the parameter itself is put
    back between 0 and log `limit` after each step of the optimizer (a projected gradient step): `tectum.train` calls `project_`.

    Args:
        pairs: of modalities, in any order.
        start: what the scales start from.
        limit: the largest scale; `math.inf` for none.

    >>> temperatures = Temperatures([("text", "image")], start=200.0)
    >>> temperatures.project_()
    >>> list(temperatures), round(temperatures.scale("image", "text").item(), 3)
    (['image-text'], 100.0)
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], *, start: float = 1 / 0.07, limit: float = MAX_SCALE) -> None:
        super().__init__({key(a, b): nn.Parameter(torch.tensor(math.log(start))) for a, b in pairs})
        self.limit = limit

    def scale(self, a: str, b: str) -> Tensor:
        """The inverse temperature of a pair, at most `limit`; its gradient is that of the exponential everywhere."""
        scale = self[key(a, b)].exp()
        # Weights from elsewhere may stand above the limit before the first projection: then only the value is cut.
        return scale - scale.detach() + scale.detach().clamp(max=self.limit)

    @torch.no_grad()
    def project_(self) -> None:
        """Put every scale back within 1 … `limit`."""
        for log_scale in self.values():
            log_scale.clamp_(0, math.log(self.limit))


def key(a: str, b: str) -> str:
    """The name of a pair of modalities.

    >>> key("text", "image")
    'image-text'
    """
    return "-".join(sorted((a, b)))
