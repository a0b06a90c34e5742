"""The words of space-mini's model card, around the measured numbers."""

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import space_mini_data as corpora
from space_mini import Recipe

from tectum.models.encoders import parameter_count
from tectum.models.space import Space
from tectum.train.config import jsonable
from tectum.train.recipe import options

Interval = tuple[float, float, float, int]
Run = dict[str, Any]


def told(run: Path, scores: dict[str, Interval]) -> Run:
    """What the card says of a run: its folder, options, seconds and scores."""
    return {"run": str(run), "recipe": json.loads((run / "recipe.json").read_text()), "seconds": _seconds(run), "scores": scores}


def card(shipped: Run, ablation: Run | None, space: Space) -> str:
    """The model card in Markdown; the attributions are written beside it by `attributions`."""
    recipe = shipped["recipe"]
    runs = [shipped, *([ablation] if ablation else [])]

    def row(of: Run | None, key: str, what: str, chance: str, note: str = "") -> str:
        if of is None:
            return f"| {what} | not measured | | {chance} | {note} |"
        value, low, high, n = of["scores"][key]
        return f"| {what} | **{value:.1%}** ({low:.1%} – {high:.1%}) | {n} | {chance} | {note} |"

    def option(what: str, text: Callable[[Run], str]) -> str:
        return f"| {what} | {' | '.join(text(run) for run in runs)} |"

    def left_out(run: Run) -> str:
        more = [run["recipe"]["leave_vendor"]] if run["recipe"]["leave_vendor"] else []
        held = run["recipe"]["hold_out"]
        return ", ".join(["10 % of code points", *more, *([f"{held:.0%} of photographs and captions"] if held else [])])

    names = "1,907 base emoji names"
    vendor = ablation["recipe"]["leave_vendor"] if ablation else "twemoji"
    lines = [
        "# space-mini",
        "",
        "Pictures, words and sounds in one space of 256 dimensions. Small enough for any laptop, and trained without a GPU.",
        f"{parameter_count(space) / 1e6:.1f} M parameters: "
        + ", ".join(f"{name} {parameter_count(space.tower(name)) / 1e6:.1f} M" for name in space.modalities)
        + ".",
        "",
        "## Held-out scores",
        "Share right, 95 % Wilson interval, number of items. Nothing below was trained on by the model that is scored.",
        "",
        "| what | score | n | chance | |",
        "|---|---|---|---|---|",
        row(shipped, "caltech", "Caltech-101 test photographs → class name, 97 classes, zero-shot with 4 prompts", "1.0 %"),
        row(
            ablation,
            "vendor R@1",
            f"drawings of a vendor never seen ({vendor}), of emoji seen from another → name among {names}, R@1",
            "0.05 %",
            "ablation run",
        ),
        row(ablation, "vendor R@5", "the same, R@5", "0.26 %", "ablation run"),
        row(shipped, "codepoints R@1", f"drawings of emoji never seen (10 % of code points) → name among {names}, R@1", "0.05 %"),
        row(shipped, "codepoints R@5", "the same, R@5", "0.26 %"),
        row(shipped, "sound", "ESC-10 fold 4 → word among 10; no sound was ever paired with a word", "10 %", "emergent"),
        row(ablation, "sound", "topline: the same code, sounds paired with the words themselves", "10 %", "ablation run"),
        "",
        "Fold 4 was also used to calibrate relevance. Fold 5 and half of the Caltech-101 test split were not at hand.",
        "",
        "## How it was made",
        f"`tectum train space_mini {_changed(recipe)} --out {shipped['run']}`, then `python recipes/space_mini_card.py`.",
        "",
        f"| | shipped |{' ablation |' if ablation else ''}",
        f"|---|---|{'---|' if ablation else ''}",
        option("steps", lambda run: str(run["recipe"]["steps"])),
        option("photographs, drawings a step", lambda run: f"{run['recipe']['photos']}, {run['recipe']['drawings']}"),
        option("seed, threads", lambda run: f"{run['recipe']['seed']}, {run['recipe']['threads']}"),
        option("seconds of training", lambda run: f"{run['seconds']:,.0f}"),
        option("left out", left_out),
        option("sounds are paired with", lambda run: f"{run['recipe']['sound_partner']}s"),
        "",
        f"Machine: 2 cores ({platform.machine()}), bfloat16 autocast, no GPU; shared with other work, so seconds are a bound.",
        f"A step takes {recipe['photos']} photographs and {recipe['drawings']} drawings, which grow "
        f"{' → '.join(str(size) for size in recipe['sizes'])} px; one step in {recipe['every']} also takes words, "
        f"{recipe['sounds']} sound windows and {recipe['captions']} pairs of captions.",
        "",
        "Pictures and words: InfoNCE, a text being right for a picture when its words are among the picture's, and both against",
        "a table of concepts that only exists in training. Sounds: InfoNCE against pictures of what makes them, with the",
        "pictures frozen on that edge:",
        "",
        *[f"- {key.replace('_', ' ')}: {', '.join(names)}" for key, names in corpora.SOUND_PICTURES.items()],
        "",
        "## Data and licences",
        "| data | used | licence |",
        "|---|---|---|",
        "| Noto Emoji © Google | drawings | Apache-2.0 |",
        "| Twemoji graphics © Twitter, Inc and other contributors | drawings | CC-BY 4.0 |",
        "| Fluent Emoji © Microsoft | drawings | MIT |",
        "| Unicode emoji names and CLDR keywords © Unicode, Inc. | words | Unicode-3.0 |",
        "| Caltech-101 (Fei-Fei, Fergus, Perona 2004), train split without faces, comic characters and clutter | photographs "
        "| CC-BY-4.0 as published by its owners |",
        "| ESC-10 (K. J. Piczak, ESC: Dataset for Environmental Sound Classification, 2015), folds 1–3 | sounds "
        "| CC-BY 3.0; clips CC0 or CC-BY, see ATTRIBUTIONS.md |",
        "| COCO val2017 captions (COCO Consortium) | sentences | CC-BY-4.0 |",
        "",
        "Weights: Apache-2.0, with the attributions above.",
        "",
        "## What it is not",
        "It has seen about four thousand things, most of them as small drawings, and ten kinds of sound. It knows no faces, no",
        "places and no writing; a query outside its world may find nothing, or the nearest thing it knows. Not for decisions",
        "about people.",
        "",
    ]
    return "\n".join(lines)


def attributions(data: Path) -> str:
    """The CC-BY recordings that the weights were trained on, as their licence asks."""
    columns = ["fold", "title", "author", "url", "license"]
    rows = pq.read_table(data / "esc10.parquet", columns=columns).to_pylist()
    rows = [row for row in rows if row["fold"] in corpora.TRAIN_FOLDS and row["license"].startswith("CC-BY")]
    entries = sorted({f"- “{row['title']}” by {row['author']} ({row['url']}, {row['license']})" for row in rows})
    head = ["# Attributions", "", "Recordings of ESC-10, folds 1–3, under Creative Commons Attribution:", ""]
    return "\n".join([*head, *entries, ""])


def _changed(recipe: dict[str, Any]) -> str:
    """The options that are not the recipe's defaults, as the command line takes them."""
    usual = {option.name: jsonable(option.value) for option in options(Recipe())}
    return " ".join(f"{key}={value}" for key, value in recipe.items() if usual.get(key) != value and key != "data")


def _seconds(run: Path) -> float:
    states = sorted((run / "checkpoints").glob("step-*/state.json"))
    return float(json.loads(states[-1].read_text())["seconds"]) if states else float("nan")
