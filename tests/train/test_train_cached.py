"""Binding by projectors over cached vectors: what was never paired is aligned, and the run is exact."""

import numpy as np
import pytest
import torch

from tectum.contrastive.binding import Edge
from tectum.data.embeddings import Vectors
from tectum.errors import DataError
from tectum.evaluate.cosines import Cosines
from tectum.evaluate.diagnostics import harder
from tectum.evaluate.retrieval import first_hits, recall, same_group
from tectum.models.projector import ProjectorConfig, Projectors
from tectum.train.cached import CachedBinding
from tectum.train.config import TrainConfig
from tectum.train.trainer import train

SIZES = {"image": 24, "text": 20, "audio": 30}
CONFIG = TrainConfig(steps=150, lr=0.01, warmup=10, weight_decay=0.0, ema=0.9, eval_every=0, save_every=1000, tensorboard=False)


def world(samples: int = 1200, *, several: int = 1) -> dict[str, Vectors]:
    """Three frozen encoders of one latent of 8 numbers: each turns it its own way, bends it, and adds what only it sees."""
    rng = np.random.default_rng(0)
    latent, found = rng.normal(size=(samples, 8)), {}
    for kind, size in SIZES.items():
        rows = np.repeat(np.arange(samples), several if kind == "text" else 1)
        heard = (
            np.tanh(latent @ rng.normal(size=(8, size)))[rows] + 0.2 * rng.normal(size=(len(rows), size)) + rng.normal(size=size)
        )
        groups = tuple(f"sample {row}" for row in rows)
        found[kind] = Vectors((heard / np.linalg.norm(heard, axis=1, keepdims=True)).astype(np.float32), groups, groups, ())
    return found


def part(vectors: Vectors, rows: list[int]) -> Vectors:
    return Vectors(vectors.vectors[rows], tuple(vectors.ids[i] for i in rows), tuple(vectors.groups[i] for i in rows), ())


def projectors(edges, *, dim=16, hidden=0, anchor=None) -> Projectors:
    torch.manual_seed(0)
    configs = {kind: ProjectorConfig(inputs=size, hidden=hidden) for kind, size in SIZES.items() if kind != anchor}
    return Projectors(SIZES[anchor] if anchor else dim, configs, edges)


def found_first(a: str, b: str, views, ids) -> float:
    right = same_group(ids[a].tolist(), ids[b].tolist())
    return recall(first_hits(Cosines(views[a], views[b]), right), 1).score(resamples=0).value


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_what_was_never_paired_is_aligned_through_the_middle(tmp_path, kind) -> None:
    """Disjoint pairs picture-text and text-sound; pictures and sounds of held-out samples meet all the same (ImageBind)."""
    edges = (Edge(a="image", b="text", loss=kind), Edge(a="text", b="audio", loss=kind))
    whole = world()
    halves = {"image": [], "audio": [], "text": list(range(1200))}
    probe = CachedBinding(whole, projectors(edges), batch_size=1)
    held = set(probe.held_samples.tolist())
    order = {name: number for number, name in enumerate(probe.names)}
    for row, name in enumerate(whole["image"].groups):
        taken = ("image", "audio") if order[name] in held else ("image",) if row % 2 else ("audio",)
        for view in taken:
            halves[view].append(row)
    vectors = {view: part(whole[view], rows) for view, rows in halves.items()}
    seen = {}

    def measure(module, views, ids, step):
        assert step == CONFIG.steps and not module.training
        seen.update({(a, b): found_first(a, b, views, ids) for a, b in (("image", "text"), ("image", "audio"))})
        return {}

    task = CachedBinding(vectors, projectors(edges), batch_size=256, measure=measure)
    pairs = task.batch(0)[1]
    assert not set(pairs["image"].tolist()) & set(pairs["audio"].tolist())
    train(task, CONFIG, tmp_path, progress=False)
    chance = 1 / len(held)
    assert len(held) > 80 and seen["image", "text"] > 0.5
    assert seen["image", "audio"] > 30 * chance


def test_the_anchor_stays_where_it_is_and_others_come_to_it(tmp_path) -> None:
    task = CachedBinding(world(400), projectors([Edge(a="image", b="text")], anchor="image"), batch_size=128, held_out=0.2)
    views, _ = task.held_out(task.module)
    train(task, CONFIG, tmp_path, progress=False)
    after, ids = task.held_out(task.module)
    assert torch.equal(views["image"], after["image"]) and not torch.equal(views["text"], after["text"])
    assert found_first("text", "image", after, ids) > 0.5
    assert "image" not in task.module.projectors


def test_a_batch_is_a_function_of_its_step_and_rows_are_of_their_samples() -> None:
    vectors = world(60, several=5)
    rows = [row for row in range(60) if row % 3]
    vectors["audio"] = part(vectors["audio"], rows)
    edges = (Edge(a="image", b="text"), Edge(a="image", b="audio"))
    task, again = (CachedBinding(vectors, projectors(edges), batch_size=16, drop={"audio": 0.5}) for _ in range(2))
    chosen = set()
    for step in (0, 5, 1, 30):
        (views, ids), (other, _) = task.batch(step), again.batch(step)
        assert all(torch.equal(views[kind], other[kind]) for kind in views)
        for kind, of_kind in ids.items():
            groups = np.array(vectors[kind].groups)
            for vector, sample in zip(views[kind].numpy(), of_kind.tolist(), strict=True):
                at = int((vectors[kind].vectors == vector).all(1).argmax())
                assert groups[at] == task.names[sample]
                chosen.add((kind, at))
        assert not set(ids["image"].tolist()) & set(task.held_samples.tolist())
    assert len({at % 5 for kind, at in chosen if kind == "text"}) == 5
    present = {task.names.index(name) for name in vectors["audio"].groups}
    plain = CachedBinding(vectors, projectors(edges), batch_size=16).batch(0)[1]["audio"].tolist()
    assert set(task.batch(0)[1]["audio"].tolist()) < set(plain) <= present


def test_the_held_out_share_does_not_depend_on_other_samples() -> None:
    edges = [Edge(a="image", b="text")]
    many, few = (CachedBinding(world(samples), projectors(edges), held_out=0.3) for samples in (300, 100))
    names = [{task.names[i] for i in task.held_samples} for task in (many, few)]
    assert names[1] == names[0] & set(few.names) and 60 < len(names[0]) < 120


def test_nested_lengths_are_trained(tmp_path) -> None:
    """The first three of sixteen numbers put fewer wrong items first if they were trained to."""
    edges, found = [Edge(a="image", b="text")], {}
    for dims in (None, (3, 16)):
        task = CachedBinding(world(600), projectors(edges), batch_size=256, dims=dims)
        train(task, CONFIG, tmp_path / str(dims), progress=False)
        views, ids = task.held_out(task.module)
        right = same_group(ids["image"].tolist(), ids["text"].tolist())
        found[dims] = harder(views["image"][:, :3], views["text"][:, :3], right)
    assert found[3, 16] < 0.8 * found[None]


def test_samples_without_an_edge_are_refused() -> None:
    vectors = world(20)
    vectors["audio"] = Vectors(vectors["audio"].vectors, vectors["audio"].ids, tuple(f"x{i}" for i in range(20)), ())
    with pytest.raises(DataError, match="no sample has both views of any of image-audio: give what belongs together the same"):
        CachedBinding(vectors, projectors([Edge(a="image", b="audio")]))
