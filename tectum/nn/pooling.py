"""From a sequence of tokens to one vector."""

import torch
from torch import Tensor, nn

from tectum.nn.attention import Attention


def mean_pool(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean token [n, w] of [n, s, w], over the tokens where `mask` [n, s] is True.

    >>> mean_pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
    tensor([[2.]])
    """
    if mask is None:
        return x.mean(1)
    kept = mask.unsqueeze(-1).to(x.dtype)
    return (x * kept).sum(1) / kept.sum(1).clamp(min=1)


def first_pool(x: Tensor, ids: Tensor, token: int) -> Tensor:
    """The vector [n, w] at the first place where `ids` [n, s] equals `token` (CLIP's end-of-text pooling, stated by id).

    Raises:
        ValueError: if a row lacks the token: an argmax would silently return the first position.
    """
    found = ids == token
    if not bool(found.any(1).all()):
        raise ValueError(f"row {int((~found.any(1)).nonzero()[0])} holds no end token (id {token})")
    return x[torch.arange(len(x), device=x.device), found.int().argmax(1)]


class AttentionPool(nn.Module):
    """One learned query attends to all tokens (the attention-pooling head of Lee et al. 2019, arXiv:1810.00825).

    >>> AttentionPool(8, 2)(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 8])
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.attention = Attention(width, heads)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[n, s, w] to [n, w]; `mask` [n, s] is True where a token counts."""
        return self.attention(self.probe.expand(len(x), -1, -1).to(x.dtype), x, mask=mask)[:, 0]
