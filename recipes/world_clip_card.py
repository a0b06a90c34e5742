"""What came out of runs of world_clip: the tables of docs/worlds.md and the picture beside them.

    python recipes/world_clip_card.py --run runs/world-clip --batches runs/b16 runs/b64 runs/b256 --gap runs/b256 runs/plain

--run       towers and matcher
--batches   towers alone, trained in batches of several sizes
--gap       towers with centred features, and the same without (centred=no)

Everything is measured on test scenes; 95 % intervals are bootstrapped over scenes. The tables replace what stands between the
marks in docs/worlds.md, and docs/pictures/worlds-results.png is drawn from the same figures.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from world_clip import KINDS, TEST, Both, Recipe, WorldClip, as_pixels, open_run, vectors
from world_clip_picture import save_figure

from tectum.data.worlds import MinimalPair, captions, make_scene, minimal_pair, picture, singles
from tectum.data.worlds.claim import Noun, phrase
from tectum.evaluate.baselines import likelier
from tectum.evaluate.composition import Pair, composition, pairs_from
from tectum.evaluate.cosines import Cosines
from tectum.evaluate.geometry import modality_gap
from tectum.evaluate.measurement import Measurement, compare
from tectum.evaluate.retrieval import first_hits, recall
from tectum.evaluate.score import Passport
from tectum.evaluate.views import View, project
from tectum.evaluate.zero_shot import accuracy, class_vectors, zero_shot

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEST_SCENES = 1000
MARKS = "<!-- measured by recipes/world_clip_card.py -->", "<!-- end -->"
PROMPTS = ("{}", "there is {}", "here is {}", "a picture of {}", "a scene with {}", "a drawing that shows {}")
FOREIGN = ("a photo of {}", "an image with {} in it", "look at {}", "this is {}", "one can see {}", "{} on a light ground")
Figures = dict[str, tuple[float, float, float]]
"""By name a value and its interval."""


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that is told."""

    recipe: Recipe
    seconds: float
    composition: dict[str, Figures]
    """"towers seen", "matcher unseen", …, "blind seen": by kind of pair."""
    batches: list[tuple[Recipe, Figures]]
    prompts: Figures
    gaps: Figures
    views: list[tuple[str, View]]


def interval(measured: Measurement) -> tuple[float, float, float]:
    """Value, low and high."""
    score = measured.score()
    return (score.value, *(score.interval or (score.value, score.value)))


@torch.inference_mode()
def pair_scores(module: Both, asked: Sequence[MinimalPair]) -> dict[str, Tensor]:
    """By model, what it gives the true and the false caption of each pair [n, 2]."""
    scores: dict[str, list[Tensor]] = {"towers": [], "matcher": []}
    for at in range(0, len(asked), 100):
        some = asked[at : at + 100]
        pixels = as_pixels([picture(pair.scene) for pair in some])
        ids = [module.space.tower("text").tokenizer([getattr(pair, side) for pair in some]) for side in ("positive", "negative")]
        image = module.space({"image": pixels})["image"]
        scores["towers"].append(torch.stack([(image * module.space({"text": words})["text"]).sum(1) for words in ids], 1))
        if module.matcher is not None:
            seen = module.matcher.look(pixels)
            scores["matcher"].append(torch.stack([module.matcher.compare(seen, words) for words in ids], 1))
    return {name: torch.cat(parts) for name, parts in scores.items() if parts}


def composition_of(recipe: Recipe, module: Both, count: int) -> dict[str, Figures]:
    """Accuracy on minimal pairs, of scenes like those of training and of scenes with pairs of colour and shape never shown."""
    likely = likelier([captions(make_scene(recipe.world(), 0, index), 1)[0] for index in range(5000)])
    found: dict[str, Figures] = {}
    for part in ("seen", "unseen"):
        asked = [minimal_pair(recipe.world(part), kind, TEST, index) for kind in KINDS for index in range(count)]
        records: list[Pair] = pairs_from([pair.record() for pair in asked])
        scores = pair_scores(module, asked)
        if part == "seen":
            scores["blind"] = torch.tensor([likely([pair.positive, pair.negative]) for pair in asked])
        for name, values in scores.items():
            measured = composition(records, values.double().numpy(), suite=f"worlds-{part}")
            found[f"{name} {part}"] = {kind: interval(measured[kind]) for kind in KINDS}
    return found


def retrieval_of(recipe: Recipe, module: Both, count: int) -> Figures:
    """How often the nearest caption of `count` is true of the scene, and the gap."""
    image, text, true = vectors(module.space, recipe.world(), count)
    hits = first_hits(Cosines(image, text), true)
    return {"recall@1": interval(recall(hits, 1)), "gap": interval(modality_gap(image, text))}


def prompts_of(recipe: Recipe, module: Both, count: int) -> Figures:
    """Zero-shot accuracy on scenes of one thing among all pairs of colour and shape, by each prompt and by their mean vectors."""
    world = replace(singles(recipe.size), colours=recipe.world().colours, shapes=recipe.world().shapes)
    scenes = [make_scene(world, TEST, index) for index in range(count)]
    image = module.space.embed(image=[picture(scene) for scene in scenes])["image"]
    kinds = list(world.combinations)
    truths = [kinds.index((scene.things[0].colour, scene.things[0].shape)) for scene in scenes]
    found: Figures = {}
    for group, prompts in (("trained", PROMPTS), ("foreign", FOREIGN)):
        texts = [prompt.replace("{}", phrase(Noun(shape, colour))) for colour, shape in kinds for prompt in prompts]
        by_prompt = module.space.embed(text=texts)["text"].unflatten(0, (len(kinds), len(prompts)))
        each = [accuracy(zero_shot(image, by_prompt[:, at], truths)) for at in range(len(prompts))]
        together = accuracy(zero_shot(image, class_vectors(by_prompt), truths))
        found |= {f"{group}: {prompt}": interval(one) for prompt, one in zip(prompts, each, strict=True)}
        found[f"{group}: all together"] = interval(together)
        values = torch.tensor([list(one.values().values()) for one in each]).mean(0)
        mean = replace(together, statistics=torch.stack((values, torch.ones(count)), 1).numpy())
        found[f"{group}: mean of the prompts"] = interval(mean)
        gain = compare(together, mean)
        low, high = gain.interval or (gain.difference, gain.difference)
        found[f"{group}: gain"] = (gain.difference, low, high)
    return found


def gaps_of(runs: dict[str, tuple[Recipe, Both]], count: int) -> tuple[Figures, list[tuple[str, View]]]:
    """The gap before and after training, and the spaces as points in a plane."""
    gaps: Figures = {}
    views = []
    for name, (recipe, module) in runs.items():
        for when, space in (("before", WorldClip(recipe).module.eval().space), ("after", module.space)):
            image, text, _ = vectors(space, recipe.world(), count)
            gaps[f"{name} {when}"] = interval(modality_gap(image, text))
            cosines = Measurement.mean(Passport("cosine"), map(str, range(count)), (image * text).sum(1).tolist())
            gaps[f"{name} {when}, cosine of pairs"] = interval(cosines)
            view = project({"picture": image[:300], "caption": text[:300]})
            views.append((f"{when} training: the gap is {gaps[f'{name} {when}'][0]:.2f}", view))
    return gaps, views


def seconds_of(folder: Path) -> float:
    """Seconds of training."""
    states = sorted((folder / "checkpoints").glob("step-*/state.json"))
    return float(json.loads(states[-1].read_text())["seconds"]) if states else float("nan")


def measure(run: Path, batches: Sequence[Path], gap: Sequence[Path], count: int) -> Results:
    """Everything, from the folders of runs."""
    recipe, module = open_run(run)
    opened = [open_run(folder) for folder in gap or [run]]
    gaps, views = gaps_of({"centred" if one.centred else "not centred": (one, towers) for one, towers in opened}, TEST_SCENES)
    told = []
    for folder in batches:
        other, towers = open_run(folder)
        figures = retrieval_of(other, towers, TEST_SCENES)
        asked = [minimal_pair(other.world(), kind, TEST, index) for kind in KINDS[:3] for index in range(count)]
        measured = composition(
            pairs_from([pair.record() for pair in asked]), pair_scores(towers, asked)["towers"].double().numpy()
        )
        told.append((other, {**figures, **{kind: interval(measured[kind]) for kind in KINDS[:3]}}))
    return Results(
        recipe,
        seconds_of(run),
        composition_of(recipe, module, count),
        sorted(told, key=lambda one: (one[0].steps, one[0].batch)),
        prompts_of(recipe, module, 2 * TEST_SCENES),
        gaps,
        views,
    )


def percent(figure: tuple[float, float, float]) -> str:
    """A share with its interval."""
    value, low, high = (f"{round(100 * share, 1) + 0.0:.1f} %" for share in figure)  # + 0.0, or there were a −0.0.
    return f"{value} ({low} – {high})"


def tables(results: Results) -> str:
    """The tables in Markdown."""
    recipe, kinds = results.recipe, KINDS[:3]
    columns = [f"{model} {part}" for part in ("seen", "unseen") for model in ("towers", "matcher")] + ["blind seen"]
    columns = [name for name in columns if name in results.composition]
    lines = [
        f"The run: {recipe.scenes:,} scenes of {recipe.size} × {recipe.size} pixels in batches of {recipe.batch}, "
        f"{recipe.steps:,} steps in {results.seconds:,.0f} s of wall time on {recipe.threads} thread(s).",
        "",
        "**Minimal pairs.** How often the true caption is preferred to the false one; a toss gets 50 %.",
        "",
        *table("kind", columns, [(kind, [percent(results.composition[name][kind]) for name in columns]) for kind in KINDS]),
        "",
        "**Batch size.** Two towers alone; captions always name both things.",
        "",
        *table(
            "batch",
            ["steps", "scenes", f"R@1 of {TEST_SCENES:,}", *kinds],
            [
                (
                    str(other.batch),
                    [f"{other.steps:,}", f"{other.scenes:,}", *(percent(found[name]) for name in ("recall@1", *kinds))],
                )
                for other, found in results.batches
            ],
        ),
        "",
        "**Prompts.** Scenes of one thing, small or large, among all pairs of colour and shape, zero-shot.",
        "",
        *table("prompts", ["accuracy"], [(name, [percent(found)]) for name, found in results.prompts.items()]),
        "",
        "**Modality gap.** The distance of the centre of the pictures' vectors from that of the captions', 0 … 2.",
        "",
        *table(
            "features", ["value"], [(name, ["{:.3f} ({:.3f} – {:.3f})".format(*found)]) for name, found in results.gaps.items()]
        ),
    ]
    return "\n".join(lines)


def table(corner: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """A table in Markdown."""
    head = [f"| {corner} | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    return head + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]


def main(arguments: Iterable[str] | None = None) -> None:
    """Measure, write the tables into the guide and the picture beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--batches", type=Path, nargs="*", default=[])
    parser.add_argument("--gap", type=Path, nargs="*", default=[])
    parser.add_argument("--count", type=int, default=500, help="minimal pairs of each kind")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    results = measure(options.run, options.batches, options.gap, options.count)
    told = tables(results)
    print(told)
    page = DOCS / "worlds.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    page.write_text(f"{before}{MARKS[0]}\n{told}\n{MARKS[1]}{after}", encoding="utf-8")
    save_figure(results, DOCS / "pictures" / "worlds-results.png")


if __name__ == "__main__":
    main()
