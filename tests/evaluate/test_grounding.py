"""Grounding: IoU by counting cells, its symmetries, and the ends of both games."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tectum.errors import EvaluationError
from tectum.evaluate.grounding import box_accuracy, iou, peak, pointing_game
from tectum.evaluate.measurement import merge

boxes = st.tuples(*[st.integers(0, 6)] * 4)


def cells(box: tuple[int, ...]) -> np.ndarray:
    held = np.zeros((8, 8), bool)
    held[box[1] : box[3], box[0] : box[2]] = box[2] > box[0] and box[3] > box[1]
    return held


@given(a=boxes, b=boxes)
def test_iou_counts_cells_and_boxes_that_hold_nothing_have_none(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    shared, either = (cells(a) & cells(b)).sum(), (cells(a) | cells(b)).sum()
    assert iou(a, b) == (shared / either if either else 0)
    assert iou(a, b) == iou(b, a)
    flipped = [8 - a[2], a[1], 8 - a[0], a[3]], [8 - b[2], b[1], 8 - b[0], b[3]]
    assert iou(*flipped) == iou(a, b)


def test_iou_of_many_is_that_of_each() -> None:
    generator = np.random.default_rng(0)
    a, b = (np.sort(generator.normal(size=(n, 2, 2)), 1).reshape(n, 4) for n in (5, 7))
    table = iou(a[:, None], b)
    assert table.shape == (5, 7)
    assert all(table[i, j] == iou(a[i], b[j]) for i in range(5) for j in range(7))
    assert iou(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)
    np.testing.assert_allclose(iou(3 * a[:, None] + 1, 3 * b + 1), table)


def test_the_published_overlaps() -> None:
    """The three pairs in the documentation of torchmetrics (functional/detection/iou.py)."""
    predicted = [[296.55, 93.96, 314.97, 152.79], [328.94, 97.05, 342.49, 122.98], [356.62, 95.47, 372.33, 147.55]]
    wanted = [[300.00, 100.00, 315.00, 150.00], [330.00, 100.00, 350.00, 125.00], [350.00, 100.00, 375.00, 150.00]]
    assert iou(predicted, wanted).tolist() == pytest.approx([0.6898, 0.5086, 0.5654], abs=5e-5)
    scores = box_accuracy(dict(zip("abc", wanted, strict=True)), dict(zip("abc", predicted, strict=True)))
    assert scores["mean-iou"].score().value == pytest.approx(0.5879, abs=1e-4)
    assert scores["accuracy@0.5"].score().value == 1


def test_reaching_the_threshold_is_enough_and_it_is_named() -> None:
    square, half = [0, 0, 2, 2], [0, 0, 2, 1]
    assert box_accuracy({"a": square}, {"a": half})["accuracy@0.5"].score().value == 1
    assert box_accuracy({"a": square}, {"a": half}, threshold=0.75)["accuracy@0.75"].score().value == 0


def test_no_box_an_empty_box_and_several_references() -> None:
    references = {"none": [0, 0, 1, 1], "inverted": [0, 0, 1, 1], "several": [[5, 5, 6, 6], [0, 0, 1, 1]]}
    predictions = {"none": None, "inverted": [1, 1, 0, 0], "several": [0, 0, 1, 1]}
    assert box_accuracy(references, predictions)["accuracy@0.5"].values() == {"none": 0, "inverted": 0, "several": 1}
    assert math.isnan(box_accuracy({}, {})["mean-iou"].score().value)


def test_shards_merge_into_the_whole() -> None:
    generator = np.random.default_rng(1)
    references = {f"{i:02}": np.sort(generator.uniform(size=(2, 2)), 0).reshape(4) for i in range(30)}
    found = {key: box + generator.normal(size=4) * 0.05 for key, box in references.items()}
    whole = box_accuracy(references, found)
    keys = [sorted(references)[i::2] for i in (1, 0)]
    parts = [box_accuracy({k: references[k] for k in part}, {k: found[k] for k in part}) for part in keys]
    for name in whole:
        assert merge([part[name] for part in parts]).score() == whole[name].score()


@pytest.mark.parametrize(
    ("point", "tolerance", "hit"),
    [([1, 1], 0, 1), ([0, 2], 0, 1), ([2.1, 1], 0, 0), ([2.1, 1], 0.2, 1), ([5, 6], 5, 1), ([5, 6], 4.99, 0), (None, 99, 0)],
)
def test_pointing(point: list[float] | None, tolerance: float, hit: int) -> None:
    assert pointing_game({"a": [0, 0, 2, 2]}, {"a": point}, tolerance=tolerance).score().value == hit


def test_any_of_several_boxes_may_be_hit_and_a_peak_is_a_point() -> None:
    assert pointing_game({"a": [[0, 0, 1, 1], [3, 3, 4, 4]]}, {"a": [3.5, 3.5]}).score().value == 1
    heat = np.zeros((6, 9))
    heat[4, 7] = heat[5, 0] = 1
    assert peak(heat) == (7.5, 4.5)
    assert peak([[3.0]]) == (0.5, 0.5)
    for wrong in (np.zeros((3, 3)), np.zeros((0, 3)), np.zeros(3), np.array([[np.nan, 1]])):
        with pytest.raises(EvaluationError, match="has no peak"):
            peak(wrong)


def test_what_does_not_fit_is_refused() -> None:
    good = [0, 0, 1, 1]
    for wrong in ([0, 0, 1], [0, 0, math.nan, 1], [[0, 0, 1, 1]]):
        with pytest.raises(EvaluationError, match="give 4 finite numbers or None"):
            box_accuracy({"a": good}, {"a": wrong})
    with pytest.raises(EvaluationError, match="give 2 finite numbers or None"):
        pointing_game({"a": good}, {"a": [1, 2, 3]})
    for wrong in ([1, 1, 0, 0], [0, 0, 0, 1]):
        with pytest.raises(EvaluationError, match="reference box of 'a' holds nothing"):
            box_accuracy({"a": wrong}, {"a": good})
    for wrong in ([0, 0, 1], [[[0, 0, 1, 1]]], [0, 0, math.inf, 1]):
        with pytest.raises(EvaluationError, match="reference of 'a' has the shape"):
            pointing_game({"a": wrong}, {"a": [0, 0]})
    with pytest.raises(EvaluationError, match=r"boxes are \[..., 4\]"):
        iou([0, 0, 1], good)
    with pytest.raises(EvaluationError, match="do not broadcast"):
        iou(np.zeros((2, 4)), np.zeros((3, 4)))
    with pytest.raises(EvaluationError, match="box-accuracy: 1 of 1 items have no prediction"):
        box_accuracy({"a": good}, {})
