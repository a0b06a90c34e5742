"""Binding: a ragged batch is what its pairs are, whatever else it holds; over processes too."""

from __future__ import annotations

import doctest
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tectum.contrastive.binding import Edge, bind, complete, star
from tectum.contrastive.loss import info_nce, initial_bias, sigmoid_loss
from tectum.contrastive.targets import Ids, Targets

VIEWS = ("image", "text", "audio")
EDGES = (
    Edge(a="image", b="text"),
    Edge(a="audio", b="image", weight=0.5, frozen="image"),
    Edge(a="text", b="audio", weight=2.0, loss="sigmoid"),
)
SCALES = {edge: torch.tensor(5.0 + i, dtype=torch.float64) for i, edge in enumerate(EDGES)}
BIASES = {EDGES[2]: torch.tensor(initial_bias(8), dtype=torch.float64)}


def unit(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def a_batch(n: int = 8) -> dict[str, torch.Tensor]:
    return {view: unit(n, 5, seed).requires_grad_() for seed, view in enumerate(VIEWS)}


def by_hand(views: dict[str, torch.Tensor], ids: dict[str, torch.Tensor]) -> torch.Tensor:
    """The loss of EDGES by dense cross-entropies, one edge after the other."""
    total = torch.zeros((), dtype=torch.float64)
    for edge in EDGES:
        a, b = (views[view].detach() if view == edge.frozen else views[view] for view in (edge.a, edge.b))
        matched = (ids[edge.a][:, None] == ids[edge.b]).double()
        logits = SCALES[edge] * a @ b.T
        if edge.loss == "sigmoid":
            loss = -F.logsigmoid((2 * matched - 1) * (logits + BIASES[edge])).sum() / len(a)
        else:
            loss = torch.zeros((), dtype=torch.float64)
            for scores, wanted in ((logits, matched), (logits.T, matched.T)):
                rows = wanted.sum(1) > 0
                loss = loss + F.cross_entropy(scores[rows], wanted[rows] / wanted[rows].sum(1, keepdim=True)) / 2
        total = total + edge.weight * loss
    return total


@settings(max_examples=40)
@given(
    present=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=8, max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_a_ragged_batch_is_its_pairs_by_id(present: list[list[bool]], order) -> None:
    present[0], present[1] = [True] * 3, [True] * 3
    full = a_batch()
    views, ids = {}, {}
    for column, view in enumerate(VIEWS):
        rows = [row for row, has in enumerate(present) if has[column]]
        order.shuffle(rows)
        views[view], ids[view] = full[view][rows], torch.tensor(rows)
    total, outputs = bind(views, EDGES, SCALES, ids=ids, biases=BIASES)
    assert set(outputs) == set(EDGES)
    expected = by_hand(views, ids)
    torch.testing.assert_close(total, expected)
    found = torch.autograd.grad(total, list(full.values()), allow_unused=True, retain_graph=True)
    wanted = torch.autograd.grad(expected, list(full.values()), allow_unused=True, retain_graph=True)
    torch.testing.assert_close(found, wanted)


def test_a_full_batch_needs_no_ids_and_their_names_do_not_matter() -> None:
    views = a_batch()
    plain, _ = bind(views, EDGES, SCALES, biases=BIASES)
    names = torch.tensor([90, 7, 7000000000000, 5, -3, 1, 0, 8])
    named, _ = bind(views, EDGES, SCALES, ids=dict.fromkeys(VIEWS, names), biases=BIASES)
    torch.testing.assert_close(plain, named)


def test_several_rows_of_a_sample_are_all_its_own() -> None:
    """Two captions of one picture, as in one id twice."""
    edge, images, texts = EDGES[0], unit(2, 5), unit(3, 5, 1)
    ids = {"image": torch.tensor([4, 9]), "text": torch.tensor([9, 4, 9])}
    total, _ = bind({"image": images, "text": texts}, [edge], SCALES, ids=ids)
    torch.testing.assert_close(total, info_nce(images, texts, 5.0, targets=torch.tensor([[0, 1, 0], [1, 0, 1]]).double()).loss)


def test_given_targets_win_and_reach_both_losses() -> None:
    views, ids = a_batch(), dict.fromkeys(VIEWS, torch.arange(8))
    targets = {EDGES[0]: Targets(smoothing=0.2), EDGES[2]: torch.ones(8, 8, dtype=torch.float64)}
    _, outputs = bind(views, EDGES, SCALES, targets, ids=ids, biases=BIASES)
    image, text, audio = views.values()
    torch.testing.assert_close(outputs[EDGES[0]].loss, info_nce(image, text, 5.0, targets=Targets(smoothing=0.2)).loss)
    expected = sigmoid_loss(text, audio, 7.0, BIASES[EDGES[2]], targets=targets[EDGES[2]])
    torch.testing.assert_close(outputs[EDGES[2]].loss, expected.loss)


def test_the_view_that_only_teaches_gets_no_gradient_from_its_edge() -> None:
    views = a_batch()
    total, _ = bind(views, [EDGES[1]], SCALES)
    total.backward()
    assert views["image"].grad is None and views["audio"].grad is not None


def test_edges_without_a_common_sample_or_a_view_are_passed_over() -> None:
    views = a_batch()
    ids = {"image": torch.arange(8), "text": torch.arange(8), "audio": torch.arange(8) + 100}
    _, outputs = bind(views, EDGES, SCALES, ids=ids, biases=BIASES)
    assert list(outputs) == [EDGES[0]]
    _, outputs = bind({name: views[name] for name in ("image", "audio")}, EDGES, SCALES, biases=BIASES)
    assert list(outputs) == [EDGES[1]]
    with pytest.raises(ValueError, match=r"none of the 3 edges has both its views among \['audio'\]"):
        bind({"audio": views["audio"]}, EDGES, SCALES)
    with pytest.raises(ValueError, match="none of the 1 edges has both its views of a common sample"):
        bind(views, EDGES[1:2], SCALES, ids=ids)


def test_graphs() -> None:
    assert star("a", "bc") == (Edge(a="a", b="b"), Edge(a="a", b="c"))
    assert complete("abc") == (*star("a", "bc"), Edge(a="b", b="c"))
    assert len(complete("abcdef")) == math.comb(6, 2)


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="image-text cannot freeze 'audio'"):
        Edge(a="image", b="text", frozen="audio")
    with pytest.raises(ValueError, match="no loss 'hinge': choose one of softmax, sigmoid"):
        Edge(a="image", b="text", loss="hinge")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="edge text-audio by sigmoid needs a bias"):
        bind(a_batch(), EDGES, SCALES)
    with pytest.raises(ValueError, match="do not fit 8 × 8 embeddings"):
        bind(a_batch(), EDGES[:1], SCALES, ids={"image": torch.arange(8), "text": torch.arange(7)})


def test_two_processes_with_ragged_shares_are_one() -> None:
    """Rows meet their partners in another process, and one process lacks a view altogether."""
    program = Path(__file__).with_name("ragged_processes.py")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_ids_of_a_dense_pair_agree_with_dense_targets() -> None:
    a, b, ids = unit(6, 4), unit(6, 4, 1), torch.tensor([0, 1, 1, 2, 0, 3])
    dense = (ids[:, None] == ids).double()
    total, _ = bind({"image": a, "text": b}, EDGES[:1], SCALES, ids={"image": ids, "text": ids})
    torch.testing.assert_close(total, info_nce(a, b, 5.0, targets=dense).loss)
    torch.testing.assert_close(total, info_nce(a, b, 5.0, targets=Targets(positives=Ids(ids, ids))).loss)


def test_the_guides_examples_run() -> None:
    guide = Path(__file__).parents[2] / "docs" / "binding.md"
    found = doctest.testfile(str(guide), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 20 and found.failed == 0
