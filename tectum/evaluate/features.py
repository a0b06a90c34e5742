"""Features of pictures and sounds: what the metrics of generated media compare, and what they were made with.

An extractor is any network with its preprocessing: a tower of a space, or the Inception network that gave the FID its name.
Features carry the settings of their extractor into the passport of every score, and two sets that were made differently are
not compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from tectum.errors import EvaluationError
from tectum.evaluate.score import Passport, Setting
from tectum.media.kinds import EXTENSIONS
from tectum.models.space import Space
from tectum.models.towers import ImageTower, SoundTower


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """One vector for each item, kept in the order of the ids, so that no metric depends on the order or the shards they
    came in.

    Attributes:
        vectors: [n, d], floating point, on any device; the metrics run where it is.
        ids: one for each row; numbers when left out.
        settings: what the vectors were made with.

    Raises:
        EvaluationError: if the vectors are not [n, d], one is not finite, or an id is there twice.

    >>> Features.of([[1.0, 2.0], [3.0, 4.0]], ids=["b", "a"]).vectors.tolist()
    [[3.0, 4.0], [1.0, 2.0]]
    """

    vectors: Tensor
    ids: tuple[str, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vectors, ids = self.vectors.detach(), self.ids
        if vectors.ndim != 2 or not vectors.shape[1] or not vectors.is_floating_point():
            raise EvaluationError(
                f"features of shape {list(vectors.shape)} and type {vectors.dtype} cannot be scored: "
                "give floating-point numbers [n, d], one row for each item"
            )
        ids = ids or tuple(f"{row:09d}" for row in range(len(vectors)))
        if len(ids) != len(vectors):
            raise EvaluationError(f"{len(vectors)} features need as many ids, not {len(ids)}")
        if len(set(ids)) != len(ids):
            twice = next(a for a, b in zip(sorted(ids), sorted(ids)[1:], strict=False) if a == b)
            raise EvaluationError(f"the item {twice!r} is there twice: give every item once, with an id of its own")
        finite = torch.isfinite(vectors).all(1)
        if not bool(finite.all()):
            bad = ids[int(finite.int().argmin())]
            raise EvaluationError(f"the features of item {bad!r} hold NaN or infinity: mend or leave out the item")
        order = sorted(range(len(ids)), key=ids.__getitem__)
        if order != list(range(len(ids))):
            vectors, ids = vectors[torch.tensor(order, device=vectors.device)], tuple(ids[row] for row in order)
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "ids", ids)

    @classmethod
    def of(cls, vectors: Any, *, ids: Iterable[str] = (), settings: Mapping[str, Setting] | None = None) -> Features:
        """Features from a tensor, an array or nested lists; whole numbers become float64."""
        if not isinstance(vectors, Tensor):
            vectors = torch.from_numpy(np.require(vectors, requirements=["C", "W"]))
        return cls(vectors if vectors.is_floating_point() else vectors.double(), tuple(ids), dict(settings or {}))

    def __len__(self) -> int:
        return len(self.ids)


class Extractor(Protocol):
    """A network with its preprocessing, and how it is named in a passport."""

    @property
    def modality(self) -> Literal["image", "audio"]:
        """Which files of a folder it reads."""

    @property
    def settings(self) -> Mapping[str, Setting]:
        """`extractor` (its name), `weights` (their hash), and all of the preprocessing: size, resize filter, …"""

    def prepare(self, source: Any) -> Tensor:
        """Decode and preprocess one item; called from threads."""

    def __call__(self, prepared: Sequence[Tensor]) -> Tensor:
        """Prepared items to features [n, d]."""


@dataclass(frozen=True, slots=True)
class SpaceExtractor:
    """The unit vectors of a space's image or audio tower.

    Raises:
        EvaluationError: if the space has no such tower.
    """

    space: Space
    modality: Literal["image", "audio"]

    def __post_init__(self) -> None:
        if self.modality not in ("image", "audio") or self.modality not in self.space.modalities:
            raise EvaluationError(
                f"{self.space.name} has no tower for pictures or sounds named {self.modality!r}: "
                f"it knows {', '.join(self.space.modalities)}"
            )

    @property
    def settings(self) -> Mapping[str, Setting]:
        """Name, weights hash and preprocessing of the tower."""
        tower = cast(ImageTower | SoundTower, self.space.tower(self.modality))
        if isinstance(tower, ImageTower):
            preprocessing = tower.config.image.to_dict()
        else:
            preprocessing = tower.config.mel.to_dict()
            preprocessing |= {"seconds": tower.config.seconds, "max_windows": tower.config.max_windows}
        plain = {key: value if isinstance(value, str | int | float) else str(value) for key, value in preprocessing.items()}
        return {"extractor": f"{self.space.name}/{self.modality}", "weights": hash_of(tower.state_dict()), **plain}

    def prepare(self, source: Any) -> Tensor:
        """One picture or recording to what the tower takes."""
        return self.space.prepare(self.modality, source)

    def __call__(self, prepared: Sequence[Tensor]) -> Tensor:
        """Unit vectors [n, dim]."""
        return self.space.encode(self.modality, prepared)


def extract(extractor: Extractor, sources: Any, *, batch_size: int = 64, workers: int = 4) -> Features:
    """Features of a folder's files (those of the extractor's modality, ids their paths in it), or of a list or dict of items.

    Raises:
        MediaError: if an item cannot be read. None is skipped: a score of some of the items is another score.
        EvaluationError: if there is no item.
    """
    return merge(list(batches(extractor, sources, batch_size=batch_size, workers=workers)))


def batches(extractor: Extractor, sources: Any, *, batch_size: int = 64, workers: int = 4) -> Iterator[Features]:
    """The features of `extract`, a batch at a time, for what does not fit in memory (see `frechet.Moments`)."""
    items = iter(_items(sources, extractor.modality).items())
    settings = dict(extractor.settings)
    with ThreadPoolExecutor(workers) as pool:
        while batch := dict(islice(items, batch_size)):
            prepared = list(pool.map(extractor.prepare, batch.values()))
            with torch.inference_mode():
                vectors = extractor(prepared)
            yield Features.of(
                vectors.clone(), ids=batch, settings=settings | {"dtype": str(vectors.dtype).removeprefix("torch.")}
            )


def _items(sources: Any, modality: str) -> Mapping[str, Any]:
    if isinstance(sources, str | Path):
        folder = Path(sources)
        paths = {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if EXTENSIONS.get(path.suffix.lower()) == modality
        }
        if not paths:
            endings = ", ".join(ending for ending, kind in EXTENSIONS.items() if kind == modality)
            raise EvaluationError(f"{folder} holds no {modality} file ({endings}): give a folder of them")
        return dict(sorted(paths.items()))
    items = sources if isinstance(sources, Mapping) else {f"{row:09d}": item for row, item in enumerate(sources)}
    if not items:
        raise EvaluationError("there is no item to take features of: give at least one")
    return items


def merge(parts: Sequence[Features]) -> Features:
    """The features of all parts, as if made at once: what is scored from them is the same, bit for bit, however they were cut.

    Raises:
        EvaluationError: if there are none, they share an item, or were made differently.
    """
    if not parts:
        raise EvaluationError("there is nothing to merge: give at least one part")
    for part in parts[1:]:
        check_alike(parts[0], part)
    return Features(
        torch.cat([part.vectors for part in parts]), tuple(key for part in parts for key in part.ids), parts[0].settings
    )


def check_alike(a: Features, b: Features, *, least: int = 0) -> Mapping[str, Setting]:
    """The common settings of two sets of features that can be compared.

    Raises:
        PassportError: if they were made differently.
        EvaluationError: if their sizes differ, or one has fewer than `least` items.
    """
    Passport("feature extraction", a.settings).check_same(Passport("feature extraction", b.settings))
    if a.vectors.shape[1] != b.vectors.shape[1]:
        raise EvaluationError(
            f"features of {a.vectors.shape[1]} and of {b.vectors.shape[1]} numbers cannot be compared: "
            "take both from one extractor"
        )
    if min(len(a), len(b)) < least:
        raise EvaluationError(f"{min(len(a), len(b))} of at least {least} items: give more of them")
    return a.settings


def hash_of(weights: Mapping[str, Tensor]) -> str:
    """sha256 over names and numbers of a state dict, shortened to 16 hex digits."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()[:16]


def normal_interval(value: float, variance: float, level: float) -> tuple[float, float]:
    """value ± z · √variance, the interval of a nearly normal estimate."""
    reach = NormalDist().inv_cdf((1 + level) / 2) * variance**0.5
    return value - reach, value + reach
