"""The streamed losses at the edges: memory, precision, extreme logits, missing gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tectum.contrastive.loss import info_nce, initial_bias, sigmoid_loss
from tectum.contrastive.targets import Dense, Ids, Targets

Loss = Callable[..., Tensor]


def softmax(a: Tensor, b: Tensor, scale: Tensor | float, **how: Any) -> Tensor:
    return info_nce(a, b, scale, **how).loss


def sigmoid(a: Tensor, b: Tensor, scale: Tensor | float, **how: Any) -> Tensor:
    return sigmoid_loss(a, b, scale, -9.0, **how).loss


def dense_softmax(a: Tensor, b: Tensor, scale: Tensor | float) -> Tensor:
    logits, labels = scale * a @ b.T, torch.arange(len(a))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def dense_sigmoid(a: Tensor, b: Tensor, scale: Tensor | float) -> Tensor:
    return -F.logsigmoid((2 * torch.eye(len(a)).to(a) - 1) * (scale * a @ b.T - 9)).sum() / len(a)


BOTH = pytest.mark.parametrize(("loss", "dense"), [(softmax, dense_softmax), (sigmoid, dense_sigmoid)])


def pairs(n: int, d: int, noise: float, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Unit vectors a, b that agree but for noise, and a scale of 100."""
    draw = torch.Generator().manual_seed(0)
    a, apart = (torch.randn(n, d, generator=draw) for _ in range(2))
    values = F.normalize(a, dim=-1), F.normalize(a + noise * apart, dim=-1), torch.tensor(100.0)
    return [value.to(dtype).requires_grad_() for value in values]


def gradients(loss: Loss, given: list[Tensor], **how: Any) -> list[Tensor]:
    """The loss and its gradients."""
    value = loss(*given, **how)
    return [value.detach(), *torch.autograd.grad(value, given)]


class Sizes(TorchDispatchMode):
    """The largest tensor that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.largest = max(self.largest, *(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)), 0)
        return result


@pytest.mark.parametrize("loss", [softmax, sigmoid])
@pytest.mark.parametrize("rich", [False, True])
def test_nothing_is_larger_than_the_embeddings(loss: Loss, rich: bool) -> None:
    """Forward and backward, in either pass, for a matrix that is 64 times as large as they are."""
    n, d, side = 1024, 16, 64
    ids = torch.arange(n) // 2
    targets = Targets(positives=Ids(ids, ids), ignored=Ids(ids + 1, ids), confidence=torch.rand(n), smoothing=0.1)
    with Sizes() as sizes:
        gradients(loss, pairs(n, d, 1.0), tile=side, targets=targets if rich else None)
    assert sizes.largest <= n * d
    with Sizes() as sizes:
        gradients(dense_softmax, pairs(n, d, 1.0))
    assert sizes.largest == n * n  # the measure itself


@pytest.mark.parametrize("loss", [softmax, sigmoid])
def test_what_waits_for_the_backward_pass_is_no_more_than_the_embeddings_again(loss: Loss) -> None:
    a, b, scale = pairs(512, 8, 1.0)
    function: Any = loss(a, b, scale, tile=32).grad_fn
    assert 0 < sum(tile.numel() for tile in function.kept) <= a.numel() + b.numel()
    with torch.no_grad():
        assert loss(a, b, scale).grad_fn is None


@BOTH
@pytest.mark.parametrize("noise", [0.1, 0.7, 2.0, 4.0, 100.0])
@pytest.mark.parametrize("side", [50, None])
def test_single_precision_is_exact_to_one_part_in_100_000_at_scale_100(
    loss: Loss, dense: Loss, noise: float, side: int | None
) -> None:
    """Also where all pairs are found already and the gradient is next to nothing."""
    given = pairs(300, 64, noise)
    truth = gradients(dense, [value.detach().double().requires_grad_() for value in given])
    for value, expected in zip(gradients(loss, given, tile=side), truth, strict=True):
        assert (value - expected).norm() <= 1e-5 * expected.norm() + 1e-9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@BOTH
def test_half_precision_is_computed_in_single_and_given_back_in_half(loss: Loss, dense: Loss, dtype: torch.dtype) -> None:
    given = pairs(40, 16, 0.7, dtype)
    single = [value.detach().float().requires_grad_() for value in given]
    for value, expected, like in zip(gradients(loss, given), gradients(dense, single), [single[0], *given], strict=True):
        assert value.dtype == like.dtype
        torch.testing.assert_close(value, expected.to(value.dtype))


@pytest.mark.parametrize("side", [1, 7, None])
def test_identical_vectors_leave_log_n_and_no_gradient(side: int | None) -> None:
    a = torch.zeros(20, 8)
    a[:, 0] = 1
    loss, at_a, at_b, at_scale = gradients(softmax, [x.clone().requires_grad_() for x in (a, a, torch.tensor(100.0))], tile=side)
    assert loss.item() == pytest.approx(torch.tensor(20.0).log().item(), rel=1e-6)
    assert max(at_a.abs().max(), at_b.abs().max(), at_scale.abs()) < 1e-5


@BOTH
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_logits_of_ten_thousand_neither_overflow_nor_vanish(loss: Loss, dense: Loss, sign: float) -> None:
    """All right and all wrong: every term but the largest underflows in one of the two."""
    a, b, _ = pairs(12, 6, 0.1, torch.float64)
    given = [a, b, torch.tensor(sign * 1e4, dtype=torch.float64, requires_grad=True)]
    for value, expected in zip(gradients(loss, given, tile=5), gradients(dense, given), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("loss", "beta", "smoothing"), [(softmax, 0.0, 0.1), (softmax, 0.5, 0.1), (sigmoid, 0.0, 0.0)])
@pytest.mark.parametrize("side", [1, 2, None])
def test_rows_that_are_ignored_altogether_might_as_well_not_be_there(
    loss: Loss, beta: float, smoothing: float, side: int | None
) -> None:
    """Rows 4 and 5, and columns 5 and 6: for the softmax, whose mean is over rows with a target; a sigmoid's is over all rows."""
    a, b = (x[:count].detach().requires_grad_() for x, count in zip(pairs(7, 5, 1.0, torch.float64), (6, 7), strict=False))
    ids = torch.tensor([0, 1, 1, 2, 90, 91]), torch.tensor([1, 0, 2, 1, 3, 70, 70])
    ignored = torch.zeros(6, 7)
    ignored[4:], ignored[:, 5:] = 1, 1
    kind = {"smoothing": smoothing, "hardness": beta}
    targets = Targets(positives=Ids(*ids), ignored=Dense(ignored), **kind)
    value = loss(a, b, 30.0, targets=targets, tile=side)
    at_a, at_b = torch.autograd.grad(value, (a, b))
    few = loss(a[:4], b[:5], 30.0, targets=Targets(positives=Ids(ids[0][:4], ids[1][:5]), **kind))
    if loss is sigmoid:
        few = few * 4 / 6
    torch.testing.assert_close(value, few)
    torch.testing.assert_close((at_a, at_b), torch.autograd.grad(few, (a, b)))
    assert not at_a[4:].any() and not at_b[5:].any()


@BOTH
def test_each_gradient_alone_is_the_same_and_a_graph_may_be_used_twice(loss: Loss, dense: Loss) -> None:
    given = pairs(30, 6, 0.7, torch.float64)
    value, everything = loss(*given, tile=8), gradients(loss, given, tile=8)[1:]
    for _ in range(2):
        torch.testing.assert_close(torch.autograd.grad(3 * value, given, retain_graph=True), tuple(3 * x for x in everything))
    for i, expected in enumerate(everything):
        lone = [x.detach().requires_grad_(i == j) for j, x in enumerate(given)]
        torch.testing.assert_close(torch.autograd.grad(loss(*lone, tile=8), lone[i])[0], expected)


@pytest.mark.parametrize("loss", [softmax, sigmoid])
def test_a_gradient_of_the_gradient_is_refused(loss: Loss) -> None:
    a, b, scale = pairs(4, 3, 0.7)
    value = loss(a, b, scale) * torch.ones((), requires_grad=True)
    (at_a,) = torch.autograd.grad(value, a, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        at_a.sum().backward()


def test_accuracy_counts_rows_with_a_target() -> None:
    """a_i is nearest to b_i; rows 0 and 1 have their target there, row 2 elsewhere, row 3 nowhere."""
    eye = torch.eye(4)
    positive = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    for output in (
        info_nce(eye, eye, 10.0, targets=positive, tile=3),
        sigmoid_loss(eye, eye, 10.0, -9.0, targets=positive, tile=3),
    ):
        assert output.accuracy.item() == pytest.approx(2 / 3)


def test_the_initial_bias_makes_the_sigmoid_loss_stationary_in_it() -> None:
    """Where all cosines are alike, the mean probability is one positive in n, and the bias has no gradient."""
    n = 16
    a = F.normalize(torch.ones(n, 4, dtype=torch.float64), dim=-1)
    bias = torch.tensor(initial_bias(n), dtype=torch.float64, requires_grad=True)
    sigmoid_loss(a, a, 0.0, bias).loss.backward()
    assert bias.grad is not None and abs(bias.grad.item()) < 1e-12
    with pytest.raises(ValueError, match="a batch of 1 has no negatives"):
        initial_bias(1)


def test_mistakes_are_told() -> None:
    a, b, _ = pairs(4, 3, 0.7)
    with pytest.raises(ValueError, match=r"shapes \(4, 3\) and \(4, 2\) cannot be compared"):
        info_nce(a, b[:, :2], 1.0)
    with pytest.raises(ValueError, match="tile = -1 holds no pair"):
        info_nce(a, b, 1.0, tile=-1)
    with pytest.raises(ValueError, match="hardness weighs the negatives of a softmax"):
        sigmoid_loss(a, b, 1.0, 0.0, targets=Targets(hardness=1.0))
    with pytest.raises(ValueError, match=r"ids of shapes \(3,\) and \(4,\) do not fit 4 × 4"):
        info_nce(a, b, 1.0, targets=Targets(positives=Ids(torch.arange(3), torch.arange(4))))
    with pytest.raises(ValueError, match=r"confidence of shape \(5,\) fits neither"):
        info_nce(a, b, 1.0, targets=Targets(confidence=torch.ones(5)))
    with pytest.raises(ValueError, match="no pair has a positive target"):
        info_nce(a[:0], b[:0], 1.0)
    with pytest.raises(ValueError, match=r"smoothing = 1.5 is outside"):
        Targets(smoothing=1.5)
    with pytest.raises(ValueError, match=r"hardness = -1 is negative"):
        Targets(hardness=-1)
