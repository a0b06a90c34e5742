"""Finish space-mini: null distributions, calibration, held-out scores and the model card.

    python recipes/space_mini_card.py --run runs/space-mini --ablation runs/ablation --out weights/space-mini

What the ablation run scores is kept in OUT/ablation.json; without --ablation the card takes it from there.
Relevance is calibrated on pairs that the model never saw: the photographs and captions held out of its run, and the validation
fold of the sounds.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import space_mini_data as corpora
import torch
from space_mini import Recipe, SpaceMini
from space_mini_card_text import Interval, attributions, card, told
from space_mini_scores import encode_pixels, name_recall, on_white, shrink
from torch import Tensor
from torch.nn import functional as F

from tectum import hub
from tectum.models.space import Space
from tectum.search.relevance import fit, null_of, standard_score
from tectum.train.recipe import remembered


def background(task: SpaceMini, space: Space) -> dict[str, Tensor]:
    """Vectors of unrelated items: clutter, photographs, drawings; captions and names; sounds. [m, dim] each."""
    generator = torch.Generator().manual_seed(0)

    def some(n: int, count: int) -> Tensor:
        return torch.randperm(n, generator=generator)[:count]

    clutter = corpora.read_photos(task.recipe.data, "train", task.recipe.sizes[-1], frozenset({"background clutter"}))
    photos = shrink(task.photos.pixels[some(len(task.photos.labels), 250)], task.recipe.sizes[-1])
    drawings = on_white(task.drawings.pixels[some(len(task.drawings.names), 250)], task.recipe.sizes[-1])
    captions = [task.captions[i][0] for i in some(len(task.captions), 400)]
    names = [task.drawings.names[i] for i in some(len(task.drawings.names), 300).tolist()]
    waves = [(wave.numpy(), corpora.RATE) for wave in task.sounds.waves]
    return {
        "image": torch.cat([encode_pixels(space, pixels) for pixels in (clutter.pixels, photos, drawings)]),
        "text": space.embed(text=captions + names)["text"],
        "audio": space.embed(audio=waves, batch_size=16)["audio"],
    }


def standard_scores(vectors: Tensor, others: Tensor, unrelated: Tensor) -> np.ndarray:
    """Cosines of vectors [q, d] with others [n, d], against each vector's null from unrelated [m, d]: [q, n]."""
    rows = []
    for vector, cosines in zip(vectors, vectors @ others.T, strict=True):
        null = null_of((unrelated @ vector).numpy())
        assert null is not None
        rows.append([standard_score(float(cosine), null) for cosine in cosines])
    return np.array(rows)


def sounding() -> set[str]:
    """The words of what makes the sounds."""
    names = {name for names in corpora.SOUND_PICTURES.values() for name in names}
    return names | {word for name in (*names, *corpora.SOUND_WORDS.values()) for word in name.split()}


@torch.inference_mode()
def calibrate(space: Space, task: SpaceMini) -> dict[str, tuple[float, float, float]]:
    """The calibration of every pair of modalities, as a tuple."""
    size, held, captions = task.recipe.sizes[-1], task.held_photos, task.held_captions
    photos = encode_pixels(space, shrink(held.pixels, size))
    named = held.labels[None] == torch.arange(len(held.names))[:, None]
    # Sentences about other things are asked too: they have to find nothing.
    known = {word for name in held.names for word in name.split()}
    foreign = [group[0] for group in captions if not known & set(group[0].lower().strip(".").split())]
    asked = space.embed(text=[*held.names, *foreign])["text"]
    class_names = asked[: len(named)]
    first = space.embed(text=[group[0] for group in captions])["text"]
    second = space.embed(text=[group[1] for group in captions])["text"]
    alike = held.labels[:, None] == held.labels[None]

    sounds = space.embed(audio=[(wave.numpy(), corpora.RATE) for wave in task.test_sounds.waves], batch_size=16)["audio"]
    labels = task.test_sounds.labels
    # Words and pictures of things that make none of the sounds are asked too.
    silent = [name for name, words in zip(task.drawings.names, task.drawings.words, strict=True) if not words & sounding()][::20]
    words = [corpora.SOUND_WORDS[key] for key in task.test_sounds.keys]
    sound_words = space.embed(text=[*words, *silent])["text"]
    of_class = labels[None] == torch.arange(len(sound_words))[:, None]
    partners = torch.cat([rows[:4] for rows in task.partners])
    partner_class = torch.cat([torch.full((len(rows[:4]),), i) for i, rows in enumerate(task.partners)])
    sound_pictures = torch.cat((encode_pixels(space, on_white(task.drawings.pixels[partners], size)), photos))
    pictured = F.pad(partner_class, (0, len(photos)), value=-1)[:, None] == labels[None]
    same = labels[:, None] == labels[None]

    pairs: dict[str, tuple[Tensor, Tensor, Tensor]] = {
        "text->image": (asked, photos, F.pad(named, (0, 0, 0, len(foreign)))),
        "image->text": (photos, class_names, named.T),
        "image->image": (photos, photos, alike),
        "text->text": (first, second, torch.eye(len(captions), dtype=torch.bool)),
        "text->audio": (sound_words, sounds, of_class),
        "audio->text": (sounds, sound_words, of_class.T),
        "image->audio": (sound_pictures, sounds, pictured),
        "audio->image": (sounds, sound_pictures, pictured.T),
        "audio->audio": (sounds, sounds, same),
    }
    result = {}
    for name, (queries, items, related) in pairs.items():
        asked_for, kind = name.split("->")
        of_query = standard_scores(queries, items, space.background[kind])
        of_item = of_query if asked_for == kind else standard_scores(items, queries, space.background[asked_for]).T
        both = np.stack((of_query, of_item), 2)
        # Nothing is its own match.
        others = ~np.eye(len(items), dtype=bool) if queries is items else np.ones(related.shape, bool)
        result[name] = astuple(fit(both[related.numpy() & others], both[~related.numpy() & others]))
    return result


def sound_hits(space: Space, task: SpaceMini) -> Tensor:
    """Which recordings of the validation fold are called by their word [n]."""
    waves = [(wave.numpy(), corpora.RATE) for wave in task.test_sounds.waves]
    sounds = space.embed(audio=waves, batch_size=16)["audio"]
    words = space.label_vectors([corpora.SOUND_WORDS[key] for key in task.test_sounds.keys])
    return (sounds @ words.T).argmax(1) == task.test_sounds.labels


def scored(hits: Tensor) -> Interval:
    """Share of hits [n] with its 95 % Wilson interval, and n."""
    n, p, z = len(hits), hits.double().mean().item(), 1.96
    centre, half = (p + z * z / 2 / n), z * ((p * (1 - p) + z * z / 4 / n) / n) ** 0.5
    return p, (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n), n


@torch.inference_mode()
def measure(space: Space, task: SpaceMini) -> dict[str, Interval]:
    """Held-out score to (value, low, high, n)."""
    size, test, drawings = task.recipe.sizes[-1], task.test_photos, task.all_drawings
    right = (encode_pixels(space, test.pixels) @ space.label_vectors(test.names).T).argmax(1) == test.labels
    scores = {"caltech": scored(right), "sound": scored(sound_hits(space, task))}
    names = sorted({name for name, base in zip(drawings.names, drawings.base.tolist(), strict=True) if base})
    unseen = drawings.rows(drawings.base & drawings.held_out)
    for key, chosen in {"codepoints": unseen, "vendor": task.left_drawings}.items():
        if chosen.names:
            hits = name_recall(space, chosen, names, space.label_vectors(names), size)
            scores |= {f"{key} R@1": scored(hits[:, 0]), f"{key} R@5": scored(hits.any(1))}
    return scores


def open_run(folder: Path, data: Path) -> tuple[Space, SpaceMini]:
    """A finished run: its model, and its task with the data it was trained and is scored on."""
    return hub.load(folder / "model"), SpaceMini(replace(remembered(Recipe(), folder), data=data))


def main(arguments: Iterable[str] | None = None) -> None:
    """Read the runs, write the finished model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--ablation", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args(arguments)

    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "ablation.json"
    if options.ablation:
        kept.write_text(json.dumps(told(options.ablation, measure(*open_run(options.ablation, options.data))), indent=1) + "\n")
    space, task = open_run(options.run, options.data)
    space.background = background(task, space)
    space.calibration = calibrate(space, task)
    shipped = told(options.run, measure(space, task))
    ablation = json.loads(kept.read_text()) if kept.exists() else None
    hub.save(space, options.out)
    (options.out / "scores.json").write_text(json.dumps(shipped, indent=1) + "\n")
    (options.out / "README.md").write_text(card(shipped, ablation, space), encoding="utf-8")
    (options.out / "ATTRIBUTIONS.md").write_text(attributions(options.data), encoding="utf-8")
    print(json.dumps({**shipped, "calibration": space.calibration}, indent=1))


if __name__ == "__main__":
    main()
