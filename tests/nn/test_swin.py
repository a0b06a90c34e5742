"""Windows of the Swin Transformer: what must hold for any weights."""

import pytest
import torch

from tectum.nn.swin import PatchMerging, Swin, WindowBlock, relative_places
from tectum.nn.transformer import Block


def block(shift: int) -> WindowBlock:
    torch.manual_seed(0)
    made = WindowBlock(8, 2, window=4, shift=shift, hidden=12, activation="gelu").double()
    torch.nn.init.normal_(made.bias)
    return made


def test_one_window_over_the_whole_grid_is_a_block_with_a_bias() -> None:
    made, x = block(0), torch.randn(3, 4, 4, 8, dtype=torch.float64)
    bias = made.bias[relative_places(4)].permute(2, 0, 1)[None]
    torch.testing.assert_close(made(x).flatten(1, 2), made.block(x.flatten(1, 2), bias=bias))
    torch.nn.init.zeros_(made.bias)
    torch.testing.assert_close(made(x).flatten(1, 2), made.block(x.flatten(1, 2)))


def test_the_bias_depends_on_how_far_apart_two_tokens_are_and_on_nothing_else() -> None:
    places = relative_places(3).reshape(3, 3, 3, 3)
    seen: dict[tuple[int, int], int] = {}
    for a, b, c, d in torch.cartesian_prod(*[torch.arange(3)] * 4).tolist():
        assert seen.setdefault((a - c, b - d), int(places[a, b, c, d])) == places[a, b, c, d]
    assert sorted(seen.values()) == list(range(25))


@pytest.mark.parametrize("shift", [0, 2])
def test_a_token_sees_its_window_and_nothing_else(shift: int) -> None:
    """By gradients: after the shift, the windows' borders lie `shift` further, and nothing is seen around the edge."""
    made, x = block(shift), torch.randn(1, 8, 12, 8, dtype=torch.float64, requires_grad=True)
    y = made(x)
    for row, column in ((0, 0), (3, 5), (7, 11), (6, 1), (1, 10)):
        (gradient,) = torch.autograd.grad(y[0, row, column].sum(), x, retain_graph=True)
        found = gradient[0].abs().sum(-1) > 0
        rows, columns = ((torch.arange(size) - shift).div(4, rounding_mode="floor") for size in (8, 12))
        expected = (rows == rows[row])[:, None] & (columns == columns[column])
        assert torch.equal(found, expected)


def test_pictures_together_equal_each_alone() -> None:
    made, x = block(2), torch.randn(5, 8, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(made(x)[1:2], made(x[1:2]))


def test_merging_puts_four_neighbours_one_after_another_by_columns() -> None:
    merge = PatchMerging(1)
    x = torch.arange(8.0).reshape(1, 2, 4, 1)
    taken: list[torch.Tensor] = []
    merge.norm.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
    assert merge(x).shape == (1, 1, 2, 2)
    assert taken[0].tolist() == [[[[0, 4, 1, 5], [2, 6, 3, 7]]]]


def test_windows_that_do_not_tile_a_stage_are_refused() -> None:
    options = {"window": 4, "mlp_ratio": 2.0, "activation": "gelu"}
    with pytest.raises(ValueError, match="windows of 4 do not tile the grid of stage 2"):
        Swin(12, 4, (1, 1), (1, 1), **options)
    with pytest.raises(ValueError, match="of stage 1"):
        Swin(3, 4, (1,), (1,), **options)


def test_the_bias_reaches_one_token_alone_and_goes_with_a_mask_and_causality() -> None:
    torch.manual_seed(0)
    made, x = Block(8, 2).double(), torch.randn(3, 5, 8, dtype=torch.float64)
    bias, at = torch.randn(1, 2, 5, 5, dtype=torch.float64), torch.tensor([4, 2, 3])
    mask = torch.tensor([[True, True, True, False, True]] * 3)
    mask[2, 3] = True
    for seen in (None, mask):
        for causal in (False, True):
            every = made(x, seen, causal, bias=bias)[torch.arange(3), at]
            torch.testing.assert_close(made(x, seen, causal, at, bias)[:, 0], every)
    before = torch.full((5, 5), -torch.inf, dtype=torch.float64).triu(1)
    torch.testing.assert_close(made(x, causal=True, bias=bias), made(x, bias=bias + before))
