"""The contrastive loss: closed forms, symmetries, and PyTorch's cross-entropy as oracle."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from tectum.contrastive.binding import Edge, bind, star
from tectum.contrastive.loss import info_nce, match_ids, sigmoid_loss


def unit(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


@given(n=st.integers(1, 9), d=st.integers(2, 7), scale=st.floats(0.1, 100), seed=st.integers(0, 99))
def test_with_one_positive_it_is_the_mean_of_two_cross_entropies(n: int, d: int, scale: float, seed: int) -> None:
    a, b = unit(n, d, seed), unit(n, d, seed + 1)
    logits, labels = scale * a @ b.T, torch.arange(n)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    torch.testing.assert_close(info_nce(a, b, scale).loss, expected)


def test_orthogonal_pairs_have_the_closed_form_and_uniform_ones_log_n() -> None:
    for n in (2, 5, 16):
        eye = torch.eye(n, dtype=torch.float64)
        assert info_nce(eye, eye, 7.0).loss.item() == pytest.approx(math.log(1 + (n - 1) * math.exp(-7)))
        assert info_nce(eye, eye, 0.0).loss.item() == pytest.approx(math.log(n))


def test_swapping_the_sides_or_reordering_pairs_changes_nothing() -> None:
    a, b = unit(6, 5), unit(6, 5, 1)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(info_nce(a, b, 9.0).loss, info_nce(b, a, 9.0).loss)
    torch.testing.assert_close(info_nce(a, b, 9.0).loss, info_nce(a[order], b[order], 9.0).loss)


def test_duplicate_captions_are_positives_and_the_best_loss_is_their_entropy() -> None:
    ids = torch.tensor([0, 0, 1, 2])
    basis = torch.eye(3, dtype=torch.float64)[ids]
    perfect = info_nce(basis, basis, 1000.0, targets=match_ids(ids, ids).double()).loss.item()
    assert perfect == pytest.approx((2 * math.log(2)) / 4)  # two of four rows share their mass between two equal texts
    assert info_nce(basis, basis, 1000.0, targets=match_ids(ids, ids).double()).accuracy == 1


def test_targets_are_used_up_to_their_scale_per_row_for_a_one_way_problem() -> None:
    a, b = unit(4, 5), unit(7, 5, 1)
    targets = torch.rand(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    probabilities = targets / targets.sum(1, keepdim=True)
    rows = F.cross_entropy(5 * a @ b.T, probabilities)
    columns = F.cross_entropy((5 * a @ b.T).T, (targets / targets.sum(0)).T)
    torch.testing.assert_close(info_nce(a, b, 5.0, targets=targets).loss, (rows + columns) / 2)


def test_texts_without_a_picture_are_negatives_only() -> None:
    a, b = unit(3, 5), unit(5, 5, 1)
    targets = F.pad(torch.eye(3, dtype=torch.float64), (0, 2))
    logits = 4 * a @ b.T
    expected = (F.cross_entropy(logits, torch.arange(3)) + F.cross_entropy(logits.T[:3], torch.arange(3))) / 2
    torch.testing.assert_close(info_nce(a, b, 4.0, targets=targets).loss, expected)


def test_autocast_does_not_round_the_cosines() -> None:
    """Vectors in a narrow cone differ by less than bfloat16 resolves near 1."""
    cone = F.normalize(torch.randn(64, 32, generator=torch.Generator().manual_seed(0)) * 0.02 + 1, dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = info_nce(cone, cone, 100.0)
        sigmoid_inside = sigmoid_loss(cone, cone, 100.0, -99.0)
    outside = info_nce(cone, cone, 100.0)
    torch.testing.assert_close(sigmoid_inside.loss, sigmoid_loss(cone, cone, 100.0, -99.0).loss)
    torch.testing.assert_close(inside.loss, outside.loss)
    assert inside.accuracy == 1


def test_gradients_are_exact() -> None:
    a, b = unit(4, 3).requires_grad_(), unit(5, 3, 1).requires_grad_()
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    targets = match_ids(torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 2, 2, 5])).double()
    assert torch.autograd.gradcheck(lambda *xs: info_nce(*xs, targets=targets).loss, (a, b, scale))
    bias = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *xs: sigmoid_loss(*xs, targets=targets).loss, (a, b, scale, bias))


def test_sigmoid_loss_is_the_sum_of_pairwise_logistic_terms() -> None:
    a, b = unit(4, 3), unit(4, 3, 1)
    z = 2 * torch.eye(4, dtype=torch.float64) - 1
    expected = -F.logsigmoid(z * (10 * a @ b.T - 5)).sum() / 4
    torch.testing.assert_close(sigmoid_loss(a, b, 10.0, -5.0).loss, expected)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="3 and 4 embeddings need targets"):
        info_nce(unit(3, 2), unit(4, 2), 1.0)
    with pytest.raises(ValueError, match="do not fit 3 × 3"):
        info_nce(unit(3, 2), unit(3, 2), 1.0, targets=torch.eye(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="no pair has a positive target"):
        info_nce(unit(3, 2), unit(3, 2), 1.0, targets=torch.zeros(3, 3, dtype=torch.float64))


def test_binding_sums_the_edges_present_and_frozen_views_get_no_gradient() -> None:
    views = {name: unit(4, 6, seed).requires_grad_() for seed, name in enumerate(("image", "text", "audio"))}
    edges = (Edge(a="image", b="text"), Edge(a="audio", b="image", weight=0.5, frozen="image"))
    scales = {edge: torch.tensor(5.0, dtype=torch.float64) for edge in edges}
    total, parts = bind(views, edges, scales)
    expected = info_nce(views["image"], views["text"], 5.0).loss + 0.5 * info_nce(views["audio"], views["image"], 5.0).loss
    torch.testing.assert_close(total, expected)
    (gradient,) = torch.autograd.grad(parts[edges[1]].loss, views["image"], allow_unused=True)
    assert gradient is None
    assert bind({"image": views["image"], "text": views["text"]}, edges, scales)[1].keys() == {edges[0]}
    with pytest.raises(ValueError, match="none of the 2 edges"):
        bind({"text": views["text"]}, edges, scales)
    assert star("image", ["text"]) == (Edge(a="image", b="text"),)
