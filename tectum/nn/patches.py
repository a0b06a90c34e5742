"""From grids (pictures, spectrograms) to tokens, with positions that fit any grid size."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PatchEmbedding(nn.Module):
    """Cut a grid into patches and map each linearly: pictures as in ViT (arXiv:2010.11929), spectrograms as in AST (2104.01778).

    [n, c, height, width] to [n, w, height // p, width // q]; rows and columns that fill no whole patch are dropped, so a
    spectrogram of any length will do.

    >>> PatchEmbedding(1, 32, (16, 16))(torch.zeros(2, 1, 80, 100)).shape
    torch.Size([2, 32, 5, 6])
    """

    def __init__(self, channels: int, width: int, patch: tuple[int, int], *, bias: bool = True) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, patch, patch, bias=bias)

    def forward(self, grid: Tensor) -> Tensor:
        """[n, c, height, width] to [n, w, rows, columns]."""
        return self.projection(grid)


def sincos_positions(rows: int, columns: int, width: int, *, device: torch.device | None = None) -> Tensor:
    """Fixed two-dimensional sine-cosine positions [rows · columns, width] (MAE, arXiv:2111.06377; MoCo v3).

    The first half of the channels encodes the row, the second the column, each as sines then cosines at frequencies
    10000^(-4k/width). Defined for every grid, so nothing is interpolated when the size changes.

    Raises:
        ValueError: if 4 does not divide `width`.

    >>> sincos_positions(2, 3, 8).shape
    torch.Size([6, 8])
    """
    if width % 4:
        raise ValueError(f"two-dimensional positions need a width that 4 divides, not {width}")
    frequencies = 10000.0 ** (-torch.arange(width // 4, device=device) / (width // 4))

    def axis(count: int) -> Tensor:
        angles = torch.arange(count, device=device)[:, None] * frequencies
        return torch.cat((angles.sin(), angles.cos()), dim=1)

    row = axis(rows)[:, None, :].expand(rows, columns, -1)
    column = axis(columns)[None, :, :].expand(rows, columns, -1)
    return torch.cat((row, column), dim=-1).flatten(0, 1)


def resize_positions(positions: Tensor, rows: int, columns: int, *, antialias: bool = False) -> Tensor:
    """Learned positions [side², w] of a square grid, interpolated bicubically to [rows · columns, w].

    Transformers interpolates without antialiasing (a kernel with a = -3/4), open_clip with it (a = -1/2): another result
    already when the grid grows.

    Raises:
        ValueError: if the positions belong to no square grid.

    >>> resize_positions(torch.zeros(9, 8), 4, 5).shape
    torch.Size([20, 8])
    """
    side = round(len(positions) ** 0.5)
    if side * side != len(positions):
        raise ValueError(f"{len(positions)} positions are no square grid")
    if (rows, columns) == (side, side):
        return positions
    grid = positions.unflatten(0, (side, side)).movedim(-1, 0).unsqueeze(0)
    grid = F.interpolate(grid, (rows, columns), mode="bicubic", align_corners=False, antialias=antialias)
    return grid[0].flatten(1).T
