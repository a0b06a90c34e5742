"""Grounding: whether the box, or the point, that a model gives for a phrase is where the phrase is.

Boxes are (left, top, right, bottom), points (x, y), in one unit for all of an item, with y downwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tectum.errors import EvaluationError
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.records import pair_by_id
from tectum.evaluate.score import Passport

Numbers = Sequence[Any] | np.ndarray


def iou(a: Numbers, b: Numbers) -> np.ndarray:
    """Intersection over union of boxes [..., 4] and [..., 4], which broadcast, to [...].

    A box whose right is not beyond its left, or whose bottom is not below its top, holds nothing: its IoU with any box is 0, also
    with itself. For all pairs of n and m boxes give a[:, None] and b.

    Raises:
        EvaluationError: if the last side is not 4 or the shapes do not broadcast.

    >>> iou([[0, 0, 2, 2], [0, 0, 0, 2]], [1, 0, 3, 2]).round(4).tolist()
    [0.3333, 0.0]
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape[-1:] != (4,) or b.shape[-1:] != (4,):
        raise EvaluationError(f"iou: boxes are [..., 4], not {a.shape} and {b.shape}")
    try:
        low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    except ValueError:
        raise EvaluationError(f"iou: boxes {a.shape} and {b.shape} do not broadcast: give as many of both") from None
    area_a, area_b = ((box[..., 2:] - box[..., :2]).clip(min=0).prod(-1) for box in (a, b))
    # A box turned inside out could still seem to overlap.
    shared = np.where((area_a > 0) & (area_b > 0), (high - low).clip(min=0).prod(-1), 0)
    union = area_a + area_b - shared
    return np.divide(shared, union, out=np.zeros(np.shape(union)), where=union > 0)


def box_accuracy(
    references: Mapping[str, Numbers], boxes: Mapping[str, Numbers | None], *, threshold: float = 0.5
) -> dict[str, Measurement]:
    """ "accuracy@t", the share of boxes with an IoU of at least `threshold`, and "mean-iou".

    Args:
        references: for each phrase its box [4], or boxes [k, 4] of which the best overlap counts.
        boxes: for each phrase the model's box [4], or None where it gives none, which is wrong.
        threshold: of the IoU; reaching it is enough.

    Raises:
        EvaluationError: if ids differ, a box is not four finite numbers, or a reference holds nothing.

    >>> scores = box_accuracy({"a": [0, 0, 2, 2], "b": [0, 0, 2, 2]}, {"a": [0, 0, 2, 1], "b": [1, 1, 3, 3]})
    >>> scores["accuracy@0.5"].score().value, round(scores["mean-iou"].score().value, 4)
    (0.5, 0.3214)
    """
    ids, overlaps = [], []
    for key, reference, box in pair_by_id("box-accuracy", references, boxes):
        held = _held("box-accuracy", key, reference)
        overlaps.append(0.0 if box is None else float(iou(held, _finite("box-accuracy", key, box, 4)).max()))
        ids.append(key)
    name, values = f"accuracy@{threshold:g}", np.array(overlaps)
    reached = Measurement.mean(Passport(name, {"boxes": "xyxy", "reached": "at-least"}), ids, values >= threshold)
    return {name: reached, "mean-iou": Measurement.mean(Passport("mean-iou", {"boxes": "xyxy"}), ids, values)}


def pointing_game(
    references: Mapping[str, Numbers], points: Mapping[str, Numbers | None], *, tolerance: float = 0.0
) -> Measurement:
    """The share of points that hit (Zhang et al. 2016, "Top-down neural attention by excitation backprop", arXiv:1608.00507).

    Args:
        references: for each phrase its box [4], or boxes [k, 4] of which any may be hit; edges belong to a box.
        points: for each phrase the model's point [2], such as the `peak` of a map, or None, which misses.
        tolerance: how far outside a box still hits, in the unit of the boxes; implementations of the paper take 15 pixels.

    Raises:
        EvaluationError: if ids differ, something is not finite or of another shape, or a reference holds nothing.

    >>> pointing_game({"a": [0, 0, 2, 2], "b": [0, 0, 2, 2]}, {"a": [2, 1], "b": [5, 6]}).score().value
    0.5
    """
    ids, hits = [], []
    for key, reference, point in pair_by_id("pointing-game", references, points):
        held = _held("pointing-game", key, reference)
        ids.append(key)
        if point is None:
            hits.append(False)
            continue
        at = _finite("pointing-game", key, point, 2)
        outside = np.maximum(held[:, :2] - at, at - held[:, 2:]).clip(min=0)
        hits.append(bool((np.hypot(*outside.T) <= tolerance).any()))
    return Measurement.mean(Passport("pointing-game", {"tolerance": tolerance}), ids, hits)


def peak(heat: Numbers) -> tuple[float, float]:
    """(x, y) of the middle of the hottest cell of a map [h, w], in cells; of equals the first in reading order.

    Raises:
        EvaluationError: if the map is empty, flat or not finite: it points nowhere.

    >>> peak([[0, 0, 1], [0, 0, 0]])
    (2.5, 0.5)
    """
    found = np.asarray(heat, np.float64)
    if found.ndim != 2 or not found.size or not np.isfinite(found).all() or (found.size > 1 and found.min() == found.max()):
        raise EvaluationError(f"a map {found.shape} that is empty, flat or not finite has no peak: give None for its point")
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    return float(column) + 0.5, float(row) + 0.5


def _finite(name: str, key: str, numbers: Numbers, count: int) -> np.ndarray:
    found = np.asarray(numbers, np.float64)
    if found.shape != (count,) or not np.isfinite(found).all():
        raise EvaluationError(f"{name}: the prediction of {key!r} is {numbers!r}: give {count} finite numbers or None")
    return found


def _held(name: str, key: str, reference: Numbers) -> np.ndarray:
    """The boxes [k, 4] of a reference."""
    found = np.atleast_2d(np.asarray(reference, np.float64))
    if found.ndim != 2 or found.shape[1] != 4 or not len(found) or not np.isfinite(found).all():
        raise EvaluationError(f"{name}: the reference of {key!r} has the shape {found.shape}: give finite boxes [4] or [k, 4]")
    if not (found[:, 2:] > found[:, :2]).all():
        raise EvaluationError(f"{name}: a reference box of {key!r} holds nothing: give left, top, right and bottom")
    return found
