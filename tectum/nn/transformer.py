"""The pre-norm Transformer block and stack (Vaswani et al. 2017; pre-norm after Xiong et al. 2020, arXiv:2002.04745)."""

import torch
from torch import Tensor, nn

from tectum.nn.activation import Activation, activation
from tectum.nn.attention import Attention
from tectum.nn.linear import Linear


def mlp(width: int, hidden: int, name: Activation = "gelu") -> nn.Sequential:
    """Linear, activation, linear: [..., w] to [..., w] through `hidden` units."""
    return nn.Sequential(Linear(width, hidden), activation(name, inplace=True), Linear(hidden, width))


class Block(nn.Module):
    """x + Attention(LN(x)), then x + MLP(LN(x)); [n, s, w] to [n, s, w].

    Args:
        width: size of the tokens.
        heads: number of heads; divides `width`.
        hidden: units of the MLP, four times `width` if left out.
        activation: of the MLP, an exact GELU if left out.
        eps: of the layer norms.
        dropout: of both branches.

    >>> import torch
    >>> Block(8, 2)(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        hidden: int | None = None,
        activation: Activation = "gelu",
        eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width, eps)
        self.mlp = mlp(width, hidden or 4 * width, activation)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        at: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """`mask` [n, s] is True where a token may be seen; with `at` [n] only the token there goes on, [n, 1, w]; `bias`
        [n or 1, h, s, s] is added to the logits of all tokens."""
        x, y = self._attend(x, self.norm_attention(x), mask, causal, at, bias)
        x = x + self.dropout(y)
        return x + self.dropout(self.mlp(self.norm_mlp(x)))

    def _attend(
        self, x: Tensor, y: Tensor, mask: Tensor | None, causal: bool, at: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The tokens that go on, and what attention over `y` adds to them."""
        if at is None:
            return x, self.attention(y, mask=mask, causal=causal, bias=bias)
        if causal:
            before = torch.arange(x.shape[1], device=x.device) <= at[:, None]
            mask = before if mask is None else mask & before
        if bias is not None:
            bias = bias.expand(len(x), -1, -1, -1)[torch.arange(len(x), device=x.device), :, at].unsqueeze(2)
        return token(x, at), self.attention(token(y, at), y, mask=mask, bias=bias)


class PostNormBlock(Block):
    """The same layers in the order of 2017: LN(x + Attention(x)), then LN(x + MLP(x)); options as for `Block`.

    >>> PostNormBlock(8, 2)(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        at: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """As `Block.forward`."""
        x, y = self._attend(x, x, mask, causal, at, bias)
        x = self.norm_attention(x + self.dropout(y))
        return self.norm_mlp(x + self.dropout(self.mlp(x)))


def token(x: Tensor, at: Tensor) -> Tensor:
    """Of every row of [n, s, w] the token at `at` [n]: [n, 1, w]."""
    return x[torch.arange(len(x), device=x.device), at].unsqueeze(1)


class Transformer(nn.Module):
    """`depth` blocks (whose options are told there) and a last layer norm; [n, s, w] to [n, s, w]. A depth of 0 is the norm."""

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        *,
        hidden: int | None = None,
        activation: Activation = "gelu",
        eps: float = 1e-5,
        dropout: float = 0.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.blocks = nn.ModuleList(
            Block(width, heads, hidden=hidden, activation=activation, eps=eps, dropout=dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, x: Tensor, mask: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """`mask` [n, s] is True where a token may be seen. With `at` [n] the result is the token there alone, [n, 1, w]: the last
        block then computes no other, which in twelve blocks saves a twelfth of nearly everything."""
        for i, block in enumerate(self.blocks, start=1):
            x = block(x, mask, self.causal, at if i == len(self.blocks) else None)
        if at is not None and not self.blocks:
            x = token(x, at)
        return self.norm(x)
