"""All caption metrics in one call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from tectum.errors import EvaluationError
from tectum.evaluate.captions.bleu import bleu
from tectum.evaluate.captions.cider import cider_d
from tectum.evaluate.captions.meteor import meteor_exact_stem
from tectum.evaluate.captions.meteor_java import meteor_1_5
from tectum.evaluate.captions.ngrams import Captions
from tectum.evaluate.captions.rouge import rouge_l
from tectum.evaluate.captions.tokenize import Tokenizer
from tectum.evaluate.captions.tuples import tuple_f
from tectum.evaluate.measurement import Measurement

CAPTION_METRICS: dict[str, Callable[[Captions], Sequence[Measurement]]] = {
    "bleu": bleu,
    "rouge-l": lambda captions: [rouge_l(captions)],
    "cider-d": lambda captions: [cider_d(captions)],
    "meteor-exact-stem": lambda captions: [meteor_exact_stem(captions)],
    "tuple-f": lambda captions: [tuple_f(captions)],
}


def evaluate_captions(
    candidates: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    metrics: Collection[str] = tuple(CAPTION_METRICS),
    tokenizer: Tokenizer = "ptb",
    frequencies_of: Mapping[str, Sequence[str]] | None = None,
    meteor_jar: Path | str | None = None,
) -> dict[str, Measurement]:
    """The measurements of a captioning system by the names of their metrics: bleu-1, …, bleu-4, rouge-l, cider-d, ….

    Args:
        candidates: one caption an item.
        references: at least one caption for each of the same items.
        metrics: some of `CAPTION_METRICS`.
        tokenizer: "ptb", or "split" for captions that are tokenised already.
        frequencies_of: the references of the whole corpus where this is a shard of it; then shards merge into what one run gives.
        meteor_jar: METEOR 1.5's Java program, to have meteor-1.5 too.

    Raises:
        EvaluationError: if the items do not fit, a metric is unknown, or METEOR's program does not run.

    >>> measured = evaluate_captions({"a": "a cat on a mat"}, {"a": ["a cat on the mat", "a cat is on the mat"]})
    >>> print(measured["bleu-1"].score(resamples=0))
    bleu-1 0.8000 n=1
    """
    unknown = [name for name in metrics if name not in CAPTION_METRICS]
    if unknown:
        raise EvaluationError(f"there is no caption metric {unknown[0]!r}: choose from {', '.join(CAPTION_METRICS)}")
    captions = Captions.of(candidates, references, tokenizer=tokenizer, frequencies_of=frequencies_of)
    measured = [measurement for name, measure in CAPTION_METRICS.items() if name in metrics for measurement in measure(captions)]
    if meteor_jar is not None:
        measured.append(meteor_1_5(captions, meteor_jar))
    return {measurement.passport.metric: measurement for measurement in measured}
