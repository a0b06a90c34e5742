"""Modality dropout: samples lose some of their modalities at random while a model learns to do with any subset of them.

Neverova et al. 2016 (ModDrop, arXiv:1501.00102) drop whole channels so that no modality leans on another.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

_GAMMA, _FIRST, _SECOND = (np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def modality_dropout(
    ids: Mapping[str, Tensor], rates: Mapping[str, float], *, seed: int, step: int, least: int = 2
) -> dict[str, Tensor]:
    """Which rows of each view stay, boolean [n_view]: a pure function of (seed, step, sample, view).

    Neither the batch a sample is in nor the other samples matter, so a run resumes exactly and processes agree. A view is
    dropped with its rate, independently; but a sample that would be left with fewer than `least` views keeps those that came
    nearest to staying, since a single view has no partner to learn from.

    Args:
        ids: the sample of each row of a view, integers [n_view]; rows of one sample stay or go together.
        rates: probability of each view to be dropped; 0 for one left out.
        seed: of the run.
        step: of the run.
        least: views that a sample keeps at least, if it has so many.

    Raises:
        ValueError: if a rate lies outside 0 … 1.

    >>> ids = {"image": torch.arange(4), "text": torch.arange(4), "audio": torch.tensor([1, 3])}
    >>> kept = modality_dropout(ids, {"audio": 1.0}, seed=0, step=0)
    >>> {view: rows.tolist() for view, rows in kept.items()}
    {'image': [True, True, True, True], 'text': [True, True, True, True], 'audio': [False, False]}
    """
    wrong = [view for view, rate in rates.items() if not 0 <= rate <= 1]
    if wrong:
        raise ValueError(f"the rate {rates[wrong[0]]} of {wrong[0]} is no probability: give a number from 0 to 1")
    samples, places = _samples(ids)
    # How far each view of each sample is above its rate: 0 and more stays. What a sample lacks comes last.
    margins = np.full((len(samples), len(ids)), -np.inf)
    for column, (view, rows) in enumerate(places.items()):
        drawn = _uniform(seed, step, zlib.crc32(view.encode()), samples) - rates.get(view, 0.0)
        margins[rows, column] = drawn[rows]
    stays = margins >= 0
    nearest = np.argsort(-margins, axis=1, kind="stable")[:, :least]
    np.put_along_axis(stays, nearest, True, axis=1)
    return {view: torch.from_numpy(stays[rows, column]) for column, (view, rows) in enumerate(places.items())}


def _samples(ids: Mapping[str, Tensor]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """All samples [s], and the place of each view's rows among them."""
    arrays = [of_view.detach().cpu().numpy().astype(np.int64) for of_view in ids.values()]
    samples, places = np.unique(np.concatenate([np.zeros(0, np.int64), *arrays]), return_inverse=True)
    ends = np.cumsum([len(array) for array in arrays])[:-1]
    return samples, dict(zip(ids, np.split(places, ends), strict=True)) if arrays else {}


def _uniform(seed: int, step: int, view: int, samples: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each sample [s], by chained SplitMix64 (Steele, Lea & Flood, OOPSLA 2014)."""
    state = np.zeros(len(samples), np.uint64)
    for part in (seed, step, view):
        state = _mix(state ^ np.uint64(part))
    return (_mix(state ^ samples.astype(np.uint64)) >> np.uint64(11)) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + _GAMMA
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
