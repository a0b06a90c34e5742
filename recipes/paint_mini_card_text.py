"""The words of paint-mini's model card, around the measured numbers."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from paint_mini import PROMPTS
from space_mini_card_text import Run

from tectum.models.text_to_image import TextToImage

EVALUATIONS = (5, 10, 20, 40)
COLOURED = 'With `colours`, a drawing of one colour is also shown in others, as "blue house"; apples and bananas never are.'


def command(recipe: Mapping[str, Any]) -> str:
    """A recipe and the options that tell one run of it from another."""

    def text(value: Any) -> str:
        return ",".join(f"{one:g}" for one in value) if isinstance(value, list) else str(value)

    given = [(key, recipe.get(key)) for key in ("begin", "colours", "sizes", "starts", "steps", "seed")]
    options = " ".join(f"{key}={text(value)}" for key, value in given if value is not None)
    return f"{'paint_mini' if 'codec' in recipe else 'paint_codec'} {options}"


def card(run: Run, before: Sequence[Run], painter: TextToImage, unseen: Sequence[str]) -> str:
    """The model card in Markdown, of a run and of those before it."""
    scores = run["scores"]
    far = scores["distances"]

    def share(key: str) -> str:
        value, low, high, n = scores["by name"][key]
        return f"**{value:.1%}** ({low:.1%} – {high:.1%}), n = {n}"

    lines = [
        "# paint-mini",
        "",
        f"Pictures of {painter.config.size} × {painter.config.size} pixels in the manner of emoji, from a text.",
        f"{sum(scores['parameters'].values()) / 1e6:.1f} M parameters: "
        + ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in scores["parameters"].items())
        + ".",
        "",
        '    tectum generate "a red apple, 3d style" -o apple.png -n 4',
        "",
        f"Four pictures take {scores['seconds']:.1f} s (20 steps, threads: {scores['threads']}, {platform.machine()}).",
        "",
        f"![{'; '.join(PROMPTS)}](../../docs/pictures/paint-prompts.png)",
        "",
        "Row by row: " + "; ".join(PROMPTS) + ".",
        "",
        "## Does it show what was asked for?",
        "How often space-mini finds the name that was asked for, among 1,907 base emoji names. It is no stranger: the text",
        "encoder began as space-mini's, and so a picture of a name that neither saw is often found where a real drawing is not.",
        "",
        "| | painted | real drawings |",
        "|---|---|---|",
        *[
            f"| {what}, R@{k} | {share(f'{key} painted R@{k}')} | {share(f'{key} drawn R@{k}')} |"
            for key, what in (
                ("seen", "names it was trained on (space-mini too, on these very drawings)"),
                ("unseen", "names neither ever saw"),
            )
            for k in (1, 5)
        ],
        "",
        "## How near is it to the real ones?",
        f"Fréchet distance over space-mini's vectors, {far['count']} pictures each: painted to real {far['painted']:.4f}, one "
        f"half of the real to the other {far['real']:.4f}: {far['painted'] / far['real']:.1f} times as far.",
        "",
        f"Copies: {far['copying']:.0%} of unseen real drawings are farther from the training set than a painted one is "
        f"(½ is as new as a real one, 1 a copy); the median distance is {far['ratio']:.2f} of theirs. The eight pictures nearest "
        "to their neighbours, and those below them:",
        "",
        "![painted pictures above their nearest training drawings](../../docs/pictures/paint-nearest.png)",
        "",
        "## Guidance",
        "32 names, four pictures each, 20 steps. Apart: 1 − cosine between pictures of one name. Cut off: numbers at 0 or 255.",
        "",
        "| w | R@1 | R@5 | apart | saturation | cut off |",
        "|---|---|---|---|---|---|",
        *[
            f"| {row['w']:g} | {row['R@1']:.1%} | {row['R@5']:.1%} | {row['apart']:.3f} | {row['saturation']:.3f} "
            f"| {row['cut off']:.1%} |"
            for row in scores["guidance"]
        ],
        "",
        "![one row for each weight](../../docs/pictures/paint-guidance.png)",
        "",
        "## Solvers",
        "Distance of the latents (root mean square) to those of 200 steps of UniPC-3 from the same noise, w = 5, by evaluations:",
        "",
        f"| solver | {' | '.join(map(str, EVALUATIONS))} |",
        f"|---|{'---|' * len(EVALUATIONS)}",
        *[f"| {name} | {' | '.join(f'{value:.3f}' for value in row)} |" for name, row in scores["steps"].items()],
        "",
        "## What nobody drew",
        "Four pictures each: " + "; ".join(unseen) + ".",
        "",
        f"![{'; '.join(unseen)}](../../docs/pictures/paint-unseen.png)",
        "",
        "## How it was made",
        "The runs below, each of paint_mini after its first begun as the averaged weights of the one before, and "
        "`python recipes/paint_mini_card.py`.",
        "Drawings of a tenth of the code points were never seen.",
        *([COLOURED] if any(part["recipe"].get("colours") for part in (*before, run)) else []),
        "",
        f"| `tectum train` | steps | drawings a step | threads | seconds ({platform.machine()}) |",
        "|---|---|---|---|---|",
        *[
            f"| `{command(part['recipe'])} --out {part['run']}` | {part['recipe']['steps']:,} | {part['recipe']['batch']} "
            f"| {part['recipe']['threads']} | {part['seconds']:,.0f} |"
            for part in (*before, run)
        ],
        "",
        "## Data and licences",
        "| data | licence |",
        "|---|---|",
        "| Noto Emoji © Google | Apache-2.0 |",
        "| Twemoji graphics © Twitter, Inc and other contributors | CC-BY 4.0 |",
        "| Fluent Emoji © Microsoft | MIT |",
        "| Unicode emoji names and CLDR keywords © Unicode, Inc. | Unicode-3.0 |",
        "",
        "The text encoder begins as that of space-mini, whose card names its data. Weights: Apache-2.0, attributions above.",
        "",
        "## What it is not",
        "It knows what emoji show, and how four hands draw them; it knows no people, no places and no writing.",
        "",
    ]
    return "\n".join(lines)
