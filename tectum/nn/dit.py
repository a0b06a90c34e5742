"""The diffusion Transformer with adaLN-Zero (Peebles & Xie 2023, arXiv:2212.09748), over grids of any size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tectum.errors import ConfigError
from tectum.nn.attention import Attention
from tectum.nn.conditions import ConditionConfig, Conditions, check_conditions
from tectum.nn.grid import CONVOLUTIONS, check_grid, check_sizes, tokens, zeroed
from tectum.nn.linear import Linear
from tectum.nn.timestep import sinusoid
from tectum.nn.transformer import mlp


@dataclass(frozen=True, kw_only=True, slots=True)
class DiTConfig:
    """A diffusion Transformer over grids of 1, 2 or 3 dimensions.

    channels_in, channels_out: of the grid it is given and gives; twice as many go out where a variance is learned.
    patch: side of the patches, which divides all sizes of a grid.
    width, blocks, heads: of the Transformer, whose MLP has four times the width.
    told: the time and whatever else is told as a vector; the original has 256 features, "cos_sin", shift 0. The models of
        diffusers were converted as if it were 1, which is another network at all but small times.
    context: width of tokens that each block also attends to; None for none. "tokens" are then [n, t, context], and "mask" [n, t]
        may say which of them count.
    eps_mlp: of the layer norm before the MLP, 1e-6 in the original and 1e-5 in diffusers; that of the others is 1e-6.
    dims: dimensions of the grid.
    """

    channels_in: int
    channels_out: int
    patch: int
    width: int
    blocks: int
    heads: int
    told: ConditionConfig
    context: int | None = None
    eps_mlp: float = 1e-6
    dims: int = 2

    def __post_init__(self) -> None:
        if min(self.channels_in, self.channels_out, self.patch, self.heads) < 1 or self.blocks < 0:
            raise ConfigError(f"no diffusion Transformer has such sizes: {self}")
        check_sizes(self.dims, 1, [self.width])
        if self.width % self.heads:
            raise ConfigError(f"{self.heads} heads do not divide a width of {self.width}")
        if self.width % (2 * self.dims):
            raise ConfigError(f"the positions of {self.dims} axes need a width that {2 * self.dims} divides, not {self.width}")


def dit(blocks: int, width: int, heads: int, *, patch: int = 2) -> DiTConfig:
    """One of the original's for latents of four channels and the 1000 classes of ImageNet, with a learned variance.

    >>> dit(28, 1152, 16).channels_out  # DiT-XL/2
    8
    """
    told = ConditionConfig(features=256, classes=1000, null_class=True)
    return DiTConfig(channels_in=4, channels_out=8, patch=patch, width=width, blocks=blocks, heads=heads, told=told)


def grid_positions(sizes: Sequence[int], width: int, *, device: torch.device | None = None) -> Tensor:
    """Fixed positions [places, width] of a grid: for each axis, the last first, the sinusoid of the place along it.

    For two dimensions those of DiT, whose first half tells the column. Defined for every size, so nothing is interpolated.

    >>> grid_positions((2, 3), 8).shape
    torch.Size([6, 8])
    """
    parts = []
    for axis in reversed(range(len(sizes))):
        along = sinusoid(torch.arange(sizes[axis], dtype=torch.float64, device=device), width // len(sizes))
        parts.append(along.reshape([-1 if i == axis else 1 for i in range(len(sizes))] + [along.shape[1]]).expand(*sizes, -1))
    return torch.cat(parts, dim=-1).flatten(0, -2).float()


def unpatch(y: Tensor, places: Sequence[int], patch: int) -> Tensor:
    """Tokens [n, places, patchᵈ · c], the channels of a token last and together, to a grid [n, c, *places · patch].

    >>> unpatch(torch.zeros(2, 6, 4 * 5), (2, 3), 2).shape
    torch.Size([2, 5, 4, 6])
    """
    dims = len(places)
    y = y.unflatten(2, (*[patch] * dims, -1)).unflatten(1, tuple(places))
    order = chain.from_iterable((1 + axis, 1 + dims + axis) for axis in range(dims))
    y = y.permute(0, 2 * dims + 1, *order)
    return y.reshape(*y.shape[:2], *(place * patch for place in places))


class ToldBlock(nn.Module):
    """x + α (Attention of γ LN(x) + β), then the same with an MLP, α, β, γ by a linear map of what is told: adaLN-Zero.

    That map starts at zero, and so a fresh block is the identity. With a `context_width` there is a plain cross-attention in
    between, silent at first as well (Chen et al. 2023, arXiv:2310.00426, §2.3).
    """

    def __init__(self, width: int, heads: int, *, context_width: int | None, eps_mlp: float) -> None:
        super().__init__()
        self.modulation = zeroed(Linear(width, 6 * width))
        self.norm_attention = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.cross: Attention | None = None
        if context_width is not None:
            self.cross = Attention(width, heads, context_width=context_width)
            zeroed(self.cross.out)
        self.norm_mlp = nn.LayerNorm(width, eps_mlp, elementwise_affine=False)
        self.mlp = mlp(width, 4 * width, "gelu_tanh")

    def forward(self, x: Tensor, told: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """[n, s, w], `told` [n, w] after its SiLU and `context` [n, t, w'] to [n, s, w]."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.modulation(told).unsqueeze(1).chunk(6, dim=2)
        x = torch.addcmul(x, gate, self.attention(torch.addcmul(shift, self.norm_attention(x), 1 + scale)))
        if self.cross is not None:
            x = x + self.cross(x, context, mask)
        return torch.addcmul(x, gate_mlp, self.mlp(torch.addcmul(shift_mlp, self.norm_mlp(x), 1 + scale_mlp)))


class DiT(nn.Module):
    """A grid, a time and conditions to a grid of the same sizes: a `tectum.diffusion.denoiser.Network`.

    A fresh one gives zeros.

    Args:
        config: its shape.
        checkpointing: whether training forgets what happens inside a block and computes it again for the gradients.

    >>> config = DiTConfig(
    ...     channels_in=4, channels_out=8, patch=2, width=32, blocks=2, heads=4, told=ConditionConfig(features=16, classes=10)
    ... )
    >>> DiT(config)(torch.zeros(2, 4, 6, 8), torch.tensor([3.0, 500.0]), {"class": torch.tensor([1, 9])}).shape
    torch.Size([2, 8, 6, 8])
    """

    def __init__(self, config: DiTConfig, *, checkpointing: bool = False) -> None:
        super().__init__()
        self.config, self.checkpointing = config, checkpointing
        width, patch, dims = config.width, config.patch, config.dims
        self.patches = CONVOLUTIONS[dims](config.channels_in, width, patch, stride=patch)
        self.told = Conditions(config.told, width)
        self.blocks = nn.ModuleList(
            ToldBlock(width, config.heads, context_width=config.context, eps_mlp=config.eps_mlp) for _ in range(config.blocks)
        )
        self.norm_out = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.modulation_out = zeroed(Linear(width, 2 * width))
        self.project_out = zeroed(Linear(width, patch**dims * config.channels_out))
        for part in (self.told.time.first, self.told.time.second):
            nn.init.normal_(part.weight, std=0.02)
        if config.told.classes:
            nn.init.normal_(self.told.classes.weight, std=0.02)

    def forward(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """[n, c, …], times [n] and conditions by name to [n, c', …].

        Raises:
            ValueError: if x is no such grid, its sizes are no multiples of the patch, or the conditions are not those in the
                configuration.
        """
        config, cond = self.config, cond or {}
        check_grid(x, config.dims, config.channels_in, config.patch)
        context = () if config.context is None else ("tokens",)
        check_conditions(cond, (*config.told.names, *context), ("mask",) if context else ())

        told = F.silu(self.told(time, cond))
        grid = self.patches(x.to(self.patches.weight.dtype))
        places = grid.shape[2:]
        y = tokens(grid) + grid_positions(places, config.width, device=x.device).to(grid.dtype)
        for block in self.blocks:
            inputs = (y, told, cond.get("tokens"), cond.get("mask"))
            if self.checkpointing and torch.is_grad_enabled():
                y = checkpoint(block, *inputs, use_reentrant=False)
            else:
                y = block(*inputs)
        shift, scale = self.modulation_out(told).unsqueeze(1).chunk(2, dim=2)
        y = self.project_out(torch.addcmul(shift, self.norm_out(y), 1 + scale))
        return unpatch(y, places, config.patch)
