"""Word and character error rates of transcripts, with the alignment that gave them.

Of each utterance the hits H, substitutions S, deletions D and insertions I of a shortest alignment are kept, and the rates are
taken of their sums over all utterances, never as a mean of rates: WER = (S + D + I) / (H + S + D); the match error rate
MER = (S + D + I) / (H + S + D + I); word information preserved WIP = H² / ((H + S + D) (H + S + I)), and lost WIL = 1 − WIP
(Morris, Maier and Green 2004). An utterance of silence has an empty reference: what is heard in it are insertions, over the words
of all others. Without any reference word WER, CER, WIP and WIL are nan: see `sound_quality.hallucinated_words_per_hour`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from tectum.evaluate.answers import RAW, Normalizer
from tectum.evaluate.edit_distance import Alignment, align
from tectum.evaluate.measurement import Measurement, of_sums, quotient
from tectum.evaluate.records import pair_by_id
from tectum.evaluate.score import Passport

Unit = Literal["word", "character"]
# Of (H, S, D, I).
_ERROR_RATE = quotient((0, 1, 1, 1), (1, 1, 1, 0))
_MATCH_ERROR_RATE = quotient((0, 1, 1, 1), (1, 1, 1, 1))


def align_transcripts(
    references: Mapping[str, str], hypotheses: Mapping[str, str], *, normalizer: Normalizer = RAW, unit: Unit = "word"
) -> dict[str, Alignment]:
    """The alignment of each utterance.

    Raises:
        EvaluationError: if the ids differ.

    >>> print(align_transcripts({"u1": "this is the reference"}, {"u1": "this the prediction"})["u1"])
    this is the reference
    this ** the prediction
    """
    pairs = pair_by_id("wer" if unit == "word" else "cer", references, hypotheses)
    texts = [(key, normalizer(reference), normalizer(hypothesis)) for key, reference, hypothesis in pairs]
    if unit == "word":
        return {key: align(reference.split(), hypothesis.split()) for key, reference, hypothesis in texts}
    return {key: align(list(reference), list(hypothesis)) for key, reference, hypothesis in texts}


def word_errors(
    references: Mapping[str, str], hypotheses: Mapping[str, str], *, normalizer: Normalizer = RAW
) -> dict[str, Measurement]:
    """ "wer", "mer", "wil" and "wip", which share one alignment.

    Words are what white space divides after the normalizer. Report raw and normalised rates both: their passports differ.

    Args:
        references: for each id what was said; empty for silence.
        hypotheses: for each id what was recognised.
        normalizer: applied to both sides, named in the passport; `RAW` and `PLAIN` are in `tectum.evaluate.answers`.

    Raises:
        EvaluationError: if the ids differ.

    >>> rates = word_errors({"a": "hello duck", "b": "i like python"}, {"a": "hello world", "b": "i like monthy python"})
    >>> rates["wer"].score().value  # one substitution and one insertion over five words
    0.4
    """
    ids, statistics = _counted(align_transcripts(references, hypotheses, normalizer=normalizer))
    lost, preserved = of_sums(_information_lost), of_sums(_information_preserved)
    formulas = {"wer": _ERROR_RATE, "mer": _MATCH_ERROR_RATE, "wil": lost, "wip": preserved}
    settings = {"text": normalizer.name, "ties": "jiwer-4"}
    return {name: Measurement(Passport(name, settings), formula, ids, statistics) for name, formula in formulas.items()}


def character_errors(
    references: Mapping[str, str], hypotheses: Mapping[str, str], *, normalizer: Normalizer = RAW
) -> Measurement:
    """ "cer": the error rate over code points, spaces between words among them.

    Args and Raises as `word_errors`.

    >>> character_errors({"a": "i can spell", "b": "i hope"}, {"a": "i kan cpell", "b": "i hop"}).score().value  # 3 of 17
    0.17647058823529413
    """
    ids, statistics = _counted(align_transcripts(references, hypotheses, normalizer=normalizer, unit="character"))
    return Measurement(Passport("cer", {"text": normalizer.name, "unit": "code-point"}), _ERROR_RATE, ids, statistics)


def _counted(alignments: Mapping[str, Alignment]) -> tuple[tuple[str, ...], np.ndarray]:
    """Ids and (H, S, D, I) [n, 4]."""
    counts = [alignment.counts() for alignment in alignments.values()]
    return tuple(alignments), np.array(counts, np.float64).reshape(-1, 4)


def _information_preserved(sums: np.ndarray) -> np.ndarray:
    hits, said, heard = sums[:, 0], sums[:, :3].sum(1), sums[:, [0, 1, 3]].sum(1)
    # Nothing heard of what was said preserves nothing.
    known = np.divide(hits, said, out=np.full(len(sums), math.nan), where=said != 0)
    return known * np.divide(hits, heard, out=np.zeros(len(sums)), where=heard != 0)


def _information_lost(sums: np.ndarray) -> np.ndarray:
    return 1 - _information_preserved(sums)
