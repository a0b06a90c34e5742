"""What goes wrong in training on several modalities, and what mends it: plain runs and fixes on worlds of known information.

    python benchmarks/challenges.py [--seeds 5,3] [--only noise,mining] [--optimizers adamw,muon] [--threads 1]
        [--results FILE] [--picture docs/pictures/training-challenges.png]

Each figure is the mean over seeds of data and weights, with a 95 % interval (Student's t). "recovered" is the share that is
closed of the gap between the plain run and the best, of the means. The first optimizer does all runs, a second the plain one,
the fix and the best. The parts are the files challenge_*.py. What stands in FILE (JSON) already is not run again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from challenge_pairs import Challenge, Optimizer
from challenge_picture import Row, Spread, draw
from measuring import print_table
from scipy import stats

PARTS = ("imbalance", "noise", "mining", "distillation", "resolution")
NAMES = {"adamw": "AdamW", "muon": "Muon"}
BEST = "the best"
GAP = 0.05  # of plain and best: below it nothing is wrong that could be mended


class Results:
    """The score of every run, kept in a file if one is given."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.known: dict[str, float] = json.loads(file.read_text()) if file is not None and file.exists() else {}

    def measure(self, challenge: Challenge, name: str, optimizer: Optimizer, seed: int) -> float:
        """Run, if that has not been done."""
        key = f"{challenge.title} | {name} | {optimizer} | {seed}"
        if key not in self.known:
            self.known[key] = (challenge.best if name == BEST else challenge.runs[name])(seed, optimizer)
            if self.file is not None:
                self.file.write_text(json.dumps(self.known, indent=1, ensure_ascii=False))
        return self.known[key]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="5", help="2 or more: one number, or one for each optimizer")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--optimizers", default="adamw,muon", help="see above")
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    parser.add_argument("--results", type=Path, help="where all runs are kept")
    parser.add_argument("--picture", type=Path, help="where to draw the plain runs, the fixes and the best")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    optimizers, counts = options.optimizers.split(","), [int(count) for count in options.seeds.split(",")]
    seeds = dict(zip(optimizers, counts * (len(optimizers) if len(counts) == 1 else 1), strict=True))
    results, drawn = Results(options.results), []
    for part in options.only.split(","):
        for challenge in import_module(f"challenge_{part}").CHALLENGES:
            drawn += show(challenge, results, seeds)
    if options.picture is not None:
        draw(drawn).save(options.picture, "PNG", optimize=True)


def spread_of(values: list[float]) -> Spread:
    """Mean and half of the interval (Student's t) of the scores of some seeds."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return Spread(float(np.mean(values)), float(half))


def show(challenge: Challenge, results: Results, seeds: Mapping[Optimizer, int]) -> list[Row]:
    """Run everything with some seeds of each optimizer, print the table, and give what is drawn."""
    every = (*challenge.runs, BEST)
    cells: dict[str, list[str]] = {name: [name] for name in every}
    drawn = []
    for optimizer, count in seeds.items():
        names = every if optimizer == next(iter(seeds)) else (every[0], challenge.fix, BEST)
        scores: dict[str, list[float]] = {name: [] for name in names}
        for seed in range(count):
            for name in names:
                scores[name].append(results.measure(challenge, name, optimizer, seed))
        spreads = {name: spread_of(values) for name, values in scores.items()}
        plain, best = spreads[every[0]], spreads[BEST]
        gap = best.mean - plain.mean
        gained = {name: f"{(spread.mean - plain.mean) / gap:.0%}" if gap > GAP else "no gap" for name, spread in spreads.items()}
        for name in every:
            spread = f"{spreads[name].mean:.3f} ± {spreads[name].half:.3f}" if name in spreads else ""
            cells[name] += [spread, gained[name] if name in spreads and name not in (every[0], BEST) else ""]
        title = f"{challenge.title} ({NAMES[optimizer]})"
        drawn.append(Row(title, challenge.fix, plain, spreads[challenge.fix], best, gained[challenge.fix]))
    heads = [head for optimizer, count in seeds.items() for head in (f"{NAMES[optimizer]}, {count} seeds", "recovered")]
    print(f"\n{challenge.title}", flush=True)
    print_table(("run", *heads), [tuple(row) for row in cells.values()])
    return drawn


if __name__ == "__main__":
    main()
