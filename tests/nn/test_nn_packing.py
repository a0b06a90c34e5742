"""Packed networks give what they gave before, and nothing that they no longer can."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tectum.nn.autoencoder import Autoencoder, tiny_autoencoder
from tectum.nn.packing import Packed, PackedCross, PackedLinear, PackedUpsample, doubling_kernel, pack
from tectum.nn.unet import UNet
from tectum.nn.unet_config import tiny

TIMES = torch.tensor([3.0, 700.0])


def test_doubling_and_a_convolution_are_one_transposed_convolution() -> None:
    x, weight = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(6, 3, 3, 3, dtype=torch.float64)
    doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    found = F.conv_transpose2d(x, doubling_kernel(weight), stride=2, padding=1)
    torch.testing.assert_close(found, F.conv2d(doubled, weight, padding=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_packed_unet_gives_the_same_for_grids_of_any_size(dims: int, dtype: torch.dtype, trained: Callable) -> None:
    unet = trained(UNet(tiny(context=6, dims=dims))).to(dtype)
    shapes = [(2, 3, 8, 8, 4), (1, 3, 7, 12, 3), (2, 3, 9, 5, 2)]
    grids = [torch.randn(shape[: dims + 2], dtype=dtype) for shape in shapes]
    cond = {"tokens": torch.randn(2, 4, 6, dtype=dtype)}

    def call(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return network(x, TIMES[: len(x)], {"tokens": cond["tokens"][: len(x)].to(x.dtype)})

    packed = pack(copy.deepcopy(unet), grids[0], TIMES, cond)
    kinds = [type(module) for module in packed.modules()]
    assert PackedLinear in kinds and (PackedUpsample in kinds) == (dims == 2)
    for x in grids:
        exact = call(copy.deepcopy(unet).float(), x.float()) if dtype == torch.bfloat16 else call(unet, x)
        tolerance = 1e-5 if dtype == torch.float32 else 3 * (call(unet, x) - exact).abs().max().item()
        torch.testing.assert_close(call(packed, x).float(), exact, rtol=0, atol=tolerance * max(1.0, exact.std().item()))


def test_a_context_is_read_once_and_another_one_anew(trained: Callable) -> None:
    unet, x = trained(UNet(tiny(context=6))).float(), torch.randn(2, 3, 8, 8)
    first, second = ({"tokens": torch.randn(2, 4, 6)} for _ in range(2))
    with torch.no_grad():
        expected = [unet(x, TIMES, cond) for cond in (first, first, second, first)]
        packed, read = pack(copy.deepcopy(unet), x, TIMES, first), []
        for module in packed.modules():
            if isinstance(module, PackedCross):
                module.inner.key.register_forward_pre_hook(lambda *_: read.append(1))
        found = [packed(x, TIMES, cond) for cond in (first, first, second, first)]
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=0, atol=1e-5)
    crossings = sum(isinstance(module, PackedCross) for module in packed.modules())
    # Packing it has run it with the plain layers.
    assert crossings > 0 and len(read) == 3 * crossings


def test_a_decoder_is_packed_by_its_codes(trained: Callable) -> None:
    model = trained(Autoencoder(tiny_autoencoder())).float()
    z = torch.randn(2, 4, 4, 6)
    with torch.no_grad():
        expected = model.decode(z)
        model.decoder = pack(model.decoder, model.mix_latents(z))
        torch.testing.assert_close(model.decode(z), expected, rtol=0, atol=1e-5)


def test_a_packed_network_refuses_what_it_can_no_longer_do() -> None:
    unet, x = UNet(tiny()), torch.randn(2, 3, 8, 8)
    with pytest.raises(ValueError, match="evaluation mode and on the CPU"):
        pack(unet, x, TIMES)
    packed = pack(unet.eval(), x, TIMES)
    assert any(isinstance(module, Packed) for module in packed.modules())
    assert packed.eval() is packed
    for action, message in (
        (lambda: packed(x.requires_grad_(), TIMES), "gives no gradients"),
        (lambda: packed.state_dict(), "cannot be saved"),
        (lambda: packed.train(), "cannot be trained"),
        (lambda: packed.double(), "stays where it is and as it is"),
    ):
        with pytest.raises(RuntimeError, match=message):
            action()
