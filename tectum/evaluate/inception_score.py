"""The Inception score (Salimans et al. 2016), over any class probabilities, and the network that the score and the FID are
named after.

The network is Inception-v3 as in TensorFlow's archive of 2015-12-05, whose weights define the FID: 1008 classes, average
pooling that does not count the padding, and a max pooling in its last block. Its weights are not shipped; a state dict with
the names of torchvision and pytorch-fid fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.errors import EvaluationError
from tectum.evaluate.features import Features, hash_of, normal_interval
from tectum.evaluate.score import Passport, Score, Setting
from tectum.media.image import ImageSpec


def inception_score(probabilities: Features, *, splits: int = 10, level: float = 0.95) -> Score:
    """exp of the mean divergence KL(p(y|x) ‖ p(y)) of the classes of a picture from those of all, a mean over splits.

    From 1, when all pictures look alike or none is recognised, to the number of classes. The items are dealt out to the
    splits in turn, in the order of their ids, so that pictures sorted by class do no harm. The score grows with the items
    in a split, whose number is in the passport. The interval is value · exp(± z · relative standard error), cut at 1, from
    each item's influence on the score, KL(p(y|x) ‖ p(y)); the bootstrap would shift the score down.

    Args:
        probabilities: of c classes for each item [n, c]; rows are made to sum to exactly one.
        splits: how many, each of at least 2 items; 10 is customary.
        level: of confidence.

    Raises:
        EvaluationError: if a row is no distribution, or the splits are too many.

    >>> certain = Features.of(torch.eye(4).repeat(2, 1))
    >>> round(inception_score(certain, splits=1).value, 6)
    4.0
    """
    p = probabilities.vectors.double()
    wrong = (p < 0).any(1) | ((p.sum(1) - 1).abs() > 1e-2)
    if bool(wrong.any()):
        bad = probabilities.ids[int(wrong.int().argmax())]
        raise EvaluationError(f"the values of item {bad!r} are no probabilities of classes: give the softmax of its logits")
    if not 1 <= splits <= len(p) // 2:
        raise EvaluationError(f"{len(p)} items cannot make {splits} splits of at least 2: give more items or fewer splits")
    p = p / p.sum(1, keepdim=True)
    values, variances = [], []
    for part in (p[first::splits] for first in range(splits)):
        divergence = (torch.xlogy(part, part) - torch.xlogy(part, part.mean(0))).sum(1)
        values.append(divergence.mean().exp())
        variances.append(values[-1].square() * divergence.var() / len(part))
    value = float(torch.stack(values).mean())
    variance = float(torch.stack(variances).sum()) / splits**2
    low, high = normal_interval(0.0, variance / value**2, level)
    interval = max(1.0, value * float(torch.tensor(low).exp())), value * float(torch.tensor(high).exp())
    made: dict[str, Setting] = {"classes": p.shape[1], "splits": splits, "generated": len(p)}
    return Score(value, interval, len(p), Passport("inception-score", {**probabilities.settings, **made}))


_Step = tuple[int, *tuple[tuple[int, int], ...]]
"""Channels, and the kernel [height, width] of a convolution; with two kernels, two convolutions of one input side by side."""


def _squares(*steps: tuple[int, int]) -> list[_Step]:
    return [(channels, (side, side)) for channels, side in steps]


def _block_a(pool: int) -> dict[str, list[_Step]]:
    return {"branch1x1": _squares((64, 1)), "branch5x5": _squares((48, 1), (64, 5)),
            "branch3x3dbl": _squares((64, 1), (96, 3), (96, 3)), "branch_pool": _squares((pool, 1))}  # fmt: skip


def _block_c(width: int) -> dict[str, list[_Step]]:
    row, column = (1, 7), (7, 1)
    double: list[_Step] = [(width, column), (width, row), (width, column), (192, row)]
    return {"branch1x1": _squares((192, 1)), "branch7x7": [*_squares((width, 1)), (width, row), (192, column)],
            "branch7x7dbl": [*_squares((width, 1)), *double], "branch_pool": _squares((192, 1))}  # fmt: skip


def _block_e() -> dict[str, list[_Step]]:
    fork: _Step = (384, (1, 3), (3, 1))
    return {"branch1x1": _squares((320, 1)), "branch3x3": [*_squares((384, 1)), fork],
            "branch3x3dbl": [*_squares((448, 1), (384, 3)), fork], "branch_pool": _squares((192, 1))}  # fmt: skip


_BLOCK_B = {"branch3x3": _squares((384, 3)), "branch3x3dbl": _squares((64, 1), (96, 3), (96, 3))}
_BLOCK_D = {
    "branch3x3": _squares((192, 1), (320, 3)),
    "branch7x7x3": [*_squares((192, 1)), (192, (1, 7)), (192, (7, 1)), *_squares((192, 3))],
}


class _Convolution(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, *, padded: bool = True) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Branches side by side, each a chain of convolutions; the last of each has stride 2, without padding, if the block
    halves."""

    def __init__(self, inputs: int, branches: Mapping[str, Sequence[_Step]], pooling: Literal["average", "max", "halve"]) -> None:
        super().__init__()
        self.pooling, self.outputs = pooling, 0
        self.chains: dict[str, list[list[str]]] = {}
        for branch, steps in branches.items():
            width, chain = inputs, []
            for number, (channels, *kernels) in enumerate(steps, 1):
                last = number == len(steps)
                names = [f"{branch}_{number}{'ab'[i]}" if len(kernels) > 1 else f"{branch}_{number}" for i in range(len(kernels))]
                names = names if len(steps) > 1 else [branch]
                for name, kernel in zip(names, kernels, strict=True):
                    halves = pooling == "halve" and last
                    self.add_module(name, _Convolution(width, channels, kernel, 2 if halves else 1, padded=not halves))
                chain.append(names)
                width = channels * len(kernels)
            self.chains[branch] = chain
            self.outputs += width
        self.outputs += inputs if pooling == "halve" else 0

    def forward(self, x: Tensor) -> Tensor:
        if self.pooling == "halve":
            pooled = F.max_pool2d(x, 3, 2)
        elif self.pooling == "max":
            pooled = F.max_pool2d(x, 3, 1, 1)
        else:
            pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        parts = []
        for branch, chain in self.chains.items():
            y = pooled if branch == "branch_pool" else x
            for names in chain:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            parts.append(y)
        return torch.cat([*parts, pooled] if self.pooling == "halve" else parts, 1)


class Inception(nn.Module):
    """Pictures [n, 3, 299, 299] within -1 … 1 to features [n, 2048]; `load_inception` gives it its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, (3, 3), 2, padded=False)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, (3, 3), padded=False)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = _Convolution(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = _Convolution(80, 192, (3, 3), padded=False)
        width = 192
        self.mixed = [f"Mixed_{name}" for name, _, _ in _BLOCKS]
        for name, branches, pooling in _BLOCKS:
            block = _Block(width, branches, pooling)
            self.add_module(f"Mixed_{name}", block)
            width = block.outputs
        self.fc = nn.Linear(width, 1008)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, 299, 299] to [n, 2048]."""
        x = F.max_pool2d(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))), 3, 2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        for name in self.mixed:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))

    def probabilities(self, features: Tensor) -> Tensor:
        """Features [n, 2048] to the class probabilities [n, 1008] of the Inception score, which leaves out the bias."""
        return F.linear(features, self.fc.weight).softmax(1)


_BLOCKS: tuple[tuple[str, Mapping[str, Sequence[_Step]], Literal["average", "max", "halve"]], ...] = (
    ("5b", _block_a(32), "average"), ("5c", _block_a(64), "average"), ("5d", _block_a(64), "average"), ("6a", _BLOCK_B, "halve"),
    ("6b", _block_c(128), "average"), ("6c", _block_c(160), "average"), ("6d", _block_c(160), "average"),
    ("6e", _block_c(192), "average"), ("7a", _BLOCK_D, "halve"), ("7b", _block_e(), "average"), ("7c", _block_e(), "max"),
)  # fmt: skip


def load_inception(weights: Mapping[str, Tensor]) -> Inception:
    """The network with the weights of a state dict, such as `safetensors.torch.load_file` reads.

    Raises:
        EvaluationError: if they do not fit.
    """
    network = Inception()
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        what = " ".join(str(error).split())[:200]
        raise EvaluationError(
            f"these are not the weights of the FID's Inception network ({what}): take those of pytorch-fid, saved as safetensors"
        ) from error
    return network.eval()


@dataclass(frozen=True, slots=True)
class InceptionExtractor:
    """The features of the FID, or the class probabilities of the Inception score.

    The resize filter moves the FID by whole points, so it is a setting: Pillow's antialiased bicubic, as by default
    (clean-fid), or bilinear without antialiasing, the habit of older code. Resized pictures are rounded to 8 bits.
    """

    network: Inception
    output: Literal["features", "probabilities"] = "features"
    image: ImageSpec = field(default_factory=lambda: ImageSpec(size=299, filter="bicubic"))

    modality: Literal["image"] = field(default="image", init=False)

    @property
    def settings(self) -> Mapping[str, Setting]:
        """Name, weights hash and preprocessing."""
        plain = {
            key: value if isinstance(value, str | int | float) else str(value) for key, value in self.image.to_dict().items()
        }
        return {"extractor": f"inception-2015-12-05/{self.output}", "weights": hash_of(self.network.state_dict()), **plain}

    def prepare(self, source: Any) -> Tensor:
        """One picture to [3, 299, 299]."""
        return self.image.pixels(source)

    def __call__(self, prepared: Sequence[Tensor]) -> Tensor:
        """Features [n, 2048] or probabilities [n, 1008]."""
        device = self.network.fc.weight.device
        features = self.network(self.image.normalise(torch.stack(list(prepared)).to(device)))
        return self.network.probabilities(features) if self.output == "probabilities" else features
