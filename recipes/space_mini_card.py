"""Finish space-mini: null distributions, calibration, held-out scores and the model card.

    python recipes/space_mini_card.py --run runs/space-mini --ablation runs/ablation --out weights/space-mini

Relevance is calibrated on pairs that the scored model never saw: photographs, drawings and captions left out of the ablation
run, and the validation fold of the sounds.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import space_mini as recipe_module
import space_mini_data as corpora
import torch
from space_mini import Recipe, SpaceMini, encode_pixels, name_recall, on_white
from space_mini_card_text import attributions, card
from torch import Tensor

from tectum import hub
from tectum.models.space import Space
from tectum.search.relevance import fit, null_of, standard_score


def background(task: SpaceMini, space: Space) -> dict[str, Tensor]:
    """Vectors of unrelated items: clutter, photographs, drawings; captions and names; sounds. [m, dim] each."""
    generator = torch.Generator().manual_seed(0)

    def some(n: int, count: int) -> Tensor:
        return torch.randperm(n, generator=generator)[:count]

    clutter = corpora.read_photos(task.recipe.data, "train", task.recipe.sizes[-1], frozenset({"background clutter"}))
    photos = recipe_module.shrink(task.photos.pixels[some(len(task.photos.labels), 250)], task.recipe.sizes[-1])
    drawings = on_white(task.drawings.pixels[task.plain[some(len(task.plain), 250)]], task.recipe.sizes[-1])
    captions = [task.captions[i][0] for i in some(len(task.captions), 400)]
    names = [task.drawings.names[i] for i in some(len(task.drawings.names), 300).tolist()]
    waves = [(wave.numpy(), corpora.RATE) for wave in task.sounds.waves]
    return {
        "image": torch.cat([encode_pixels(space, pixels) for pixels in (clutter.pixels, photos, drawings)]),
        "text": space.embed(text=captions + names)["text"],
        "audio": space.embed(audio=waves, batch_size=16)["audio"],
    }


def scores_of_pairs(queries: Tensor, items: Tensor, related: Tensor, null: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Standard scores of related and of unrelated (query, item) pairs, from [q, d], [n, d], related [q, n] and null [m, d]."""
    positive, negative = [], []
    for query, row, cosines in zip(queries, related, queries @ items.T, strict=True):
        moments = null_of((null @ query).numpy())
        assert moments is not None
        z = np.array([standard_score(float(cosine), moments) for cosine in cosines])
        positive.append(z[row.numpy()])
        negative.append(z[~row.numpy()])
    return np.concatenate(positive), np.concatenate(negative)


def calibrate(space: Space, task: SpaceMini, unseen: Space, ablation: SpaceMini) -> dict[str, tuple[float, float]]:
    """(slope, offset) of every pair of modalities: pictures and words on the ablation run, sounds on the validation fold."""
    size = ablation.recipe.sizes[-1]
    held = ablation.held_photos
    vendor = torch.tensor([name == ablation.recipe.leave_vendor for name in ablation.all_drawings.vendors])
    drawings = ablation.all_drawings.rows(vendor & ablation.all_drawings.base & ~ablation.all_drawings.held_out)
    names = sorted(set(drawings.names) | set(held.names))
    shown = [frozenset([held.names[label]]) for label in held.labels.tolist()] + list(drawings.words)
    pictures = torch.cat(
        (encode_pixels(unseen, recipe_module.shrink(held.pixels, size)), encode_pixels(unseen, on_white(drawings.pixels, size)))
    )
    words = unseen.embed(text=names)["text"]
    named = torch.tensor([[name in item for item in shown] for name in names])
    alike = torch.tensor([[bool(a & b) for b in shown] for a in shown]) & ~torch.eye(len(shown), dtype=torch.bool)
    captions = ablation.held_captions
    first = unseen.embed(text=[group[0] for group in captions])["text"]
    second = unseen.embed(text=[group[1] for group in captions])["text"]
    nulls = background(ablation, unseen)

    # Sounds: the shipped model itself, on the fold it never trained on.
    sounds = space.embed(audio=[(wave.numpy(), corpora.RATE) for wave in task.test_sounds.waves], batch_size=16)["audio"]
    labels = task.test_sounds.labels
    sound_words = space.embed(text=[corpora.SOUND_WORDS[key] for key in task.test_sounds.keys])["text"]
    of_class = labels[None] == torch.arange(len(task.test_sounds.keys))[:, None]
    partners = torch.cat([rows[:4] for rows in task.partners])
    partner_class = torch.cat([torch.full((len(rows[:4]),), i) for i, rows in enumerate(task.partners)])
    sound_pictures = encode_pixels(space, on_white(task.drawings.pixels[partners], size))
    pictured = partner_class[:, None] == labels[None]
    same = (labels[:, None] == labels[None]) & ~torch.eye(len(labels), dtype=torch.bool)

    pairs: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]] = {
        "text->image": (words, pictures, named, nulls["image"]),
        "image->text": (pictures, words, named.T, nulls["text"]),
        "image->image": (pictures, pictures, alike, nulls["image"]),
        "text->text": (first, second, torch.eye(len(captions), dtype=torch.bool), nulls["text"]),
        "text->audio": (sound_words, sounds, of_class, space.background["audio"]),
        "audio->text": (sounds, sound_words, of_class.T, space.background["text"]),
        "image->audio": (sound_pictures, sounds, pictured, space.background["audio"]),
        "audio->image": (sounds, sound_pictures, pictured.T, space.background["image"]),
        "audio->audio": (sounds, sounds, same, space.background["audio"]),
    }
    result = {}
    for name, (queries, items, related, null) in pairs.items():
        found = fit(*scores_of_pairs(queries, items, related, null))
        result[name] = (found.slope, found.offset)
    return result


def interval(hits: Tensor) -> tuple[float, float, float]:
    """Share and its 95 % Wilson interval."""
    n, p, z = len(hits), hits.double().mean().item(), 1.96
    centre, half = (p + z * z / 2 / n), z * ((p * (1 - p) + z * z / 4 / n) / n) ** 0.5
    return p, (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def sound_hits(space: Space, task: SpaceMini) -> Tensor:
    """Which recordings of the validation fold are called by their word [n]."""
    waves = [(wave.numpy(), corpora.RATE) for wave in task.test_sounds.waves]
    sounds = space.embed(audio=waves, batch_size=16)["audio"]
    words = space.label_vectors([corpora.SOUND_WORDS[key] for key in task.test_sounds.keys])
    return (sounds @ words.T).argmax(1) == task.test_sounds.labels


@torch.inference_mode()
def measure(space: Space, task: SpaceMini, unseen: Space, ablation: SpaceMini) -> dict[str, tuple[float, float, float, int]]:
    """Held-out score to (value, low, high, n)."""
    size = task.recipe.sizes[-1]
    scores: dict[str, tuple[float, float, float, int]] = {}

    def put(name: str, hits: Tensor) -> None:
        scores[name] = (*interval(hits), len(hits))

    test = task.test_photos
    put("caltech", (encode_pixels(space, test.pixels) @ space.label_vectors(test.names).T).argmax(1) == test.labels)
    drawings = task.all_drawings
    names = sorted({name for name, base in zip(drawings.names, drawings.base.tolist(), strict=True) if base})
    held = drawings.rows(drawings.base & drawings.held_out)
    left = torch.tensor([vendor == ablation.recipe.leave_vendor for vendor in drawings.vendors])
    for key, model, chosen in (
        ("codepoints", space, held),
        ("vendor", unseen, drawings.rows(drawings.base & ~drawings.held_out & left)),
    ):
        hits = name_recall(model, chosen, names, model.label_vectors(names), size)
        put(f"{key} R@1", hits[:, 0])
        put(f"{key} R@5", hits.any(1))
    put("sound", sound_hits(space, task))
    put("sound direct", sound_hits(unseen, ablation))
    return scores


def main(arguments: Iterable[str] | None = None) -> None:
    """Read the two runs, write the finished model."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--run", "--ablation", "--out"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args(arguments)

    def open_run(folder: Path) -> tuple[Space, SpaceMini]:
        saved = json.loads((folder / "recipe.json").read_text())
        recipe = replace(Recipe(), **{key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()})
        return hub.load(folder / "model"), SpaceMini(replace(recipe, data=options.data))

    space, task = open_run(options.run)
    unseen, ablation = open_run(options.ablation)
    space.background = background(task, space)
    space.calibration = calibrate(space, task, unseen, ablation)
    scores = measure(space, task, unseen, ablation)
    hub.save(space, options.out)
    (options.out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    (options.out / "README.md").write_text(card(options.run, options.ablation, scores, space), encoding="utf-8")
    (options.out / "ATTRIBUTIONS.md").write_text(attributions(options.data), encoding="utf-8")
    print(json.dumps({"scores": scores, "calibration": space.calibration}, indent=1))


if __name__ == "__main__":
    main()
