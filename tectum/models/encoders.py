"""The two encoders every tower of a space is built from: one over grids, one over token ids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tectum.errors import ConfigError
from tectum.nn.conv import ConvStages
from tectum.nn.patches import PatchEmbedding, sincos_positions
from tectum.nn.pooling import AttentionPool, mean_pool
from tectum.nn.transformer import Transformer


@dataclass(frozen=True, kw_only=True, slots=True)
class GridConfig:
    """A grid encoder: convolution stages or plain patches, then a Transformer, then attention pooling.

    With `widths` the tokens come from `ConvStages(widths, depths)`; with `patch` alone it is a plain ViT or AST whose
    token width is `width`.
    """

    channels: int
    widths: tuple[int, ...] = ()
    depths: tuple[int, ...] = ()
    patch: tuple[int, int] | None = None
    width: int = 0
    blocks: int = 1
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if bool(self.widths) == (self.patch is not None):
            raise ConfigError("a grid encoder needs either convolution widths or a patch size, and not both")

    @property
    def token_width(self) -> int:
        """Size of the tokens after the stem."""
        return self.widths[-1] if self.widths else self.width


class GridEncoder(nn.Module):
    """Pictures [n, 3, h, w] or spectrograms [n, 1, bins, frames] of any size to vectors [n, dim]."""

    def __init__(self, config: GridConfig, dim: int) -> None:
        super().__init__()
        width = config.token_width
        self.stem: nn.Module
        if config.patch is None:
            self.stem = ConvStages(config.channels, config.widths, config.depths)
        else:
            self.stem = PatchEmbedding(config.channels, width, config.patch)
        self.transformer = Transformer(width, config.blocks, config.heads, dropout=config.dropout)
        self.pool = AttentionPool(width, config.heads)
        self.head = centred_projection(width, dim)

    def forward(self, grid: Tensor) -> Tensor:
        """[n, c, h, w] to [n, dim], not normalised."""
        grid = self.stem(grid.contiguous(memory_format=torch.channels_last))
        tokens = grid.flatten(2).transpose(1, 2)
        tokens = tokens + sincos_positions(grid.shape[2], grid.shape[3], grid.shape[1], device=grid.device).to(tokens.dtype)
        return self.head(self.pool(self.transformer(tokens)))


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig:
    """A Transformer over token ids with learned positions, mean-pooled over the real tokens."""

    vocab_size: int
    context: int
    width: int = 192
    blocks: int = 4
    heads: int = 4
    dropout: float = 0.0


class TextStates(nn.Module):
    """Token ids padded with `pad` to what a Transformer makes of each token."""

    def __init__(self, config: TextConfig, pad: int) -> None:
        super().__init__()
        self.pad = pad
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(torch.randn(config.context, config.width) * 0.01)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.transformer = Transformer(config.width, config.blocks, config.heads, dropout=config.dropout)

    def states(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """[n, s] to states [n, t, width], cut after the longest text, and which of them are no padding, boolean [n, t]."""
        mask = ids != self.pad
        mask = mask[:, : max(1, int(mask.sum(1).max()))]
        x = self.tokens(ids[:, : mask.shape[1]]) + self.positions[: mask.shape[1]]
        return self.transformer(x, mask), mask


class TextEncoder(TextStates):
    """Token ids [n, s] padded with `pad` to vectors [n, dim]; padding changes nothing."""

    def __init__(self, config: TextConfig, dim: int, pad: int) -> None:
        super().__init__(config, pad)
        self.head = centred_projection(config.width, dim)

    def forward(self, ids: Tensor) -> Tensor:
        """[n, s] to [n, dim], not normalised."""
        mask = ids != self.pad
        x = self.tokens(ids) + self.positions[: ids.shape[1]]

        def encode(rows: Tensor, length: int) -> Tensor:
            seen = mask[rows, :length]
            return mean_pool(self.transformer(x[rows, :length], seen), seen)

        return self.head(by_length(encode, mask.sum(1)))


def by_length(encode: Callable[[Tensor, int], Tensor], lengths: Tensor, *, group: int = 64) -> Tensor:
    """`encode(rows [k], length)` over all texts, in their order: about `group` of like length go together, cut after the longest
    of them, so that one long text does not pad all.

    Embed the tokens before: each look into a large table costs a gradient of its size.
    """
    groups = lengths.argsort().chunk(max(1, len(lengths) // group))
    vectors = torch.cat([encode(rows, max(1, int(lengths[rows].max()))) for rows in groups])
    return vectors[torch.cat(groups).argsort()]


def centred_projection(width: int, dim: int) -> nn.Sequential:
    """Features [n, width] with zero mean and unit variance over the training data, then a linear map to [n, dim].

    Without the centring all vectors of a tower lie in one narrow cone, apart from the cones of the other towers (the modality
    gap, arXiv:2203.02053), and their cosines differ too little for the softmax to learn from.
    """
    return nn.Sequential(nn.BatchNorm1d(width, affine=False), nn.Linear(width, dim, bias=False))


def parameter_count(modules: nn.Module | Sequence[nn.Module]) -> int:
    """How many numbers the modules hold as parameters."""
    modules = [modules] if isinstance(modules, nn.Module) else modules
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
