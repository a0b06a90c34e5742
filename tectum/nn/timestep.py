"""A time, or any number, as a vector: sines and cosines at many frequencies, and the small network that follows them."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tectum.nn.linear import Linear

Order = Literal["sin_cos", "cos_sin"]


def sinusoid(x: Tensor, width: int, *, order: Order = "sin_cos", shift: float = 0.0, period: float = 10000.0) -> Tensor:
    """Sines and cosines of x · period^(-i / (width/2 - shift)), i = 0 … width/2 - 1 (arXiv:1706.03762, §3.5).

    Four conventions of one thing are about, and a network trained with one fails with another:

        order     shift
        sin_cos   1      DDPM (Ho et al. 2020), and diffusers' UNet2DModel of it; the weight of guidance in LCM
        cos_sin   0      ADM, Stable Diffusion, DiT
        cos_sin   1      diffusers' DiT
        sin_cos   0      positions

    Args:
        x: numbers of any shape.
        width: of the result, even: [...] to [..., width].
        order: which half comes first.
        shift: 1 makes the lowest frequency 1/period itself, 0 stops one step above it.
        period: 2π less than the longest wave's length.

    Returns:
        float32, or float64 if x is that.

    Raises:
        ValueError: if `width` is odd or leaves no frequencies.

    >>> sinusoid(torch.tensor([0.0, 1.0]), 4)
    tensor([[0.0000, 0.0000, 1.0000, 1.0000],
            [0.8415, 0.0100, 0.5403, 0.9999]])
    """
    half = width // 2
    if width % 2 or half <= shift:
        raise ValueError(f"a width of {width} has no room for sines and cosines (shift {shift}): take an even, larger one")
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    # In the order of operations of everyone else: at a time of 1000 the last bits of a frequency are seen.
    frequencies = torch.exp(-math.log(period) * torch.arange(half, dtype=dtype, device=x.device) / (half - shift))
    angles = x.to(dtype).unsqueeze(-1) * frequencies
    parts = (angles.sin(), angles.cos())
    return torch.cat(parts if order == "sin_cos" else parts[::-1], dim=-1)


class Sinusoid(nn.Module):
    """`sinusoid` of times [n] as a layer: [n, width]."""

    def __init__(self, width: int, *, order: Order, shift: float) -> None:
        super().__init__()
        self.width, self.order, self.shift = width, order, shift

    def forward(self, time: Tensor) -> Tensor:
        """[n] to [n, width]."""
        return sinusoid(time, self.width, order=self.order, shift=self.shift)


class Fourier(nn.Module):
    """Sines and cosines of 2π f x with f drawn from N(0, bandwidth²) once and for all (Tancik et al. 2020, arXiv:2006.10739).

    EDM (Karras et al. 2022) takes "cos_sin", bandwidth 16 and x = ¼ log σ; score_sde takes "sin_cos", 16 and x = log σ.

    >>> Fourier(6, order="cos_sin", bandwidth=16.0)(torch.zeros(2)).shape
    torch.Size([2, 6])
    """

    frequencies: Tensor

    def __init__(self, width: int, *, order: Order, bandwidth: float) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"a width of {width} cannot be half sines, half cosines: take an even one")
        self.order = order
        self.register_buffer("frequencies", torch.randn(width // 2) * bandwidth)

    def forward(self, x: Tensor) -> Tensor:
        """[n] to [n, width], in the precision of the frequencies."""
        angles = x.to(self.frequencies.dtype).unsqueeze(-1) * self.frequencies * (2 * math.pi)
        parts = (angles.sin(), angles.cos())
        return torch.cat(parts if self.order == "sin_cos" else parts[::-1], dim=-1)


class TimeEmbedding(nn.Module):
    """Linear, SiLU, linear: from features of a time to the vector that all blocks are told; [n, w] to [n, width].

    >>> TimeEmbedding(8, 32)(torch.zeros(2, 8)).shape
    torch.Size([2, 32])
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.first, self.second = Linear(features, width), Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[n, features] to [n, width], in the precision of the weights."""
        return self.second(nn.functional.silu(self.first(x.to(self.first.weight.dtype))))
