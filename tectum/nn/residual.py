"""The residual block of diffusion's convolutional networks, and what halves and doubles their grids."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from tectum.nn.grid import CONVOLUTIONS, NormSiLU, convolution, zeroed
from tectum.nn.linear import Linear
from tectum.nn.norm import GroupNorm

Modulation = Literal["shift", "scale_shift"]
Padding = Literal["both", "end"]


class TimedBlock(nn.Module):
    """Norm, SiLU, convolution, twice, around a shortcut (Ho et al. 2020, arXiv:2006.11239, appendix B).

    In between the block may be told the time, as a vector that it maps linearly to numbers for each channel: "shift" adds them
    before the second norm, "scale_shift" has y · (1 + scale) + shift after it (Dhariwal & Nichol 2021, arXiv:2105.05233, §3.1).
    A fresh block is its shortcut.

    Args:
        dims: dimensions of the grid.
        channels_in: channels of the grid.
        channels: channels of the result; the shortcut is a 1×1 convolution where they differ.
        groups: of the norms.
        eps: of the norms.
        told: width of the vector that it is told; None for a block that is told nothing.
        modulation: how it is told.
        dropout: before the second convolution.

    >>> import torch
    >>> block = TimedBlock(2, 8, 16, groups=4, eps=1e-5, told=32)
    >>> block(torch.zeros(3, 8, 5, 6), torch.zeros(3, 32)).shape
    torch.Size([3, 16, 5, 6])
    """

    def __init__(
        self,
        dims: int,
        channels_in: int,
        channels: int,
        *,
        groups: int,
        eps: float,
        told: int | None = None,
        modulation: Modulation = "shift",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.scales = told is not None and modulation == "scale_shift"
        self.norm_first = NormSiLU(groups, channels_in, eps)
        self.conv_first = convolution(dims, channels_in, channels)
        self.told = None if told is None else Linear(told, channels * (2 if self.scales else 1))
        self.norm_second = GroupNorm(groups, channels, eps) if self.scales else NormSiLU(groups, channels, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv_second = zeroed(convolution(dims, channels, channels))
        self.shortcut = nn.Identity() if channels_in == channels else convolution(dims, channels_in, channels, kernel=1)

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """[n, c, …] and what is told [n, w], after its SiLU, to [n, channels, …]."""
        y = self.conv_first(self.norm_first(x))
        if self.told is None:
            y = self.norm_second(y)
        else:
            told = self.told(told)
            told = told.reshape(*told.shape, *[1] * (x.ndim - 2))
            if self.scales:
                scale, shift = told.chunk(2, dim=1)
                y = F.silu(self.norm_second(y) * (1 + scale) + shift)
            else:
                y = self.norm_second(y + told)
        return self.shortcut(x) + self.conv_second(self.dropout(y))


class Downsample(nn.Module):
    """A convolution of stride 2: [n, c, …] to [n, c, …/2].

    Args:
        dims: dimensions of the grid.
        channels: of it, kept.
        padding: "both" pads each side by one and takes any size to its half, rounded up; "end" pads the far side alone, as the
            first DDPM code did (TensorFlow's "same") and Stable Diffusion's autoencoder does, and takes even sizes only.

    >>> import torch
    >>> Downsample(2, 3, "both")(torch.zeros(1, 3, 7, 8)).shape
    torch.Size([1, 3, 4, 4])
    """

    def __init__(self, dims: int, channels: int, padding: Padding) -> None:
        super().__init__()
        self.pads_end = (0, 1) * dims if padding == "end" else None
        self.conv = CONVOLUTIONS[dims](channels, channels, 3, stride=2, padding=0 if self.pads_end else 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, …] to [n, c, …/2].

        Raises:
            ValueError: if a size is odd where "end" pads: the last place would be lost.
        """
        if self.pads_end:
            if any(size % 2 for size in x.shape[2:]):
                raise ValueError(f"a grid of {' × '.join(map(str, x.shape[2:]))} cannot be halved: give sizes that are even here")
            x = F.pad(x, self.pads_end)
        return self.conv(x)


class Upsample(nn.Module):
    """Every value twice along each axis, then a convolution: [n, c, …] to [n, c, *sizes].

    Where a size is odd the doubled grid loses its last place, before the convolution.

    >>> import torch
    >>> Upsample(2, 3)(torch.zeros(1, 3, 4, 4), (7, 8)).shape
    torch.Size([1, 3, 7, 8])
    """

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.conv = convolution(dims, channels, channels)

    def forward(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """`sizes` are twice those of x, or one less."""
        return self.conv(F.interpolate(x, tuple(sizes), mode="nearest"))
