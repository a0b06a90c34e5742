"""The Triton kernels beside plain PyTorch, on the processor. Run as a program, in Triton's interpreter:

TRITON_INTERPRET=1 python triton_checks.py
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from tectum.contrastive import denominators, triton_softmax
from tectum.contrastive.denominators import Denominator
from tectum.contrastive.loss import info_nce
from tectum.contrastive.targets import Dense, Ids, Targets

LEAST = torch.finfo(torch.float64).min


def check_tiles() -> None:
    """Shapes that fill, underfill and overfill a program's piece; ignored pairs; a row and a column of nothing else."""
    for r, c in ((1, 1), (3, 65), (64, 64), (130, 7), (70, 129)):
        logits = 200 * torch.randn(r, c, generator=torch.Generator().manual_seed(r), dtype=torch.float64)
        logits[torch.rand(r, c) < 0.2] = LEAST
        logits[r // 2], logits[:, c // 2] = LEAST, LEAST
        rows, columns = Denominator(r, 1, logits), Denominator(c, 0, logits)
        for direction, (top, total) in zip((rows, columns), triton_softmax.sums(logits), strict=True):
            direction.add(slice(None), logits, None)
            torch.testing.assert_close(top, direction.top, rtol=0, atol=0)
            torch.testing.assert_close(total, direction.total)
            direction.weigh(torch.linspace(0, 1, len(top), dtype=torch.float64))
        expected = rows.gradient(slice(None), logits, None) + columns.gradient(slice(None), logits, None)
        found = triton_softmax.shares(logits, rows.top, rows.factor, columns.top, columns.factor)
        torch.testing.assert_close(found, expected)


def loss_and_gradients(given: list[Tensor], targets: Targets | None, tile: int) -> list[Tensor]:
    output = info_nce(*given, targets=targets, tile=tile)
    return [output.loss.detach(), output.accuracy, *torch.autograd.grad(output.loss, given)]


def check_loss(dtype: torch.dtype, tolerance: float) -> None:
    """The whole of it, over several tiles, with and without targets."""
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(90, 7, dtype=dtype), dim=-1).requires_grad_() for _ in "ab")
    given = [a, b, torch.tensor(100.0, dtype=dtype, requires_grad=True)]
    ids = torch.arange(90) // 2
    targets = Targets(positives=Ids(ids, ids), ignored=Dense(torch.rand(90, 90) < 0.2), smoothing=0.1)
    plain = denominators.kernels
    for wanted in (None, targets):
        expected = loss_and_gradients(given, wanted, 40)
        denominators.kernels = lambda logits: triton_softmax
        found = loss_and_gradients(given, wanted, 40)
        denominators.kernels = plain
        for value, truth in zip(found, expected, strict=True):
            assert (value - truth).norm() <= tolerance * truth.norm()


if __name__ == "__main__":
    check_tiles()
    check_loss(torch.float64, 1e-10)
    check_loss(torch.float32, 1e-5)
