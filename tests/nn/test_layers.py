"""Layers against PyTorch's own and against what must hold."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tectum.nn.attention import Attention
from tectum.nn.conv import ConvStages, ResidualBlock
from tectum.nn.patches import PatchEmbedding, sincos_positions
from tectum.nn.pooling import AttentionPool, first_place, mean_pool
from tectum.nn.transformer import Block, Transformer


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def copy_attention(ours: Attention, theirs: nn.MultiheadAttention) -> None:
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())


def test_attention_equals_torch_multihead_attention_with_padding() -> None:
    ours, theirs = Attention(24, 3).double(), nn.MultiheadAttention(24, 3, batch_first=True).double()
    copy_attention(ours, theirs)
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    expected, weights = theirs(x, x, x, key_padding_mask=~mask, average_attn_weights=False)
    torch.testing.assert_close(ours(x, mask=mask), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours.weights(x, mask=mask), weights, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_weights_are_those_that_forward_mixes_with(causal: bool, masked: bool) -> None:
    attention = Attention(16, 4).double()
    x = torch.randn(3, 6, 16, dtype=torch.float64)
    mask = torch.tensor([[True] * 6, [True] * 3 + [False] * 3, [True] + [False] * 5]) if masked else None
    weights = attention.weights(x, mask=mask, causal=causal)
    values = attention.value(x).unflatten(-1, (4, 4)).transpose(1, 2)
    by_hand = attention.out((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, mask=mask, causal=causal), by_hand)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 6, dtype=torch.float64))


@pytest.mark.parametrize("keys", [7, 600])
def test_in_bfloat16_attention_and_its_gradients_are_those_of_double_precision_to_rounding(keys: int) -> None:
    exact = Attention(16, 2).double()
    rough = Attention(16, 2)
    rough.load_state_dict(exact.state_dict())
    x, context, bias = torch.randn(2, 5, 16), torch.randn(2, keys, 16), torch.randn(1, 2, 5, keys)
    mask = torch.ones(2, keys, dtype=torch.bool)
    mask[1, 3:] = False
    expected = exact(x.double(), context.double(), mask, bias=bias.double())
    expected.sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        found = rough(x, context, mask, bias=bias)
    found.float().sum().backward()
    assert found.dtype == torch.bfloat16
    assert (found - expected).norm() < 0.02 * expected.norm()
    for name, parameter in exact.named_parameters():
        if name != "key.bias":  # which moves all logits of a query alike
            assert (rough.get_parameter(name).grad - parameter.grad).norm() < 0.03 * parameter.grad.norm(), name


def test_cross_attention_takes_a_context_of_another_width() -> None:
    attention = Attention(16, 2, context_width=10)
    assert attention(torch.randn(2, 3, 16), torch.randn(2, 5, 10)).shape == (2, 3, 16)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="5 heads do not divide a width of 16"):
        Attention(16, 5)


def test_block_equals_torch_encoder_layer() -> None:
    ours = Block(24, 3).double()
    theirs = nn.TransformerEncoderLayer(24, 3, 96, 0.0, F.gelu, batch_first=True, norm_first=True).double()
    copy_attention(ours.attention, theirs.self_attn)
    theirs.norm1.load_state_dict(ours.norm_attention.state_dict())
    theirs.norm2.load_state_dict(ours.norm_mlp.state_dict())
    theirs.linear1.load_state_dict(ours.mlp[0].state_dict())
    theirs.linear2.load_state_dict(ours.mlp[2].state_dict())
    x = torch.randn(2, 5, 24, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-10, atol=1e-12)


def test_transformer_without_positions_is_equivariant_and_a_causal_one_looks_back_only() -> None:
    x, order = torch.randn(1, 6, 16, dtype=torch.float64), torch.randperm(6)
    model = Transformer(16, 2, 4).double()
    torch.testing.assert_close(model(x)[:, order], model(x[:, order]))
    model = Transformer(16, 2, 4, causal=True).double()
    changed = x.clone()
    changed[:, 4:] += 1
    torch.testing.assert_close(model(x)[:, :4], model(changed)[:, :4])


def test_hidden_tokens_change_nothing() -> None:
    model, x = Transformer(16, 2, 4).double(), torch.randn(2, 6, 16, dtype=torch.float64)
    mask = torch.tensor([[True] * 4 + [False] * 2] * 2)
    torch.testing.assert_close(mean_pool(model(x, mask), mask), mean_pool(model(x[:, :4]), None))


def test_patches_equal_unfold_and_a_matrix_product() -> None:
    patches = PatchEmbedding(3, 8, (4, 2)).double()
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    columns = F.unfold(x, (4, 2), stride=(4, 2))
    expected = (patches.projection.weight.flatten(1) @ columns + patches.projection.bias[:, None]).unflatten(2, (2, 3))
    torch.testing.assert_close(patches(x), expected)


def test_sincos_products_depend_on_the_offset_alone_and_positions_do_not_move_with_the_grid() -> None:
    table = sincos_positions(6, 5, 32).unflatten(0, (6, 5))
    product = torch.einsum("abd,ced->abce", table, table)
    torch.testing.assert_close(product[0, 0, 2, 1], product[3, 2, 5, 3])
    torch.testing.assert_close(product[1, 1, 1, 4], product[4, 0, 4, 3])
    torch.testing.assert_close(sincos_positions(9, 7, 32).unflatten(0, (9, 7))[:6, :5], table)
    with pytest.raises(ValueError, match="4 divides"):
        sincos_positions(2, 2, 6)


def test_a_fresh_residual_block_is_its_shortcut() -> None:
    block, x = ResidualBlock(8, 8).eval(), torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(block(x), x.relu())
    assert ResidualBlock(8, 12, 2)(torch.randn(2, 8, 7, 9)).shape == (2, 12, 4, 5)


def test_in_evaluation_a_picture_does_not_depend_on_its_batch() -> None:
    stages, x = ConvStages(3, (8, 16), (1, 1)).eval(), torch.randn(5, 3, 20, 30)
    torch.testing.assert_close(stages(x)[2:3], stages(x[2:3]))


def test_pools() -> None:
    x = torch.randn(2, 4, 8)
    ids = torch.tensor([[5, 9, 7, 7], [9, 1, 2, 9]])
    assert first_place(ids, 9).tolist() == [1, 0]
    with pytest.raises(ValueError, match="row 1 holds no end token"):
        first_place(ids, 7)
    pool, mask = AttentionPool(8, 2), torch.tensor([[True, True, False, False]] * 2)
    torch.testing.assert_close(pool(x, mask), pool(x[:, :2]))
    torch.testing.assert_close(pool(x), pool(x[:, torch.randperm(4)]))
