"""RoBERTa as a text tower (Liu et al. 2019, arXiv:1907.11692), as CLAP has it (Wu et al. 2023, arXiv:2211.06687)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tectum.errors import ConfigError
from tectum.models.encoders import by_length
from tectum.nn.activation import Activation, activation
from tectum.nn.transformer import PostNormBlock


@dataclass(frozen=True, kw_only=True, slots=True)
class RobertaConfig:
    """A post-norm Transformer over token ids, pooled at its first token.

    `places` is the length of the table of positions, which counts from the id of padding + 1: `places - pad - 1` tokens fit.
    `types` is the length of the table of segments, of which a text uses the first. `projection` is the activation of the head.
    """

    vocab_size: int
    places: int
    width: int
    blocks: int
    heads: int
    hidden: int
    activation: Activation = "gelu"
    eps: float = 1e-12
    types: int = 1
    projection: Activation = "relu"

    def __post_init__(self) -> None:
        if min(self.vocab_size, self.places, self.width, self.heads, self.hidden, self.types) < 1 or self.blocks < 0:
            raise ConfigError(f"no text Transformer has such sizes: {self}")
        if self.width % self.heads:
            raise ConfigError(f"{self.heads} heads do not divide a width of {self.width}")


class Roberta(nn.Module):
    """Token ids [n, s], padded with `pad`, to vectors [n, dim], not normalised; padding changes nothing."""

    def __init__(self, config: RobertaConfig, dim: int, pad: int) -> None:
        super().__init__()
        self.pad = pad
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(torch.randn(config.places, config.width) * 0.02)
        self.types = nn.Parameter(torch.randn(config.types, config.width) * 0.02)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.norm = nn.LayerNorm(config.width, config.eps)
        self.blocks = nn.ModuleList(
            PostNormBlock(config.width, config.heads, hidden=config.hidden, activation=config.activation, eps=config.eps)
            for _ in range(config.blocks)
        )
        self.head = nn.Sequential(
            nn.Linear(config.width, config.width),
            nn.Tanh(),
            nn.Linear(config.width, dim),
            activation(config.projection),
            nn.Linear(dim, dim),
        )

    def forward(self, ids: Tensor) -> Tensor:
        """[n, s] to [n, dim]."""
        mask = ids != self.pad
        tokens = self.tokens(ids) + self.types[0] + self.positions[self.pad + 1 :][: ids.shape[1]]

        def first(rows: Tensor, length: int) -> Tensor:
            x, seen = self.norm(tokens[rows, :length]), mask[rows, :length]
            for block in self.blocks:
                x = block(x, seen)
            return x[:, 0]

        return self.head(by_length(first, mask.sum(1), group=16))
