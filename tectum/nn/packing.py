"""Networks that will only be run, on a processor: their weights once and for all in the layouts that oneDNN computes with.

PyTorch lays a convolution's kernel out anew at every call. Over a large grid that is nothing; where a U-Net has come down to 8×8
or 4×4 places it takes as long as the convolution. `pack` does it beforehand, and turns every doubling followed by a convolution
into the one transposed convolution that it equals, of 16 products for each place instead of 36.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.nn.attention import Attention
from tectum.nn.residual import Upsample

_OPERATIONS = ("_reorder_convolution_weight", "_reorder_linear_weight", "_reorder_convolution_transpose_weight")
N = TypeVar("N", bound=nn.Module)


def pack(network: N, *example: object) -> N:
    """Packs a network in place, for calls like `network(*example)`, and returns it.

    It gives what it gave before, to rounding; calls of other sizes are right too, but gain less. It can no longer be trained,
    moved, converted or saved, and gives no gradients. Where this PyTorch cannot pack, the network is left as it is.

    Raises:
        ValueError: if the network is in training or on another device.

    >>> from tectum.nn.unet import UNet
    >>> from tectum.nn.unet_config import tiny
    >>> x, time = torch.randn(2, 3, 8, 8), torch.tensor([1.0, 2.0])
    >>> unet = UNet(tiny()).eval()
    >>> with torch.inference_mode():
    ...     before = unet(x, time)
    ...     torch.allclose(pack(unet, x, time)(x, time), before, atol=1e-5)
    True
    """
    if network.training or any(parameter.device.type != "cpu" for parameter in network.parameters()):
        raise ValueError("only a network in evaluation mode and on the CPU is packed: call eval() and cpu() first")
    if not (torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATIONS)):
        return network  # no public function reaches what torch.compile uses, so it may be gone
    sizes: dict[nn.Module, torch.Size] = {}
    crossing: set[nn.Module] = set()

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes[module] = inputs[0].shape
        if isinstance(module, Attention) and len(inputs) > 1 and inputs[1] is not None:
            crossing.add(module)

    hooks = [module.register_forward_pre_hook(note) for module in network.modules()]
    with torch.no_grad():
        network(*example)
    for hook in hooks:
        hook.remove()
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if child in crossing and isinstance(child, Attention):
                setattr(parent, name, PackedCross(child))
            elif child in sizes and not isinstance(parent, Upsample):
                setattr(parent, name, _packed(child, sizes[child]))
    return network


def doubling_kernel(weight: Tensor) -> Tensor:
    """The kernel [c, c', 4, 4] whose transposed convolution of stride 2 is: double the grid, then convolve with [c', c, 3, 3].

    >>> x, weight = torch.randn(1, 2, 5, 6), torch.randn(3, 2, 3, 3)
    >>> doubled = F.interpolate(x, scale_factor=2.0, mode="nearest")
    >>> y = F.conv_transpose2d(x, doubling_kernel(weight), stride=2, padding=1)
    >>> torch.allclose(y, F.conv2d(doubled, weight, padding=1), atol=1e-5)
    True
    """
    for dim in (2, 3):
        edge = torch.zeros_like(weight.narrow(dim, 0, 1))
        weight = torch.cat((weight, edge), dim) + torch.cat((edge, weight), dim)
    return weight.flip(2, 3).transpose(0, 1).contiguous()


def _packed(layer: nn.Module, like: torch.Size) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return PackedLinear(layer, like)
    if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return PackedConv(layer, like)
    if isinstance(layer, Upsample) and isinstance(layer.conv, nn.Conv2d):
        return PackedUpsample(layer.conv, like)
    return layer


class Packed(nn.Module):
    """A layer that can only be run."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Packed":
        raise RuntimeError("a packed network stays where it is and as it is: convert the one it was made from, then pack it")

    def _save_to_state_dict(self, *_: object) -> None:
        raise RuntimeError("a packed network cannot be saved: save the one it was made from")

    def train(self, mode: bool = True) -> "Packed":
        """Stays in evaluation mode."""
        if mode:
            raise RuntimeError("a packed network cannot be trained: train the one it was made from")
        return self


class PackedCross(Packed):
    """An `Attention` to a context, which is read once and remembered until another one comes; it may not change in place."""

    def __init__(self, layer: Attention) -> None:
        super().__init__()
        self.inner = layer
        self.seen: Tensor | None = None
        self.known: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """[n, s, w], a context [n, t, w'] and its mask [n, t] to [n, s, w]."""
        if self.known is None or self.seen is not context:
            self.seen, self.known = context, self.inner.read(context)
        return self.inner.ask(x, *self.known, mask)


class PackedConv(Packed):
    """A `nn.Conv2d` for grids of the sizes of `like`."""

    def __init__(self, layer: nn.Conv2d, like: Sequence[int]) -> None:
        super().__init__()
        self.options = (layer.padding, layer.stride, layer.dilation, layer.groups)
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(layer.weight.detach(), *self.options, list(like))

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to [n, c', h', w']."""
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(_ready(x), self.weight, self.bias, *self.options, "none", [], "")
        return y


class PackedLinear(Packed):
    """A `nn.Linear` for as many rows as in `like`."""

    def __init__(self, layer: nn.Linear, like: Sequence[int]) -> None:
        super().__init__()
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), torch.Size(like[:-1]).numel())

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(_ready(x), self.weight, self.bias, "none", [], "")
        return y


class PackedUpsample(Packed):
    """An `Upsample` of pictures as one transposed convolution; odd sizes go the long way."""

    def __init__(self, layer: nn.Conv2d, like: Sequence[int]) -> None:
        super().__init__()
        self.odd = PackedConv(layer, (*like[:2], like[2] * 2, like[3] * 2))
        self.options = ((1, 1), (0, 0), (2, 2), (1, 1), 1)
        kernel = doubling_kernel(layer.weight.detach())
        self.weight = torch.ops.mkldnn._reorder_convolution_transpose_weight(kernel, *self.options, list(like))

    def forward(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """[n, c, h, w] to [n, c, *sizes]."""
        if tuple(sizes) != tuple(2 * size for size in x.shape[2:]):
            return self.odd(F.interpolate(x, tuple(sizes), mode="nearest"))
        bias, options = self.odd.bias, self.options
        y: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(_ready(x), self.weight, bias, *options, "none", [], "")
        return y


def _ready(x: Tensor) -> Tensor:
    if x.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("a packed network gives no gradients: use the one it was made from")
    return x
