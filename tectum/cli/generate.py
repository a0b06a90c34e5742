"""`tectum generate`: pictures of a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tectum.errors import ConfigError
from tectum.files import written_beside
from tectum.media.source import display

if TYPE_CHECKING:
    from torch import Tensor

    from tectum.diffusion.solvers.state import Step
    from tectum.models.latent_diffusion import LatentDiffusion
    from tectum.models.sampling import Edit, Sampling

BATCH = 16
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
SolverName = Literal["unipc", "dpm", "euler", "heun"]


def generate(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the picture is of.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FILE.png", help="Where the picture goes; several go on one sheet.")
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="A model's folder, of diffusers or our own, or its name.")
    ] = "paint-mini",
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many pictures.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the solver; more are slower and nearer to the model.")] = 20,
    guidance: Annotated[float, typer.Option(metavar="W", help="How strictly the text is followed; 1 is no guidance.")] = 5.0,
    negative: Annotated[str | None, typer.Option(metavar="TEXT", help="What it should not look like.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives other pictures; the same gives the same.")] = 0,
    solver: Annotated[
        SolverName | None, typer.Option(help="What follows the model instead of its own; heun asks it twice a step.")
    ] = None,
    start: Annotated[Path | None, typer.Option("--from", metavar="FILE", help="A picture to begin from.")] = None,
    strength: Annotated[float, typer.Option(metavar="S", help="How far from it, above 0 to 1 (nothing is kept).")] = 0.6,
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --from: white where something new is wanted, black where it stays.")
    ] = None,
    gif: Annotated[bool, typer.Option("--gif", help="Also write FILE.gif, which shows how they come about.")] = False,
    each: Annotated[bool, typer.Option("--each", help="Also write every picture on its own: FILE-0.png, FILE-1.png, …")] = False,
) -> None:
    """Make pictures of a text.

    \b
    tectum generate "a red apple, 3d style" -o apple.png
    tectum generate "a cat" -o cats.png -n 16 --seed 1 --steps 20 --gif
    tectum generate "a pear" -o pear.png --from apple.png --strength 0.6
    tectum generate "a hat" -o hat.png --from cat.png --mask top.png
    tectum generate "a red apple" -o apple.png --model stable-diffusion-v1-5 --guidance 7.5
    tectum generate 207 -o dog.png --model DiT-XL-2-256
    """
    from tectum.hub.generators import load_painter
    from tectum.models.sampling import Sampling

    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"{out} is not the name of a picture: write for example -o {out.with_suffix('.png')}")
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent} is no folder: make it first, or write elsewhere with -o")
    if not text.strip():
        raise ConfigError("the text is empty: say what the picture is of")
    if mask is not None and start is None:
        raise ConfigError("--mask says what of a picture is made anew: give the picture with --from")
    painter = load_painter(model)
    wanted = _wanted(painter, text, n)
    edit = None if start is None else _edit(painter, start, strength, mask)
    sampling = Sampling(
        steps=steps, guidance=guidance, negative=negative, seed=seed, solver=None if solver is None else _solver(solver)
    )
    painter.pack(wanted[:BATCH], sampling)
    pictures, frames = _paint(painter, wanted, sampling, edit, gif)
    _write(out, pictures, frames, each)


def _wanted(painter: LatentDiffusion, text: str, n: int) -> Sequence[str] | Sequence[int]:
    """What the model is asked for, n times: the text, or of a model of classes the number in it."""
    if painter.prompts is not None:
        return [text] * n
    classes = painter.network.config.told.classes
    if not classes or not text.isdigit():
        raise ConfigError(
            f"this model is told no text: give the number of a class, 0 to {classes - 1}" if classes else
            "this model makes pictures of nothing in particular, which this command does not: use LatentDiffusion.generate"
        )  # fmt: skip
    return [int(text)] * n


def _paint(
    painter: LatentDiffusion, wanted: Sequence[str] | Sequence[int], sampling: Sampling, edit: Edit | None, gif: bool
) -> tuple[Tensor, list[Tensor]]:
    """The pictures, and for a GIF what they were going to be after each step."""
    import torch

    from tectum.models.latent_diffusion import as_bytes
    from tectum.search.progress import progress_bar

    n = len(wanted)
    done: list[Tensor] = []
    previews: list[list[Tensor]] = []
    with progress_bar("painting", unit="steps") as progress, torch.inference_mode():
        for first in range(0, n, BATCH):
            numbers = range(first, min(n, first + BATCH))
            frames = []
            for state in painter.trajectory(wanted[first : first + BATCH], sampling, numbers=numbers, edit=edit):
                if gif and state.past:
                    frames.append(as_bytes(painter.pictures(state.past[0].x0)))
                progress(first * sampling.steps + int(state.step) * len(numbers), n * sampling.steps, "")
            done.append(painter.finished(state, edit))
            previews.append([*frames, done[-1]] if gif else [])
    return torch.cat(done), [torch.cat(parts) for parts in zip(*previews, strict=True)]


def _write(out: Path, pictures: Tensor, frames: list[Tensor], each: bool) -> None:
    from tectum.media.sheet import picture, sheet, write_gif

    def save(path: Path, pixels: Tensor) -> None:
        with written_beside(path) as file:
            (picture(pixels[0]) if len(pixels) == 1 else sheet(pixels)).save(file, FORMATS[path.suffix.lower()])
        print(display(path))

    save(out, pictures)
    if each:
        digits = len(str(len(pictures) - 1))
        for number, one in enumerate(pictures):
            save(out.with_name(f"{out.stem}-{number:0{digits}d}{out.suffix}"), one[None])
    if frames:
        with written_beside(out.with_suffix(".gif")) as file:
            write_gif(file, [sheet(frame) for frame in frames])
        print(display(out.with_suffix(".gif")))


def _edit(painter: LatentDiffusion, start: Path, strength: float, mask: Path | None) -> Edit:
    from tectum.media.image import ImageSpec
    from tectum.models.sampling import Edit

    high, wide = (side * painter.factor for side in painter.size)
    if high != wide:
        raise ConfigError(f"this model's pictures are {high} × {wide}: --from needs a model of square ones")
    spec = ImageSpec(size=high, fit="shortest")
    hole = None
    if mask is not None:
        hole = spec.pixels(mask).float().mean(0) > 127.5
        if not hole.any():
            raise ConfigError(f"{display(mask)} has nothing white in it: paint white what is to be made anew")
    return Edit(picture=spec.tensor(start), strength=strength, hole=hole)


def _solver(name: SolverName) -> Step:
    from tectum.diffusion.solvers.ancestral import Ancestral
    from tectum.diffusion.solvers.multistep import Multistep
    from tectum.diffusion.solvers.runge_kutta import Heun
    from tectum.diffusion.solvers.unipc import UniPC

    made: dict[SolverName, Step] = {"unipc": UniPC(2), "dpm": Multistep(2), "euler": Ancestral(), "heun": Heun("flow")}
    return made[name]
