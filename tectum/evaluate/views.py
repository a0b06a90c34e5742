"""Views of a space: the vectors of several modalities as points in a plane, by PCA, t-SNE or UMAP.

`views_picture` and `views_page` save them.

PCA is a linear projection: distances in it are never larger than they are. t-SNE and UMAP keep neighbours and little else; sizes
and gaps of their clusters mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tectum.errors import EvaluationError
from tectum.evaluate.cosines import unit_vectors
from tectum.evaluate.geometry import triangle

Method = Literal["pca", "tsne", "umap"]

_TSNE_DIMS = 50


@dataclass(frozen=True, slots=True)
class View:
    """Points in a plane, at least one.

    Attributes:
        points: float64 [n, 2].
        modalities: their names, in the order of the legend.
        which: int [n], of each point the number of its modality.
        labels: one for each point; may be empty.
        method: how it was made, in words.

    Raises:
        EvaluationError: if the parts do not fit each other, or a point is not finite.
    """

    points: np.ndarray
    modalities: tuple[str, ...]
    which: np.ndarray
    labels: tuple[str, ...]
    method: str

    def __post_init__(self) -> None:
        n = len(self.points)
        if not n or self.points.shape != (n, 2) or len(self.which) != n or len(self.labels) != n:
            found = f"{self.points.shape}, {len(self.which)} modality numbers and {len(self.labels)} labels"
            raise EvaluationError(f"a view has points [n, 2], n ≥ 1, and n of the others, not {found}")
        if not np.isfinite(self.points).all():
            raise EvaluationError("a view has points that are not finite: leave them out")


def project(
    vectors: Mapping[str, object],
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    method: Method = "pca",
    seed: int = 0,
) -> View:
    """Put the vectors of several modalities into one plane.

    Args:
        vectors: modality to vectors [n, d], one d for all; they are scaled to length 1.
        labels: modality to one label for each of its vectors; for some modalities, or none.
        method: "pca"; "tsne" needs scikit-learn (the extra `plots`), "umap" needs umap-learn.
        seed: of t-SNE and UMAP. UMAP repeats itself on one machine only.

    Raises:
        EvaluationError: if shapes or labels do not fit, there are too few vectors, or a package is missing.

    >>> view = project({"image": np.eye(2), "text": -np.eye(2)})
    >>> view.points.shape, view.method
    ((4, 2), 'PCA, 100 % of the variance')
    """
    if method not in get_args(Method):
        raise EvaluationError(f"there is no view {method!r}: choose one of {', '.join(get_args(Method))}")
    parts = {name: unit_vectors(values, name) for name, values in vectors.items()}
    if len({part.shape[1] for part in parts.values()}) > 1:
        sizes = ", ".join(f"{name} {part.shape[1]}" for name, part in parts.items())
        raise EvaluationError(f"the vectors have different lengths ({sizes}): embed all modalities in one space")
    named: list[str] = []
    for name, part in parts.items():
        given = (labels or {}).get(name, [""] * len(part))
        if len(given) != len(part):
            raise EvaluationError(f"{len(part)} vectors of {name} need as many labels, not {len(given)}")
        named += map(str, given)
    stray = sorted((labels or {}).keys() - parts.keys())
    if stray:
        raise EvaluationError(f"there are labels but no vectors for {', '.join(stray)}: give both or neither")
    if len(named) < (least := 2 if method == "pca" else 5):
        raise EvaluationError(f"{len(named)} vectors are too few for a view by {method}: give at least {least}")
    points, told = {"pca": _pca, "tsne": _tsne, "umap": _umap}[method](torch.cat(list(parts.values())), seed)
    which = np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()])
    return View(points, tuple(parts), which, tuple(named), told)


def principal_components(matrix: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """Coordinates [n, dims] along the directions of largest variance, and the share of the variance of each [dims]; by SVD.

    The largest entry of each direction is positive, so that the same data give the same picture.

    >>> principal_components(torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), 1)
    (tensor([[-5.],
            [ 0.],
            [ 5.]]), tensor([1.]))
    """
    centered = matrix - matrix.mean(0)
    _, values, directions = torch.linalg.svd(triangle(centered), full_matrices=False)
    largest = directions.abs().argmax(1, keepdim=True)
    directions = directions * directions.gather(1, largest).sign()
    coordinates, variances = centered @ directions.T, values**2
    missing = max(0, dims - len(values))
    coordinates = torch.nn.functional.pad(coordinates, (0, missing))[:, :dims]
    return coordinates, torch.nn.functional.pad(variances / variances.sum().clamp(min=1e-300), (0, missing))[:dims]


def _pca(matrix: Tensor, seed: int) -> tuple[np.ndarray, str]:
    points, shares = principal_components(matrix, 2)
    return points.numpy(), f"PCA, {100 * float(shares.sum()):.0f} % of the variance"


def _tsne(matrix: Tensor, seed: int) -> tuple[np.ndarray, str]:
    try:
        import sklearn
        from sklearn.manifold import TSNE
    except ImportError:
        raise EvaluationError("a view by t-SNE needs scikit-learn: pip install 'tectum[plots]', or take pca") from None
    perplexity = min(30.0, (len(matrix) - 1) / 3)
    reduced = principal_components(matrix, _TSNE_DIMS)[0][:, : matrix.shape[1]].numpy()
    points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    told = f"t-SNE, perplexity {perplexity:g}, seed {seed}, scikit-learn {sklearn.__version__}"
    return np.asarray(points, np.float64), told


def _umap(matrix: Tensor, seed: int) -> tuple[np.ndarray, str]:
    try:
        import umap
    except ImportError:
        raise EvaluationError("a view by UMAP needs umap-learn: pip install umap-learn, or take tsne or pca") from None
    neighbors = min(15, len(matrix) - 1)
    # With a seed UMAP runs on one thread; still its result changes with versions and machines.
    points = umap.UMAP(n_neighbors=neighbors, random_state=seed, n_jobs=1).fit_transform(matrix.numpy())
    return np.asarray(points, np.float64), f"UMAP, {neighbors} neighbours, seed {seed}, umap-learn {umap.__version__}"
