"""Group norm (Wu & He 2018, arXiv:1803.08494) over grids whose channels are last."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_AT_ONCE = 2**18  # elements: they stay in the cache
_MANY = 1024  # places: from there on PyTorch goes by sums itself, forward
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm`, for channels-last grids on a CPU by sums over places.

    There PyTorch's own goes place by place through a few channels at a time: in bfloat16, forward and back, with two to eight
    channels a group, that takes two to eight times as long. Sums are in float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, …] to [n, c, …]."""
        last = x.device.type == "cpu" and x.ndim in _LAST and x.is_contiguous(memory_format=_LAST[x.ndim])
        if not last or x.dtype == torch.float64:
            return super().forward(x)
        # In evaluation gradients may be wanted of gradients, or forward, which a Function does not give.
        quick = x.dtype == torch.float32 or x.shape[2:].numel() >= _MANY
        native = not self.training if torch.is_grad_enabled() else quick
        if native or not len(x) or _is_wide(x, self.num_groups):
            return super().forward(x)
        return _GroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)


def _is_wide(x: Tensor, groups: int) -> bool:
    return x.shape[1] // groups % (8 if x.dtype == torch.float32 else 16) == 0


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        n, c = x.shape[:2]
        if x.shape[2:].numel() >= _MANY:
            y, mean, std = torch.native_group_norm(x, weight, bias, n, c, x.shape[2:].numel(), groups, eps)
            mean, std = mean.float(), std.float()
        else:
            flat = x.movedim(1, -1).flatten(1, -2).float()
            size = flat.shape[1] * (c // groups)
            mean, square = ((part.sum(1).view(n, groups, -1).sum(2) / size) for part in (flat, flat * flat))
            std = (square - mean**2).clamp_(min=0).add_(eps).rsqrt_()
            scale = std[..., None] * weight.float().view(groups, -1)
            shift = bias.float().view(groups, -1) - mean[..., None] * scale
            y = torch.addcmul(shift.view(n, 1, c), flat, scale.view(n, 1, c)).to(x.dtype)
            y = y.unflatten(1, x.shape[2:]).movedim(-1, 1)
        ctx.save_for_backward(x, weight, mean, std)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, std = ctx.saved_tensors
        (n, c), groups = x.shape[:2], mean.shape[1]
        flat, back = (part.movedim(1, -1).flatten(1, -2) for part in (x, grad))
        width, places = c // groups, flat.shape[1]
        gain = weight.float()
        mean, std = (part.repeat_interleave(width, 1) for part in (mean, std))

        def grouped(part: Tensor) -> Tensor:
            return ((gain * part).view(-1, groups, width).sum(2) / (places * width)).repeat_interleave(width, 1)

        down = torch.empty_like(flat)
        along, plain = torch.empty_like(mean), torch.empty_like(mean)
        few = max(1, _AT_ONCE // (places * c))
        for i in range(0, n, few):
            rows = slice(i, i + few)
            f, b, m, r = flat[rows].float(), back[rows].float(), mean[rows], std[rows]
            torch.sum(b, 1, out=plain[rows])
            torch.sub((b * f).sum(1), m * plain[rows], out=along[rows]).mul_(r)
            slope = -r * r * grouped(along[rows])
            level = -r * grouped(plain[rows]) - m * slope
            down[rows] = torch.addcmul(level[:, None], f, slope[:, None]).addcmul_(b, (gain * r)[:, None])
        down = down.unflatten(1, x.shape[2:]).movedim(-1, 1)
        return down, along.sum(0).to(weight.dtype), plain.sum(0).to(weight.dtype), None, None
