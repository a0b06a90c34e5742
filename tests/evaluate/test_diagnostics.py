"""Diagnostics on embeddings whose state is known: perfect, collapsed, apart, duplicated, too cold and too warm."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tectum.contrastive.binding import Edge
from tectum.contrastive.loss import info_nce
from tectum.errors import EvaluationError
from tectum.evaluate.diagnostics import diagnose, harder
from tectum.evaluate.similarity_picture import save_similarity_picture, similarity_picture

EDGE = Edge(a="image", b="text")
SIGMOID = Edge(a="image", b="text", loss="sigmoid")
RNG = np.random.default_rng(0)


def unit(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def scale(value: float, edge: Edge = EDGE) -> dict[Edge, torch.Tensor]:
    return {edge: torch.tensor(value, requires_grad=True)}


def test_orthogonal_pairs_have_closed_forms() -> None:
    found = diagnose({"image": torch.eye(6), "text": torch.eye(6)}, [EDGE], scale(3.0))
    assert found["image-text gap"] == found["image-text harder"] == found["image-text at limit"] == 0
    assert found["image effective rank"] == pytest.approx(6)
    # log(1 + 5 exp(-s)) by log s
    assert found["image-text scale gradient"] == pytest.approx(-3 * 5 * math.exp(-3) / (1 + 5 * math.exp(-3)), rel=1e-5)
    assert found["image-text scale"] == 3


def test_a_collapse_and_a_gap_show() -> None:
    one, other = torch.tensor([[1.0, 0.0]]).expand(5, 2), torch.tensor([[0.0, 1.0]]).expand(5, 2)
    found = diagnose({"image": one, "text": other}, [EDGE], scale(10.0))
    assert found["image-text gap"] == pytest.approx(math.sqrt(2))
    assert found["image-text harder"] == 1  # Whatever is as near as the match counts against it.
    assert found["image effective rank"] == found["text effective rank"] == pytest.approx(1)
    assert found["image-text scale gradient"] == pytest.approx(0, abs=1e-6)


def test_chance_is_half_and_the_order_of_rows_means_nothing() -> None:
    a, b = unit(300, 20), unit(300, 20, 1)
    plain = diagnose({"image": a, "text": b}, [EDGE], {})
    assert plain["image-text harder"] == pytest.approx(0.5, abs=0.05)
    order = torch.from_numpy(RNG.permutation(300))
    shuffled = diagnose({"image": a, "text": b[order]}, [EDGE], {}, {"image": torch.arange(300), "text": order})
    assert shuffled["image-text harder"] == pytest.approx(plain["image-text harder"], abs=1e-9)
    assert shuffled["image-text gap"] == pytest.approx(plain["image-text gap"], abs=1e-6)


def test_the_gradient_is_that_of_the_loss_also_inside_inference_mode() -> None:
    a, b = unit(12, 7), unit(12, 7, 1)
    log_scale = torch.tensor(math.log(20.0), requires_grad=True)
    info_nce(a, b, log_scale.exp()).loss.backward()
    with torch.inference_mode():
        found = diagnose({"image": a * 1, "text": b * 1}, [EDGE], {EDGE: torch.tensor(20.0)})
    assert found["image-text scale gradient"] == pytest.approx(log_scale.grad.item(), rel=1e-5)


def test_temperatures_at_their_limit_and_edges_by_sigmoid() -> None:
    views = {"image": unit(12, 7), "text": unit(12, 7)}
    assert diagnose(views, [EDGE], scale(100.0))["image-text at limit"] == 1
    assert diagnose(views, [EDGE], scale(99.9))["image-text at limit"] == 0
    assert "image-text scale gradient" not in diagnose(views, [SIGMOID], scale(10.0, SIGMOID))
    found = diagnose(views, [SIGMOID], scale(10.0, SIGMOID), biases={SIGMOID: torch.tensor(-10.0)})
    assert math.isfinite(found["image-text scale gradient"])


def test_duplicates_are_counted_and_a_teacher_sees_false_negatives() -> None:
    """Six items of which 0, 1 and 2, 3 are the same, which only the teacher and the ids of the items know."""
    what = torch.tensor([0, 0, 1, 1, 2, 3])
    teacher = torch.eye(4)[what]
    views, own = {"image": unit(6, 5), "text": unit(6, 5)}, torch.arange(6)
    blind = diagnose(views, [EDGE], {}, {"image": own, "text": own}, teacher={"image": teacher, "text": teacher})
    assert blind["image-text duplicates"] == 0 and blind["image-text harder"] == 0
    assert blind["image-text false negatives"] == pytest.approx(4 / 6 / 5)  # One of five others, for four of six.
    seeing = diagnose(views, [EDGE], {}, {"image": what, "text": what})
    assert seeing["image-text duplicates"] == pytest.approx(4 / 30)


def test_views_that_are_not_there_and_items_without_partners_are_left_out() -> None:
    views = {"image": unit(5, 4), "text": unit(3, 4, 1)}
    edges = [EDGE, Edge(a="image", b="audio")]
    found = diagnose(views, edges, scale(10.0), {"image": torch.arange(5), "text": torch.tensor([4, 2, 9])})
    assert 0 <= found["image-text harder"] <= 1 and not [name for name in found if "audio" in name]
    apart = diagnose(views, edges, scale(10.0), {"image": torch.arange(5), "text": torch.arange(3) + 10})
    assert "image-text harder" not in apart and "image-text scale gradient" not in apart
    assert all(math.isfinite(value) for value in (*found.values(), *apart.values()))


def test_harder_by_hand() -> None:
    a, b = unit(9, 4), unit(7, 4, 1)
    right = [np.array(rows) for rows in ([0], [1, 2], [], [3], list(range(7)), [4], [5], [6], [0, 6])]
    shares = []
    for row, items in zip(a, right, strict=True):
        others = np.setdiff1d(np.arange(7), items)
        if len(items) and len(others):
            shares.append(((b[others] @ row) >= (b[items] @ row).max()).float().mean().item())
    assert harder(a, b, right) == pytest.approx(np.mean(shares))
    assert math.isnan(harder(a, b, [np.zeros(0, np.int64)] * 9))


def test_the_picture_is_dark_where_pairs_are_alike(tmp_path) -> None:
    eye = torch.eye(16)
    picture = similarity_picture(eye, eye, names=("image", "text"), title="perfect")
    field = np.asarray(picture.convert("L"), float)[64:704, 64:704].reshape(16, 40, 16, 40).mean((1, 3))
    assert np.diagonal(field).max() < field[~np.eye(16, dtype=bool)].min() - 100
    order = torch.from_numpy(RNG.permutation(16))
    shuffled = similarity_picture(eye[order], eye, ids=(order, torch.arange(16)), names=("image", "text"), title="perfect")
    assert np.array_equal(np.asarray(shuffled), np.asarray(picture))
    save_similarity_picture(picture, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as saved:
        assert np.array_equal(np.asarray(saved), np.asarray(picture))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_pictures_of_any_counts() -> None:
    for a, b in ((unit(1, 4), unit(1, 4)), (unit(500, 4), unit(3, 4)), (unit(4, 4).expand(4, 4), unit(4, 4))):
        assert similarity_picture(a, b).size == similarity_picture(unit(9, 4), unit(9, 4)).size
    same = torch.ones(5, 3)
    similarity_picture(same, same)
    with pytest.raises(EvaluationError, match="have no similarity matrix"):
        similarity_picture(unit(3, 4), unit(3, 5))
    with pytest.raises(EvaluationError, match="have no similarity matrix"):
        similarity_picture(unit(0, 4), unit(3, 4))
    with pytest.raises(EvaluationError, match="with 2 and 3 ids"):
        similarity_picture(unit(3, 4), unit(3, 4), ids=(torch.arange(2), torch.arange(3)))
