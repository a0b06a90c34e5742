"""The matcher: a logit depends on its pair alone, wrong pairs come from the batch, and it can learn what needs a look at both."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tectum.errors import ConfigError
from tectum.media.image import ImageSpec
from tectum.media.text import train_bpe
from tectum.models.encoders import GridConfig, TextConfig
from tectum.models.matcher import CrossBlock, Matcher, MatcherConfig, matching_loss
from tectum.nn.transformer import Block

TEXTS = ["a red cube", "a blue sphere on a red cube", "two stars", "a cube", "a green ring and a blue sphere and a heart"]
RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in TEXTS]


def small(*, patches: bool = False, vocab: int = 0) -> Matcher:
    tokenizer = train_bpe(TEXTS, vocab_size=300, context=24)
    grid = (
        GridConfig(channels=3, patch=(8, 8), width=16, blocks=1, heads=2)
        if patches
        else GridConfig(channels=3, widths=(8, 12), depths=(1, 1), blocks=1, heads=2)
    )
    text = TextConfig(vocab_size=vocab or tokenizer.vocab_size, context=24, width=16, blocks=2, heads=2)
    torch.manual_seed(0)
    matcher = Matcher(MatcherConfig(image=ImageSpec(size=32), grid=grid, text=text), tokenizer)
    for module in matcher.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after some training: nothing is exactly 0 or 1
            module.weight.data.uniform_(0.5, 1.5)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return matcher.eval()


@pytest.mark.parametrize("patches", [False, True], ids=["convolutions", "patches"])
def test_a_logit_depends_on_its_pair_alone(patches: bool) -> None:
    matcher = small(patches=patches)
    together = matcher.score(PICTURES, TEXTS)
    alone = torch.cat([matcher.score([picture], [text]) for picture, text in zip(PICTURES, TEXTS, strict=True)])
    by_two = matcher.score(PICTURES[::-1], TEXTS[::-1], batch_size=2).flip(0)
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-6)
    torch.testing.assert_close(together, by_two, rtol=0, atol=2e-6)
    assert matcher.score([], []).shape == (0,)


def test_looking_once_is_looking_every_time() -> None:
    matcher = small()
    pixels = torch.stack([matcher.config.image.pixels(picture) for picture in PICTURES])
    ids = matcher.tokenizer(TEXTS)
    with torch.no_grad():
        seen = matcher.look(pixels)
        for other in range(5):
            texts = ids.roll(other, 0)
            torch.testing.assert_close(matcher.compare(seen, texts), matcher(pixels, texts))
        # More padding makes no difference, nor do bytes or floats.
        padded = F.pad(ids, (0, 7), value=matcher.tokenizer.pad)
        torch.testing.assert_close(matcher(pixels.float() / 255, padded), matcher(pixels, ids), rtol=1e-5, atol=1e-6)


def test_every_part_learns_and_every_pair_matters() -> None:
    matcher = small()
    pixels = torch.stack([matcher.config.image.pixels(picture) for picture in PICTURES]).float() / 255
    pixels.requires_grad_()
    logits = matcher(pixels, matcher.tokenizer(TEXTS))
    logits[2].backward()
    moved = pixels.grad.abs().flatten(1).sum(1)
    assert moved[2] > 0 and not moved[[0, 1, 3, 4]].any()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in matcher.parameters())


def test_without_what_is_seen_a_cross_block_is_a_block() -> None:
    """With the cross-attention's output at zero, and the other weights of a `Block`."""
    cross, block = CrossBlock(8, 2, context_width=6).eval(), Block(8, 2).eval()
    torch.nn.init.zeros_(cross.crossing.out.weight)
    torch.nn.init.zeros_(cross.crossing.out.bias)
    block.attention.load_state_dict(cross.attention.state_dict())
    block.mlp.load_state_dict(cross.mlp.state_dict())
    x, mask = torch.randn(3, 5, 8), torch.rand(3, 5) < 0.7
    mask[:, 0] = True
    torch.testing.assert_close(cross(x, torch.randn(3, 7, 6), mask), block(x, mask))


class Recorded(torch.nn.Module):
    """Stands for a matcher: knows which picture (by its value) was confronted with which text (by its first id)."""

    def __init__(self, logit: float = 0.0) -> None:
        super().__init__()
        self.logit = torch.nn.Parameter(torch.tensor(logit))
        self.pairs: list[tuple[int, int]] = []

    def look(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels[:, 0, 0, :1].long()[:, :, None]

    def compare(self, seen: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        self.pairs = list(zip(seen[:, 0, 0].tolist(), ids[:, 0].tolist(), strict=True))
        return self.logit * torch.where(seen[:, 0, 0] == ids[:, 0], 1.0, -1.0)


def numbered(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(n)[:, None, None, None].expand(n, 3, 2, 2).float(), torch.arange(n)[:, None]


def met(recorded: Recorded, n: int, wrong: int) -> tuple[list[set[int]], list[set[int]]]:
    """The wrong texts of each picture, and the wrong pictures of each text, that the matcher was asked about."""
    assert recorded.pairs[:n] == [(i, i) for i in range(n)] and len(recorded.pairs) == n * (1 + 2 * wrong)
    texts, pictures = recorded.pairs[n : n * (1 + wrong)], recorded.pairs[n * (1 + wrong) :]
    assert [i for i, _ in texts] == [j for _, j in pictures] == [i for i in range(n) for _ in range(wrong)]
    by_picture = [{j for k, j in texts if k == i} for i in range(n)]
    by_text = [{k for k, j in pictures if j == i} for i in range(n)]
    assert all(len(some) == wrong for some in (*by_picture, *by_text))
    return by_picture, by_text


@pytest.mark.parametrize("wrong", [1, 3, 4])
def test_wrong_ones_are_likely_ones_of_the_batch_and_never_known_to_fit(wrong: int) -> None:
    n = 6
    pixels, ids = numbered(n)
    # 0 and 1 fit each other too; 2 is much like 5.
    known = torch.eye(n, dtype=torch.bool)
    known[0, 1] = known[1, 0] = True
    likeness = torch.zeros(n, n)
    likeness[2, 5] = likeness[5, 2] = 50.0
    seen = set()
    for seed in range(60):
        torch.manual_seed(seed)
        recorded = Recorded()
        loss, right = matching_loss(recorded, pixels, ids, likeness, known, wrong=wrong)
        by_picture, by_text = met(recorded, n, wrong)
        for i in range(n):
            assert not any(known[i, j] for j in by_picture[i]) and not any(known[j, i] for j in by_text[i])
            seen |= {(i, j) for j in by_picture[i]} | {(j, i) for j in by_text[i]}
        assert all(5 in found[2] and 2 in found[5] for found in (by_picture, by_text))
        assert loss.item() == pytest.approx(np.log(1 + wrong)) and right.item() == 0  # a tie is no choice
    assert len(seen) == int((~known).sum())


def test_wrong_ones_are_drawn_as_often_as_their_softmax_says() -> None:
    n, odds = 4, torch.tensor([0.0, np.log(2.0), np.log(5.0)])
    pixels, ids = numbered(n)
    likeness = torch.zeros(n, n)
    likeness[0, 1:] = odds
    torch.manual_seed(0)
    recorded, counts = Recorded(), np.zeros(n)
    for _ in range(2000):
        matching_loss(recorded, pixels, ids, likeness, torch.eye(n, dtype=torch.bool), wrong=1)
        (drawn,) = met(recorded, n, 1)[0][0]
        counts[drawn] += 1
    shares = np.array([0, 1, 2, 5]) / 8
    assert (np.abs(counts / 2000 - shares) < 5 * np.sqrt(shares * (1 - shares) / 2000) + 1e-9).all()


@pytest.mark.parametrize("logit", [-2.0, 0.5, 3.0])
@pytest.mark.parametrize("wrong", [1, 3])
def test_the_loss_in_closed_form(logit: float, wrong: int) -> None:
    """For a matcher that gives z to pairs that fit and −z to others: log(1 + k exp(−2 z))."""
    pixels, ids = numbered(5)
    eye = torch.eye(5, dtype=torch.bool)
    loss, right = matching_loss(Recorded(logit), pixels, ids, torch.randn(5, 5), eye, wrong=wrong)
    assert loss.item() == pytest.approx(np.log1p(wrong * np.exp(-2 * logit)), rel=1e-4)
    assert right.item() == float(logit > 0)


def test_a_batch_without_enough_negatives_is_refused() -> None:
    pixels, ids = numbered(4)
    known = torch.eye(4, dtype=torch.bool)
    matching_loss(Recorded(), pixels, ids, torch.zeros(4, 4), known, wrong=3)
    known[1, 2] = True
    with pytest.raises(ValueError, match="larger batch"):
        matching_loss(Recorded(), pixels, ids, torch.zeros(4, 4), known, wrong=3)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="tokens"):
        small(vocab=299)
    with pytest.raises(ConfigError, match="one text for each"):
        small().score(PICTURES, TEXTS[:2])
