"""Residual convolutions over grids (He et al. 2016, arXiv:1512.03385)."""

from collections.abc import Sequence

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch norm around a shortcut; halves the grid when `stride` is 2.

    The last norm starts at zero, so a fresh block is its shortcut (Goyal et al. 2017, arXiv:1706.02677).
    """

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            # Average first, then 1×1: no position is thrown away (ResNet-D, arXiv:1812.01187).
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True) if stride != 1 else nn.Identity(),
                nn.Conv2d(channels_in, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
            )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to [n, c', ⌈h/stride⌉, ⌈w/stride⌉]."""
        return self.activation(self.shortcut(x) + self.body(x))


class ConvStages(nn.Module):
    """A stride-2 stem and stages of residual blocks; every stage after the first halves the grid.

    [n, c, h, w] to [n, widths[-1], ⌈h/2^k⌉, ⌈w/2^k⌉] with k = number of stages.

    >>> import torch
    >>> ConvStages(3, (8, 16), (1, 2))(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 16, 16, 16])
    """

    def __init__(self, channels: int, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)
        )
        blocks: list[nn.Module] = []
        before = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for block in range(depth):
                blocks.append(ResidualBlock(before, width, 2 if stage and not block else 1))
                before = width
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to [n, widths[-1], h', w']."""
        return self.blocks(self.stem(x))
