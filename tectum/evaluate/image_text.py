"""How well a text fits a picture: CLIPScore and RefCLIPScore (Hessel et al. 2021, arXiv:2104.08718).

CLIPScore is w · max(cos(c, v), 0) for the vectors of a caption c and a picture v, with w = 2.5, and captions begin with "A photo
depicts". RefCLIPScore is its harmonic mean with max(max_r cos(c, r), 0) over the references r, which is not scaled by w. Others
report 100 · cos or the bare cosine, and every model has its own cosines: all of that is in the passport.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch

from tectum.errors import EvaluationError
from tectum.evaluate.cosines import Cosines, as_matrix
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.score import Passport, Setting
from tectum.models.space import Space

W = 2.5
PROMPT = "A photo depicts "


def clip_scores(images: object, texts: object, *, w: float = W) -> np.ndarray:
    """CLIPScore [n] of vectors [n, d] of pictures and texts, row with row; they need not have length 1.

    Raises:
        EvaluationError: if the shapes differ, or a vector is zero or not finite.

    >>> clip_scores([[1.0, 0.0], [1.0, 0.0]], [[3.0, 4.0], [-1.0, 0.0]]).round(6)
    array([1.5, 0. ])
    """
    cosines = Cosines(images, texts)
    n, m = cosines.shape
    if n != m:
        raise EvaluationError(f"{n} pictures and {m} texts are no pairs: give one text for each picture, repeating pictures")
    rows = torch.arange(n)
    return w * np.maximum(cosines.exact(rows, rows).numpy(), 0)


def ref_clip_scores(images: object, texts: object, references: Sequence[object], *, w: float = W) -> np.ndarray:
    """RefCLIPScore [n] of vectors [n, d] of pictures and texts, and for each text a matrix [r, d] of its references, r ≥ 1.

    Where a part is 0, so is the score.

    Raises:
        EvaluationError: if the shapes do not fit, a text has no reference, or a vector is zero or not finite.

    >>> ref_clip_scores([[1.0, 0.0]], [[3.0, 4.0]], [[[0.0, 1.0], [-1.0, 0.0]]]).round(6)  # 2 · 1.5 · 0.8 / (1.5 + 0.8)
    array([1.043478])
    """
    fit = clip_scores(images, texts, w=w)
    counts = _counts(references, len(fit))
    if not len(fit):
        return fit
    cosines = Cosines(texts, torch.cat([as_matrix(one, f"references of text {i}").double() for i, one in enumerate(references)]))
    each = cosines.exact(torch.arange(len(fit)).repeat_interleave(torch.from_numpy(counts)), torch.arange(counts.sum())).numpy()
    nearest = np.maximum(np.maximum.reduceat(each, np.cumsum(counts) - counts), 0)
    total = fit + nearest
    return np.divide(2 * fit * nearest, total, out=np.zeros_like(total), where=total > 0)


def clip_score(
    space: Space,
    images: Sequence[Any],
    texts: Sequence[str],
    *,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    w: float = W,
    prompt: str = PROMPT,
) -> Measurement:
    """CLIPScore of texts and the pictures they describe, measured by a space.

    Texts longer than the model's context are cut, and keep their end token.

    Args:
        space: the model that measures.
        images: one for each text: paths, bytes, Pillow images or arrays.
        texts: without the prompt.
        ids: of the pairs; their rows when left out.
        groups: what is drawn together in a resample: a picture's name, where it has several texts.
        w: what the cosine is multiplied by.
        prompt: what every text begins with.

    Raises:
        EvaluationError: if there are not as many pictures as texts.
        MediaError: if a picture cannot be read.
    """
    _check_pairs(images, texts)
    values = clip_scores(space.embed(image=images)["image"], space.embed(text=[prompt + text for text in texts])["text"], w=w)
    return _measurement("clipscore", space, values, ids, groups, w, prompt)


def ref_clip_score(
    space: Space,
    images: Sequence[Any],
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    w: float = W,
    prompt: str = PROMPT,
) -> Measurement:
    """RefCLIPScore of texts, the pictures they describe, and other descriptions of these; the prompt goes before all of them.

    Args and Raises as `clip_score`; and each text needs a reference.
    """
    _check_pairs(images, texts)
    if any(isinstance(one, str) for one in references):
        raise EvaluationError('the references of a text are a list: write [["a dog"], …] for one each')
    counts = _counts(references, len(texts))
    vectors = space.embed(text=[prompt + text for text in (*texts, *chain.from_iterable(references))])["text"]
    each = torch.split(vectors[len(texts) :], counts.tolist())
    values = ref_clip_scores(space.embed(image=images)["image"], vectors[: len(texts)], each, w=w)
    return _measurement("refclipscore", space, values, ids, groups, w, prompt)


def identity(space: Space) -> str:
    """A model's name and fingerprint, for passports of scores it has made; of its weights if it was not loaded from a folder."""
    if space.fingerprint:
        return f"{space.name}:{space.fingerprint}"
    digest = hashlib.sha256(repr(space.config).encode())
    for name, tensor in sorted(space.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return f"{space.name}:{digest.hexdigest()[:16]}"


def _check_pairs(images: Sequence[Any], texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise EvaluationError("texts are a list: write [text] for a single one")
    if len(images) != len(texts):
        raise EvaluationError(f"{len(images)} pictures and {len(texts)} texts are no pairs: give one picture for each text")


def _counts(references: Sequence[Any], texts: int) -> np.ndarray:
    if len(references) != texts:
        raise EvaluationError(f"{texts} texts need {texts} lists of references, not {len(references)}")
    counts = np.array([len(one) for one in references], np.int64)
    if not counts.all():
        raise EvaluationError(f"text {int(counts.argmin())} has no reference: give at least one, or use CLIPScore")
    return counts


def _measurement(
    metric: str, space: Space, values: np.ndarray, ids: Sequence[str] | None, groups: Sequence[str] | None, w: float, prompt: str
) -> Measurement:
    dtype = str(next(space.parameters()).dtype).removeprefix("torch.")
    settings: dict[str, Setting] = {"w": w, "scale": "w*max(cos,0)", "prompt": prompt, "model": identity(space), "dtype": dtype}
    names = tuple(map(str, range(len(values)))) if ids is None else tuple(ids)
    return Measurement.mean(Passport(metric, settings), names, values, groups)
