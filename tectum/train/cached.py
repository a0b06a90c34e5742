"""Binding modalities by projectors over vectors that frozen encoders have made once (SigLiT, EBind): minutes on a processor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tectum.contrastive.binding import bind
from tectum.contrastive.dropout import modality_dropout
from tectum.contrastive.matryoshka import matryoshka
from tectum.data.embeddings import Vectors
from tectum.data.order import batch_indices
from tectum.errors import DataError
from tectum.models.projector import Projectors

Views = dict[str, Tensor]
Measure = Callable[[Projectors, Views, Views, int], Mapping[str, float]]
"""Projectors, unit vectors by modality, the sample of each row, and the steps done, to what belongs in the log."""


class CachedBinding:
    """A task for `tectum.train.trainer.train`: samples that each hold any subset of the modalities, known by their vectors.

    A sample is a group of `Vectors`. Where it has several vectors of a modality (five captions), a step takes one at random.
    Samples without both views of any edge teach nothing and are left out. A share of the samples, chosen by the hash of their
    names alone, is held out for evaluation.

    Args:
        vectors: by modality.
        projectors: what is trained; call `torch.manual_seed` before it is made.
        batch_size: samples a step.
        seed: of the order and of what is dropped.
        held_out: share of the samples.
        drop: modality dropout, see `tectum.contrastive.dropout`.
        dims: lengths to train nested vectors for, see `tectum.contrastive.matryoshka`; the full length alone when left out.
        measure: called with held-out samples at each evaluation.

    Raises:
        DataError: if no sample has both views of an edge.
    """

    def __init__(
        self,
        vectors: Mapping[str, Vectors],
        projectors: Projectors,
        *,
        batch_size: int = 1024,
        seed: int = 0,
        held_out: float = 0.1,
        drop: Mapping[str, float] | None = None,
        dims: Sequence[int] | None = None,
        measure: Measure | None = None,
    ) -> None:
        self.module, self.batch_size, self.seed = projectors, batch_size, seed
        self.drop, self.dims, self.measure = dict(drop or {}), tuple(dims or (projectors.dim,)), measure
        self.names = sorted({group for of_kind in vectors.values() for group in of_kind.groups})
        numbers = {name: number for number, name in enumerate(self.names)}
        self._views = {kind: torch.from_numpy(np.asarray(part.vectors, np.float32)) for kind, part in vectors.items()}
        self._sample = {kind: np.array([numbers[group] for group in part.groups], np.int64) for kind, part in vectors.items()}
        self._order = {kind: np.argsort(samples, kind="stable") for kind, samples in self._sample.items()}
        self._counts = {kind: np.bincount(samples, minlength=len(numbers)) for kind, samples in self._sample.items()}
        self._starts = {kind: np.cumsum(counts) - counts for kind, counts in self._counts.items()}
        taught = np.zeros(len(numbers), bool)
        for edge in projectors.edges:
            if edge.a in vectors and edge.b in vectors:
                taught |= (self._counts[edge.a] > 0) & (self._counts[edge.b] > 0)
        hidden = np.array([_share(name) < held_out for name in self.names], bool)
        self.train_samples, self.held_samples = np.flatnonzero(taught & ~hidden), np.flatnonzero(hidden)
        if not len(self.train_samples):
            edges = ", ".join(f"{edge.a}-{edge.b}" for edge in projectors.edges)
            raise DataError(f"no sample has both views of any of {edges}: give what belongs together the same group or file name")

    def batch(self, step: int) -> tuple[Views, Views]:
        """Vectors by modality, and the sample of each row."""
        generator = np.random.default_rng([self.seed, step])
        chosen = self.train_samples[batch_indices(len(self.train_samples), self.batch_size, self.seed, step)]
        views, ids = {}, {}
        for kind in sorted(self._views):
            samples = np.unique(chosen[self._counts[kind][chosen] > 0])
            if len(samples):
                nth = (generator.random(len(samples)) * self._counts[kind][samples]).astype(np.int64)
                views[kind] = self._views[kind][self._order[kind][self._starts[kind][samples] + nth]]
                ids[kind] = torch.from_numpy(samples)
        if not self.drop:
            return views, ids
        kept = modality_dropout(ids, self.drop, seed=self.seed, step=step)
        some = [kind for kind in views if kept[kind].any()]
        return {kind: views[kind][kept[kind]] for kind in some}, {kind: ids[kind][kept[kind]] for kind in some}

    def loss(self, batch: tuple[Views, Views], step: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        """The loss over all edges, at each length."""
        module = self.module
        device = next(module.parameters()).device
        views, ids = ({kind: rows.to(device) for kind, rows in part.items()} for part in batch)
        scales, biases = module.scales(), module.biases()

        def loss(nested: Views) -> tuple[Any, ...]:
            return bind(nested, module.edges, scales, ids=ids, biases=biases)

        total, parts = matryoshka(loss, module(views), self.dims)
        stats: dict[str, float | Tensor] = {}
        for edge, output in parts[max(parts)][1].items():
            name = f"{edge.a}-{edge.b}"
            stats |= {name: output.loss.detach(), f"{name} accuracy": output.accuracy, f"{name} scale": scales[edge].detach()}
        return total, stats

    def held_out(self, module: Projectors) -> tuple[Views, Views]:
        """Unit vectors of all held-out items by modality, and the sample of each row."""
        views, ids = {}, {}
        for kind, samples in self._sample.items():
            rows = torch.from_numpy(np.flatnonzero(np.isin(samples, self.held_samples)))
            if len(rows):
                views[kind], ids[kind] = self._views[kind][rows], torch.from_numpy(samples)[rows]
        device = next(module.parameters()).device
        return module({kind: rows.to(device) for kind, rows in views.items()}), ids

    def evaluate(self, module: nn.Module, step: int) -> dict[str, float]:
        """What `measure` makes of the held-out samples."""
        assert isinstance(module, Projectors)
        if self.measure is None or not len(self.held_samples):
            return {}
        with torch.autocast(next(module.parameters()).device.type, enabled=False):
            views, ids = self.held_out(module)
            return dict(self.measure(module, {kind: rows.cpu() for kind, rows in views.items()}, ids, step))

    def after_step(self, step: int) -> None:
        """Nothing: the temperatures are projected by the trainer."""


def _share(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:6], "big") / 2**48
