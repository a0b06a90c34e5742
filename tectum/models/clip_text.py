"""The text Transformers of CLIP (Radford et al. 2021, arXiv:2103.00020) and SigLIP (Zhai et al. 2023, arXiv:2303.15343)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tectum.errors import ConfigError
from tectum.models.encoders import by_length
from tectum.nn.activation import Activation
from tectum.nn.pooling import first_place
from tectum.nn.transformer import Transformer


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipTextConfig:
    """A Transformer over token ids with learned positions, pooled at one token.

    pool: "eos" takes the first end token, "highest" the highest id (OpenAI's code, and transformers' where a configuration has
    the legacy `eos_token_id` 2): both look back only and have a head without bias. "last" is SigLIP's: every token sees every
    other, padding too, the last position is taken, and the head has a bias.
    """

    vocab_size: int
    context: int
    width: int
    blocks: int
    heads: int
    hidden: int
    activation: Activation
    eps: float = 1e-5
    pool: Literal["eos", "highest", "last"] = "eos"

    def __post_init__(self) -> None:
        if min(self.vocab_size, self.context, self.width, self.heads, self.hidden) < 1 or self.blocks < 0:
            raise ConfigError(f"no text Transformer has such sizes: {self}")
        if self.width % self.heads:
            raise ConfigError(f"{self.heads} heads do not divide a width of {self.width}")
        if self.pool not in ("eos", "highest", "last"):
            raise ConfigError(f"a text Transformer pools by 'eos', 'highest' or 'last', not {self.pool!r}")


class ClipText(nn.Module):
    """Token ids [n, s] to vectors [n, dim], not normalised; `eos` is the id of the end token.

    With no `dim` there is no head, and the vectors have the width of the Transformer.
    """

    head: nn.Module

    def __init__(self, config: ClipTextConfig, dim: int | None, eos: int) -> None:
        super().__init__()
        self.config = config
        self.eos = eos
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.positions = nn.Parameter(torch.randn(config.context, config.width) * 0.01)
        self.transformer = Transformer(
            config.width,
            config.blocks,
            config.heads,
            hidden=config.hidden,
            activation=config.activation,
            eps=config.eps,
            causal=config.pool != "last",
        )
        self.head = nn.Identity() if dim is None else nn.Linear(config.width, dim, bias=config.pool == "last")

    def forward(self, ids: Tensor) -> Tensor:
        """[n, s] to [n, dim]; s is at most the context.

        Raises:
            ValueError: if a row lacks the end token that "eos" pools at.
        """
        x, places = self._embedded(ids), self._places(ids)
        if self.config.pool == "last":
            return self.head(self.transformer(x, at=places)[:, 0])

        def encode(rows: Tensor, length: int) -> Tensor:
            return self.transformer(x[rows, :length], at=places[rows])[:, 0]

        # What stands after the pooled token is never seen, so it is not computed either.
        return self.head(by_length(encode, places + 1, group=16))

    def states(self, ids: Tensor, *, skip: int = 0, normed: bool = True) -> Tensor:
        """All tokens [n, s, width], padding too, as they are before the last `skip` blocks, and whether after the last norm.

        Raises:
            ConfigError: if there are not so many blocks.
        """
        blocks = self.transformer.blocks
        if not 0 <= skip <= len(blocks):
            raise ConfigError(f"{skip} blocks of a text Transformer of {len(blocks)} cannot be skipped: give 0 to {len(blocks)}")
        x = self._embedded(ids)
        for block in blocks[: len(blocks) - skip]:
            x = block(x, None, self.transformer.causal)
        return self.transformer.norm(x) if normed else x

    def _embedded(self, ids: Tensor) -> Tensor:
        return self.tokens(ids) + self.positions[: ids.shape[1]]

    def _places(self, ids: Tensor) -> Tensor:
        """Which token of each row is pooled, [n]."""
        match self.config.pool:
            case "eos":
                return first_place(ids, self.eos)
            case "highest":
                return ids.argmax(1)
            case "last":
                return torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)
