"""Texts to what a denoiser is told of them: by CLIP's encoders as in Stable Diffusion and SDXL, or by one of our own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.errors import ConfigError
from tectum.media.text import Tokenizer
from tectum.models.clip_text import ClipText
from tectum.models.encoders import TextConfig, TextStates
from tectum.nn.pooling import mean_pool


class Prompts(nn.Module, ABC):
    """Texts [n] to what a denoiser is told: "tokens" [n, s, width], perhaps "pooled" [n, dim] and the tokens' "mask" [n, s]."""

    zeros: bool = False
    """Whether no text is zeros, and not what the encoders make of an empty text."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Of the tokens."""

    @abstractmethod
    def forward(self, texts: Sequence[str], skip: int = 0) -> dict[str, Tensor]:
        """The conditions; s is the same for all texts. The last `skip` blocks of the encoders are left out.

        Raises:
            ConfigError: if there are not so many.
        """


class ClipPrompts(Prompts):
    """One text encoder or several side by side, as in Stable Diffusion and SDXL (Podell et al. 2023, arXiv:2307.01952, §2.1).

    With `pooled`, as in SDXL, there are the states before the last block without a norm, and the last encoder's vector of the
    whole text; else the states at the end, after the norm. Padding is attended to like any other token.
    """

    def __init__(self, encoders: Sequence[ClipText], tokenizers: Sequence[Tokenizer], *, pooled: bool, zeros: bool) -> None:
        super().__init__()
        if len(encoders) != len(tokenizers) or not encoders or len({tokenizer.context for tokenizer in tokenizers}) > 1:
            raise ConfigError("each text encoder needs a tokenizer, and all of them the same number of tokens")
        self.encoders, self.tokenizers = nn.ModuleList(encoders), tuple(tokenizers)
        self.pooled, self.zeros = pooled, zeros

    @property
    def width(self) -> int:
        """Of the tokens."""
        return sum(encoder.config.width for encoder in self._encoders())

    def forward(self, texts: Sequence[str], skip: int = 0) -> dict[str, Tensor]:
        """ "tokens" [n, s, width], and "pooled" [n, dim] if there is such a vector."""
        device = next(self.parameters()).device
        ids = [tokenizer(texts).to(device) for tokenizer in self.tokenizers]
        encoders = self._encoders()
        states = [
            encoder.states(rows, skip=skip + self.pooled, normed=not self.pooled)
            for encoder, rows in zip(encoders, ids, strict=True)
        ]
        told = {"tokens": torch.cat(states, dim=2)}
        return told | {"pooled": encoders[-1](ids[-1])} if self.pooled else told

    def _encoders(self) -> list[ClipText]:
        return [encoder for encoder in self.encoders if isinstance(encoder, ClipText)]


class WordPrompts(Prompts):
    """A Transformer over words that learns with its denoiser: all tokens and their mean, padding in neither.

    >>> from tectum.media.text import train_bpe
    >>> tokenizer = train_bpe(["a red apple"] * 2, vocab_size=300, context=8)
    >>> config = TextConfig(vocab_size=tokenizer.vocab_size, context=8, width=16, blocks=1, heads=2)
    >>> told = WordPrompts(config, tokenizer)(["a red apple", "apple"])
    >>> told["tokens"].shape, told["pooled"].shape, told["mask"].sum(1)
    (torch.Size([2, 8, 16]), torch.Size([2, 16]), tensor([5, 3]))
    """

    def __init__(self, config: TextConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.encoder = TextStates(config, tokenizer.pad)

    @property
    def width(self) -> int:
        """Of the tokens and of their mean."""
        return self.config.width

    def forward(self, texts: Sequence[str], skip: int = 0) -> dict[str, Tensor]:
        """ "pooled" [n, width], "tokens" [n, s, width] and their "mask" [n, s]; s is the context."""
        if skip:
            raise ConfigError("this text encoder leaves out no blocks: leave out skip")
        told = self.read(self.tokenizer(texts).to(self.encoder.positions.device))
        padding = self.config.context - told["mask"].shape[1]
        return told | {"tokens": F.pad(told["tokens"], (0, 0, 0, padding)), "mask": F.pad(told["mask"], (0, padding))}

    def read(self, ids: Tensor) -> dict[str, Tensor]:
        """The same of token ids [n, s], cut after the longest text."""
        states, mask = self.encoder.states(ids)
        return {"pooled": mean_pool(states, mask), "tokens": states, "mask": mask}
