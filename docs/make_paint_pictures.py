"""The pictures of docs/text-to-image.md that its model card does not have.

    python docs/make_paint_pictures.py        # a minute on one core

paint-way.gif       eight pictures on their way from noise
paint-way.png       what a picture was going to be, after each second step
paint-edit.png      a sketch, what is made of it at rising strength, and a picture of which only the hole is painted anew
paint-between.png   from one start to another
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from tectum.diffusion.editing import slerp
from tectum.hub.generators import load_text_to_image
from tectum.media.image import ImageSpec
from tectum.media.sheet import picture, sheet, write_gif
from tectum.models.latent_diffusion import as_bytes
from tectum.models.sampling import Edit, Sampling
from tectum.models.text_to_image import TextToImage

FOLDER = Path(__file__).resolve().parent / "pictures"
TEXTS = ("a red apple, 3d style", "a happy face", "a dog", "a rocket", "a pizza", "a yellow car", "a rose", "a crab")
STRENGTHS = (0.4, 0.55, 0.7, 0.85, 1.0)


def sketch(side: int) -> Image.Image:
    """A red disc with a stalk and a leaf, as anyone draws it with a mouse."""
    page = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(page)
    unit = side / 64
    pen.ellipse([value * unit for value in (10, 18, 54, 60)], fill="#c8202f")
    pen.line([value * unit for value in (32, 20, 34, 7)], fill="#6b4226", width=round(3 * unit))
    pen.ellipse([value * unit for value in (35, 5, 50, 13)], fill="#3f8f3a")
    return page


def way(painter: TextToImage, texts: Sequence[str]) -> list[Tensor]:
    """What the pictures were going to be after each step, and what they became, uint8 [n, 3, h, w] each."""
    *states, end = painter.trajectory(texts, Sampling(steps=20))
    return [as_bytes(painter.pictures(state.past[0].x0)) for state in states if state.past] + [painter.finished(end)]


def larger(page: Image.Image) -> Image.Image:
    """Twice the size, pixel by pixel."""
    return page.resize((2 * page.width, 2 * page.height), Image.Resampling.NEAREST)


def edits(painter: TextToImage) -> Tensor:
    """A row of what is made of a sketch, and one of what is made in the upper half of a picture."""
    side = painter.config.size
    spec = ImageSpec(size=side, fit="shortest")
    first = sketch(side)
    begin = spec.tensor(first)
    made = [
        painter.generate(["a red apple, 3d style"], Sampling(seed=1), edit=Edit(picture=begin, strength=s)) for s in STRENGTHS
    ]
    whole = painter.generate(["grinning face, fluent style"], Sampling(seed=1))
    hole = torch.zeros(side, side, dtype=torch.bool)
    hole[: side // 2] = True
    face = spec.tensor(picture(whole[0]))
    texts = ("cowboy hat face", "face with sunglasses", "crying face", "angry face", "partying face")
    anew = [
        painter.generate([f"{text}, fluent style"], Sampling(seed=1), edit=Edit(picture=face, strength=1.0, hole=hole))
        for text in texts
    ]
    return torch.cat([spec.pixels(first)[None], *made, whole, *anew])


def between(painter: TextToImage, text: str, count: int = 8) -> Tensor:
    """Pictures of one text, from starts that lie between two."""
    shape = (1, painter.config.autoencoder.latents, *painter.size)
    a, b = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4))
    starts = torch.cat([slerp(a, b, i / (count - 1)) for i in range(count)])
    return painter.generate([text] * count, Sampling(), start=starts)


def main() -> None:
    """Draw them all."""
    painter = load_text_to_image("paint-mini")
    with torch.inference_mode():
        frames = way(painter, TEXTS)
        with (FOLDER / "paint-way.gif").open("wb") as file:
            write_gif(file, [larger(sheet(frame, columns=4)) for frame in frames])
        some = torch.stack([frame[:4] for frame in frames[1::2]], dim=1)
        larger(sheet(some.flatten(0, 1), columns=some.shape[1])).save(FOLDER / "paint-way.png", optimize=True)
        larger(sheet(edits(painter), columns=6)).save(FOLDER / "paint-edit.png", optimize=True)
        rows = torch.cat([between(painter, text) for text in ("a face", "a cat")])
        larger(sheet(rows, columns=8)).save(FOLDER / "paint-between.png", optimize=True)


if __name__ == "__main__":
    main()
