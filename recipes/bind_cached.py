"""Bind modalities by small projectors over vectors that frozen encoders have made: minutes on a processor.

    tectum embed pictures/*.jpg texts/*.txt sounds/*.wav -o cached.npz
    tectum train bind_cached vectors=cached.npz edges=image-text,image-audio anchor=image --out runs/bound

Any .npz or Parquet files with vectors [n, d], groups [n] (what belongs together) and kinds [n] will do, of any encoders and any
lengths; a file without kinds is one modality, named as the file. The anchor's vectors stay as they are. The run leaves
`projectors.json` and `projectors.safetensors`, and of each look at held-out samples `similarity/EDGE-STEP.png` and a line of
the log with the recall of every pair of modalities, also of those that were never paired, and the state of every edge.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file

from tectum.contrastive.binding import Edge
from tectum.contrastive.loss import initial_bias
from tectum.data.embeddings import Vectors, read_vectors
from tectum.errors import ConfigError, DataError
from tectum.evaluate.cosines import Cosines
from tectum.evaluate.diagnostics import diagnose
from tectum.evaluate.retrieval import first_hits, recall, same_group
from tectum.evaluate.similarity_picture import save_similarity_picture, similarity_picture
from tectum.models.projector import ProjectorConfig, Projectors, save_projectors
from tectum.train.cached import CachedBinding, Views
from tectum.train.config import TrainConfig
from tectum.train.recipe import remember
from tectum.train.trainer import train


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Options of the run."""

    vectors: tuple[Path, ...] = field(default=(), metadata={"help": "files of vectors, .npz or .parquet"})
    edges: tuple[str, ...] = field(default=("image-text",), metadata={"help": "pairs of modalities to align"})
    anchor: str = field(default="", metadata={"help": "modality whose vectors stay as they are and give the space"})
    dim: int = field(default=256, metadata={"help": "length of the vectors, without an anchor"})
    hidden: int = field(default=0, metadata={"help": "width of a hidden layer beside the linear map; 0 for none"})
    dropout: float = field(default=0.0, metadata={"help": "dropout in the hidden layer"})
    loss: Literal["softmax", "sigmoid"] = field(default="softmax", metadata={"help": "loss of the edges"})
    lengths: tuple[int, ...] = field(default=(), metadata={"help": "nested lengths to train for (matryoshka)"})
    drop: float = field(default=0.0, metadata={"help": "modality dropout"})
    held_out: float = field(default=0.1, metadata={"help": "share of the samples for evaluation"})
    batch: int = field(default=1024, metadata={"help": "samples a step"})
    steps: int = field(default=1000, metadata={"help": "optimizer steps"})
    lr: float = field(default=2e-3, metadata={"help": "peak learning rate"})
    weight_decay: float = field(default=0.01, metadata={"help": "of AdamW"})
    seed: int = field(default=0, metadata={"help": "seed of weights and order"})


def read(files: tuple[Path, ...]) -> dict[str, Vectors]:
    """The vectors of all files by modality."""
    parts: dict[str, list[Vectors]] = {}
    for path in files:
        held = read_vectors(path)
        for kind in sorted(set(held.kinds)) or [path.stem]:
            parts.setdefault(kind, []).append(held.of_kind(kind) if held.kinds else held)
    found = {}
    for kind, several in parts.items():
        lengths = {part.vectors.shape[1] for part in several}
        if len(lengths) > 1:
            raise DataError(f"the {kind} vectors have the lengths {sorted(lengths)}: give those of one encoder")
        groups = tuple(group for part in several for group in part.groups)
        found[kind] = Vectors(np.concatenate([part.vectors for part in several]), groups, groups, ())
    return found


def graph(recipe: Recipe, known: dict[str, Vectors]) -> tuple[Edge, ...]:
    """The edges asked for."""
    pairs = [tuple(edge.split("-")) for edge in recipe.edges]
    wrong = [edge for edge, pair in zip(recipe.edges, pairs, strict=True) if len(pair) != 2 or not set(pair) <= known.keys()]
    if wrong or (recipe.anchor and recipe.anchor not in known):
        what = f"edge {wrong[0]!r}" if wrong else f"anchor {recipe.anchor!r}"
        raise ConfigError(f"there is no {what}: the files hold {', '.join(known) or 'nothing, give vectors=FILE.npz'}")
    return tuple(Edge(a=a, b=b, loss=recipe.loss) for a, b in pairs)


def measure(folder: Path, module: Projectors, views: Views, ids: Views, step: int) -> dict[str, float]:
    """R@1 both ways of every pair of modalities, and the state of every edge, with its picture in `folder`."""
    found = {}
    for pair in combinations(sorted(views), 2):
        for a, b in (pair, pair[::-1]):
            right = same_group(ids[a].tolist(), ids[b].tolist())
            asked = [row for row, items in enumerate(right) if len(items)]
            if asked:
                hits = first_hits(Cosines(views[a][asked], views[b]), [right[row] for row in asked])
                found[f"{a} to {b} R@1"] = recall(hits, 1).score(resamples=0).value
    folder.mkdir(exist_ok=True)
    for edge in module.edges:
        if edge.a in views and edge.b in views:
            pair, title = (edge.a, edge.b), f"Held-out samples after {step} steps"
            picture = similarity_picture(*(views[view] for view in pair), ids=(ids[edge.a], ids[edge.b]), names=pair, title=title)
            save_similarity_picture(picture, folder / f"{edge.a}-{edge.b}-{step:06d}.png")
    return found | diagnose(views, module.edges, module.scales(), ids, biases=module.biases())


def run(recipe: Recipe, out: Path) -> None:
    """Train, and write projectors with the averaged weights to OUT."""
    vectors = read(recipe.vectors)
    edges = graph(recipe, vectors)
    remember(replace(recipe, vectors=tuple(path.resolve() for path in recipe.vectors)), out)
    dim = vectors[recipe.anchor].vectors.shape[1] if recipe.anchor else recipe.dim
    used = {view for edge in edges for view in (edge.a, edge.b)}
    configs = {
        kind: ProjectorConfig(inputs=vectors[kind].vectors.shape[1], hidden=recipe.hidden, dropout=recipe.dropout)
        for kind in sorted(used - {recipe.anchor})
    }
    torch.manual_seed(recipe.seed)
    task = CachedBinding(
        {kind: vectors[kind] for kind in sorted(used)},
        Projectors(dim, configs, edges, bias=initial_bias(recipe.batch)),
        batch_size=recipe.batch,
        seed=recipe.seed,
        held_out=recipe.held_out,
        drop=dict.fromkeys(used, recipe.drop) if recipe.drop else None,
        dims=recipe.lengths or None,
        measure=partial(measure, out / "similarity"),
    )
    config = TrainConfig(
        steps=recipe.steps, lr=recipe.lr, weight_decay=recipe.weight_decay, warmup=recipe.steps // 20, seed=recipe.seed
    )
    train(task, config, out)
    task.module.load_state_dict(load_file(out / "ema.safetensors"))
    save_projectors(task.module.eval(), out)
