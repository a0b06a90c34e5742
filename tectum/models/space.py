"""Space: any set of towers into one shared space of unit vectors (CLIP, arXiv:2103.00020; ImageBind, arXiv:2305.05665)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.contrastive.temperature import MAX_SCALE, Temperatures
from tectum.errors import ConfigError
from tectum.media.text import Tokenizer
from tectum.models.arithmetic import compose
from tectum.models.towers import Tower, TowerConfig, build_tower

__all__ = ["MAX_SCALE", "Space", "SpaceConfig", "Term"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SpaceConfig:
    """What a space is made of.

    `templates` are the prompts, each with one `{}`, that a class name is put into and averaged over when classifying.
    `precision` is "bf16" for a model that was trained with products in bfloat16 and may be indexed with them, in half the time
    where the hardware has them.
    """

    name: str
    description: str = ""
    dim: int
    towers: Mapping[str, TowerConfig]
    templates: tuple[str, ...] = ("{}", "a photo of a {}", "a drawing of a {}")
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise ConfigError(f"the precision of a space is {self.precision!r}: choose fp32 or bf16")
        if not self.towers:
            raise ConfigError("a space needs at least one tower")


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a composed query: an item of a modality, and how much it counts; below zero it is taken away."""

    modality: str
    item: Any
    weight: float = 1.0


class Space(nn.Module):
    """Embed any of its modalities as unit vectors that can be compared by their dot product.

    The temperature stays outside the vectors: `scale(a, b)` belongs to a pair of modalities. No vector depends on what else is
    in the batch, so vectors can be cached and added.

    Attributes:
        background: modality to [m, dim], vectors of unrelated items: the null distribution a search compares with.
        calibration: "text->image" to (query, item, offset): see `tectum.search.relevance.Calibration`.
        fingerprint: hash of configuration and weights, set by `hub.load`.
        frozen: modalities whose towers are not trained, see `freeze`.

    >>> import tectum
    >>> space = tectum.load("space-mini")
    >>> {name: tuple(vectors.shape) for name, vectors in space.embed(text=["a dog", "rain"]).items()}
    {'text': (2, 256)}
    """

    def __init__(self, config: SpaceConfig, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.config = config
        self.towers = nn.ModuleDict({name: build_tower(tower, config.dim, tokenizer) for name, tower in config.towers.items()})
        names = sorted(config.towers)
        self.log_scale = Temperatures((a, b) for i, a in enumerate(names) for b in names[i:])
        self.frozen: frozenset[str] = frozenset()
        self.background: dict[str, Tensor] = {}
        self.calibration: dict[str, tuple[float, float, float]] = {}
        self.fingerprint = ""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.name

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.config.dim

    @property
    def precision(self) -> str:
        """What it may be indexed in, see `SpaceConfig`."""
        return self.config.precision

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the towers."""
        return tuple(self.config.towers)

    def tower(self, modality: str) -> Tower:
        """One tower.

        Raises:
            ConfigError: if the space has none of this name.
        """
        if modality not in self.towers:
            raise ConfigError(f"{self.name} has no {modality} tower: it knows {', '.join(self.modalities)}")
        return cast(Tower, self.towers[modality])

    def scale(self, a: str, b: str) -> Tensor:
        """The inverse temperature between two modalities, at most 100."""
        return self.log_scale.scale(a, b)

    def freeze(self, *modalities: str) -> Self:
        """Lock towers as they are (LiT, Zhai et al. 2022, arXiv:2111.07991): no gradients, no optimizer state, evaluation mode.

        The tower stays in evaluation mode when the space is put in training mode, so neither dropout nor running statistics
        touch it. Freeze before the optimizer is built; this is not part of a checkpoint.

        Raises:
            ConfigError: if the space has none of this name.
        """
        for modality in modalities:
            self.tower(modality).requires_grad_(False)
        self.frozen |= frozenset(modalities)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; frozen towers stay in the latter."""
        super().train(mode)
        for modality in self.frozen:
            self.tower(modality).eval()
        return self

    def forward(self, batches: Mapping[str, Any]) -> dict[str, Tensor]:
        """Collated batches of any subset of the modalities to unit vectors [n_modality, dim]."""
        return {name: F.normalize(self.tower(name)(batch).float(), dim=-1) for name, batch in batches.items()}

    def prepare(self, modality: str, source: Any) -> Tensor:
        """Decode and preprocess one item; needs no gradients, no GPU and may run in threads.

        Raises:
            MediaError: if the item cannot be read as what it should be.
        """
        return self.tower(modality).prepare(source)

    @torch.inference_mode()
    def encode(self, modality: str, prepared: Sequence[Tensor]) -> Tensor:
        """Prepared items to unit vectors [n, dim], float32, on the CPU."""
        if not prepared:
            return torch.zeros(0, self.dim)
        device = next(self.parameters()).device
        batch = self.tower(modality).collate([item.to(device) for item in prepared])
        return self({modality: batch})[modality].cpu()

    def embed(self, *, batch_size: int = 64, **sources: Iterable[Any]) -> dict[str, Tensor]:
        """Items of any subset of the modalities to unit vectors [n, dim].

        Args:
            batch_size: items that go through the model together; changes speed, not vectors.
            sources: per modality a list of paths, bytes, Pillow images or arrays (image), paths, bytes or (samples, rate)
                (audio), strings (text).

        Raises:
            MediaError: if an item cannot be read.
            ConfigError: if the space lacks a modality.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size is at least 1, not {batch_size}")
        result = {}
        for modality, items in sources.items():
            self.tower(modality)
            if isinstance(items, str | bytes):
                raise ConfigError(f"{modality} takes a list of items: write {modality}=[…]")
            parts, waiting = [torch.zeros(0, self.dim)], iter(items)
            # Decoded items take far more room than vectors, so only one batch of them is held.
            while prepared := [self.prepare(modality, item) for item in islice(waiting, batch_size)]:
                parts.append(self.encode(modality, prepared))
            result[modality] = torch.cat(parts)
        return result

    def embed_samples(self, samples: Sequence[Mapping[str, Any]], *, batch_size: int = 64) -> dict[str, tuple[Tensor, Tensor]]:
        """Samples that each hold any subset of the modalities to, per modality, (rows [k], unit vectors [k, dim]).

        `rows` are the indices of the samples that have the modality; what is missing is simply not there.
        """
        result = {}
        for modality in self.modalities:
            rows = [row for row, sample in enumerate(samples) if modality in sample]
            if rows:
                sources: dict[str, Any] = {modality: [samples[row][modality] for row in rows]}
                result[modality] = (torch.tensor(rows), self.embed(batch_size=batch_size, **sources)[modality])
        return result

    def compose(self, *terms: Term, means: Mapping[str, Tensor] | None = None, onto: str | None = None) -> Tensor:
        """The unit vector [dim] of a sum of items of any modalities: "this beach" + "that sound of waves" − "people".

        Args:
            terms: what is added or taken away.
            means: modality to the mean [dim] of its vectors, to be taken off first so that the gap between modalities does not
                count as content; a plain sum when left out. Which of them serves better: `tectum.models.arithmetic.compose`.
            onto: the modality, among the means, that is searched: the sum is moved to where its items lie.

        Raises:
            MediaError: if an item cannot be read.
            ConfigError: if there is no term, a modality or its mean is unknown, or the terms cancel.

        >>> import tectum
        >>> space = tectum.load("space-mini")
        >>> query = space.compose(Term("text", "a red apple"), Term("text", "red", -0.5))
        >>> tuple(query.shape), round(query.norm().item(), 4)
        ((256,), 1.0)
        """
        missing = {*(term.modality for term in terms), *([onto] if onto else [])} - (means.keys() if means else set())
        if missing and (means is not None or onto):
            raise ConfigError(
                f"the mean of {', '.join(sorted(missing))} is not given: add it to means, or give neither means nor onto"
            )
        items: list[dict[str, Any]] = [{term.modality: [term.item]} for term in terms]
        vectors = [self.embed(**item)[term.modality][0].numpy() for term, item in zip(terms, items, strict=True)]
        known = {name: mean.float().cpu().numpy() for name, mean in (means or {}).items()}
        centres = None if means is None else [known[term.modality] for term in terms]
        try:
            weights = [term.weight for term in terms]
            return torch.from_numpy(compose(vectors, weights, means=centres, onto=None if onto is None else known[onto]))
        except ValueError as error:
            raise ConfigError(f"these {len(terms)} terms make no query: {error}") from None

    def label_vectors(self, labels: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        """Class vectors [labels, dim]: the unit mean over the prompts of each label (CLIP §3.1.4, prompt ensembling)."""
        templates = templates or self.config.templates
        prompts = [template.replace("{}", label) for label in labels for template in templates]
        vectors = self.embed(text=prompts)["text"].unflatten(0, (len(labels), len(templates)))
        return F.normalize(vectors.mean(1), dim=-1)

    def classify(self, labels: Sequence[str], *, templates: Sequence[str] | None = None, **sources: Iterable[Any]) -> Tensor:
        """Zero-shot probabilities [n, labels] of one modality's items.

        Raises:
            ConfigError: if not exactly one modality is given, or no label.

        >>> import numpy, tectum
        >>> probabilities = tectum.load("space-mini").classify(["dog", "rain"], image=[numpy.zeros((64, 64, 3), "uint8")])
        >>> tuple(probabilities.shape), round(probabilities.sum().item(), 4)
        ((1, 2), 1.0)
        """
        if len(sources) != 1 or not labels:
            raise ConfigError(f"classify takes labels and the items of exactly one modality, not {sorted(sources)}")
        (modality,) = sources
        items: dict[str, Any] = dict(sources)
        vectors = self.embed(**items)[modality]
        with torch.inference_mode():
            logits = self.scale(modality, "text").cpu() * vectors @ self.label_vectors(labels, templates).T
        return logits.softmax(-1)
