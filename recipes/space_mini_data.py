"""What space-mini learns from: emoji drawings, Caltech-101 photographs, ESC-10 sounds, COCO captions, and how they are split.

Every picture and every text carries a set of words; a text is a positive of a picture when the text's words are a subset of the
picture's. So "dog" is right for each drawing of a dog and for nothing that is called "hot dog" alone.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import soundfile
import torch
from PIL import Image
from torch import Tensor

LEFT_OUT_CLASSES = frozenset({"face", "garfield", "snoopy", "background clutter"})
"""People, comic characters, and the class that names nothing."""

SOUND_PICTURES = {
    "dog": ("dog face", "dog", "guide dog", "service dog", "poodle", "dalmatian"),
    "rooster": ("rooster",),
    "rain": ("cloud with rain", "umbrella with rain drops", "sun behind rain cloud", "cloud with lightning and rain"),
    "sea_waves": ("water wave",),
    "crying_baby": ("baby",),
    "clock_tick": ("alarm clock", "mantelpiece clock", "watch", "stopwatch"),
    "sneezing": ("sneezing face",),
    "helicopter": ("helicopter",),
    "chainsaw": ("carpentry saw",),
    "crackling_fire": ("fire",),
}
"""The pictures (by emoji or class name) of what makes each sound. No word is ever paired with a sound."""

SOUND_WORDS = {
    "dog": "dog",
    "rooster": "rooster",
    "rain": "rain",
    "sea_waves": "sea waves",
    "crying_baby": "crying baby",
    "clock_tick": "clock tick",
    "sneezing": "sneezing",
    "helicopter": "helicopter",
    "chainsaw": "chainsaw",
    "crackling_fire": "crackling fire",
}
"""What a sound is asked for in the test."""

TRAIN_FOLDS, VALIDATION_FOLD = (1, 2, 3), 4
RATE = 16_000
MIRRORED_GROUPS = frozenset({"Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects", "People & Body"})
SIDED_WORDS = ("left", "right", "facing", "clock", "thirty")


@dataclass(frozen=True)
class Photos:
    """Caltech-101: uint8 pixels [n, 3, S, S] (squashed to a square), class index [n], class names."""

    pixels: Tensor
    labels: Tensor
    names: tuple[str, ...]

    def rows(self, chosen: Tensor) -> "Photos":
        """The photographs where `chosen` [n] is True."""
        return Photos(self.pixels[chosen], self.labels[chosen], self.names)


@dataclass(frozen=True)
class Drawings:
    """Emoji: uint8 RGBA with premultiplied alpha [n, 4, 72, 72] and what is known of each."""

    pixels: Tensor
    names: tuple[str, ...]
    words: tuple[frozenset[str], ...]
    base: Tensor
    held_out: Tensor
    vendors: tuple[str, ...]
    mirrored: Tensor

    def rows(self, chosen: Tensor) -> "Drawings":
        """The drawings where `chosen` [n] is True."""
        at = chosen.nonzero()[:, 0].tolist()
        return Drawings(
            pixels=self.pixels[at],
            names=tuple(self.names[i] for i in at),
            words=tuple(self.words[i] for i in at),
            base=self.base[at],
            held_out=self.held_out[at],
            vendors=tuple(self.vendors[i] for i in at),
            mirrored=self.mirrored[at],
        )


@dataclass(frozen=True)
class Sounds:
    """ESC-10: waveforms [n, 80000] at 16 kHz, class index [n], class keys."""

    waves: Tensor
    labels: Tensor
    keys: tuple[str, ...]


def read_photos(folder: Path, split: str, size: int, only: frozenset[str] | None = None) -> Photos:
    """One split of Caltech-101: some classes only, or all but those that are left out."""
    rows = pq.read_table(folder / "caltech101.parquet", columns=["name", "split", "image"]).to_pylist()
    rows = [row for row in rows if row["split"] == split]
    rows = [row for row in rows if (row["name"] in only if only else row["name"] not in LEFT_OUT_CLASSES)]
    names = tuple(sorted({row["name"] for row in rows}))
    pixels = np.empty((len(rows), size, size, 3), np.uint8)
    for at, row in enumerate(rows):
        picture = Image.open(io.BytesIO(row["image"])).convert("RGB")
        pixels[at] = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))
    labels = torch.tensor([names.index(row["name"]) for row in rows])
    return Photos(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels, names)


def is_held_out(codepoints: str) -> bool:
    """Whether the emoji belongs to the tenth of the base code points that is never trained on.

    The base is the sequence without skin tones, so that all tones of an emoji fall on one side.
    """
    tones = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
    base = "-".join(part for part in codepoints.split("-") if part not in tones and part != "fe0f")
    return int.from_bytes(hashlib.sha256(base.encode()).digest()[:4], "big") % 10 == 0


def read_drawings(folder: Path) -> Drawings:
    """All emoji drawings; those that stand for a sound stay in the training part."""
    columns = ["codepoints", "name", "keywords", "group", "skin_tone", "vendor", "image"]
    rows = pq.read_table(folder / "emoji.parquet", columns=columns).to_pylist()
    needed = {name for names in SOUND_PICTURES.values() for name in names}
    pixels = np.empty((len(rows), 72, 72, 4), np.uint8)
    for at, row in enumerate(rows):
        rgba = np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGBA"), np.float32)
        rgba = np.concatenate((rgba[..., :3] * rgba[..., 3:] / 255, rgba[..., 3:]), -1)
        pixels[at] = rgba.round().astype(np.uint8)
    return Drawings(
        pixels=torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        names=tuple(row["name"] for row in rows),
        words=tuple(frozenset([row["name"], *row["keywords"]]) for row in rows),
        base=torch.tensor([not row["skin_tone"] for row in rows]),
        held_out=torch.tensor([is_held_out(row["codepoints"]) and row["name"] not in needed for row in rows]),
        vendors=tuple(row["vendor"] for row in rows),
        mirrored=torch.tensor(
            [row["group"] in MIRRORED_GROUPS and not any(word in row["name"] for word in SIDED_WORDS) for row in rows]
        ),
    )


def read_sounds(folder: Path, folds: tuple[int, ...]) -> Sounds:
    """The clips of some folds, without the two under the Sampling Plus licence."""
    rows = pq.read_table(folder / "esc10.parquet", columns=["fold", "category", "license", "audio"]).to_pylist()
    rows = [row for row in rows if row["fold"] in folds and "Sampling-Plus" not in row["license"]]
    keys = tuple(SOUND_WORDS)
    waves = torch.stack([torch.from_numpy(soundfile.read(io.BytesIO(row["audio"]), dtype="float32")[0]) for row in rows])
    return Sounds(waves, torch.tensor([keys.index(row["category"]) for row in rows]), keys)


def read_captions(folder: Path) -> list[list[str]]:
    """COCO val2017: about five human captions of each of 5,000 photographs."""
    column = pq.read_table(folder / "coco_val2017_captions.parquet", columns=["captions"])["captions"]
    return [[" ".join(caption.split()) for caption in captions] for captions in column.to_pylist()]
