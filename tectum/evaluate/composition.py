"""Composition: does a model prefer the caption that is true to one with the same words otherwise arranged, or one detail changed?

A minimal pair is a picture with a true and a false caption; it is right if the true one is strictly more similar, so a tie, which
is what a model blind to the difference gives, is wrong and chance is 1/2. Reads the files of SugarCrepe (Hsieh et al. 2023,
arXiv:2306.14610), ARO (Yuksekgonul et al. 2023, arXiv:2210.01936) and Winoground (Thrush et al. 2022, arXiv:2204.03162), and
plain records of generated worlds. Print `baselines.composition_baselines` beside: much of what such tests measure can be had
blind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from tectum.errors import EvaluationError
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.records import read_json, read_records
from tectum.evaluate.score import Passport

KINDS = ("swap-attribute", "swap-object", "swap-relation", "add", "replace", "negate", "count")

_SUGARCREPE = {"obj": "object", "ent": "object", "att": "attribute", "rel": "relation"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture by the name of its file, and the box (left, top, right, bottom) of it that is meant, if not all."""

    name: str
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture, a caption that is true of it, one that is not, and what differs."""

    id: str
    picture: Picture
    positive: str
    negative: str
    kind: str


@dataclass(frozen=True, slots=True)
class Quad:
    """Two pictures and their two captions, made of the same words (Winoground)."""

    id: str
    pictures: tuple[Picture, Picture]
    captions: tuple[str, str]
    kind: str


Similarity = Callable[[Sequence[Picture], Sequence[str]], Any]
"""n pictures and n captions to n similarities, each of a picture with the caption beside it."""


class Embeds(Protocol):
    """What embeds pictures and texts: a `Space`."""

    def embed(self, *, batch_size: int = ..., **sources: Any) -> dict[str, Tensor]:
        """Per modality unit vectors [n, d]."""


def space_similarity(space: Embeds, folder: str | Path = ".") -> Similarity:
    """Cosines in a space, of pictures in a folder. Each picture and each caption is embedded once a call."""

    def similarity(pictures: Sequence[Picture], captions: Sequence[str]) -> np.ndarray:
        files, file_of = _distinct(pictures)
        texts, text_of = _distinct(captions)
        vectors = space.embed(image=[_opened(picture, Path(folder)) for picture in files], text=texts)
        image, text = (vectors[name].double().cpu().numpy() for name in ("image", "text"))
        return (image[file_of] * text[text_of]).sum(1)

    return similarity


def pair_similarities(pairs: Sequence[Pair], similarity: Similarity) -> np.ndarray:
    """Similarities [n, 2] of each picture with its true and its false caption."""
    pictures = [pair.picture for pair in pairs for _ in range(2)]
    captions = [caption for pair in pairs for caption in (pair.positive, pair.negative)]
    return _checked(similarity(pictures, captions), (len(captions),)).reshape(-1, 2)


def quad_similarities(quads: Sequence[Quad], similarity: Similarity) -> np.ndarray:
    """Similarities [n, 2, 2] of each picture (rows) with each caption (columns)."""
    pictures = [picture for quad in quads for picture in quad.pictures for _ in range(2)]
    captions = [caption for quad in quads for _ in range(2) for caption in quad.captions]
    return _checked(similarity(pictures, captions), (len(captions),)).reshape(-1, 2, 2)


def composition(pairs: Sequence[Pair], similarities: Any, *, suite: str = "pairs") -> dict[str, Measurement]:
    """The accuracy on each kind of pair, on "all", and the "macro" mean over kinds; pairs of one picture are resampled together.

    Args:
        pairs: what was asked.
        similarities: [n, 2] of true and false captions, as `pair_similarities` gives.
        suite: a name for the passport.

    Raises:
        EvaluationError: if the shape does not fit or something is not finite.

    >>> record = {"image": "1.png", "positive": "a red cube", "negative": "a blue cube", "kind": "replace"}
    >>> score = composition(pairs_from([record, record, record]), [[0.3, 0.2], [0.2, 0.2], [0.5, 0.1]])["replace"].score()
    >>> round(score.value, 4)  # the tie is wrong
    0.6667
    """
    found = _checked(similarities, (len(pairs), 2))
    right = (found[:, 0] > found[:, 1]).astype(np.float64)
    rows: dict[str, list[int]] = {kind: [] for kind in sorted({pair.kind for pair in pairs})}
    for row, pair in enumerate(pairs):
        rows[pair.kind].append(row)
    code = {kind: number for number, kind in enumerate(rows)}
    passport = Passport("composition", {"suite": suite, "kind": "all", "ties": "wrong"})
    every = Measurement.mean(passport, (pair.id for pair in pairs), right, (pair.picture.name for pair in pairs))
    by_kind = {kind: _of_kind(every.rows(some), kind) for kind, some in rows.items()}
    # Shards number their kinds alike only if they have the same, so the passport names them all, by a digest.
    digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()[:8]
    coded = np.column_stack((right, [code[pair.kind] for pair in pairs])).reshape(-1, 2)
    macro = replace(_of_kind(every, f"macro-of-{len(rows)}@{digest}"), formula=_mean_of_kinds, statistics=coded)
    return by_kind | {"all": every, "macro": macro}


def winoground(quads: Sequence[Quad], similarities: Any) -> dict[str, Measurement]:
    """ "winoground-text", "-image" and "-group" (Thrush et al. 2022, eq. 1–3); chance is 1/4, 1/4 and 1/6.

    Text: each picture is closer to its own caption than to the other; image: each caption is closer to its own picture; group:
    both. Ties are wrong, so a model that sees one side only has 0.

    Args:
        quads: what was asked.
        similarities: [n, 2, 2] as `quad_similarities` gives.

    Raises:
        EvaluationError: if the shape does not fit or something is not finite.

    >>> quad = Quad("0", (Picture("a.png"), Picture("b.png")), ("dog bites man", "man bites dog"), "swap")
    >>> {name: m.score().value for name, m in winoground([quad], [[[0.9, 0.8], [0.1, 0.2]]]).items()}
    {'winoground-text': 1.0, 'winoground-image': 0.0, 'winoground-group': 0.0}
    """
    s = _checked(similarities, (len(quads), 2, 2))
    text = (s[:, 0, 0] > s[:, 0, 1]) & (s[:, 1, 1] > s[:, 1, 0])
    image = (s[:, 0, 0] > s[:, 1, 0]) & (s[:, 1, 1] > s[:, 0, 1])
    parts = {"winoground-text": text, "winoground-image": image, "winoground-group": text & image}
    ids = [quad.id for quad in quads]
    return {name: Measurement.mean(Passport(name, {"ties": "wrong"}), ids, right) for name, right in parts.items()}


def pairs_from(records: Sequence[dict[str, Any]], *, where: str = "the list") -> list[Pair]:
    """Plain records {"image", "positive", "negative", "kind", and "id" or else the record's number}, as generated worlds give.

    Raises:
        EvaluationError: if a field is missing or the kind is none of `KINDS`.
    """
    pairs = []
    for number, record in enumerate(records):
        lacking = [name for name in ("image", "positive", "negative", "kind") if name not in record]
        if lacking or record["kind"] not in KINDS:
            what = f"no field {lacking[0]!r}" if lacking else f"the kind {record['kind']!r}, which is none of {', '.join(KINDS)}"
            raise EvaluationError(f"{where}: pair {number} has {what}: mend the record")
        picture = Picture(str(record["image"]))
        pairs.append(Pair(str(record.get("id", number)), picture, record["positive"], record["negative"], record["kind"]))
    return pairs


def read_pairs(path: str | Path) -> list[Pair]:
    """`pairs_from` a file of JSON or JSON lines."""
    return pairs_from(read_records(path, "image", "positive", "negative", "kind"), where=str(path))


def read_sugarcrepe(path: str | Path) -> list[Pair]:
    """A file of SugarCrepe, {number: {"filename", "caption", "negative_caption"}}; its name, as swap_att.json, tells the kind.

    Ids begin with the file's stem, so that the seven files join into one list.

    Raises:
        EvaluationError: if it is no such file.
    """
    found, stem = read_json(path), Path(path).stem
    how, _, what = stem.partition("_")
    kind = f"{how}-{_SUGARCREPE[what]}" if what in _SUGARCREPE else stem
    try:
        return [
            Pair(f"{stem}/{key}", Picture(pair["filename"]), pair["caption"], pair["negative_caption"], kind)
            for key, pair in found.items()
        ]
    except (AttributeError, KeyError, TypeError):
        raise EvaluationError(f"{path} is not of SugarCrepe: each entry needs filename, caption and negative_caption") from None


def read_aro(path: str | Path) -> list[Pair]:
    """Visual Genome relation or attribution of ARO: the kind is the relation, or the two attributes.

    Both show a box of the picture. Published figures are the mean over kinds ("macro"), for relations without the symmetric ones,
    for attributes over those with at least 25 pairs: filter the list first.

    Raises:
        EvaluationError: if it is no such file.
    """
    pairs = []
    for number, record in enumerate(read_records(path, "image_path", "true_caption", "false_caption")):
        try:
            kind = record["relation_name"] if "relation_name" in record else "_".join(record["attributes"])
            left, top, width, height = (int(record[f"bbox_{side}"]) for side in "xywh")
        except (KeyError, TypeError, ValueError):
            raise EvaluationError(f"{path}: pair {number} needs relation_name or attributes, and bbox_x, _y, _w, _h") from None
        picture = Picture(record["image_path"], (left, top, left + width, top + height))
        pairs.append(Pair(str(number), picture, record["true_caption"], record["false_caption"], str(kind)))
    return pairs


def read_winoground(path: str | Path) -> list[Quad]:
    """The examples of Winoground, JSON lines of id, image_0, image_1, caption_0, caption_1; pictures without extension are .png.

    Raises:
        EvaluationError: if it is no such file.
    """
    records = read_records(path, "id", "image_0", "image_1", "caption_0", "caption_1")
    return [
        Quad(
            str(record["id"]),
            (_png(record["image_0"]), _png(record["image_1"])),
            (record["caption_0"], record["caption_1"]),
            str(record.get("collapsed_tag", "")),
        )
        for record in records
    ]


def _of_kind(measurement: Measurement, kind: str) -> Measurement:
    passport = measurement.passport
    return replace(measurement, passport=Passport(passport.metric, {**passport.settings, "kind": kind}))


def _mean_of_kinds(weights: np.ndarray, statistics: np.ndarray) -> np.ndarray:
    """Statistics (right, number of the kind) [n, 2]: the mean over the kinds that are drawn of the share that is right."""
    right, kinds = statistics[:, 0], statistics[:, 1].astype(int)
    values = np.full(len(weights), np.nan)
    for row, weight in enumerate(weights):
        asked = np.bincount(kinds, weight)
        drawn = asked > 0
        if drawn.any():
            values[row] = (np.bincount(kinds, weight * right)[drawn] / asked[drawn]).mean()
    return values


def _checked(similarities: Any, shape: tuple[int, ...]) -> np.ndarray:
    found = np.asarray(similarities, np.float64)
    if found.shape != shape or not np.isfinite(found).all():
        raise EvaluationError(f"similarities must be finite and of shape {shape}, not {found.shape}: give one for each caption")
    return found


def _distinct(items: Sequence[Hashable]) -> tuple[list[Any], np.ndarray]:
    """Each item once, and for every item where it is."""
    places = {item: place for place, item in enumerate(dict.fromkeys(items))}
    return list(places), np.array([places[item] for item in items], int)


def _opened(picture: Picture, folder: Path) -> str | Image.Image:
    path = folder / picture.name
    if picture.box is None:
        return str(path)
    with Image.open(path) as image:
        return image.convert("RGB").crop(picture.box)


def _png(name: str) -> Picture:
    return Picture(name if Path(name).suffix else name + ".png")
