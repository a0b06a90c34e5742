"""What networks over grids share: sound [n, c, s], pictures [n, c, h, w], video [n, c, t, h, w]."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.errors import ConfigError
from tectum.nn.norm import GroupNorm

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
CONVOLUTIONS: dict[int, type[Convolution]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def convolution(dims: int, channels_in: int, channels: int, kernel: int = 3) -> Convolution:
    """A convolution that keeps the sizes of the grid.

    >>> convolution(3, 4, 8)(torch.zeros(2, 4, 5, 6, 7)).shape
    torch.Size([2, 8, 5, 6, 7])
    """
    return CONVOLUTIONS[dims](channels_in, channels, kernel, padding=kernel // 2)


def channels_last(x: Tensor) -> Tensor:
    """The same grid with the channels of a place side by side in memory: attention then needs no copy, nor does a convolution."""
    return x.contiguous(memory_format=_LAST.get(x.ndim, torch.contiguous_format))


def weights_last(module: nn.Module) -> None:
    """Lays the module's kernels out like its grids, now and after every `load_state_dict`; else each call would do it anew."""

    def lay_out(*_: object) -> None:
        for parameter in module.parameters():
            parameter.data = channels_last(parameter.data)

    lay_out()
    module.register_load_state_dict_post_hook(lay_out)


def tokens(x: Tensor) -> Tensor:
    """[n, c, …] to [n, places, c]: no copy where the channels are last."""
    return x.movedim(1, -1).flatten(1, -2)


def untokens(y: Tensor, sizes: Sequence[int]) -> Tensor:
    """The inverse of `tokens`: [n, places, c] to [n, c, *sizes], channels last.

    >>> x = torch.randn(2, 3, 4, 5)
    >>> torch.equal(untokens(tokens(x), (4, 5)), x)
    True
    """
    return y.unflatten(1, tuple(sizes)).movedim(-1, 1)


def fold(x: Tensor, side: int) -> Tensor:
    """Cubes of `side` places become channels of one: [n, c, …] to [n, c · sideᵈ, … / side]. In two dimensions, pixel unshuffling
    (Shi et al. 2016, arXiv:1609.05158).

    >>> fold(torch.arange(8.0).reshape(1, 1, 2, 4), 2)[0, :, 0, 1]
    tensor([2., 3., 6., 7.])
    """
    if side == 1:
        return x
    dims = x.ndim - 2
    for axis in range(2, 2 + 2 * dims, 2):
        x = x.unflatten(axis, (-1, side))
    return x.permute(0, 1, *range(3, 2 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2)).flatten(1, 1 + dims)


def unfold(y: Tensor, side: int) -> Tensor:
    """The inverse of `fold`: [n, c · sideᵈ, …] to [n, c, … · side].

    >>> x = torch.randn(2, 3, 4, 6, 8)
    >>> torch.equal(unfold(fold(x, 2), 2), x)
    True
    """
    if side == 1:
        return y
    dims, sizes = y.ndim - 2, y.shape[2:]
    y = y.unflatten(1, (-1, *[side] * dims))
    order = (axis for at in range(dims) for axis in (2 + dims + at, 2 + at))
    return y.permute(0, 1, *order).reshape(*y.shape[:2], *(side * size for size in sizes))


def check_grid(x: Tensor, dims: int, channels: int, multiple: int = 1) -> None:
    """Refuses what is no batch of grids.

    Raises:
        ValueError: if x is not [n, channels, …] with `dims` sizes that `multiple` divides.
    """
    if x.ndim != dims + 2 or x.shape[1] != channels:
        axes = ", ".join(("s", "h, w", "t, h, w")[dims - 1 : dims])
        raise ValueError(f"this network takes grids [n, {channels}, {axes}], not {list(x.shape)}")
    if any(size % multiple for size in x.shape[2:]):
        sizes = " × ".join(map(str, x.shape[2:]))
        raise ValueError(f"this network takes grids whose sizes {multiple} divides, not {sizes}: pad or crop them")


def check_sizes(dims: int, groups: int, widths: Sequence[int]) -> None:
    """Refuses a network that cannot be built.

    Raises:
        ConfigError: if there are no grids of so many dimensions, or `groups` do not divide a width.
    """
    if dims not in CONVOLUTIONS:
        raise ConfigError(f"a grid has 1, 2 or 3 dimensions, not {dims}")
    if not widths:
        raise ConfigError("the network has no levels: give at least one")
    for width in widths:
        if width < 1 or groups < 1 or width % groups:
            raise ConfigError(f"{groups} groups do not divide a width of {width}: take groups that divide all of {list(widths)}")


class NormSiLU(GroupNorm):
    """Group norm (Wu & He 2018, arXiv:1803.08494), then SiLU; [n, c, …] to [n, c, …]."""

    def forward(self, x: Tensor) -> Tensor:
        """The SiLU is made in place where no gradient is wanted."""
        y = super().forward(x)
        return F.silu(y, inplace=not y.requires_grad)


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with zeros in it: a fresh residual branch that ends in it is silent (Goyal et al. 2017, arXiv:1706.02677)."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
