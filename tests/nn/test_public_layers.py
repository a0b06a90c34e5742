"""The layers that public checkpoints need, against PyTorch's own and closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tectum.nn.activation import activation
from tectum.nn.patches import PatchEmbedding, resize_positions
from tectum.nn.pooling import MapHead
from tectum.nn.transformer import Block, Transformer

X = torch.linspace(-6, 6, 101, dtype=torch.float64)


def test_activations_are_their_formulas() -> None:
    expected = {
        "gelu": X / 2 * (1 + torch.erf(X / math.sqrt(2))),
        "gelu_tanh": X / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3))),
        "quick_gelu": X / (1 + torch.exp(-1.702 * X)),
        "relu": X.clamp(min=0),
        "silu": X / (1 + torch.exp(-X)),
    }
    for name, values in expected.items():
        torch.testing.assert_close(activation(name)(X), values)
        x = (X + 1e-3).requires_grad_()  # not at the corner of ReLU
        before = x.detach().clone()
        assert torch.autograd.gradcheck(activation(name), x)
        with torch.no_grad():
            torch.testing.assert_close(activation(name)(x), activation(name)(before.requires_grad_()))
            assert torch.equal(x, before)  # nothing is done in place to what comes in, unless it may be
            torch.testing.assert_close(activation(name, inplace=True)(x.clone()), activation(name)(x))
        assert torch.equal(activation(name, inplace=True)(x).detach(), activation(name)(x).detach())
        assert torch.equal(x, before)
    assert 0.015 < (expected["quick_gelu"] - expected["gelu"]).abs().max() < 0.025
    with pytest.raises(ValueError, match="no activation 'mish'"):
        activation("mish")


def test_a_block_takes_its_width_activation_and_eps_from_its_options() -> None:
    torch.manual_seed(0)
    block = Block(8, 2, hidden=11, activation="quick_gelu", eps=0.3).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)

    def norm(y: torch.Tensor, layer: nn.LayerNorm) -> torch.Tensor:
        z = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 0.3).sqrt()
        return z * layer.weight + layer.bias

    y = x + block.attention(norm(x, block.norm_attention))
    hidden = F.linear(norm(y, block.norm_mlp), block.mlp[0].weight, block.mlp[0].bias)
    assert hidden.shape[-1] == 11
    expected = y + F.linear(hidden * torch.sigmoid(1.702 * hidden), block.mlp[2].weight, block.mlp[2].bias)
    torch.testing.assert_close(block(x), expected)


def test_the_map_head_is_one_query_of_multihead_attention_and_a_residual_mlp() -> None:
    torch.manual_seed(0)
    head = MapHead(12, 3, hidden=20, activation="gelu_tanh", eps=1e-6).double()
    theirs, ours = nn.MultiheadAttention(12, 3, batch_first=True).double(), head.pool.attention
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    y = theirs(head.pool.probe.expand(2, 1, 12), x, x)[0][:, 0]
    torch.testing.assert_close(head(x), y + head.mlp(F.layer_norm(y, (12,), head.norm.weight, head.norm.bias, 1e-6)))


@pytest.mark.parametrize("antialias", [False, True])
def test_positions_are_kept_at_their_own_size_and_interpolated_otherwise(antialias: bool) -> None:
    positions = torch.randn(16, 5)
    assert resize_positions(positions, 4, 4, antialias=antialias) is positions
    constant = resize_positions(torch.full((16, 5), 2.5), 7, 3, antialias=antialias)
    torch.testing.assert_close(constant, torch.full((21, 5), 2.5))
    # A ramp along the rows stays one away from the edges, and columns do not mix with rows.
    ramp = torch.arange(8.0).repeat_interleave(8)[:, None].expand(64, 2)
    larger = resize_positions(ramp, 16, 8, antialias=antialias).unflatten(0, (16, 8))
    straight = torch.arange(4, 12) / 2 - 0.25  # Keys' kernel keeps it exactly with a = -1/2, and to 3/64 with a = -3/4
    torch.testing.assert_close(larger[4:12, 0, 0], straight, rtol=0, atol=1e-5 if antialias else 0.047)
    torch.testing.assert_close(larger, larger[:, :1].expand_as(larger))
    with pytest.raises(ValueError, match="15 positions are no square grid"):
        resize_positions(positions[1:], 4, 4)


def test_patches_without_a_bias_send_nothing_to_nothing() -> None:
    assert PatchEmbedding(3, 4, (2, 2), bias=False)(torch.zeros(1, 3, 4, 4)).abs().max() == 0


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_one_token_of_each_row_is_the_same_alone(depth: int, causal: bool) -> None:
    torch.manual_seed(0)
    trunk = Transformer(8, depth, 2, causal=causal).double()
    x, at = torch.randn(4, 6, 8, dtype=torch.float64, requires_grad=True), torch.tensor([5, 0, 3, 2])
    mask = torch.rand(4, 6) < 0.7
    mask[torch.arange(4), at] = mask[:, 0] = True
    for seen in (None, mask):
        every, alone = trunk(x, seen)[torch.arange(4), at], trunk(x, seen, at)
        assert alone.shape == (4, 1, 8)
        torch.testing.assert_close(alone[:, 0], every)
        weights = torch.randn(4, 8, dtype=torch.float64)
        expected, found = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (every, alone[:, 0]))
        torch.testing.assert_close(found, expected)
