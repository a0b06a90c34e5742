"""How fast BLEU, ROUGE-L and CIDEr-D are computed, beside pycocoevalcap's Python scorers, and that the numbers agree.

    python benchmarks/metrics_captions.py [--images 5000] [--captions ../shared/data/coco_val2017_captions.parquet]

Human captions of COCO val2017: each picture's five are the references, its candidate is one of them with every fourth word
dropped. Both sides get the same words, tokenised before the clock starts; ours are also timed from the raw captions on, which
pycocoevalcap tokenises in Java. Without pycocoevalcap only ours are timed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
from measuring import print_table, seconds, timed

from tectum.evaluate.captions.report import evaluate_captions
from tectum.evaluate.captions.tokenize import tokenize

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco_val2017_captions.parquet"
REPEATS = 3
METRICS = {"bleu": ("bleu-1", "bleu-2", "bleu-3", "bleu-4"), "rouge-l": ("rouge-l",), "cider-d": ("cider-d",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--captions", type=Path, default=SHARED, help="a parquet file with a list column `captions`")
    options = parser.parse_args()
    if not options.captions.is_file():
        sys.exit(f"this benchmark needs {options.captions}: name another file with --captions")
    raw = {str(n): row for n, row in enumerate(parquet.read_table(options.captions)["captions"].to_pylist()[: options.images])}
    said = {key: " ".join(word for n, word in enumerate(several[0].split()) if n % 4 != 3) for key, several in raw.items()}
    candidates = {key: " ".join(tokenize(caption)) for key, caption in said.items()}
    references = {key: [" ".join(tokenize(caption)) for caption in several] for key, several in raw.items()}

    together = median(lambda: evaluate_captions(candidates, references, metrics=METRICS, tokenizer="split"))
    from_raw = median(lambda: evaluate_captions(said, raw, metrics=METRICS))
    measured = evaluate_captions(candidates, references, metrics=METRICS, tokenizer="split")
    interval = median(lambda: [measurement.score() for measurement in measured.values()])
    rows = []
    theirs = 0.0
    for name, scorer in scorers().items():
        spent, values = run(scorer, candidates, references)
        theirs += spent
        gap = max(abs(measured[key].score(resamples=0).value - value) for key, value in zip(METRICS[name], values, strict=True))
        ours = median(lambda name=name: evaluate_captions(candidates, references, metrics=[name], tokenizer="split"))
        rows.append((name, f"{ours:.3f} s", f"{spent:.2f} s", f"{spent / ours:.1f} ×", f"{gap:.0e}"))
    peer = f"{theirs:.2f} s" if theirs else ""
    rows.append(("all three", f"{together:.3f} s", peer, f"{theirs / together:.1f} ×" if theirs else "", ""))
    rows.append(("all three, tokenised here", f"{from_raw:.3f} s", peer, f"{theirs / from_raw:.1f} ×" if theirs else "", ""))
    rows.append(("their intervals, 1,000 resamples", f"{interval:.3f} s", "", "", ""))
    print(f"{len(raw):,} images, {sum(map(len, raw.values())):,} references")
    print_table(("what", "tectum", "pycocoevalcap", "ratio", "difference"), rows)


def scorers() -> dict[str, Any]:
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError:
        return {}
    return {"bleu": Bleu(4), "rouge-l": Rouge(), "cider-d": Cider()}


def run(scorer: Any, candidates: dict[str, str], references: dict[str, list[str]]) -> tuple[float, Sequence[float]]:
    """Seconds and corpus values of one of pycocoevalcap's scorers, which may print."""
    given = {key: [caption] for key, caption in candidates.items()}
    with contextlib.redirect_stdout(io.StringIO()):
        spent, (score, _) = timed(lambda: scorer.compute_score(references, given))
    return spent, score if isinstance(score, list) else [score]


def median(action: Callable[[], object]) -> float:
    """The median of a few runs in seconds."""
    return statistics.median(seconds(action) for _ in range(REPEATS))


if __name__ == "__main__":
    main()
