"""The Swin Transformer: attention within windows that are shifted in every other block (Liu et al. 2021, arXiv:2103.14030)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tectum.nn.activation import Activation
from tectum.nn.linear import Linear
from tectum.nn.transformer import Block


class Swin(nn.Module):
    """Stages of window blocks over a square grid; between two of them each 2 × 2 tokens become one of twice the width.

    A grid of [n, side, side, w] becomes [n, side/2^(k-1), side/2^(k-1), w·2^(k-1)] after k stages and a last layer norm.

    Args:
        side: rows and columns of the grid.
        width: size of its tokens.
        depths: blocks of each stage.
        heads: heads of each stage.
        window: rows and columns of a window.
        mlp_ratio: units of the MLPs over the width.
        activation: of the MLPs.
        eps: of the blocks' norms.

    Raises:
        ValueError: if the windows do not tile the grid of every stage.

    >>> Swin(8, 6, (1, 2), (1, 2), window=4, mlp_ratio=2.0, activation="gelu")(torch.zeros(3, 8, 8, 6)).shape
    torch.Size([3, 4, 4, 12])
    """

    def __init__(
        self,
        side: int,
        width: int,
        depths: Sequence[int],
        heads: Sequence[int],
        *,
        window: int,
        mlp_ratio: float,
        activation: Activation,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.stages, self.merges = nn.ModuleList(), nn.ModuleList()
        for i, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            if i:
                self.merges.append(PatchMerging(width))
                side, width = side // 2 if side % 2 == 0 else 0, 2 * width
            if side < window or side % window:
                raise ValueError(f"windows of {window} do not tile the grid of stage {i + 1}")
            # Where one window is the whole grid there is nothing to shift.
            shift = window // 2 if side > window else 0
            hidden = int(width * mlp_ratio)
            blocks = (
                WindowBlock(
                    width, count, window=window, shift=shift if j % 2 else 0, hidden=hidden, activation=activation, eps=eps
                )
                for j in range(depth)
            )
            self.stages.append(nn.Sequential(*blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """[n, side, side, w] to [n, side', side', w']."""
        for stage, merge in zip(self.stages, [*self.merges, nn.Identity()], strict=True):
            x = merge(stage(x))
        return self.norm(x)


class WindowBlock(nn.Module):
    """A Transformer block within each window of a grid, the logits biased by how far two tokens lie apart.

    With a shift the grid is first rolled up and left by so much; tokens that the rolling brought together do not see each other.

    >>> WindowBlock(8, 2, window=2, shift=1, hidden=16, activation="gelu")(torch.zeros(3, 4, 6, 8)).shape
    torch.Size([3, 4, 6, 8])
    """

    def __init__(
        self, width: int, heads: int, *, window: int, shift: int, hidden: int, activation: Activation, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.block = Block(width, heads, hidden=hidden, activation=activation, eps=eps)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))

    def forward(self, x: Tensor) -> Tensor:
        """[n, rows, columns, w] to the same; windows tile the grid."""
        n, rows, columns, _ = x.shape
        bias = self.bias[relative_places(self.window, x.device)].permute(2, 0, 1).unsqueeze(0)
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
            bias = (bias + self._walls(rows, columns, x)).repeat(n, 1, 1, 1)
        x = _joined(self.block(_windows(x, self.window), bias=bias), self.window, rows, columns)
        return x.roll((self.shift, self.shift), (1, 2)) if self.shift else x

    def _walls(self, rows: int, columns: int, x: Tensor) -> Tensor:
        """[windows, 1, s, s]: -∞ between tokens of a window that were not neighbours before the rolling."""

        def part(size: int) -> Tensor:
            place = torch.arange(size, device=x.device)
            return (place >= size - self.window).long() + (place >= size - self.shift).long()

        parts = 3 * part(rows)[:, None] + part(columns)
        parts = _windows(parts[None, :, :, None], self.window)
        apart = parts != parts.transpose(1, 2)
        return torch.zeros(apart.shape, dtype=x.dtype, device=x.device).masked_fill(apart, -math.inf).unsqueeze(1)


class PatchMerging(nn.Module):
    """Each 2 × 2 tokens, one after another by columns, normed and mapped: [n, r, c, w] to [n, r/2, c/2, 2w]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Rows and columns are even."""
        x = torch.cat([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], dim=-1)
        return self.reduction(self.norm(x))


def relative_places(window: int, device: torch.device | None = None) -> Tensor:
    """Where in a table of (2·window - 1)² rows the bias of two tokens of a window stands, [window², window²].

    >>> relative_places(2)[0].tolist()  # the first token and itself, its right, lower and diagonal neighbour
    [4, 3, 1, 0]
    """
    step = torch.arange(window, device=device)
    apart = step[:, None] - step + window - 1
    places = apart[:, None, :, None] * (2 * window - 1) + apart[None, :, None, :]
    return places.reshape(window**2, window**2)


def _windows(x: Tensor, window: int) -> Tensor:
    """[n, rows, columns, w] to [n · windows, window², w]."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window)).transpose(2, 3)
    return x.reshape(-1, window**2, x.shape[-1])


def _joined(x: Tensor, window: int, rows: int, columns: int) -> Tensor:
    """The inverse of `_windows`."""
    x = x.reshape(-1, rows // window, columns // window, window, window, x.shape[-1])
    return x.transpose(2, 3).reshape(-1, rows, columns, x.shape[-1])
