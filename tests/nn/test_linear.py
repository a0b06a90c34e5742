"""The linear layer is nn.Linear, whichever library multiplies."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tectum.nn.linear import Linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(512,), (0, 512), (1, 512), (37, 512), (2, 5, 512), (0, 3, 512)])
def test_it_is_the_plain_product_for_any_leading_shape(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layer, x = Linear(512, 640, bias=bias), torch.randn(shape)
    with torch.inference_mode():
        exact = F.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)
        torch.testing.assert_close(layer(x).double(), exact, rtol=0, atol=1e-5)
        assert layer(x).shape == (*shape[:-1], 640)


def test_strides_precision_and_gradients_are_as_ever() -> None:
    torch.manual_seed(0)
    layer, plain = Linear(512, 512), nn.Linear(512, 512)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(512, 6, 4).transpose(0, 2)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        assert torch.equal(layer.double()(x.double()), plain.double()(x.double()))
    expected, found = (torch.autograd.grad(module(x.double()).square().sum(), module.weight)[0] for module in (plain, layer))
    assert torch.equal(found, expected)
