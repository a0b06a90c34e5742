"""The pictures of docs/, made from held-out data with the shipped weights.

    python docs/make_pictures.py --data ../shared/data

space-classify.png   photographs (Caltech-101 test) and sounds (ESC-10 fold 4) with the three words space-mini finds nearest
space-search.png     words, and the held-out photographs and sounds nearest to each
space-view.png       photographs of eleven classes, sounds, and the words for them, in one plane by t-SNE
"""

import argparse
import sys
import textwrap
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import tectum
from tectum.evaluate.views import project
from tectum.evaluate.views_picture import save_picture
from tectum.media.mel import whisper_mel

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT.parent / "recipes"))

import space_mini_data as corpora  # noqa: E402
from space_mini_scores import encode_pixels, shrink  # noqa: E402

TILE, TEXT = 112, 46
SEEN = ("motorbike", "airplane", "sunflower", "grand piano", "watch", "ketch", "leopard", "chair", "brain", "butterfly", "bonsai")
WORDS = ("a sunflower", "a ship with sails", "rooster", "helicopter", "an elephant", "a clock", "a musical instrument")


def sound_picture(wave: Tensor) -> Image.Image:
    """A log-mel spectrogram, low notes below."""
    mel = whisper_mel(80)(wave / wave.abs().max())
    scaled = ((mel - mel.min()) / (mel.max() - mel.min())).flip(0).numpy()
    rgb = np.stack([np.clip(scaled * 2.2 - offset, 0, 1) for offset in (0.3, 0.9, 0.0)], -1)
    return Image.fromarray((rgb * 255).astype(np.uint8)).resize((TILE, TILE))


def sheet(rows: list[list[tuple[Image.Image | None, str]]]) -> Image.Image:
    """Tiles with a caption under each; a tile without a picture is a heading."""
    font = ImageFont.load_default(13)
    heading = ImageFont.load_default(16)
    page = Image.new("RGB", ((TILE + 14) * max(map(len, rows)) + 14, (TILE + TEXT + 12) * len(rows) + 12), "white")
    draw = ImageDraw.Draw(page)
    for y, row in enumerate(rows):
        for x, (picture, text) in enumerate(row):
            left, top = 14 + x * (TILE + 14), 12 + y * (TILE + TEXT + 12)
            if picture is None:
                draw.multiline_text((left, top + TILE / 2 - 20), textwrap.fill(text, 12), "black", heading)
            else:
                page.paste(picture.convert("RGB").resize((TILE, TILE)), (left, top))
                draw.multiline_text((left, top + TILE + 3), text, (60, 60, 60), font, spacing=2)
    return page


def as_image(pixels: Tensor) -> Image.Image:
    """[3, h, w] in 0 … 255."""
    return Image.fromarray(pixels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())


@torch.inference_mode()
def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    data = parser.parse_args().data
    space = tectum.load("space-mini")
    size = space.config.towers["image"].image.size
    generator = torch.Generator().manual_seed(5)

    photos = corpora.read_photos(data, "test", 128)
    sounds = corpora.read_sounds(data, (corpora.VALIDATION_FOLD,))
    photo_vectors = encode_pixels(space, shrink(photos.pixels, size))
    sound_vectors = space.embed(audio=[(wave.numpy(), corpora.RATE) for wave in sounds.waves], batch_size=16)["audio"]

    def nearest(vectors: Tensor, labels: list[str], at: int) -> str:
        scores = space.scale("image", "text") * vectors[at] @ space.label_vectors(labels).T
        best = scores.softmax(-1).topk(3)
        return "\n".join(f"{labels[i]} {p:.2f}" for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True))

    chosen = torch.randperm(len(photos.labels), generator=generator)[:14].tolist()
    tiles: list[tuple[Image.Image | None, str]] = [
        (as_image(photos.pixels[at].float()), nearest(photo_vectors, list(photos.names), at)) for at in chosen
    ]
    words = [corpora.SOUND_WORDS[key] for key in sounds.keys]
    heard = [int((sounds.labels == label).nonzero()[2]) for label in (0, 1, 2, 3, 5, 7, 9)]
    tiles += [(sound_picture(sounds.waves[at]), nearest(sound_vectors, words, at)) for at in heard]
    (ROOT / "pictures").mkdir(exist_ok=True)
    sheet([tiles[:7], tiles[7:14], tiles[14:]]).save(ROOT / "pictures" / "space-classify.png", optimize=True)

    rows: list[list[tuple[Image.Image | None, str]]] = []
    for text in WORDS:
        query = space.embed(text=[text])["text"][0]
        row: list[tuple[Image.Image | None, str]] = [(None, text)]
        best = (photo_vectors @ query).topk(4)
        row += [
            (as_image(photos.pixels[i].float()), f"photograph\n{v:.2f}")
            for v, i in zip(best.values, best.indices.tolist(), strict=True)
        ]
        best = (sound_vectors @ query).topk(2)
        row += [
            (sound_picture(sounds.waves[i]), f"{sounds.keys[sounds.labels[i]]}\n{v:.2f}")
            for v, i in zip(best.values, best.indices, strict=True)
        ]
        rows.append(row)
    sheet(rows).save(ROOT / "pictures" / "space-search.png", optimize=True)

    seen = (photos.labels[:, None] == torch.tensor([photos.names.index(name) for name in SEEN])).any(1)
    vectors = {
        "photograph": photo_vectors[seen],
        "sound": sound_vectors,
        "word": space.label_vectors([*SEEN, *words]),
    }
    view = project(vectors, labels={"word": [*SEEN, *words]}, method="tsne")
    save_picture(view, ROOT / "pictures" / "space-view.png", title="Photographs and sounds never seen, and words, in one space")


if __name__ == "__main__":
    main()
