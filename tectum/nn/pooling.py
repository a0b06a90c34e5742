"""From a sequence of tokens to one vector."""

import torch
from torch import Tensor, nn

from tectum.nn.activation import Activation
from tectum.nn.attention import Attention
from tectum.nn.transformer import mlp


def mean_pool(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean token [n, w] of [n, s, w], over the tokens where `mask` [n, s] is True.

    >>> mean_pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
    tensor([[2.]])
    """
    if mask is None:
        return x.mean(1)
    kept = mask.unsqueeze(-1).to(x.dtype)
    return (x * kept).sum(1) / kept.sum(1).clamp(min=1)


def first_place(ids: Tensor, token: int) -> Tensor:
    """The first places [n] where `ids` [n, s] equal `token` (CLIP's end of text, stated by its id).

    Raises:
        ValueError: if a row lacks the token: an argmax would silently return the first position.

    >>> first_place(torch.tensor([[5, 9, 7], [9, 7, 7]]), 7)
    tensor([2, 1])
    """
    found = ids == token
    if not bool(found.any(1).all()):
        raise ValueError(f"row {int((~found.any(1)).nonzero()[0])} holds no end token (id {token})")
    return found.int().argmax(1)


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


class MapHead(nn.Module):
    """Attention pooling, then y + MLP(LN(y)): the MAP head of SigLIP (Zhai et al. 2022, arXiv:2106.04560, appendix).

    >>> MapHead(8, 2, hidden=16, activation="gelu", eps=1e-6)(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 8])
    """

    def __init__(self, width: int, heads: int, *, hidden: int, activation: Activation, eps: float) -> None:
        super().__init__()
        self.pool = AttentionPool(width, heads)
        self.norm = nn.LayerNorm(width, eps)
        self.mlp = mlp(width, hidden, activation)

    def forward(self, x: Tensor) -> Tensor:
        """[n, s, w] to [n, w]."""
        y = self.pool(x)
        return y + self.mlp(self.norm(y))
