"""Distillation: closed forms, no gradient where nothing is to be learned, and a student that its own pairs do not suffice."""

import importlib
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from tectum.contrastive.distillation import Pair, distill, feature_loss, gram_loss, similarity_loss
from tectum.contrastive.loss import info_nce

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def unit(n: int, d: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def turned(x: torch.Tensor, d: int) -> torch.Tensor:
    """The same vectors in a space of more dimensions, rotated."""
    rotation = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(7))).Q
    return F.pad(x, (0, d - x.shape[1])) @ rotation


@given(s=st.floats(-20, 20), t=st.floats(-20, 20))
def test_two_items_have_the_divergence_of_two_coins(s: float, t: float) -> None:
    """Logits diag(x, x): every row and column is a coin that shows heads with probability σ(x)."""
    eye = torch.eye(2, dtype=torch.float64)
    heads, guess = 1 / (1 + math.exp(-t)), 1 / (1 + math.exp(-s))
    expected = heads * math.log(heads / guess) + (1 - heads) * math.log((1 - heads) / (1 - guess))
    assert similarity_loss(Pair(eye, eye, s), Pair(eye, eye, t)).item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(n=st.integers(1, 6), m=st.integers(1, 6), seed=st.integers(0, 99))
def test_it_is_the_mean_divergence_of_rows_and_of_columns(n: int, m: int, seed: int) -> None:
    student, teacher = Pair(unit(n, 3, seed), unit(m, 3, seed + 1), 4.0), Pair(unit(n, 5, seed + 2), unit(m, 5, seed + 3), 9.0)
    ours, theirs = (pair.scale * pair.a @ pair.b.T for pair in (student, teacher))

    def divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        kinds = (torch.distributions.Categorical(logits=logits) for logits in (p, q))
        return torch.distributions.kl_divergence(*kinds).mean()

    torch.testing.assert_close(similarity_loss(student, teacher), (divergence(theirs, ours) + divergence(theirs.T, ours.T)) / 2)
    assert similarity_loss(student, teacher) >= 0


def test_a_sure_teacher_is_the_contrastive_loss() -> None:
    a, b, eye = unit(5, 3, 0), unit(5, 3, 1), torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(similarity_loss(Pair(a, b, 6.0), Pair(eye, eye, 1000.0)), info_nce(a, b, 6.0).loss)


def test_a_student_that_does_as_its_teacher_gets_no_gradient_and_neither_does_the_teacher() -> None:
    a, b, scale = unit(5, 3, 0).requires_grad_(), unit(5, 3, 1).requires_grad_(), torch.tensor(8.0, dtype=torch.float64)
    scale.requires_grad_()
    teacher = Pair(turned(a, 7).detach().requires_grad_(), turned(b, 7).detach().requires_grad_(), 8.0)
    losses = (similarity_loss(Pair(a, b, scale), teacher), gram_loss(a, teacher.a), feature_loss(a, a.detach()))
    for loss in losses:
        assert loss.item() == pytest.approx(0, abs=1e-12)
        for gradient in torch.autograd.grad(loss, (a, b, scale, *teacher[:2]), allow_unused=True):
            assert gradient is None or gradient.abs().max() < 1e-12
    moved = similarity_loss(Pair(a, b.flip(0), scale), teacher)
    gradients = torch.autograd.grad(moved, (a, teacher.a), allow_unused=True)
    assert gradients[0].abs().max() > 1e-3 and gradients[1] is None


def test_the_gradients_are_those_of_finite_differences() -> None:
    teacher = Pair(unit(4, 6, 2), unit(3, 6, 3), 9.0)
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    student = (unit(4, 3, 0).requires_grad_(), unit(3, 3, 1).requires_grad_(), scale)
    assert torch.autograd.gradcheck(lambda *xs: similarity_loss(Pair(*xs), teacher), student)
    assert torch.autograd.gradcheck(lambda a: gram_loss(a, teacher.a) + feature_loss(a, unit(4, 3, 5)), student[:1])


def test_features_are_compared_by_distance_and_gram_matrices_up_to_a_rotation() -> None:
    a, b = unit(6, 4, 0), unit(6, 4, 1)
    torch.testing.assert_close(feature_loss(a, b), (2 - 2 * F.cosine_similarity(a, b)).mean())
    torch.testing.assert_close(gram_loss(a, b), gram_loss(turned(a, 9), b))


def test_the_weight_goes_from_the_pairs_to_the_teacher() -> None:
    student, teacher = Pair(unit(4, 3, 0), unit(4, 3, 1), 4.0), Pair(unit(4, 5, 2), unit(4, 5, 3), 9.0)
    own, taught = info_nce(*student).loss, similarity_loss(student, teacher)
    for weight in (0.0, 0.3, 1.0):
        torch.testing.assert_close(distill(student, teacher, weight), (1 - weight) * own + weight * taught)
    with pytest.raises(ValueError, match="weight is 2"):
        distill(student, teacher, 2)
    with pytest.raises(ValueError, match="give both the same"):
        similarity_loss(student, Pair(teacher.a[:2], teacher.b, 9.0))
    with pytest.raises(ValueError, match="give both the same"):
        gram_loss(student.a, teacher.a[:2])
    with pytest.raises(ValueError, match="map the former onto the latter"):
        feature_loss(student.a, teacher.a)


def test_bfloat16_vectors_are_compared_in_single_precision() -> None:
    a = unit(8, 16, 0).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        losses = similarity_loss(Pair(a, a, 100.0), Pair(a.float(), a.float(), 100.0)), gram_loss(a, a.float())
    for loss in losses:
        assert loss.dtype == torch.float32 and loss.item() == pytest.approx(0, abs=1e-6)


def test_a_teacher_brings_a_student_with_few_pairs_four_fifths_of_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    lessons = importlib.import_module("challenge_distillation")
    alone, best = lessons.with_few_pairs(0, "adamw"), lessons.as_large("few", 600, 0, "adamw")
    assert alone < 0.5 < 0.9 < best
    for lesson in (lessons.similarities, lessons.features):
        assert lessons.with_few_pairs(0, "adamw", lesson=lesson, matched=False) - alone > 0.8 * (best - alone)


def test_a_narrow_student_learns_from_features_what_it_does_not_find_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    lessons = importlib.import_module("challenge_distillation")
    alone, best = lessons.narrow(0, "adamw"), lessons.as_large("narrow", 1600, 0, "adamw")
    assert alone < 0.2 < 0.9 < best
    assert lessons.narrow(0, "adamw", lesson=lessons.features) - alone > 0.8 * (best - alone)
