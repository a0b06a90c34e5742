"""Matcher: a picture and a text read together, and one number that says whether they fit.

A two-tower model sums a picture and a text up before they meet. Here every token of the text looks at every place of the picture
(cross-attention), as in the matching heads of ALBEF (Li et al. 2021, arXiv:2107.07651) and BLIP (arXiv:2201.12086), so which
colour belongs to which shape can be checked word by word. The price: n pictures and m texts are n · m passes, not n + m.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.errors import ConfigError
from tectum.media.image import ImageSpec
from tectum.media.text import Tokenizer
from tectum.models.encoders import GridConfig, TextConfig
from tectum.nn.attention import Attention
from tectum.nn.conv import ConvStages
from tectum.nn.patches import PatchEmbedding, sincos_positions
from tectum.nn.pooling import mean_pool
from tectum.nn.transformer import Transformer, mlp


@dataclass(frozen=True, kw_only=True, slots=True)
class MatcherConfig:
    """Pictures become tokens by `grid`; texts by `text`, each of whose blocks also looks at the picture."""

    image: ImageSpec
    grid: GridConfig
    text: TextConfig


class CrossBlock(nn.Module):
    """A decoder block, pre-norm: x + Attention(LN(x)), x + Attention(LN(x), context), x + MLP(LN(x)) (Vaswani et al. 2017, §3.1).

    [n, s, w] and context [n, t, w'] to [n, s, w].

    >>> CrossBlock(8, 2, context_width=6)(torch.zeros(3, 5, 8), torch.zeros(3, 7, 6)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, width: int, heads: int, *, context_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_self, self.norm_cross, self.norm_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.attention = Attention(width, heads)
        self.crossing = Attention(width, heads, context_width=context_width)
        self.mlp = mlp(width, 4 * width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask` [n, s] is True where a token of x may be seen by the others."""
        x = x + self.dropout(self.attention(self.norm_self(x), mask=mask))
        x = x + self.dropout(self.crossing(self.norm_cross(x), context))
        return x + self.dropout(self.mlp(self.norm_mlp(x)))


class Matcher(nn.Module):
    """Pictures [n, 3, h, w] and texts as ids [n, s] to logits [n]: the higher, the better they fit.

    `look` reads the pictures once, `compare` confronts what was seen with texts; no logit depends on what else is in the batch.

    Raises:
        ConfigError: if the tokenizer has another number of tokens than the configuration.
    """

    def __init__(self, config: MatcherConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        grid, text = config.grid, config.text
        if tokenizer.vocab_size != text.vocab_size:
            raise ConfigError(f"the matcher needs a tokenizer of {text.vocab_size} tokens, not of {tokenizer.vocab_size}")
        self.config, self.tokenizer = config, tokenizer
        self.stem: nn.Module
        if grid.patch is None:
            self.stem = ConvStages(grid.channels, grid.widths, grid.depths)
        else:
            self.stem = PatchEmbedding(grid.channels, grid.width, grid.patch)
        self.places = Transformer(grid.token_width, grid.blocks, grid.heads, dropout=grid.dropout)
        self.tokens = nn.Embedding(text.vocab_size, text.width)
        self.positions = nn.Parameter(torch.randn(text.context, text.width) * 0.01)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.blocks = nn.ModuleList(
            CrossBlock(text.width, text.heads, context_width=grid.token_width, dropout=text.dropout) for _ in range(text.blocks)
        )
        self.norm = nn.LayerNorm(text.width)
        self.head = nn.Linear(text.width, 1)

    def forward(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """[n, 3, h, w], uint8 or floats in 0 … 1, and [n, s] to [n]."""
        return self.compare(self.look(pixels), ids)

    def look(self, pixels: Tensor) -> Tensor:
        """Pictures [n, 3, h, w] to tokens of their places [n, t, w]."""
        grid = self.stem(self.config.image.normalise(pixels).contiguous(memory_format=torch.channels_last))
        seen = grid.flatten(2).transpose(1, 2)
        positions = sincos_positions(grid.shape[2], grid.shape[3], grid.shape[1], device=grid.device)
        return self.places(seen + positions.to(seen.dtype))

    def compare(self, seen: Tensor, ids: Tensor) -> Tensor:
        """Tokens of places [n, t, w] and texts [n, s] to logits [n]."""
        mask = ids != self.tokenizer.pad
        mask, ids = mask[:, : int(mask.sum(1).max())], ids[:, : int(mask.sum(1).max())]
        x = self.tokens(ids) + self.positions[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, seen, mask)
        return self.head(mean_pool(self.norm(x), mask)).squeeze(1).float()

    @torch.inference_mode()
    def score(self, pictures: Sequence[Any], texts: Sequence[str], *, batch_size: int = 64) -> Tensor:
        """Pictures (paths, bytes, Pillow images or arrays) and as many texts to the logits [n] of each with the one beside it.

        Raises:
            ConfigError: if there are not as many texts as pictures.
            MediaError: if a picture cannot be read.
        """
        if len(pictures) != len(texts):
            raise ConfigError(f"{len(pictures)} pictures and {len(texts)} texts make no pairs: give one text for each picture")
        device, parts = self.positions.device, [torch.zeros(0)]
        for at in range(0, len(texts), batch_size):
            pixels = torch.stack([self.config.image.pixels(picture) for picture in pictures[at : at + batch_size]])
            ids = self.tokenizer(texts[at : at + batch_size])
            parts.append(self(pixels.to(device), ids.to(device)).cpu())
        return torch.cat(parts)


def matching_loss(
    matcher: Matcher, pixels: Tensor, ids: Tensor, likeness: Tensor, known: Tensor, *, wrong: int = 3
) -> tuple[Tensor, Tensor]:
    """Find the text of each picture among it and some wrong ones, and the picture of each text: the mean of both cross-entropies.

    The wrong ones are drawn from the batch, without repeats, in proportion to the softmax of `likeness`, so that mostly the hard
    ones are met (ALBEF, §3.2). Nothing but the batch is needed: no pair is made up. A choice among few teaches much faster than
    a yes or no for each pair, ALBEF's own loss: on generated scenes of two things, 600 steps against 200 for a wrong word.

    Args:
        matcher: what learns.
        pixels: [n, 3, h, w].
        ids: [n, s], each the text of the picture beside it.
        likeness: logits [n, n] of each picture (row) with each text, from any model; constant for a uniform choice.
        known: bool [n, n], True where a pair is known to fit and so is no negative; its diagonal is.
        wrong: how many there are for each picture and each text.

    Returns:
        The loss, and how often the right one is chosen.

    Raises:
        ValueError: if a picture or a text has fewer than `wrong` that do not fit it.
    """
    n = len(ids)
    if int(torch.minimum((~known).sum(0), (~known).sum(1)).min()) < wrong:
        raise ValueError(f"something in the batch is known to fit all but fewer than {wrong} others: take a larger batch")
    # The largest of Gumbel-perturbed logits are a sample of their softmax without replacement.
    noise = -torch.empty_like(likeness, dtype=torch.float32).exponential_().log()
    chances = (likeness.detach().float() + noise).masked_fill(known, -torch.inf)
    own = torch.arange(n, device=ids.device)
    others = own.repeat_interleave(wrong)
    picture = torch.cat((own, others, chances.topk(wrong, dim=0).indices.T.flatten()))
    text = torch.cat((own, chances.topk(wrong, dim=1).indices.flatten(), others))
    right, wrong_texts, wrong_pictures = matcher.compare(matcher.look(pixels)[picture], ids[text]).split(
        (n, n * wrong, n * wrong)
    )
    choices = torch.cat([torch.cat((right[:, None], part.view(n, wrong)), 1) for part in (wrong_texts, wrong_pictures)])
    loss = F.cross_entropy(choices, torch.zeros(2 * n, dtype=torch.int64, device=ids.device))
    return loss, (choices[:, :1] > choices[:, 1:]).all(1).float().mean()
