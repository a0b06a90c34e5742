"""The picture of what came out of world_clip: bars with intervals, and the spaces in a plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from tectum.evaluate.views_picture import COLORS, draw
from tectum.files import written_beside

if TYPE_CHECKING:
    from world_clip_card import Figures, Results

INK, SOFT, LINE = "#1d1c1a", "#6a665f", "#d8d3c9"
BLUE, RED, SKY, AMBER = COLORS[0], COLORS[1], COLORS[5], COLORS[4]
WIDTH, HEIGHT = 760, 400
Bar = tuple[float, float, float]
Group = tuple[str, Sequence[Bar | None]]


def save_figure(results: Results, path: Path) -> None:
    """Four panels: minimal pairs, batch sizes, prompts, the gap."""
    panels = [_pairs(results), _batches(results), _prompts(results.prompts), _gap(results)]
    page = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), "white")
    for at, panel in enumerate(panels):
        page.paste(panel, (at % 2 * WIDTH, at // 2 * HEIGHT))
    with written_beside(path) as file:
        page.save(file, "PNG", optimize=True)


def bars(
    title: str, groups: Sequence[Group], legend: Sequence[str], *, chance: float | None = None, colours: Sequence[str] = COLORS
) -> Image.Image:
    """Groups of shares in 0 … 1 as bars with their intervals."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    large, small = ImageFont.load_default(18), ImageFont.load_default(13)
    left, top, right, bottom = 56, 74, WIDTH - 20, HEIGHT - 58
    pen.text((left, 14), title, INK, large)
    x = left
    for at, name in enumerate(legend):
        pen.rectangle((x, 46, x + 12, 58), fill=colours[at])
        pen.text((x + 18, 45), name, INK, small)
        x += 36 + pen.textlength(name, small)

    def height(value: float) -> float:
        return bottom - value * (bottom - top)

    for tick in range(0, 101, 25):
        pen.line((left, height(tick / 100), right, height(tick / 100)), LINE)
        pen.text((left - 8, height(tick / 100)), f"{tick} %", SOFT, small, anchor="rm")
    room = (right - left) / len(groups)
    for at, (name, values) in enumerate(groups):
        wide = min(46.0, 0.8 * room / len(values))
        start = left + (at + 0.5) * room - wide * len(values) / 2
        for number, bar in enumerate(values):
            if bar is None:
                continue
            x = start + number * wide
            pen.rectangle((x + 2, height(bar[0]), x + wide - 2, bottom), fill=colours[number])
            middle = x + wide / 2
            pen.line((middle, height(bar[1]), middle, height(bar[2])), INK, 2)
        for row, line in enumerate(name.split("\n")):
            pen.text((left + (at + 0.5) * room, bottom + 8 + 16 * row), line, INK, small, anchor="mt")
    if chance is not None:
        for dash in range(left, right, 12):
            pen.line((dash, height(chance), dash + 6, height(chance)), INK)
    return image


def _pairs(results: Results) -> Image.Image:
    names = [name for name in ("towers seen", "towers unseen", "matcher seen", "matcher unseen") if name in results.composition]
    kinds = list(next(iter(results.composition.values())))
    groups = [(kind.replace("-", "\n"), [results.composition[name][kind] for name in names]) for kind in kinds]
    shades = [{"towers": (BLUE, SKY), "matcher": (RED, AMBER)}[name.split()[0]]["unseen" in name] for name in names]
    title = "True caption preferred, for pairs of colour and shape seen or not (dashes: a toss)"
    return bars(title, groups, names, chance=0.5, colours=shades)


def _batches(results: Results) -> Image.Image:
    names = ("recall@1", "swap-attribute", "swap-object", "swap-relation")
    groups = [
        (f"batch {other.batch}\n{other.steps:,} steps", [found[name] for name in names]) for other, found in results.batches
    ]
    title = "Two towers alone, in batches of several sizes (dashes: a toss between two captions)"
    return bars(title, groups or [("no runs", [None])], names, chance=0.5)


def _prompts(prompts: Figures) -> Image.Image:
    groups: list[Group] = []
    for group, heading in (("trained", "prompts as in training"), ("foreign", "prompts never trained on")):
        each = [
            found
            for name, found in prompts.items()
            if name.startswith(group) and name.split(": ", 1)[1] not in ("gain", "all together", "mean of the prompts")
        ]
        worst, best = (chosen(each, key=lambda found: found[0]) for chosen in (min, max))
        gain, low, high = (round(100 * value, 1) + 0.0 for value in prompts[f"{group}: gain"])
        heading += f"\nmean vector: {gain:+} points ({low} to {high})"
        groups.append((heading, [worst, prompts[f"{group}: mean of the prompts"], best, prompts[f"{group}: all together"]]))
    legend = ("worst prompt", "mean of prompts", "best prompt", "mean vector of all")
    return bars("Zero-shot: one thing among all pairs of colour and shape", groups, legend)


def _gap(results: Results) -> Image.Image:
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    views = results.views[-2:]
    wide = WIDTH // len(views)
    for at, (title, view) in enumerate(views):
        # A view has no room below 400 pixels, so it is drawn larger and reduced.
        drawn = draw(view, title=title, size=(4 * wide // 3, 4 * HEIGHT // 3), labels=0)
        image.paste(drawn.resize((wide, HEIGHT), Image.Resampling.LANCZOS), (at * wide, 0))
    return image
