"""Zero-shot classification: top-k accuracy of items by the nearest class, whose vector is a mean over prompts (CLIP, §3.1.4).

An item is a query and the classes are what it is to find, so ties, exactness and intervals are those of retrieval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tectum.errors import EvaluationError
from tectum.evaluate.cosines import Cosines, unit_vectors
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.ranking import Right
from tectum.evaluate.retrieval import FirstHits, Ties, first_hits, recall
from tectum.evaluate.score import Passport, Setting
from tectum.models.space import Space


def class_vectors(prompts: object) -> Tensor:
    """Class vectors [c, d], float64: the unit mean of the unit vectors [c, t, d] of t prompts for each class.

    Raises:
        EvaluationError: if the shape is another, or the prompts of a class cancel out.

    >>> class_vectors([[[1.0, 0.0], [0.0, 2.0]]])
    tensor([[0.7071, 0.7071]], dtype=torch.float64)
    """
    given = prompts if isinstance(prompts, Tensor) else torch.as_tensor(np.asarray(prompts, np.float64))
    if given.dim() != 3:
        raise EvaluationError(f"prompt vectors have the shape {tuple(given.shape)}: give [classes, prompts, d]")
    unit = unit_vectors(given.flatten(0, 1), "prompt").unflatten(0, given.shape[:2])
    return unit_vectors(unit.mean(1), "class")


def zero_shot(
    vectors: object,
    classes: object,
    truths: Right,
    *,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    settings: Mapping[str, Setting] | None = None,
) -> FirstHits:
    """Find the right class of each item among all classes.

    Args:
        vectors: of the items, [n, d].
        classes: their vectors, [c, d].
        truths: for each item the row of its class, or those of several.
        ids: of the items; their rows when left out.
        groups: what is drawn together in a resample.
        settings: what else can move the value, for the passport: the templates, the names of the classes.

    Raises:
        EvaluationError: if the shapes do not fit, or a truth is no class.

    >>> hits = zero_shot([[1.0, 0.1], [0.2, 1.0], [0.9, 0.8]], [[1.0, 0.0], [0.0, 1.0]], [0, 1, 1])
    >>> accuracy(hits).values()
    {'0': 1.0, '1': 1.0, '2': 0.0}
    """
    hits = first_hits(Cosines(vectors, classes), truths, ids=ids, groups=groups)
    return replace(hits, settings=hits.settings | dict(settings or {}))


def zero_shot_of(
    space: Space,
    labels: Sequence[str],
    truths: Sequence[str],
    *,
    templates: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    batch_size: int = 64,
    **sources: Iterable[Any],
) -> FirstHits:
    """Find the right label of the items of one modality, embedded by a space.

    Args:
        space: the model to judge.
        labels: names of the classes.
        truths: for each item its label.
        templates: the prompts, each with one `{}`; those of the space when left out.
        ids, groups: as in `zero_shot`.
        batch_size: of the model; changes speed only.
        sources: exactly one modality's items, as in `Space.classify`.

    Raises:
        EvaluationError: if a truth is no label, a label is there twice, or not exactly one modality is given.
        MediaError: if an item cannot be read.

    >>> import numpy, tectum
    >>> space = tectum.load("space-mini")
    >>> hits = zero_shot_of(space, ["dog", "rain"], ["dog"], image=[numpy.zeros((64, 64, 3), "uint8")])
    >>> accuracy(hits, 2).score().value
    1.0
    """
    if len(sources) != 1:
        raise EvaluationError(f"give the items of exactly one modality, not {sorted(sources)}")
    templates = tuple(templates or space.config.templates)
    rows = {label: row for row, label in enumerate(labels)}
    if len(rows) != len(labels):
        twice = next(label for row, label in enumerate(labels) if rows[label] != row)
        raise EvaluationError(f"the label {twice!r} is there twice: give every class once")
    unknown = next((truth for truth in truths if truth not in rows), None)
    if unknown is not None:
        raise EvaluationError(f"the truth {unknown!r} is none of the {len(labels)} labels: correct it or add the label")
    ((modality, items),) = sources.items()
    if isinstance(items, str | bytes):
        raise EvaluationError(f"{modality} takes a list of items: write {modality}=[…]")
    vectors = space.embed(batch_size=batch_size, **sources)[modality]
    names = hashlib.sha256("\n".join(labels).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    settings: dict[str, Setting] = {"templates": " / ".join(templates), "labels": names}
    classes = space.label_vectors(labels, templates)
    return zero_shot(vectors, classes, [rows[truth] for truth in truths], ids=ids, groups=groups, settings=settings)


def accuracy(hits: FirstHits, k: int = 1, *, ties: Ties = "pessimistic") -> Measurement:
    """Top-k accuracy: the share of items with a right class among the k nearest.

    Raises:
        EvaluationError: if k is below 1, or there is no such rule for ties.
    """
    found = recall(hits, k, ties=ties)
    settings = dict(found.passport.settings)
    settings["classes"] = settings.pop("items")
    return replace(found, passport=Passport(f"zero-shot-top-{k}", settings))
