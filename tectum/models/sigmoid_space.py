"""A space that judges every pair for itself (SigLIP, Zhai et al. 2023, arXiv:2303.15343)."""

import math

import torch
from torch import Tensor, nn

from tectum.contrastive.temperature import Temperatures, key
from tectum.media.text import Tokenizer
from tectum.models.space import Space, SpaceConfig


class SigmoidSpace(Space):
    """A `Space` whose probability that two items belong together is σ(scale · cosine + bias), whatever else there is.

    The scale is not held below 100: SigLIP's public weights have 118.

    >>> from tectum.media.text import train_bpe
    >>> from tectum.models.encoders import TextConfig
    >>> from tectum.models.towers import TextTowerConfig
    >>> tokenizer = train_bpe(["a dog"], vocab_size=260, context=8)
    >>> text = TextTowerConfig(text=TextConfig(vocab_size=tokenizer.vocab_size, context=8))
    >>> space = SigmoidSpace(SpaceConfig(name="tiny", dim=4, towers={"text": text}), tokenizer).eval()
    >>> vectors = space.embed(text=["a dog", "a dog"])["text"]
    >>> round(space.probability("text", vectors[:1], "text", vectors[1:]).item(), 3)  # σ(10 · 1 - 10)
    0.5
    """

    def __init__(self, config: SpaceConfig, tokenizer: Tokenizer | None = None) -> None:
        super().__init__(config, tokenizer)
        names = sorted(config.towers)
        self.log_scale = Temperatures([(a, b) for i, a in enumerate(names) for b in names[i:]], start=10.0, limit=math.inf)
        self.logit_bias = nn.ParameterDict({pair: nn.Parameter(torch.tensor(-10.0)) for pair in self.log_scale})

    def bias(self, a: str, b: str) -> Tensor:
        """What is added to the scaled cosines of two modalities."""
        return self.logit_bias[key(a, b)]

    def probability(self, a: str, of_a: Tensor, b: str, of_b: Tensor) -> Tensor:
        """Vectors [n, dim] of modality `a` and [m, dim] of `b` to the probabilities [n, m] that they belong together."""
        with torch.inference_mode():
            return (self.scale(a, b) * (of_a @ of_b.T) + self.bias(a, b)).sigmoid()
