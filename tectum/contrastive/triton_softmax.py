"""What a tile of logits needs beside its matrix products, in one reading of it: kernels for graphics cards, where memory is slow.

PyTorch's operations read or write a tile a dozen times forward and as often backward; here it is read once forward, and once read
and once written backward. The formulas are those of `tectum.contrastive.denominators`. Triton comes with PyTorch's CUDA builds.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

SIDE = 64
"""Of the square piece of a tile that one program works on."""

if find_spec("triton"):
    triton, tl = import_module("triton"), import_module("triton.language")

    @triton.jit
    def _sums(logits, row_tops, row_totals, column_tops, column_totals, r, c, SIDE: tl.constexpr):  # type: ignore
        i = tl.program_id(0) * SIDE + tl.arange(0, SIDE)
        j = tl.program_id(1) * SIDE + tl.arange(0, SIDE)
        x = tl.load(
            logits + i.to(tl.int64)[:, None] * c + j[None, :], mask=(i < r)[:, None] & (j < c)[None, :], other=-float("inf")
        )
        # Rows and columns outside have no finite logit: they are not stored, and 0 keeps -∞ - -∞ away.
        by_row = tl.where(i < r, tl.max(x, 1), 0.0)
        by_column = tl.where(j < c, tl.max(x, 0), 0.0)
        at_rows, at_columns = tl.program_id(1) * r + i, tl.program_id(0) * c + j
        tl.store(row_tops + at_rows, by_row, mask=i < r)
        tl.store(row_totals + at_rows, tl.sum(tl.exp2(x - by_row[:, None]), 1), mask=i < r)
        tl.store(column_tops + at_columns, by_column, mask=j < c)
        tl.store(column_totals + at_columns, tl.sum(tl.exp2(x - by_column[None, :]), 0), mask=j < c)

    @triton.jit
    def _shares(logits, out, row_top, row_factor, column_top, column_factor, r, c, SIDE: tl.constexpr):  # type: ignore
        i = tl.program_id(0) * SIDE + tl.arange(0, SIDE)
        j = tl.program_id(1) * SIDE + tl.arange(0, SIDE)
        inside, at = (i < r)[:, None] & (j < c)[None, :], i.to(tl.int64)[:, None] * c + j[None, :]
        x = tl.load(logits + at, mask=inside, other=0.0)
        rows = tl.exp2(x - tl.load(row_top + i, mask=i < r, other=0.0)[:, None])
        columns = tl.exp2(x - tl.load(column_top + j, mask=j < c, other=0.0)[None, :])
        rows *= tl.load(row_factor + i, mask=i < r, other=0.0)[:, None]
        columns *= tl.load(column_factor + j, mask=j < c, other=0.0)[None, :]
        tl.store(out + at, rows + columns, mask=inside)


def sums(logits: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Of logits [r, c] in bits, no -∞ among them: (top, total) of the rows [r], and of the columns [c]."""
    (r, c), (high, wide) = logits.shape, _grid(logits)
    rows, columns = logits.new_empty(2, wide, r), logits.new_empty(2, high, c)
    _sums[high, wide](logits, *rows, *columns, r, c, SIDE)
    return _merged(*rows), _merged(*columns)


def shares(logits: Tensor, row_top: Tensor, row_factor: Tensor, column_top: Tensor, column_factor: Tensor) -> Tensor:
    """2^(l_ij - row_top_i) · row_factor_i + 2^(l_ij - column_top_j) · column_factor_j, [r, c]."""
    out = torch.empty_like(logits)
    _shares[_grid(logits)](logits, out, row_top, row_factor, column_top, column_factor, *logits.shape, SIDE)
    return out


def _grid(logits: Tensor) -> tuple[int, int]:
    return -(-logits.shape[0] // SIDE), -(-logits.shape[1] // SIDE)


def _merged(tops: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
    """Of the pieces [k, n]."""
    top = tops.amax(0)
    return top, totals.mul_((tops - top).exp2_()).sum(0)
