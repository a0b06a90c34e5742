"""Zero-shot accuracy from given vectors and over a random space, with scikit-learn's top-k accuracy as oracle."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tectum.errors import EvaluationError, PassportError
from tectum.evaluate.measurement import compare, merge
from tectum.evaluate.zero_shot import accuracy, class_vectors, zero_shot, zero_shot_of

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from tiny_space import TEXTS, tiny_space


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_top_k_accuracy_is_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    vectors, classes, truths = random(300, 16), random(20, 16, seed=1), np.random.default_rng(2).integers(0, 20, 300)
    hits = zero_shot(vectors, classes, truths)
    cosines = vectors @ (classes / np.linalg.norm(classes, axis=1, keepdims=True)).T
    for k in (1, 5, 19):
        assert accuracy(hits, k).score().value == sklearn.top_k_accuracy_score(truths, cosines, k=k, labels=np.arange(20))


def test_accuracy_grows_with_k_to_one_and_chance_is_its_expectation_under_ties() -> None:
    vectors, truths = random(60, 8), np.random.default_rng(0).integers(0, 10, 60)
    values = [accuracy(zero_shot(vectors, random(10, 8, seed=1), truths), k).score().value for k in range(1, 11)]
    assert values == sorted(values) and values[-1] == 1
    collapsed = zero_shot(vectors, np.ones((10, 8)), truths)
    assert accuracy(collapsed, 3).score().value == 0
    assert accuracy(collapsed, 3, ties="average").score().value == pytest.approx(0.3)


def test_class_vectors_are_unit_means_of_unit_prompts() -> None:
    """A long prompt vector has no more say than a short one."""
    prompts = np.array([[[10.0, 0.0], [0.0, 0.1]], [[1.0, 0.0], [1.0, 0.0]]])
    torch.testing.assert_close(class_vectors(prompts), torch.tensor([[0.5**0.5, 0.5**0.5], [1.0, 0.0]], dtype=torch.float64))


def test_over_a_space_it_is_the_argmax_of_classify() -> None:
    space = tiny_space()
    images = list(np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8))
    labels = ["dog", "rain", "apple"]
    truths = [labels[i % 3] for i in range(30)]
    for templates in (None, ["{}", "a drawing of {}"]):
        probabilities = space.classify(labels, templates=templates, image=images)
        expected = [float(labels[row] == truth) for row, truth in zip(probabilities.argmax(1), truths, strict=True)]
        hits = zero_shot_of(space, labels, truths, templates=templates, image=images)
        assert list(accuracy(hits).values().values()) == expected
    by_hand = space.embed(text=["{}".replace("{}", x) for x in labels])["text"]
    torch.testing.assert_close(class_vectors(by_hand[:, None]).float(), F.normalize(by_hand, dim=-1))


def test_other_prompts_labels_or_numbers_of_classes_are_not_compared() -> None:
    space = tiny_space()

    def measured(labels: list[str], templates: list[str]) -> object:
        return accuracy(zero_shot_of(space, labels, ["dog", "rain"], templates=templates, text=TEXTS[:2]))

    base = measured(["dog", "rain", "sea"], ["{}"])
    assert compare(base, measured(["dog", "rain", "sea"], ["{}"])).difference == 0  # type: ignore[arg-type]
    for labels, templates, named in (
        (["dog", "rain", "sea"], ["a {}"], "templates is"),
        (["dog", "rain", "sky"], ["{}"], "labels is"),
        (["dog", "rain"], ["{}"], "classes is"),
    ):
        with pytest.raises(PassportError, match=named):
            compare(base, measured(labels, templates))  # type: ignore[arg-type]


def test_shards_merge_bit_for_bit() -> None:
    vectors, classes, truths = random(50, 8), random(7, 8, seed=1), np.random.default_rng(2).integers(0, 7, 50)
    ids = [f"{i:02}" for i in range(50)]
    whole = accuracy(zero_shot(vectors, classes, truths, ids=ids), 2)
    parts = [accuracy(zero_shot(vectors[r], classes, truths[r], ids=ids[r]), 2) for r in (slice(20, 50), slice(0, 20))]
    assert merge(parts).score() == whole.score()


def test_what_does_not_fit_is_told() -> None:
    space = tiny_space()
    with pytest.raises(EvaluationError, match="the truth 'cat' is none of the 2 labels"):
        zero_shot_of(space, ["dog", "rain"], ["cat"], text=["a"])
    with pytest.raises(EvaluationError, match="the label 'dog' is there twice"):
        zero_shot_of(space, ["dog", "rain", "dog"], ["dog"], text=["a"])
    with pytest.raises(EvaluationError, match="exactly one modality"):
        zero_shot_of(space, ["dog"], ["dog"])
    with pytest.raises(EvaluationError, match="text takes a list of items"):
        zero_shot_of(space, ["dog"], ["dog"], text="a dog")
    with pytest.raises(EvaluationError, match="1 queries need 1 sets of right items, not 2"):
        zero_shot_of(space, ["dog"], ["dog", "dog"], text=["a"])
    with pytest.raises(EvaluationError, match=r"prompt vectors have the shape \(2, 3\)"):
        class_vectors(np.ones((2, 3)))
    with pytest.raises(EvaluationError, match="class vector 0 is zero"):
        class_vectors([[[1.0, 0.0], [-1.0, 0.0]]])
    with pytest.raises(EvaluationError, match="query '0' has a right item 5"):
        zero_shot(random(1, 3), random(5, 3), [5])
