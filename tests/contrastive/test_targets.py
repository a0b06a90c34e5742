"""Every kind of target, beside a dense loss written row by row from the definitions and differentiated by autograd."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tectum.contrastive.loss import LossOutput, info_nce, sigmoid_loss
from tectum.contrastive.targets import Dense, Ids, Targets

SIDES = (1, 3, 7, 100, None)


@dataclass(frozen=True)
class Kind:
    """Targets, and the same as plain matrices [n, m]."""

    targets: Targets
    positive: Tensor
    ignored: Tensor
    confidence: Tensor

    def kept(self) -> Tensor:
        return ~self.ignored | (self.positive > 0)


def softmax_by_row(logits: Tensor, positive: Tensor, kept: Tensor, confidence: Tensor, smoothing: float, beta: float) -> Tensor:
    total, trusts = logits.new_zeros(()), logits.new_zeros(())
    for row, weight, keep, belief in zip(logits, positive, kept, confidence, strict=True):
        believed = weight * belief
        if believed.sum() <= 0:
            continue
        negatives = row[keep & (weight <= 0)]
        far = (len(negatives) * torch.softmax(beta * negatives, 0) * negatives.exp()).sum()
        log_probability = row - (row[weight > 0].exp().sum() + far).log()
        target = (1 - smoothing) * believed / believed.sum() + smoothing * keep.to(row) / keep.sum()
        trust = believed.sum() / weight.sum()
        total, trusts = total - trust * (target * log_probability)[keep].sum(), trusts + trust
    return total / trusts


def dense_info_nce(a: Tensor, b: Tensor, scale: Tensor, kind: Kind) -> Tensor:
    logits, targets = scale * a @ b.T, kind.targets
    pairs = (logits, kind.positive, kind.kept(), kind.confidence)
    rows, columns = (softmax_by_row(*way, targets.smoothing, targets.hardness) for way in (pairs, [matrix.T for matrix in pairs]))
    return (rows + columns) / 2


def dense_sigmoid(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, kind: Kind) -> Tensor:
    logits, smoothing = scale * a @ b.T + bias, kind.targets.smoothing
    target = (1 - smoothing) * kind.positive + smoothing / 2
    belief = torch.where(kind.positive > 0, kind.confidence, 1.0)
    terms = belief * target * F.logsigmoid(logits) + (1 - target) * F.logsigmoid(-logits)
    return -terms[kind.kept()].sum() / len(a)


def draw(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)


def kind_of(
    n: int,
    m: int,
    *,
    positives: str,
    ignored: str = "",
    confidence: str = "",
    smoothing: float = 0.0,
    beta: float = 0.0,
    seed: int = 0,
) -> Kind:
    """Targets of the named parts. Row 1 has no target (unless they are the diagonal), and ignored matrices hold all of it."""
    rand, ids = draw(seed), (torch.arange(n) % 3, torch.arange(m) % 4)
    ids[0][1] = 9
    soft = torch.where(rand(n, m) < 0.5, 0, rand(n, m))
    soft[0, 0], soft[1] = 0.7, 0
    given, positive = {
        "matched": (Targets().positives, torch.eye(n, m).double()),
        "ids": (Ids(*ids), (ids[0][:, None] == ids[1]).double()),
        "soft": (Dense(soft), soft),
    }[positives]
    gone = rand(n, m) < 0.4
    gone[1] = True
    others = (ids[0] + 1, ids[1])  # what is near in some other sense
    left_out, gone = {
        "": (None, torch.zeros(n, m, dtype=torch.bool)),
        "dense": (Dense(gone), gone),
        "ids": (Ids(*others), others[0][:, None] == others[1]),
    }[ignored]
    belief = {"": None, "rows": rand(n), "pairs": rand(n, m)}[confidence]
    if belief is not None:
        belief[2] = 0
    matrix = torch.ones(n, m).double() if belief is None else belief.view(n, -1).expand(n, m)
    targets = Targets(positives=given, ignored=left_out, confidence=belief, smoothing=smoothing, hardness=beta)
    return Kind(targets, positive, gone, matrix)


KINDS = {
    "matched": {"positives": "matched"},
    "ids": {"positives": "ids"},
    "soft": {"positives": "soft"},
    "ignored": {"positives": "ids", "ignored": "dense"},
    "ignored by ids": {"positives": "matched", "ignored": "ids"},
    "confidence of rows": {"positives": "ids", "confidence": "rows"},
    "confidence of pairs": {"positives": "soft", "confidence": "pairs"},
    "smoothing": {"positives": "ids", "ignored": "dense", "smoothing": 0.2},
    "hard": {"positives": "ids", "ignored": "dense", "beta": 0.7},
    "all": {"positives": "soft", "ignored": "dense", "confidence": "pairs", "smoothing": 0.1, "beta": 0.3},
}


def inputs(n: int, m: int, d: int, seed: int = 5) -> list[Tensor]:
    """a, b, scale, bias, with gradients."""
    rand = draw(seed)
    a, b = F.normalize(rand(n, d) - 0.5, dim=-1), F.normalize(rand(m, d) - 0.5, dim=-1)
    return [x.clone().requires_grad_() for x in (a, b, torch.tensor(6.0).double(), torch.tensor(-2.0).double())]


def streamed(loss: str, given: list[Tensor], targets: Targets, side: int | None) -> LossOutput:
    if loss == "softmax":
        return info_nce(*given[:3], targets=targets, tile=side)
    return sigmoid_loss(*given, targets=targets, tile=side)


def check(loss: str, kind: Kind, given: list[Tensor], side: int | None) -> None:
    given = given[:3] if loss == "softmax" else given
    value = streamed(loss, given, kind.targets, side).loss
    expected = (dense_info_nce if loss == "softmax" else dense_sigmoid)(*given, kind)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    gradients, truth = (torch.autograd.grad(x, given) for x in (value, expected))
    torch.testing.assert_close(gradients, truth, rtol=1e-9, atol=1e-11)


def fits(loss: str, kind: str) -> bool:
    """Hard negatives belong to a softmax."""
    return loss == "softmax" or "beta" not in KINDS[kind]


EACH = [(loss, kind) for loss in ("softmax", "sigmoid") for kind in KINDS if fits(loss, kind)]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("loss", "kind"), EACH)
def test_a_stream_of_tiles_equals_the_dense_loss(loss: str, kind: str, side: int | None) -> None:
    n, m = (8, 8) if KINDS[kind]["positives"] == "matched" else (9, 6)
    check(loss, kind_of(n, m, **KINDS[kind]), inputs(n, m, 5), side)


@pytest.mark.parametrize(("loss", "kind"), EACH)
def test_gradients_are_those_of_finite_differences(loss: str, kind: str) -> None:
    n, m = (4, 4) if KINDS[kind]["positives"] == "matched" else (4, 5)
    given = inputs(n, m, 3)[: 3 if loss == "softmax" else 4]
    targets = kind_of(n, m, **KINDS[kind]).targets
    assert torch.autograd.gradcheck(lambda *xs: streamed(loss, list(xs), targets, 3).loss, given)


@settings(max_examples=60)
@given(
    loss=st.sampled_from(["softmax", "sigmoid"]),
    n=st.integers(3, 9),
    m=st.integers(1, 9),
    d=st.integers(1, 7),
    side=st.integers(1, 10),
    positives=st.sampled_from(["ids", "soft"]),
    ignored=st.sampled_from(["", "dense", "ids"]),
    confidence=st.sampled_from(["", "rows", "pairs"]),
    smoothing=st.sampled_from([0.0, 0.3, 1.0]),
    beta=st.sampled_from([0.0, 0.5, 2.0]),
    seed=st.integers(0, 99),
)
def test_any_mixture_equals_the_dense_loss(
    loss: str,
    n: int,
    m: int,
    d: int,
    side: int,
    positives: str,
    ignored: str,
    confidence: str,
    smoothing: float,
    beta: float,
    seed: int,
) -> None:
    beta = beta if loss == "softmax" else 0.0
    parts = {"positives": positives, "ignored": ignored, "confidence": confidence, "smoothing": smoothing, "beta": beta}
    check(loss, kind_of(n, m, seed=seed, **parts), inputs(n, m, d, seed), side)
