"""Vectors in few bytes: cut short (matryoshka, arXiv:2205.13147) and rounded to eight bits."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tectum.contrastive.matryoshka import truncate
from tectum.errors import ConfigError

Dtype = Literal["float32", "float16", "int8"]
_BYTES: dict[Dtype, int] = {"float32": 4, "float16": 2, "int8": 1}


class Int8(NamedTuple):
    """Codes [n, d] in −127 … 127, and what they are multiplied by: [n, 1] of each vector, or [d] of each dimension."""

    codes: Tensor
    scales: Tensor

    def decode(self) -> Tensor:
        """The vectors [n, d], float32, each number off by at most half its scale (but for what calibration cut off)."""
        return self.codes.float() * self.scales


def to_int8(vectors: Tensor, scales: Tensor | None = None) -> Int8:
    """Symmetric rounding of vectors [n, d] to eight bits.

    Each vector has a scale of its own by default, its largest number / 127: then cosines between codes alone are those of the
    decoded vectors, since a positive factor turns none. With `scales` [d], see `calibrate`, each dimension has one, and what
    lies beyond 127 of them is cut off.

    >>> to_int8(torch.tensor([[0.6, -0.8]])).codes.tolist()
    [[95, -127]]
    """
    if scales is None:
        scales = vectors.abs().amax(-1, keepdim=True).float() / 127
    codes = (vectors / scales.clamp(min=torch.finfo(torch.float32).tiny)).round().clamp(-127, 127)
    return Int8(codes.to(torch.int8), scales)


def calibrate(vectors: Tensor, quantile: float = 1.0) -> Tensor:
    """The scale [d] of each dimension at which this share of the absolute numbers of vectors [n, d] fits into eight bits."""
    if quantile == 1.0:
        return vectors.abs().amax(0).float() / 127
    last = max(1, round(quantile * len(vectors)))
    return vectors.abs().float().kthvalue(last, dim=0).values / 127


def compact(vectors: Tensor, dim: int | None = None, dtype: Dtype = "float32") -> Tensor | Int8:
    """Unit vectors [n, d] cut to `dim` numbers, again of length 1, in fewer bytes.

    Raises:
        ConfigError: if the vectors are shorter, or there is no such type.

    >>> compact(torch.eye(4), 2, "float16").dtype
    torch.float16
    """
    if dtype not in _BYTES:
        raise ConfigError(f"vectors cannot be of the type {dtype!r}: choose one of {', '.join(_BYTES)}")
    if dim is not None and not 1 <= dim <= vectors.shape[-1]:
        raise ConfigError(
            f"vectors of {vectors.shape[-1]} numbers cannot be cut to {dim}: give a number from 1 to {vectors.shape[-1]}"
        )
    short = vectors if dim is None else truncate(vectors, dim)
    if dtype == "int8":
        return to_int8(short)
    return short.to(torch.float16 if dtype == "float16" else torch.float32)


def bytes_of(dim: int, dtype: Dtype) -> int:
    """What a vector takes up, an eight-bit one together with its scale."""
    return dim * _BYTES[dtype] + (4 if dtype == "int8" else 0)
