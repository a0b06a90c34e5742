"""Group norm over channels-last grids, by sums: values and gradients of PyTorch's own in double precision."""

import pytest
import torch

from tectum.nn.norm import GroupNorm


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 12, 5, 6), (2, 12, 40, 40), (2, 12, 3, 4, 5), (1, 48, 4, 4), (2, 12, 7)])
def test_values_and_gradients_are_those_of_double_precision(shape: tuple[int, ...], dtype: torch.dtype, training: bool) -> None:
    torch.manual_seed(0)
    norm, exact = GroupNorm(4, shape[1]).train(training), torch.nn.GroupNorm(4, shape[1]).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    exact.load_state_dict(norm.state_dict())
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(len(shape), torch.contiguous_format)
    x = (3 * torch.randn(shape) + 2).to(dtype).contiguous(memory_format=last).requires_grad_()
    z, weight = x.detach().double().requires_grad_(), torch.randn(shape)
    y = norm.to(dtype)(x)
    assert y.dtype == dtype and y.is_contiguous(memory_format=last)
    (y.float() * weight).sum().backward()
    expected = exact(z)
    (expected * weight).sum().backward()
    near = {"rtol": 2e-5, "atol": 2e-5} if dtype == torch.float32 else {"rtol": 0.03, "atol": 0.05}
    with torch.no_grad():
        torch.testing.assert_close(norm(x).double(), expected, **near)
    torch.testing.assert_close(y.double(), expected, **near)
    torch.testing.assert_close(x.grad.double(), z.grad, **near)
    scale = 1 + shape[0] * torch.Size(shape[2:]).numel() ** 0.5
    for ours, theirs in zip(norm.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=near["rtol"], atol=near["atol"] * scale)


def test_large_means_cost_few_digits_and_constant_groups_give_the_bias() -> None:
    norm = GroupNorm(2, 4).train()
    x = (torch.randn(2, 4, 6, 6) + 100).contiguous(memory_format=torch.channels_last).requires_grad_()
    expected = torch.nn.functional.group_norm(x.double(), 2)
    torch.testing.assert_close(norm(x).double(), expected, rtol=0, atol=5e-3)
    same = torch.full((2, 4, 6, 6), 7.0).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = norm(same)
    y.square().sum().backward()
    assert y.abs().max() < 1e-2 and same.grad is not None and same.grad.isfinite().all()


def test_a_batch_of_nothing_stays_nothing() -> None:
    x = torch.zeros(0, 4, 3, 3).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert GroupNorm(2, 4)(x).shape == x.shape


def test_in_evaluation_there_are_gradients_of_gradients() -> None:
    norm = GroupNorm(2, 4).double().eval()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: norm(x).square(), (x,))
