"""The pre-norm Transformer block and stack (Vaswani et al. 2017; pre-norm after Xiong et al. 2020, arXiv:2002.04745)."""

from torch import Tensor, nn

from tectum.nn.attention import Attention


class Block(nn.Module):
    """x + Attention(LN(x)), then x + MLP(LN(x)) with an exact GELU; [n, s, w] to [n, s, w].

    >>> import torch
    >>> Block(8, 2)(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, width: int, heads: int, *, mlp_ratio: float = 4.0, dropout: float = 0.0) -> None:
        super().__init__()
        hidden = round(width * mlp_ratio)
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """`mask` [n, s] is True where a token may be seen by the others."""
        x = x + self.dropout(self.attention(self.norm_attention(x), mask=mask, causal=causal))
        return x + self.dropout(self.mlp(self.norm_mlp(x)))


class Transformer(nn.Module):
    """`depth` blocks and a last layer norm; [n, s, w] to [n, s, w]. A depth of 0 is the norm alone."""

    def __init__(
        self, width: int, depth: int, heads: int, *, mlp_ratio: float = 4.0, dropout: float = 0.0, causal: bool = False
    ) -> None:
        super().__init__()
        self.causal = causal
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio=mlp_ratio, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask` [n, s] is True where a token may be seen."""
        for block in self.blocks:
            x = block(x, mask, self.causal)
        return self.norm(x)
