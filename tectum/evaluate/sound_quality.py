"""How good a sound is: distance to its reference, whose voice it is, and what a recogniser hears where nobody speaks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tectum.errors import EvaluationError, MediaError
from tectum.evaluate.answers import RAW, Normalizer
from tectum.evaluate.measurement import Measurement, ratio
from tectum.evaluate.records import pair_by_id
from tectum.evaluate.score import Passport
from tectum.media.mel import MelSpec

# Cosines closer than this are ties, so that where a vector lies in a matrix product does not matter.
_COSINE_DIGITS = 9
_ROUNDING = 1e-24


def si_sdr(references: Mapping[str, Tensor], estimates: Mapping[str, Tensor], *, limit: float = 100.0) -> Measurement:
    """Scale-invariant signal-to-distortion ratio in dB, the mean over sounds (Le Roux et al. 2019, arXiv:1811.02508, eq. 3).

    10 log₁₀ (|αs|² / |ŝ − αs|²) with α = ⟨ŝ, s⟩ / |s|², in float64. It is cut to ± `limit` dB, the upper for an estimate that is
    a multiple of the reference, the lower for one that holds nothing of it, silence included.

    Args:
        references: for each id the sound s [samples].
        estimates: for each id the sound ŝ [samples].
        limit: in dB.

    Raises:
        EvaluationError: if ids or lengths differ, a sound is not finite, or a reference is silent.

    >>> si_sdr({"a": torch.tensor([1.0, 0.0])}, {"a": torch.tensor([20.0, 2.0])}).score().value
    20.0
    """
    return _ratio_in_decibels("si-sdr", references, estimates, limit, centre=False)


def si_snr(references: Mapping[str, Tensor], estimates: Mapping[str, Tensor], *, limit: float = 100.0) -> Measurement:
    """Scale-invariant signal-to-noise ratio in dB: `si_sdr` after the mean of each sound is taken away (Luo and Mesgarani 2018).

    >>> sound = torch.tensor([1.0, -1.0, 2.0, -2.0])
    >>> si_snr({"a": sound}, {"a": 3 * sound + 5}).score().value
    100.0
    """
    return _ratio_in_decibels("si-snr", references, estimates, limit, centre=True)


def mel_distance(references: Mapping[str, Tensor], estimates: Mapping[str, Tensor], mel: MelSpec) -> Measurement:
    """Mean absolute difference of two log-mel spectrograms, over all bands and frames of all sounds.

    The unit is that of the dialect: natural logarithms for "ln", dB for "decibel". Every field of the dialect is in the passport.

    Args:
        references: for each id the sound [samples] at `mel.rate`.
        estimates: for each id the sound [samples] at `mel.rate`.
        mel: the dialect.

    Raises:
        EvaluationError: if ids or lengths differ, or a sound is not finite or too short for a frame.

    >>> from tectum.media.mel import vocos_mel
    >>> sound = torch.sin(torch.arange(24_000) / 10)
    >>> distance = mel_distance({"a": sound}, {"a": 0.5 * sound}, vocos_mel())
    >>> bool(distance.score().value <= math.log(2))  # halving moves each log magnitude by ln 2, but for those at the floor
    True
    """
    ids, statistics = [], []
    for key, reference, estimate in _pairs("mel-distance", references, estimates):
        try:
            difference = (mel(reference) - mel(estimate)).abs()
        except MediaError as error:
            raise EvaluationError(f"mel-distance: the item {key!r} cannot be measured: {error}") from None
        ids.append(key)
        statistics.append((difference.sum().item(), difference.numel()))
    spec = mel.to_dict() | {"f_max": mel.top, "pad": mel.reflected}
    passport = Passport("mel-distance", {f"mel-{name}": value for name, value in spec.items()})
    return Measurement(passport, ratio, tuple(ids), np.array(statistics, np.float64).reshape(-1, 2))


def hallucinated_words_per_hour(
    hypotheses: Mapping[str, str], seconds: Mapping[str, float], *, normalizer: Normalizer = RAW
) -> Measurement:
    """Words recognised per hour of sound in which nobody speaks: digital silence, noise, music. Measure each kind apart.

    Args:
        hypotheses: for each id what was recognised.
        seconds: for each id how long the sound is.
        normalizer: applied before words are counted, so that a lone "." need not be one.

    Raises:
        EvaluationError: if ids differ or a length is not positive.

    >>> hallucinated_words_per_hour({"a": "thank you", "b": ""}, {"a": 30, "b": 30}).score().value
    120.0
    """
    pairs = pair_by_id("hallucinated-words-per-hour", seconds, hypotheses)
    for key, length, _ in pairs:
        if not (math.isfinite(length) and length > 0):
            raise EvaluationError(f"hallucinated-words-per-hour: the item {key!r} lasts {length} s: give a positive length")
    statistics = [(len(normalizer(text).split()), length / 3600) for _, length, text in pairs]
    passport = Passport("hallucinated-words-per-hour", {"text": normalizer.name})
    return Measurement(passport, ratio, tuple(key for key, _, _ in pairs), np.array(statistics, np.float64).reshape(-1, 2))


def speaker_similarity(ids: Sequence[str], embeddings: np.ndarray, speakers: Sequence[str]) -> dict[str, Measurement]:
    """ "speaker-auc" and "speaker-eer": how well cosines tell pairs of one speaker from pairs of two, over all pairs.

    AUC is the chance that a pair of one speaker is closer than a pair of two, ties counting half (Mann and Whitney 1947). The
    equal error rate lies where the line through the ROC's points has as many false alarms as misses. Both are nan without both
    kinds of pair.

    Speakers are resampled, not pairs. Pairs between two draws of one speaker are left out: they would be neither kind.
    A resample takes time as n² does; score with `resamples=0` above some thousand utterances.

    Args:
        ids: of the utterances.
        embeddings: [n, d].
        speakers: of each utterance.

    Raises:
        EvaluationError: if the shapes do not fit, or a vector is not finite or zero.

    >>> rates = speaker_similarity("abcd", np.array([[1, 0], [9, 1], [0, 1], [1, 9]]), ["ann", "ann", "bob", "bob"])
    >>> rates["speaker-auc"].score().value, rates["speaker-eer"].score().value
    (1.0, 0.0)
    """
    vectors = np.asarray(embeddings, np.float64)
    if vectors.ndim != 2 or not len(ids) == len(speakers) == len(vectors):
        raise EvaluationError(
            f"speaker similarity: {len(ids)} ids and {len(speakers)} speakers need embeddings [{len(ids)}, d], "
            f"not {vectors.shape}"
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    wrong = np.flatnonzero(~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
    if len(wrong):
        raise EvaluationError(f"speaker similarity: the embedding of {ids[wrong[0]]!r} is zero or not finite: embed it again")
    # A number that is the same for a speaker in every shard, and small enough to be exact as a float.
    codes = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") for name in speakers]
    statistics = np.column_stack((vectors / lengths, np.array(codes, np.float64)))
    passports = [Passport(name, {"similarity": "cosine", "trials": "all-pairs"}) for name in ("speaker-auc", "speaker-eer")]
    return {
        passport.metric: Measurement(passport, formula, tuple(ids), statistics, tuple(speakers))
        for passport, formula in zip(passports, (_area, _equal_error_rate), strict=True)
    }


def _ratio_in_decibels(
    name: str, references: Mapping[str, Tensor], estimates: Mapping[str, Tensor], limit: float, centre: bool
) -> Measurement:
    ids, values = [], []
    for key, reference, estimate in _pairs(name, references, estimates):
        s, e = (_without_mean(x.double()) if centre else x.double() for x in (reference, estimate))
        energy = (s @ s).item()
        if not energy:
            raise EvaluationError(f"{name}: the reference of {key!r} is silent, which nothing can be like: leave it out")
        target = (e @ s) / energy * s
        wanted, rest = (target @ target).item(), ((e - target) @ (e - target)).item()
        decibels = -limit if not wanted else limit if not rest else 10 * (math.log10(wanted) - math.log10(rest))
        ids.append(key)
        values.append(min(max(decibels, -limit), limit))
    return Measurement.mean(Passport(name, {"limit-db": limit}), ids, values)


def _without_mean(x: Tensor) -> Tensor:
    rest = x - x.mean()
    # What is left of a constant is rounding, and no sound.
    return rest if rest @ rest > _ROUNDING * (x @ x) else torch.zeros_like(x)


def _pairs(name: str, references: Mapping[str, Tensor], estimates: Mapping[str, Tensor]) -> list[tuple[str, Tensor, Tensor]]:
    pairs = pair_by_id(name, references, estimates)
    for key, reference, estimate in pairs:
        if reference.ndim != 1 or reference.shape != estimate.shape or not len(reference):
            shapes = f"{tuple(reference.shape)} and {tuple(estimate.shape)}"
            raise EvaluationError(f"{name}: the item {key!r} has the shapes {shapes}: give two mono sounds of one length")
        if not (torch.isfinite(reference).all() and torch.isfinite(estimate).all()):
            raise EvaluationError(f"{name}: the item {key!r} has samples that are not finite: decode it again")
    return pairs


def _area(weights: np.ndarray, statistics: np.ndarray) -> np.ndarray:
    def area(same: np.ndarray, other: np.ndarray) -> float:
        below = other.cumsum() - other
        return float((same * (below + other / 2)).sum() / (same.sum() * other.sum()))

    return _over_levels(weights, statistics, area)


def _equal_error_rate(weights: np.ndarray, statistics: np.ndarray) -> np.ndarray:
    def rate(same: np.ndarray, other: np.ndarray) -> float:
        misses = np.concatenate(([0.0], same.cumsum() / same.sum()))  # with everything below a level rejected
        alarms = 1 - np.concatenate(([0.0], other.cumsum() / other.sum()))
        gap = misses - alarms
        after = int((gap >= 0).argmax())
        part = -gap[after - 1] / (gap[after] - gap[after - 1])
        return float(misses[after - 1] + part * (misses[after] - misses[after - 1]))

    return _over_levels(weights, statistics, rate)


def _over_levels(weights: np.ndarray, statistics: np.ndarray, measure: Callable[[np.ndarray, np.ndarray], float]) -> np.ndarray:
    """`measure` of the weights of equal and of different speakers at each level of similarity, lowest first."""
    vectors, codes = statistics[:, :-1], statistics[:, -1]
    i, j = np.triu_indices(len(vectors), 1)
    _, level = np.unique((vectors @ vectors.T)[i, j].round(_COSINE_DIGITS), return_inverse=True)
    same = codes[i] == codes[j]
    values = np.full(len(weights), math.nan)
    for row, weight in enumerate(weights):
        product = weight[i] * weight[j]
        # A speaker drawn k times has k times its own pairs, not k².
        equal = np.bincount(level, np.where(same, np.sqrt(product), 0))
        other = np.bincount(level, np.where(same, 0, product))
        if equal.sum() and other.sum():
            values[row] = measure(equal, other)
    return values
