"""The cost of small vectors: nothing where nothing is lost, and otherwise what a search by hand finds."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tectum.errors import EvaluationError
from tectum.evaluate.export import export_costs


def unit(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_full_vectors_cost_nothing_and_bytes_are_counted() -> None:
    costs = export_costs(unit(20, 24), unit(50, 24, 1), 5)
    assert [(cost.dim, cost.dtype, cost.bytes) for cost in costs] == [(24, "float32", 96), (24, "float16", 48), (24, "int8", 28)]
    assert costs[0].neighbours.score().value == 1
    assert all(cost.recall is None for cost in costs)
    assert all(0.8 < cost.neighbours.score().value <= 1 for cost in costs)


def test_it_is_the_overlap_of_two_searches() -> None:
    queries, items, k = unit(30, 16), unit(80, 16, 1), 7
    exact = (queries @ items.T).topk(k).indices
    for dim in (3, 8):
        (cost,) = export_costs(queries, items, k, dims=[dim], dtypes=["float32"])
        cut = F.normalize(queries[:, :dim], dim=-1) @ F.normalize(items[:, :dim], dim=-1).T
        now = cut.topk(k).indices
        expected = np.mean([len(set(a.tolist()) & set(b.tolist())) / k for a, b in zip(exact, now, strict=True)])
        assert cost.neighbours.score().value == pytest.approx(expected)


def test_where_the_end_of_a_vector_is_empty_nothing_is_lost_by_cutting_it() -> None:
    queries, items = (F.pad(unit(15, 6, seed), (0, 10)) for seed in (0, 1))
    costs = export_costs(queries, items[:12], 3, dims=[6, 16], dtypes=["float32"], right=[[i % 12] for i in range(15)])
    assert [cost.neighbours.score().value for cost in costs] == [1, 1]
    assert costs[0].recall.score().value == costs[1].recall.score().value


def test_right_items_are_found_as_often_as_they_are_near() -> None:
    items = torch.eye(9) + 0.01
    (cost,) = export_costs(items, items, 1, dims=[4], dtypes=["int8"], right=[[i] for i in range(9)])
    assert cost.recall.score().value == pytest.approx(4 / 9)  # The other five are alike without their own number.
    score = cost.neighbours.score()
    assert score.interval is not None and dict(score.passport.settings)["dtype"] == "int8"


def test_mistakes_are_told() -> None:
    with pytest.raises(EvaluationError, match="cannot be cut to 9"):
        export_costs(unit(3, 8), unit(5, 8), 2, dims=[9])
    with pytest.raises(EvaluationError, match="type 'int4'"):
        export_costs(unit(3, 8), unit(5, 8), 2, dtypes=["int4"])
    with pytest.raises(EvaluationError, match="no 6 neighbours among 5 items"):
        export_costs(unit(3, 8), unit(5, 8), 6)
    with pytest.raises(EvaluationError, match="embed both with one model"):
        export_costs(unit(3, 8), unit(5, 7), 2)
