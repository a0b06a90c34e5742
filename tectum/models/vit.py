"""The vision Transformers of CLIP (Radford et al. 2021, arXiv:2103.00020) and SigLIP (Zhai et al. 2023, arXiv:2303.15343)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tectum.errors import ConfigError
from tectum.nn.activation import Activation
from tectum.nn.patches import PatchEmbedding, resize_positions
from tectum.nn.pooling import MapHead
from tectum.nn.transformer import Transformer


@dataclass(frozen=True, kw_only=True, slots=True)
class ViTConfig:
    """A ViT with learned positions.

    pool: "class" is CLIP's (a class token, a norm before the blocks, a linear head without bias), "attention" is SigLIP's (a
    patch bias, a MAP head, no projection). `size` is the side of the pictures that the positions were learned on; pictures of
    another size are fine, and `antialias` says how their positions are interpolated (transformers: no, open_clip: yes).
    """

    size: int
    patch: int
    width: int
    blocks: int
    heads: int
    hidden: int
    activation: Activation
    eps: float = 1e-5
    pool: Literal["class", "attention"] = "class"
    antialias: bool = False

    def __post_init__(self) -> None:
        if min(self.size, self.patch, self.width, self.heads, self.hidden) < 1 or self.blocks < 0 or self.size < self.patch:
            raise ConfigError(f"no vision Transformer has such sizes: {self}")
        if self.width % self.heads:
            raise ConfigError(f"{self.heads} heads do not divide a width of {self.width}")
        if self.pool not in ("class", "attention"):
            raise ConfigError(f"a vision Transformer pools by 'class' or 'attention', not {self.pool!r}")


class ViT(nn.Module):
    """Pictures [n, 3, h, w] to vectors [n, dim], not normalised.

    Raises:
        ConfigError: if `dim` is not the width where nothing projects.
    """

    def __init__(self, config: ViTConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        width, by_class = config.width, config.pool == "class"
        if not by_class and dim != width:
            raise ConfigError(f"a vision Transformer with a MAP head gives vectors of its width, {width}, not {dim}")
        self.patches = PatchEmbedding(3, width, (config.patch, config.patch), bias=not by_class)
        tokens = (config.size // config.patch) ** 2 + by_class
        self.positions = nn.Parameter(torch.randn(tokens, width) * 0.02)
        if by_class:
            self.class_token = nn.Parameter(torch.randn(width) * width**-0.5)
            self.norm = nn.LayerNorm(width, config.eps)
        self.transformer = Transformer(
            width, config.blocks, config.heads, hidden=config.hidden, activation=config.activation, eps=config.eps
        )
        self.head: nn.Module
        if by_class:
            self.head = nn.Linear(width, dim, bias=False)
        else:
            self.head = MapHead(width, config.heads, hidden=config.hidden, activation=config.activation, eps=config.eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """[n, 3, h, w] to [n, dim]."""
        grid = self.patches(pixels.contiguous(memory_format=torch.channels_last))
        rows, columns = grid.shape[2:]
        x = grid.flatten(2).transpose(1, 2)
        if self.config.pool == "attention":
            positions = resize_positions(self.positions, rows, columns, antialias=self.config.antialias)
            return self.head(self.transformer(x + positions))
        positions = resize_positions(self.positions[1:], rows, columns, antialias=self.config.antialias)
        first = (self.class_token + self.positions[0]).expand(len(x), 1, -1)
        x = self.norm(torch.cat((first, x + positions), dim=1))
        first_of_each = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return self.head(self.transformer(x, at=first_of_each)[:, 0])
