"""Layers that keep magnitudes (Karras et al. 2024, arXiv:2312.02696): white noise of variance 1 in, variance 1 out.

No biases, no norms that mix the places of a grid, no weights that grow in training. Equation numbers are the paper's.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.nn.grid import CONVOLUTIONS

EPS = 1e-4
SILU_RMS = 0.596  # of SiLU(x) for x ~ N(0, 1)


def unit(x: Tensor, dims: tuple[int, ...] | int) -> Tensor:
    """x with a root mean square of 1 over `dims`; computed in float32 at least.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 2.0]]), 1).square().mean(1)
    tensor([0.9999, 0.9999])
    """
    y = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    norm = torch.linalg.vector_norm(y, dim=dims, keepdim=True)
    return (y / (EPS + norm * math.sqrt(norm.numel() / y.numel()))).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """SiLU over the root mean square that it gives unit normal numbers (eq. 81)."""
    return F.silu(x) / SILU_RMS


def mp_sum(a: Tensor, b: Tensor, share: float) -> Tensor:
    """(1 - t) a + t b, of variance 1 where a and b are, and independent (eq. 88); t is `share`.

    >>> mp_sum(torch.tensor([5.0]), torch.tensor([5.0]), 0.5)
    tensor([7.0711])
    """
    return a.lerp(b, share) / math.hypot(1 - share, share)


def mp_cat(a: Tensor, b: Tensor, share: float = 0.5) -> Tensor:
    """a and b side by side in the channels, weighted so that b contributes a `share` whatever their widths (eq. 103)."""
    widths = a.shape[1], b.shape[1]
    total = math.sqrt(sum(widths)) / math.hypot(1 - share, share)
    return torch.cat((a * ((1 - share) * total / math.sqrt(widths[0])), b * (share * total / math.sqrt(widths[1]))), dim=1)


class MPFourier(nn.Module):
    """√2 cos(2π (f x + φ)) with f ~ N(0, bandwidth²), φ ~ U(0, 1) drawn once: numbers [n] to [n, width] of variance 1 (eq. 75).

    >>> MPFourier(8)(torch.zeros(3)).shape
    torch.Size([3, 8])
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, width: int, bandwidth: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(width) * bandwidth)
        self.register_buffer("phases", torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        """[n] to [n, width]."""
        angles = x.to(self.frequencies.dtype).unsqueeze(1) * self.frequencies + self.phases
        return torch.cos(2 * math.pi * angles) * math.sqrt(2)


class MPConv(nn.Module):
    """A convolution, or a linear map where `kernel` is 0, whose weight vectors all have length 1 (eq. 47 and 66, algorithm 1).

    In training the stored weights are also brought back to a root mean square of 1 before each use: else they would grow, and so
    the learning rate fall, in an uncontrolled manner. The gradient is orthogonal to them.

    >>> MPConv(2, 8, 16)(torch.zeros(3, 8, 5, 5)).shape
    torch.Size([3, 16, 5, 5])
    """

    def __init__(self, dims: int, channels_in: int, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.padding = kernel // 2
        self.weight = nn.Parameter(torch.randn(channels, channels_in, *[kernel] * dims if kernel else ()))
        self.convolve = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}[CONVOLUTIONS[dims]]

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """[n, c, …] to [n, channels, …], times a gain that is best applied to the weights."""
        others = tuple(range(1, self.weight.ndim))
        if self.training:
            with torch.no_grad():
                self.weight.copy_(unit(self.weight, others))
        weight = (unit(self.weight, others) * (gain / math.sqrt(self.weight[0].numel()))).to(x.dtype)
        return F.linear(x, weight) if weight.ndim == 2 else self.convolve(x, weight, padding=self.padding)
