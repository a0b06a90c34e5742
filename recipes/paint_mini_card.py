"""Finish paint-mini: what it paints, measured and shown, and the model card.

    python recipes/paint_mini_card.py --run runs/paint-mini-3 --out weights/paint-mini --pictures docs/pictures

A picture is judged by space-mini, which knows four thousand things by name: does it find the name that was asked for? Real
drawings are judged in the same way, for it is wrong about those too. Distances between sets of pictures are of its vectors, and
stand beside that of two halves of the real ones.
"""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from paint_mini import PROMPTS, STYLES, PaintMini, Recipe, finished
from paint_mini_card_text import EVALUATIONS, card
from space_mini_card import scored
from space_mini_card_text import Run, told
from space_mini_scores import encode_pixels, on_white
from torch import Tensor

from tectum.diffusion.solvers.ancestral import Ancestral
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.runge_kutta import Heun
from tectum.diffusion.solvers.state import Step, last
from tectum.diffusion.solvers.unipc import UniPC
from tectum.evaluate.features import Features
from tectum.evaluate.frechet import frechet_distance
from tectum.evaluate.memorisation import memorisation
from tectum.hub.generators import save_text_to_image
from tectum.media.sheet import sheet
from tectum.models.encoders import parameter_count
from tectum.models.sampling import Sampling
from tectum.models.text_to_image import TextToImage
from tectum.train.recipe import remembered

GUIDANCE = (1.0, 3.0, 5.0, 7.5, 12.0, 20.0)
SOLVERS: dict[str, Step] = {
    "UniPC-2 (default)": UniPC(2), "DPM-Solver++ 2M": Multistep(2), "Heun": Heun("flow"), "Euler": Ancestral(),
}  # fmt: skip
UNSEEN = (
    "a blue apple",
    "a cat with sunglasses",
    "a green heart with a face",
    "a snowman on a boat",
    "a purple banana",
    "a robot dog",
)


class Judge:
    """space-mini, and the names it chooses from."""

    def __init__(self, task: PaintMini) -> None:
        drawings = task.all_drawings
        self.space = task.space
        self.names = sorted({name for name, base in zip(drawings.names, drawings.base.tolist(), strict=True) if base})
        self.vectors = self.space.label_vectors(self.names)

    def encode(self, pictures: Tensor) -> Tensor:
        """uint8 [n, 3, h, w], or floats in 0 … 1, to unit vectors [n, d]."""
        return encode_pixels(self.space, pictures if pictures.is_floating_point() else pictures.float() / 255)

    def hits(self, vectors: Tensor, names: Sequence[str]) -> Tensor:
        """Whether a picture's name is the first, …, fifth that is found for it, [n, 5]."""
        return (vectors @ self.vectors.T).topk(5).indices == torch.tensor([self.names.index(name) for name in names])[:, None]


def paint(painter: TextToImage, texts: Sequence[str], sampling: Sampling) -> Tensor:
    """Pictures [n, 3, h, w], 32 at a time."""
    parts = range(0, len(texts), 32)
    return torch.cat(
        [painter.generate(texts[at : at + 32], sampling, numbers=range(at, at + len(texts[at : at + 32]))) for at in parts]
    )


def spread_over(names: Iterable[str], count: int) -> list[str]:
    """Some names, evenly through the alphabet."""
    ordered = sorted(set(names))
    return ordered[:: max(1, len(ordered) // count)][:count]


def by_name(painter: TextToImage, judge: Judge, task: PaintMini, count: int) -> dict[str, Any]:
    """How often the name is found for what is painted and for what is drawn, of emoji seen in training and not."""
    scores = {}
    for key, drawings in {"seen": task.drawings.rows(task.drawings.base), "unseen": task.test}.items():
        names = spread_over(drawings.names, count)
        painted = judge.hits(judge.encode(paint(painter, names, Sampling(steps=20))), names)
        rows = torch.tensor([name in set(names) for name in drawings.names])
        drawn = drawings.rows(rows)
        real = judge.hits(judge.encode(on_white(drawn.pixels, task.painter.config.size)), drawn.names)
        for kind, hits in (("painted", painted), ("drawn", real)):
            scores |= {f"{key} {kind} R@1": scored(hits[:, 0]), f"{key} {kind} R@5": scored(hits.any(1))}
    return scores


def distances(painter: TextToImage, judge: Judge, task: PaintMini, count: int) -> dict[str, Any]:
    """Fréchet distances to real drawings, and how near what is painted comes to what was trained on."""
    base = task.drawings.rows(task.drawings.base)
    order = torch.randperm(len(base.names), generator=torch.Generator().manual_seed(0))[: 2 * count].tolist()
    real = Features.of(judge.encode(on_white(base.pixels[order], task.painter.config.size)))
    texts = [f"{base.names[i]}, {STYLES[base.vendors[i]]} style" for i in order[:count]]
    painted = paint(painter, texts, Sampling(steps=20))
    made = Features.of(judge.encode(painted))
    first, second = (Features.of(real.vectors[part]) for part in (slice(0, count), slice(count, None)))
    between = [frechet_distance(other, second) for other in (made, first)]
    training = Features.of(judge.encode(on_white(base.pixels, task.painter.config.size)))
    unseen = Features.of(judge.encode(on_white(task.test.pixels, task.painter.config.size)))
    found = memorisation(training, made, held_out=unseen, k=1)
    nearest = found.nearest_first()[:8]
    beside = torch.stack([on_white(base.pixels[int(found.neighbours[i][0]), None], 64)[0] for i in nearest])
    both = torch.cat((painted[nearest], (beside * 255).round().to(torch.uint8)))
    scores = {
        "painted": between[0].value, "real": between[1].value, "count": count, "copying": found.copying.score().value,
        "ratio": float(torch.from_numpy(found.ratio).median()),
    }  # fmt: skip
    return {"scores": scores, "nearest": both}


def guidance_ladder(painter: TextToImage, judge: Judge, names: Sequence[str]) -> list[dict[str, float]]:
    """For each weight: how well the text is followed, how different four pictures of one text are, and how colourful."""
    rows = []
    for w in GUIDANCE:
        pictures = paint(painter, [name for name in names for _ in range(4)], Sampling(steps=20, guidance=w))
        vectors = judge.encode(pictures)
        hits = judge.hits(vectors, [name for name in names for _ in range(4)])
        alike = torch.einsum("nid,njd->nij", *[vectors.unflatten(0, (-1, 4))] * 2)
        apart = 1 - (alike.sum((1, 2)) - 4) / 12
        colours = pictures.float() / 255
        saturation = (colours.amax(1) - colours.amin(1)) / colours.amax(1).clamp(min=1e-6)
        rows.append({
            "w": w, "R@1": hits[:, 0].float().mean().item(), "R@5": hits.any(1).float().mean().item(),
            "apart": apart.mean().item(), "saturation": saturation.mean().item(),
            "cut off": ((pictures == 0) | (pictures == 255)).float().mean().item(),
        })  # fmt: skip
    return rows


def steps_ladder(painter: TextToImage, names: Sequence[str]) -> dict[str, list[float]]:
    """Root mean square of the distance of latents to those of 200 steps of UniPC-3, for the same number of evaluations."""

    def end(steps: int, solver: Step) -> Tensor:
        with torch.no_grad():
            return last(painter.trajectory(names, Sampling(steps=steps, solver=solver)))

    exact = end(200, UniPC(3))
    return {
        name: [
            (end(max(1, steps // (2 if name == "Heun" else 1)), solver) - exact).square().mean().sqrt().item()
            for steps in EVALUATIONS
        ]
        for name, solver in SOLVERS.items()
    }


def seconds_of_four(painter: TextToImage) -> float:
    """The quickest of three times four pictures at the defaults."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        painter.generate(PROMPTS[:4], Sampling(steps=20))
        times.append(time.perf_counter() - started)
    return min(times)


def open_run(folder: Path, data: Path) -> tuple[TextToImage, PaintMini]:
    """A finished run."""
    task = PaintMini(replace(remembered(Recipe(), folder), data=data))
    return finished(task, folder), task


def stages(run: Path, scores: dict[str, Any]) -> list[Run]:
    """What is told of a run, after what is told of those that it began as, and of the autoencoder's before all."""
    last = told(run, scores)
    before = last["recipe"].get("begin") or last["recipe"].get("codec")
    return [*(stages(Path(before), {}) if before else []), last]


def main(arguments: Iterable[str] | None = None) -> None:
    """Read the run, write the finished model, its card and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--count", type=int, default=512, help="pictures a score")
    options = parser.parse_args(arguments)

    painter, task = open_run(options.run, options.data)
    save_text_to_image(painter, options.out)
    parts = {"denoiser": painter.network, "autoencoder": painter.autoencoder, "text encoder": painter.prompts}
    parameters = {name: parameter_count(part) for name, part in parts.items()}
    painter.pack(PROMPTS, Sampling())  # from here on it has no parameters
    judge, count = Judge(task), options.count
    with torch.inference_mode():
        far = distances(painter, judge, task, count)
        names = spread_over(task.drawings.rows(task.drawings.base).names, 32)
        scores = {
            "parameters": parameters,
            "by name": by_name(painter, judge, task, count),
            "distances": far["scores"],
            "guidance": guidance_ladder(painter, judge, names),
            "steps": steps_ladder(painter, names[:8]),
            "seconds": seconds_of_four(painter),
            "threads": torch.get_num_threads(),
        }
        drawn = {
            "prompts": sheet(paint(painter, PROMPTS, Sampling(steps=30)), columns=8),
            "unseen": sheet(paint(painter, [text for text in UNSEEN for _ in range(4)], Sampling(steps=30)), columns=8),
            "guidance": sheet(
                torch.cat([paint(painter, PROMPTS[:8], Sampling(steps=20, guidance=w)) for w in GUIDANCE]), columns=8
            ),
            "nearest": sheet(far["nearest"], columns=8),
        }
    for name, picture in drawn.items():
        picture.resize((2 * picture.width, 2 * picture.height), 0).save(options.pictures / f"paint-{name}.png", optimize=True)
    *before, run = stages(options.run, scores)
    (options.out / "scores.json").write_text(json.dumps(run | {"before": before}, indent=1) + "\n")
    (options.out / "README.md").write_text(card(run, before, painter, UNSEEN), encoding="utf-8")


if __name__ == "__main__":
    main()
