"""Antialiased resizing of tensors, pixel for pixel what Pillow does to pictures."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from tectum.errors import ConfigError

Filter = Literal["bicubic", "bilinear"]


def resize(x: Tensor, size: tuple[int, int], filter: Filter = "bicubic") -> Tensor:
    """Resizes [..., c, h, w], uint8 or float, to (height, width) as Pillow does: the same uint8, or within one level.

    Pillow resizes along one axis, rounds and clips to 8 bits, then along the other; so does this, in the order of Pillow ≥ 13
    (width first, unless the height loses more than twice as many pixels; before, always width first). Float tensors are neither
    rounded nor clipped, as in Pillow's mode "F". Bicubic is Keys' kernel with a = -1/2 (Keys 1981); when shrinking, both
    kernels are stretched to the scale.

    >>> resize(torch.zeros(3, 8, 8, dtype=torch.uint8), (4, 2)).shape
    torch.Size([3, 4, 2])
    """
    if min(size) < 1 or min(x.shape[-2:]) < 1:
        raise ConfigError(f"cannot resize {tuple(x.shape[-2:])} to {tuple(size)}: both sizes must be at least 1")
    if filter not in ("bicubic", "bilinear"):
        raise ConfigError(f"resize filter is {filter!r}: choose bicubic or bilinear")
    (height, width), (h, w) = size, x.shape[-2:]
    height_first = 0 < h - height > 2 * (w - width)
    for dim, length in ((-2, height), (-1, width)) if height_first else ((-1, width), (-2, height)):
        if length != x.shape[dim]:
            x = _along(x, dim, length, filter)
    return x.contiguous()


def _along(x: Tensor, dim: int, length: int, filter: Filter) -> Tensor:
    """One axis: a sum over the filter's taps, each a gather of rows. Memory as the result's, work as the input's.

    Not torch's interpolate, which gives wrong pixels where a side is 1 (2 x 1 to 3 x 1 repeats the first row; torch 2.13).
    """
    rows = x.movedim(dim, 0).contiguous()
    taps, weights = _weights(x.shape[dim], length, filter)
    # uint8 has Pillow's own arithmetic: weights in 22-bit fixed point, summed exactly, halves rounded up.
    work = x.dtype if x.is_floating_point() else torch.int32
    weights = (weights if x.is_floating_point() else (weights * 2**22).round()).to(x.device, work)
    weights, taps = weights.view(*weights.shape, *[1] * (x.dim() - 1)), taps.to(x.device)
    y = rows[taps[0]].to(work) * weights[0]
    for tap, weight in zip(taps[1:], weights[1:], strict=True):
        y = y + rows[tap].to(work) * weight
    if not x.is_floating_point():
        y = ((y + 2**21) >> 22).clamp(0, 255).to(x.dtype)
    return y.movedim(0, dim)


def _weights(n: int, length: int, filter: Filter) -> tuple[Tensor, Tensor]:
    """Source indices and weights [taps, length] of the filter from n to `length` pixels, in float64; weights outside are 0."""
    stretch = max(n / length, 1.0)
    reach = (2 if filter == "bicubic" else 1) * stretch
    centre = (torch.arange(length, dtype=torch.float64) + 0.5) * (n / length)
    first, last = (centre - reach + 0.5).floor().clamp(min=0), (centre + reach + 0.5).floor().clamp(max=n)
    tap = first + torch.arange(math.ceil(2 * reach) + 1)[:, None]
    d = ((tap + 0.5 - centre) / stretch).abs()
    if filter == "bilinear":
        weight = (1 - d).clamp(min=0)
    else:
        weight = torch.where(d < 1, (1.5 * d - 2.5) * d * d + 1, torch.where(d < 2, ((2.5 - 0.5 * d) * d - 4) * d + 2, 0))
    weight = weight * (tap < last)
    return tap.clamp(max=n - 1).long(), weight / weight.sum(0)
