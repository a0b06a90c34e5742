"""How space-mini does on data it never saw: pictures as it takes them, and quick scores while it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import space_mini_data as corpora
import torch
from torch import Tensor
from torch.nn import functional as F

from tectum.contrastive.binding import Edge
from tectum.evaluate.diagnostics import diagnose
from tectum.models.space import Space

if TYPE_CHECKING:
    from space_mini import SpaceMini


def on_white(drawings: Tensor, size: int) -> Tensor:
    """RGBA drawings [n, 4, 72, 72] on white, resized to floats in 0 … 1 [n, 3, size, size]."""
    pixels = drawings.float()
    return shrink(pixels[:, :3] + 255 - pixels[:, 3:], size)


def shrink(photos: Tensor, size: int) -> Tensor:
    """Pictures in 0 … 255 [n, 3, S, S] resized to floats in 0 … 1 [n, 3, size, size]."""
    return F.interpolate(photos.float() / 255, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def encode_pixels(space: Space, pixels: Tensor) -> Tensor:
    """Pixels [n, 3, s, s] to unit vectors [n, dim], in batches."""
    return torch.cat([space({"image": part})["image"] for part in pixels.split(128)])


@torch.inference_mode()
def quick_scores(task: SpaceMini, space: Space) -> dict[str, float]:
    """Zero-shot scores on held-out photographs, drawings and sounds."""
    size = task.recipe.sizes[-1]
    photos, words = encode_pixels(space, task.test_photos.pixels), space.label_vectors(task.test_photos.names)
    right = (photos @ words.T).argmax(1) == task.test_photos.labels
    scores = {"caltech101 top-1": right.float().mean().item()}
    edge, ids = Edge(a="image", b="text"), {"image": task.test_photos.labels, "text": torch.arange(len(words))}
    scores |= diagnose({"image": photos, "text": words}, [edge], {edge: space.scale("image", "text")}, ids)

    everything = task.all_drawings
    names = sorted({name for name, base in zip(everything.names, everything.base.tolist(), strict=True) if base})
    name_vectors = space.label_vectors(names)
    chosen = {"held-out emoji": everything.rows(everything.base & everything.held_out)}
    if task.recipe.leave_vendor:
        chosen["held-out vendor"] = task.left_drawings
    for key, drawings in chosen.items():
        hits = name_recall(space, drawings, names, name_vectors, size)
        scores |= {f"{key} R@1": hits[:, 0].float().mean().item(), f"{key} R@5": hits.any(1).float().mean().item()}

    prepared = [space.prepare("audio", (wave.numpy(), corpora.RATE)) for wave in task.test_sounds.waves]
    sounds = torch.cat([space.encode("audio", prepared[at : at + 16]) for at in range(0, len(prepared), 16)])
    words = space.label_vectors([corpora.SOUND_WORDS[key] for key in task.test_sounds.keys])
    scores["sound to word"] = ((sounds @ words.T).argmax(1) == task.test_sounds.labels).float().mean().item()
    return scores


def name_recall(space: Space, drawings: corpora.Drawings, names: list[str], vectors: Tensor, size: int) -> Tensor:
    """Whether the drawings' own names are the first, …, fifth among all names: boolean [n, 5]."""
    pictures = encode_pixels(space, on_white(drawings.pixels, size))
    best = (pictures @ vectors.T).topk(5).indices
    return best == torch.tensor([names.index(name) for name in drawings.names])[:, None]
