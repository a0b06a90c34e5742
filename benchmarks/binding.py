"""What binding by projectors, short vectors and sums of vectors are worth on real pictures, words and sounds.

    python benchmarks/binding.py --data ../shared/data [--cache FILE.safetensors] [--picture FILE.png]

The frozen encoders are space-mini's picture tower and two fixed maps that never learned anything: counts of letter triples for
words, and moments of a log-mel spectrogram for sounds. With --cache the pictures' vectors are kept for another time,
with --picture the similarity matrix of held-out photographs and their words is drawn.
"""

import argparse
import sys
import tempfile
import zlib
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from measuring import print_table, timed
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import tectum
from tectum.contrastive.binding import Edge
from tectum.data.embeddings import Vectors
from tectum.evaluate.cosines import Cosines
from tectum.evaluate.export import export_costs
from tectum.evaluate.retrieval import first_hits, recall, same_group
from tectum.evaluate.score import Score
from tectum.evaluate.similarity_picture import save_similarity_picture, similarity_picture
from tectum.media.mel import whisper_mel
from tectum.models.arithmetic import compose
from tectum.models.projector import ProjectorConfig, Projectors
from tectum.models.space import Space
from tectum.train.cached import CachedBinding
from tectum.train.config import TrainConfig
from tectum.train.trainer import train

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes"))

import space_mini_data as corpora
from space_mini_scores import encode_pixels, on_white, shrink

SIZE, LENGTHS = 64, (16, 32, 64, 128, 256)
DRAWN = (
    *("dog face", "rooster", "baby", "alarm clock", "helicopter", "fire", "water wave", "carpentry saw", "red apple", "banana"),
    *("pizza", "automobile", "key", "umbrella", "guitar", "cat face", "sailboat", "rose", "soccer ball", "snowman"),
    *("hamburger", "bicycle", "tiger face", "light bulb"),
)


def told(score: Score) -> str:
    """A share in per cent, with its interval."""
    low, high = score.interval or (score.value, score.value)
    return f"{100 * score.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def letters(texts: Sequence[str], size: int = 1024) -> Tensor:
    """Counts of letter triples [n, size], by hash."""
    counts = torch.zeros(len(texts), size)
    for row, text in enumerate(texts):
        padded = f"  {text.lower()} "
        for at in range(len(padded) - 2):
            counts[row, zlib.crc32(padded[at : at + 3].encode()) % size] += 1
    return F.normalize(counts, dim=-1)


def moments(waves: Tensor) -> Tensor:
    """Mean, deviation and mean change of each band of the log-mel spectrogram [n, 240] of recordings [n, samples]."""
    mel = torch.cat([whisper_mel(80)(wave[None] / wave.abs().max()) for wave in waves])
    rows = torch.cat((mel.mean(2), mel.std(2), mel.diff(dim=2).abs().mean(2)), 1)
    return rows


class Pictures:
    """The picture tower's vectors of photographs and drawings, made once."""

    def __init__(self, space: Space, data: Path, cache: Path | None) -> None:
        self.photos, self.test = (corpora.read_photos(data, split, SIZE) for split in ("train", "test"))
        drawings = corpora.read_drawings(data)
        kept = torch.tensor([vendor in ("twemoji", "noto") for vendor in drawings.vendors])
        self.drawings = drawings.rows(drawings.base & ~drawings.held_out & kept)
        if cache is not None and cache.is_file():
            vectors = load_file(cache)
        else:
            pixels = {"photos": shrink(self.photos.pixels, SIZE), "test": shrink(self.test.pixels, SIZE)}
            pixels["drawings"] = on_white(self.drawings.pixels, SIZE)
            vectors = {name: encode_pixels(space, part) for name, part in pixels.items()}
            if cache is not None:
                save_file(vectors, cache)
        self.of_photos, self.of_test, self.of_drawings = (vectors[name] for name in ("photos", "test", "drawings"))


def of_groups(vectors: Tensor, groups: Sequence[str]) -> Vectors:
    """Cached vectors."""
    return Vectors(vectors.numpy(), tuple(groups), tuple(groups), ())


def bind_cached(pictures: Pictures, data: Path, out: Path) -> Projectors:
    """Words and sounds to pictures that stay where they are; no word meets a sound."""
    names = [pictures.photos.names[label] for label in pictures.photos.labels.tolist()]
    groups = [f"photo of {name}" for name in names] + [f"drawing {name}" for name in pictures.drawings.names]
    texts = {group: group.split(" ", 2)[2] if group.startswith("photo") else group.split(" ", 1)[1] for group in groups}
    sounds = corpora.read_sounds(data, corpora.TRAIN_FOLDS)
    makers = [
        (key, i)
        for key, partners in corpora.SOUND_PICTURES.items()
        for i, name in enumerate(pictures.drawings.names)
        if name in partners
    ]
    vectors = {
        "image": of_groups(
            torch.cat((pictures.of_photos, pictures.of_drawings, pictures.of_drawings[[i for _, i in makers]])),
            [*groups, *(f"sound of {key}" for key, _ in makers)],
        ),
        "text": of_groups(letters(list(texts.values())), list(texts)),
        "audio": of_groups(moments(sounds.waves), [f"sound of {sounds.keys[label]}" for label in sounds.labels.tolist()]),
    }
    configs = {
        kind: ProjectorConfig(inputs=vectors[kind].vectors.shape[1], hidden=512, dropout=0.2) for kind in ("text", "audio")
    }
    torch.manual_seed(0)
    projectors = Projectors(256, configs, (Edge(a="image", b="text"), Edge(a="image", b="audio", weight=0.3)))
    task = CachedBinding(vectors, projectors, batch_size=512, held_out=0.0)
    config = TrainConfig(steps=400, lr=2e-3, warmup=20, weight_decay=0.05, ema=0.98, eval_every=0, tensorboard=False)
    spent, _ = timed(lambda: train(task, config, out, progress=False))
    projectors.load_state_dict(load_file(out / "ema.safetensors"))
    samples = len(task.train_samples)
    print(f"\n{samples} samples, {sum(p.numel() for p in projectors.parameters()):,} parameters, 400 steps in {spent:.0f} s")
    return projectors.eval()


@torch.no_grad()
def binding_table(space: Space, pictures: Pictures, projectors: Projectors, data: Path) -> None:
    """Held-out photographs and sounds by their words, the projected ones and space-mini's own."""
    heard, names = corpora.read_sounds(data, (corpora.VALIDATION_FOLD,)), pictures.test.names
    words = [corpora.SOUND_WORDS[key] for key in heard.keys]
    own_sounds = torch.cat([space.embed(audio=[(wave.numpy(), corpora.RATE)])["audio"] for wave in heard.waves])
    systems = {
        "projectors": (
            projectors({"text": letters(names)})["text"],
            projectors({"audio": moments(heard.waves)})["audio"],
            projectors({"text": letters(words)})["text"],
        ),
        "space-mini's towers": (space.embed(text=names)["text"], own_sounds, space.embed(text=words)["text"]),
    }
    rows = []
    for name, (class_words, sounds, sound_words) in systems.items():
        photo = _top1(pictures.of_test, class_words, pictures.test.labels)
        sound = _top1(sounds, sound_words, heard.labels)
        rows.append((name, told(photo), told(sound)))
    rows.append(("chance", f"{100 / len(names):.1f}", f"{100 / len(words):.1f}"))
    print_table(
        ("words and sounds by", f"photograph to word ({len(names)})", f"sound to word, never paired ({len(words)})"), rows
    )


@torch.no_grad()
def draw_matrix(pictures: Pictures, projectors: Projectors, path: Path) -> None:
    """Held-out photographs of a fifth of the classes, and the projected words of these."""
    chosen = torch.arange(0, len(pictures.test.names), 5)
    rows = torch.isin(pictures.test.labels, chosen)
    words = projectors({"text": letters([pictures.test.names[label] for label in chosen.tolist()])})["text"]
    title = "Frozen pictures, projected letter triples: held-out photographs"
    ids = (pictures.test.labels[rows], chosen)
    picture = similarity_picture(pictures.of_test[rows], words, ids=ids, names=("photographs", "words"), title=title)
    save_similarity_picture(picture, path)


def _top1(queries: Tensor, items: Tensor, labels: Tensor) -> Score:
    return recall(first_hits(Cosines(queries, items), [[label] for label in labels.tolist()]), 1).score()


def export_table(pictures: Pictures, out: Path) -> None:
    """Photographs by photographs at every length and type, plain and with projectors trained for nested lengths."""
    names = [pictures.photos.names[label] for label in pictures.photos.labels.tolist()]
    of_words = of_groups(letters(list(dict.fromkeys(names))), list(dict.fromkeys(names)))
    right = same_group([pictures.test.names[label] for label in pictures.test.labels.tolist()], names)
    rows = []
    for title, lengths in (("as it is", None), ("projected", (256,)), ("projected, nested", LENGTHS)):
        queries, items = pictures.of_test, pictures.of_photos
        if lengths is not None:
            torch.manual_seed(0)
            configs = {"image": ProjectorConfig(inputs=256), "text": ProjectorConfig(inputs=1024)}
            projectors = Projectors(256, configs, [Edge(a="image", b="text")])
            task = CachedBinding(
                {"image": of_groups(items, names), "text": of_words}, projectors, batch_size=128, held_out=0.0, dims=lengths
            )
            config = TrainConfig(steps=400, lr=1e-3, warmup=20, eval_every=0, tensorboard=False)
            train(task, config, out / title, progress=False)
            with torch.no_grad():
                queries, items = (projectors.eval()({"image": part})["image"] for part in (queries, items))
        for cost in export_costs(queries, items, 10, dims=LENGTHS, dtypes=["float32", "int8"], right=right):
            assert cost.recall is not None
            found = export_costs(queries, items, 1, dims=[cost.dim], dtypes=[cost.dtype], right=right)[0].recall
            assert found is not None
            rows.append((title, str(cost.dim), cost.dtype, str(cost.bytes), told(cost.neighbours.score()), told(found.score())))
    print()
    print_table(("vectors", "length", "type", "bytes", "10 exact neighbours kept", "nearest is of its class"), rows)


def side_by_side(left: Tensor, right: Tensor) -> Tensor:
    """Two pictures [3, s, s] as one, each at half its width."""
    return torch.cat([F.interpolate(one[None], (SIZE, SIZE // 2), mode="area")[0] for one in (left, right)], 2)


@torch.no_grad()
def arithmetic_table(space: Space, pictures: Pictures) -> None:
    """A picture of one thing and the word of another shall find the picture of both, which shows neither picture's own pixels."""
    means = {kind: space.background[kind].float().mean(0).numpy() for kind in ("image", "text")}
    rows = []
    for domain in ("drawings", "photographs"):
        names, asked_by, shown, at_hand = _things(pictures, domain)
        both = list(combinations(range(len(names)), 2))
        items = encode_pixels(space, torch.stack([side_by_side(shown[i], shown[j]) for i, j in both])).numpy()
        of = {"image": encode_pixels(space, asked_by).numpy(), "text": space.embed(text=names)["text"].numpy()}
        of_domain = {"image": at_hand.mean(0).numpy(), "text": means["text"]}
        asked = [(i, j) for pair in both for i, j in (pair, pair[::-1])]
        right = [[both.index((min(pair), max(pair)))] for pair in asked]
        for kinds in (("image", "text"), ("text", "text"), ("image", "image")):
            cells = []
            for known, onto in ((None, None), (means, means["image"]), (of_domain, items.mean(0))):
                centres = None if known is None else [known[kind] for kind in kinds]
                queries = [[of[kind][n] for kind, n in zip(kinds, pair, strict=True)] for pair in asked]
                sums = np.stack([compose(parts, means=centres, onto=onto) for parts in queries])
                cells.append(told(recall(first_hits(Cosines(sums, items), right), 1).score()))
            rows.append((f"{domain}: {' + '.join(kinds)}", *cells))
    print(f"\nR@1 of pictures of two things side by side; chance {100 / len(both):.1f}")
    print_table(("query", "plain sum", "means of the background", "means of the items at hand"), rows)


def _things(pictures: Pictures, domain: str) -> tuple[list[str], Tensor, Tensor, Tensor]:
    """Names of 24 things, pictures to ask by and other ones to be shown [24, 3, s, s], and vectors of pictures at hand."""
    if domain == "drawings":
        drawings = pictures.drawings
        vendors = [drawings.rows(torch.tensor([vendor == name for vendor in drawings.vendors])) for name in ("twemoji", "noto")]
        names = [name for name in DRAWN if all(name in part.names for part in vendors)]
        asked, shown = (on_white(part.pixels[[part.names.index(name) for name in names]], SIZE) for part in vendors)
        return names, asked, shown, pictures.of_drawings
    test = pictures.test
    several = [label for label in range(len(test.names)) if int((test.labels == label).sum()) >= 2]
    chosen = np.random.default_rng(0).permutation(several)[:24].tolist()
    rows = [(test.labels == label).nonzero()[:2, 0].tolist() for label in chosen]
    asked, shown = (shrink(test.pixels[[pair[which] for pair in rows]], SIZE) for which in (0, 1))
    return [test.names[label] for label in chosen], asked, shown, pictures.of_test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    space = tectum.load("space-mini")
    with torch.inference_mode(False), torch.no_grad():
        pictures = Pictures(space, options.data, options.cache)
    with tempfile.TemporaryDirectory() as folder:
        projectors = bind_cached(pictures, options.data, Path(folder) / "bound")
        binding_table(space, pictures, projectors, options.data)
        if options.picture is not None:
            draw_matrix(pictures, projectors, options.picture)
        export_table(pictures, Path(folder))
    arithmetic_table(space, pictures)


if __name__ == "__main__":
    main()
