"""Attention over the places of a grid: plain, and as the spatial Transformer of latent diffusion (arXiv:2112.10752)."""

from torch import Tensor, nn
from torch.nn import functional as F

from tectum.errors import ConfigError
from tectum.nn.attention import Attention
from tectum.nn.grid import tokens, untokens, zeroed
from tectum.nn.linear import Linear
from tectum.nn.norm import GroupNorm


class GridAttention(nn.Module):
    """x + Attention(GroupNorm(x)) over the places of a grid (Ho et al. 2020, arXiv:2006.11239, appendix B).

    >>> import torch
    >>> GridAttention(8, 2, groups=4, eps=1e-6)(torch.zeros(3, 8, 5, 6)).shape
    torch.Size([3, 8, 5, 6])
    """

    def __init__(self, channels: int, heads: int, *, groups: int, eps: float) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, channels, eps)
        self.attention = Attention(channels, heads)
        zeroed(self.attention.out)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """[n, c, …] to the same; it attends to nothing else, so `context` and `mask` are for `SpatialTransformer`."""
        return x + untokens(self.attention(tokens(self.norm(x))), x.shape[2:])


class GEGLU(nn.Module):
    """(x V · GELU(x W)) W₂ (Shazeer 2020, arXiv:2002.05202, eq. 6, with biases); [..., w] to [..., w].

    >>> import torch
    >>> GEGLU(8, 32)(torch.zeros(3, 8)).shape
    torch.Size([3, 8])
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.value, self.gate, self.out = Linear(width, hidden), Linear(width, hidden), Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., w] to [..., w]."""
        return self.out(self.value(x) * F.gelu(self.gate(x)))


class ContextBlock(nn.Module):
    """A pre-norm block that attends to itself, then to a context, then goes through a GEGLU; [n, s, w] to [n, s, w].

    Without a `context_width` it attends to itself alone; with `only_context` to the context twice, where a grid is too large to
    attend to itself. Queries, keys and values have no bias, as in latent diffusion.
    """

    def __init__(self, width: int, heads: int, context_width: int | None, *, only_context: bool = False) -> None:
        super().__init__()
        self.only_context = only_context
        self.norm_self, self.attention = nn.LayerNorm(width), _attention(width, heads, context_width if only_context else None)
        self.cross: Attention | None = None
        if context_width is not None:
            self.norm_cross, self.cross = nn.LayerNorm(width), _attention(width, heads, context_width)
        self.norm_mlp, self.mlp = nn.LayerNorm(width), GEGLU(width, 4 * width)

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """`context` [n, t, w'], of which `mask` [n, t] is True where it may be seen."""
        if self.cross is not None and context is None:
            raise ValueError("this block attends to a context: give its tokens [n, t, w]")
        x = x + (self.attention(self.norm_self(x), context, mask) if self.only_context else self.attention(self.norm_self(x)))
        if self.cross is not None:
            x = x + self.cross(self.norm_cross(x), context, mask)
        return x + self.mlp(self.norm_mlp(x))


class SpatialTransformer(nn.Module):
    """Blocks over the places of a grid, between two linear maps and around a shortcut (Rombach et al. 2022, §3.3).

    Args:
        channels: of the grid.
        heads: of the attentions.
        depth: number of blocks.
        context_width: of the tokens they also attend to; None if there are none.
        groups: of the norm before them, whose eps is 1e-6.
        only_context: whether they attend to the context in the place of themselves.

    >>> import torch
    >>> block = SpatialTransformer(8, 2, depth=1, context_width=6, groups=4)
    >>> block(torch.zeros(3, 8, 5, 6), torch.zeros(3, 7, 6)).shape
    torch.Size([3, 8, 5, 6])
    """

    def __init__(
        self, channels: int, heads: int, *, depth: int, context_width: int | None, groups: int, only_context: bool = False
    ) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, channels, 1e-6)
        self.project_in = Linear(channels, channels)
        self.blocks = nn.ModuleList(ContextBlock(channels, heads, context_width, only_context=only_context) for _ in range(depth))
        self.project_out = zeroed(Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """[n, c, …] to the same; `context` [n, t, w'] and its `mask` [n, t], True where it may be seen."""
        y = self.project_in(tokens(self.norm(x)))
        for block in self.blocks:
            y = block(y, context, mask)
        return x + untokens(self.project_out(y), x.shape[2:])


def _attention(width: int, heads: int, context_width: int | None) -> Attention:
    if width % heads:
        raise ConfigError(f"{heads} heads do not divide a width of {width}")
    attention = Attention(width, heads, context_width=context_width, bias=False)
    attention.out = Linear(width, width)  # which has a bias
    return attention
