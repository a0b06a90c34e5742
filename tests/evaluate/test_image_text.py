"""CLIPScore from its formula, over a random space; what the passport tells; texts past the context."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tectum.errors import EvaluationError, PassportError
from tectum.evaluate.image_text import PROMPT, clip_score, clip_scores, identity, ref_clip_score, ref_clip_scores
from tectum.evaluate.measurement import compare, merge
from tectum.models.space import Space
from tectum.models.towers import TextTower

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from tiny_space import TEXTS, tiny_space


@pytest.fixture(scope="module")
def space() -> Space:
    """A random space in which pictures and texts happen to lie on one side; scores of 0 would tell nothing."""
    for seed in range(50):
        found = tiny_space(seed)
        vectors = found.embed(image=pictures(5), text=[PROMPT + text for text in TEXTS])
        if (vectors["image"] @ vectors["text"].T).min() > 0.05:
            return found
    raise AssertionError("no seed gives such a space")


def pictures(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 40, 40, 3), dtype=np.uint8))


def turned(*degrees: float) -> np.ndarray:
    """Vectors of lengths other than 1 at angles to the first axis."""
    radians = np.radians(degrees)
    return np.stack((np.cos(radians), np.sin(radians)), 1) * np.arange(1, len(degrees) + 1)[:, None]


def test_clip_score_is_the_scaled_cosine_and_never_negative() -> None:
    found = clip_scores(turned(0, 0, 0, 0), turned(0, 60, 90.1, 180))
    assert found == pytest.approx([2.5, 1.25, 0, 0], abs=1e-7)
    assert clip_scores(turned(0, 0), turned(60, 60), w=100) == pytest.approx([50, 50], abs=1e-5)


def test_ref_clip_score_is_the_harmonic_mean_with_the_nearest_reference() -> None:
    images, texts = turned(0, 0, 0, 90), turned(60, 60, 60, 180)
    references = [turned(60), turned(150, 0, 121), turned(180), turned(180)]
    fit = 1.25
    expected = [2 * fit * 1 / (fit + 1), 2 * fit * 0.5 / (fit + 0.5), 0, 0]
    assert ref_clip_scores(images, texts, references) == pytest.approx(expected, abs=1e-6)
    # The order of references, and copies of them, change nothing.
    once, again = (ref_clip_scores(images[1:2], texts[1:2], [one]) for one in (references[1], turned(0, 121, 150, 0)))
    assert once == pytest.approx(again, abs=1e-7)


def test_scores_of_half_precision_vectors_are_computed_in_double() -> None:
    """A published accident: a sum of products in float16 gave 2.527 where 0.858 is right."""
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(50, 512, generator=generator).half(), torch.randn(50, 512, generator=generator).half()
    a, b = images.double().numpy() * 30, texts.double().numpy() * 30
    expected = 2.5 * np.maximum((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1), 0)
    assert clip_scores(images * 30, texts * 30) == pytest.approx(expected, abs=1e-3)
    assert clip_scores(images, texts) == pytest.approx(expected, abs=1e-7)


def test_a_space_measures_what_its_vectors_say_with_the_prompt_before_every_text(space: Space) -> None:
    images, texts = pictures(4), TEXTS[:4]
    references = [[TEXTS[4]], TEXTS[:2], [TEXTS[3]], TEXTS[1:]]
    vectors = space.embed(image=images, text=[PROMPT + text for text in texts])
    fit = clip_scores(vectors["image"], vectors["text"])
    measured = clip_score(space, images, texts, ids=list("abcd"))
    assert list(measured.values().values()) == pytest.approx(fit)
    each = [space.embed(text=[PROMPT + text for text in one])["text"] for one in references]
    with_references = ref_clip_score(space, images, texts, references)
    expected = ref_clip_scores(vectors["image"], vectors["text"], each)
    assert list(with_references.values().values()) == pytest.approx(expected, abs=1e-6)
    without = clip_score(space, images, texts, prompt="")
    assert not np.allclose(without.statistics[:, 0], fit)


def test_the_passport_tells_everything_that_moves_the_score(space: Space) -> None:
    images = pictures(2)
    passport = clip_score(space, images, TEXTS[:2]).passport
    assert str(passport) == f"clipscore|dtype=float32|model={identity(space)}|prompt=A photo depicts |scale=w*max(cos,0)|w=2.5"
    others = [
        clip_score(space, images, TEXTS[:2], w=100),
        clip_score(space, images, TEXTS[:2], prompt="a photo of "),
        clip_score(tiny_space(seed=77), images, TEXTS[:2]),
    ]
    for other in others:
        with pytest.raises(PassportError, match="made differently"):
            compare(other, clip_score(space, images, TEXTS[:2]))
    assert identity(tiny_space(3)) == identity(tiny_space(3)) != identity(tiny_space(4))
    loaded = tiny_space()
    loaded.fingerprint = "0123456789abcdef"
    assert identity(loaded) == "tiny:0123456789abcdef"


def test_texts_past_the_context_keep_their_end_token(space: Space) -> None:
    """With the end cut off, a model pools at the wrong place: a known bug elsewhere turned 26 into 17."""
    tower = space.tower("text")
    assert isinstance(tower, TextTower)
    tokenizer = tower.tokenizer
    long = "a quick brown fox jumps over the lazy dog " * 30
    ids = tokenizer([PROMPT + long])[0]
    assert ids[0] == tokenizer.bos and ids[-1] == tokenizer.eos and (ids == tokenizer.eos).sum() == 1
    # What lies past the context does not matter; and the score is that of the words that fit.
    image = pictures(1)
    scores = [clip_score(space, image, [text]).score().value for text in (long, long + "rain on the roof", long[:200])]
    assert scores[0] == scores[1] == scores[2] and math.isfinite(scores[0])
    fitting = tokenizer.decode(ids)
    assert len(tokenizer.inner.encode(fitting, add_special_tokens=False).ids) == tokenizer.context - 2
    assert clip_score(space, image, [fitting], prompt="").score().value == pytest.approx(scores[0], abs=1e-6)


def test_shards_merge_and_groups_are_kept(space: Space) -> None:
    images, texts, ids = pictures(5), TEXTS, list("abcde")
    whole = clip_score(space, images, texts, ids=ids, groups=["x", "x", "y", "y", "z"])
    parts = [clip_score(space, images[r], texts[r], ids=ids[r], groups=whole.groups[r]) for r in (slice(3, 5), slice(0, 3))]  # type: ignore[index]
    assert merge(parts).score().value == pytest.approx(whole.score().value, abs=1e-6)
    assert set(merge(parts).groups or ()) == {"x", "y", "z"}


def test_unicode_empty_texts_and_nothing_are_defined(space: Space) -> None:
    assert all(map(math.isfinite, clip_score(space, pictures(3), ["", "狗 🐕 \u202e", "\ufeff" * 100]).values().values()))
    nothing = clip_score(space, [], []).score()
    assert math.isnan(nothing.value) and nothing.n == 0
    assert ref_clip_score(space, [], [], []).score().n == 0
    assert clip_score(space, pictures(1), ["a dog"]).score().interval is None


def test_what_does_not_fit_is_told(space: Space) -> None:
    with pytest.raises(EvaluationError, match="2 pictures and 1 texts are no pairs"):
        clip_score(space, pictures(2), ["a dog"])
    with pytest.raises(EvaluationError, match="2 pictures and 3 texts are no pairs"):
        clip_scores(turned(0, 1), turned(0, 1, 2))
    with pytest.raises(EvaluationError, match="texts are a list"):
        clip_score(space, pictures(1), "a dog")
    with pytest.raises(EvaluationError, match="references of a text are a list"):
        ref_clip_score(space, pictures(1), ["a dog"], ["a cat"])
    with pytest.raises(EvaluationError, match="text 1 has no reference"):
        ref_clip_score(space, pictures(2), TEXTS[:2], [["a cat"], []])
    with pytest.raises(EvaluationError, match="1 texts need 1 lists of references, not 2"):
        ref_clip_score(space, pictures(1), ["a dog"], [["a cat"], ["a cat"]])
    with pytest.raises(EvaluationError, match="item vector 0 is zero or not finite"):
        clip_scores(turned(0), [[math.nan, 1.0]])
    with pytest.raises(EvaluationError, match=r"shape \(2,\)"):
        clip_scores([1.0, 0.0], turned(0))
