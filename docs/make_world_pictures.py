"""The picture of docs/worlds.md, from generated scenes: what each world looks like, and what is known of a scene.

    python docs/make_world_pictures.py

worlds-scenes.png    scenes with captions; boxes, masks and a film; a scene as a sound
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from tectum.data.worlds import (
    RATE,
    Scene,
    World,
    ask,
    caption,
    crowds,
    describe,
    film,
    heaps,
    make_clip,
    make_scene,
    masks,
    minimal_pair,
    pairs,
    picture,
    singles,
    sound,
)
from tectum.data.worlds.stamp import COLOURS
from tectum.media.mel import whisper_mel

ROOT = Path(__file__).resolve().parent
SIDE, TEXT, GAP = 150, 62, 14
Tile = tuple[np.ndarray, str]


def captioned(world: World, numbers: Sequence[int]) -> list[Tile]:
    """Scenes with a caption each."""
    scenes = [make_scene(world, 0, number) for number in numbers]
    return [(picture(scene), caption(scene)) for scene in scenes]


def boxed(scene: Scene) -> np.ndarray:
    """The scene, with the box of each thing in its colour."""
    image = Image.fromarray(picture(scene))
    pen = ImageDraw.Draw(image)
    for thing in scene.things:
        left, top, right, bottom = thing.box
        pen.rectangle((left - 1, top - 1, right, bottom), outline=COLOURS[thing.colour])
    return np.asarray(image)


def masked(scene: Scene) -> np.ndarray:
    """Where each thing is seen, nearer ones lighter."""
    seen = masks(scene)
    shades = np.linspace(90, 235, len(seen))[:, None, None]
    return np.repeat((seen * shades).sum(0).astype(np.uint8)[:, :, None], 3, 2)


def heard(scene: Scene) -> np.ndarray:
    """The log-mel spectrogram of the scene's sound, low notes below, time to the right."""
    mel = whisper_mel(80)(torch.from_numpy(sound(scene)))
    scaled = ((mel - mel.min()) / (mel.max() - mel.min())).flip(0).numpy()
    rgb = np.stack([np.clip(scaled * 2.2 - offset, 0, 1) for offset in (0.3, 0.9, 0.0)], -1)
    return (rgb * 255).astype(np.uint8)


def known(size: int) -> list[Tile]:
    """What is known of scenes."""
    heap, pair = make_scene(heaps(size), 0, 12), minimal_pair(pairs(size), "swap-attribute", 0, 3)
    asked, clip = ask(crowds(size), 0, 5, "count"), make_clip(pairs(size), 0, 6, frames=12)
    frames = film(clip)
    trail = np.where((frames[[0, 5, 11]] < frames[5:6]).any(3, keepdims=True), frames[[0, 5, 11]], frames[5:6]).min(0)
    row = make_scene(crowds(size), 0, 9)
    return [
        (boxed(heap), "boxes (hidden parts too)"),
        (masked(heap), "masks (what is seen)"),
        (picture(pair.scene), f"{pair.positive}, not {pair.negative}"),
        (picture(asked.scene), f"{asked.text} {asked.answer}"),
        (trail, f"12 frames: {describe(clip)}"),
        (heard(row), f"a sound of {len(sound(row)) / RATE:g} s, things from left to right: {caption(row)}"),
    ]


def sheet(rows: Sequence[tuple[str, Sequence[Tile]]]) -> Image.Image:
    """Rows of pictures with texts under them, each row under its heading."""
    plain, bold = ImageFont.load_default(12), ImageFont.load_default(16)
    width, height = GAP + (SIDE + GAP) * max(len(tiles) for _, tiles in rows), (SIDE + TEXT + 34) * len(rows) + 8
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    for y, (heading, tiles) in enumerate(rows):
        top = 8 + y * (SIDE + TEXT + 34)
        pen.text((GAP, top), heading, (20, 20, 20), bold)
        for x, (pixels, text) in enumerate(tiles):
            left = GAP + x * (SIDE + GAP)
            page.paste(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST), (left, top + 24))
            lines = textwrap.wrap(text, 26)[:4]
            pen.multiline_text((left, top + SIDE + 28), "\n".join(lines), (70, 70, 70), plain, spacing=1)
    return page


def main() -> None:
    """Write the picture."""
    rows = [
        ("singles(): one thing", captioned(singles(SIDE), range(6))),
        ("pairs(): two unlike things", captioned(pairs(SIDE), range(6))),
        ("crowds(): up to five small things, many alike", captioned(crowds(SIDE), range(6))),
        ("heaps(): things of all sizes and materials that hide each other", captioned(heaps(SIDE), range(6))),
        ("what is known of a scene", known(SIDE)),
    ]
    (ROOT / "pictures").mkdir(exist_ok=True)
    sheet(rows).save(ROOT / "pictures" / "worlds-scenes.png", optimize=True)


if __name__ == "__main__":
    main()
