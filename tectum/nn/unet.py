"""The U-Net of diffusion models (Ho et al. 2020, arXiv:2006.11239; Rombach et al. 2022, arXiv:2112.10752), over any grid."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tectum.nn.conditions import Conditions, check_conditions
from tectum.nn.grid import NormSiLU, channels_last, check_grid, convolution, weights_last, zeroed
from tectum.nn.residual import Downsample, TimedBlock, Upsample
from tectum.nn.spatial import GridAttention, SpatialTransformer
from tectum.nn.unet_config import Attend, Level, UNetConfig


class Stage(nn.Module):
    """A residual block, and attention after it if there is any."""

    def __init__(self, config: UNetConfig, channels_in: int, channels: int, attend: Attend | None) -> None:
        super().__init__()
        self.block = TimedBlock(
            config.dims,
            channels_in,
            channels,
            groups=config.groups,
            eps=config.eps,
            told=config.told_width,
            modulation=config.modulation,
            dropout=config.dropout,
        )
        self.attention: GridAttention | SpatialTransformer | None = None
        if attend and attend.depth:
            self.attention = SpatialTransformer(
                channels,
                attend.heads,
                depth=attend.depth,
                context_width=config.context,
                groups=config.groups,
                only_context=attend.only_context,
            )
        elif attend:
            self.attention = GridAttention(channels, attend.heads, groups=config.groups, eps=config.eps)

    def forward(self, x: Tensor, told: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """[n, c, …] to [n, channels, …]."""
        y = self.block(x, told)
        return y if self.attention is None else self.attention(y, context, mask)


class UNet(nn.Module):
    """A grid, a time and conditions to a grid of the same sizes: a `tectum.diffusion.denoiser.Network`.

    Down the levels, each half as fine; through the middle; and up again, where every stage also gets what the stage across left
    behind. With `padding="both"` any sizes will do: odd ones are halved to the larger half and come back exactly. A fresh U-Net
    gives zeros. Nothing has to be set for speed; one that will only be run on a processor can be packed, see `packing.pack`.

    Args:
        config: its shape.
        checkpointing: whether training forgets what happens inside a stage and computes it again for the gradients (Chen et al.
            2016, arXiv:1604.06174): a third more time, a fraction of the memory.

    >>> from tectum.nn.unet_config import tiny
    >>> unet = UNet(tiny(classes=10))
    >>> unet(torch.zeros(2, 3, 7, 8), torch.tensor([3.0, 500.0]), {"class": torch.tensor([1, 10])}).shape
    torch.Size([2, 3, 7, 8])
    """

    def __init__(self, config: UNetConfig, *, checkpointing: bool = False) -> None:
        super().__init__()
        self.config, self.checkpointing = config, checkpointing
        dims, levels = config.dims, config.levels
        first, last = levels[0].width, levels[-1].width
        self.told = Conditions(config.told, config.told_width)
        self.conv_in = convolution(dims, config.channels_in, first)

        self.down, self.halvings = nn.ModuleList(), nn.ModuleList()
        width, kept = first, [first]
        for level, below in zip(levels, (*levels[1:], None), strict=True):
            self.down.append(_stages(config, level, [width] + [level.width] * (level.blocks - 1)))
            width, kept = level.width, kept + [level.width] * level.blocks
            if below:
                self.halvings.append(Downsample(dims, width, config.padding))
                kept.append(width)

        attends = (config.middle, None) if config.has_middle else ()
        self.middle = nn.ModuleList(Stage(config, last, last, attend) for attend in attends)

        self.up, self.doublings = nn.ModuleList(), nn.ModuleList()  # coarsest first
        for level, above in zip(levels[::-1], (*levels[-2::-1], None), strict=True):
            widths = [width] + [level.width] * level.blocks
            self.up.append(_stages(config, level, [before + kept.pop() for before in widths]))
            width = level.width
            if above:
                self.doublings.append(Upsample(dims, width))

        self.norm_out = NormSiLU(config.groups, first, config.eps)
        self.conv_out = zeroed(convolution(dims, first, config.channels_out))
        weights_last(self)

    def forward(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """[n, c, …], times [n] and conditions by name to [n, c', …].

        Raises:
            ValueError: if x is no such grid, or the conditions are not those in the configuration.
        """
        config, cond = self.config, cond or {}
        check_grid(x, config.dims, config.channels_in, config.multiple)
        context = () if config.context is None else ("tokens",)
        check_conditions(cond, (*config.told.names, *context), ("mask",) if context else ())
        told = F.silu(self.told(time, cond))

        y = self.conv_in(channels_last(x.to(self.conv_in.weight.dtype)))
        kept = [y]
        for i, stages in enumerate(self.down):
            for stage in stages:  # type: ignore[attr-defined]
                y = self._through(stage, y, told, cond)
                kept.append(y)
            if i < len(self.halvings):
                y = self.halvings[i](y)
                kept.append(y)
        for stage in self.middle:
            y = self._through(stage, y, told, cond)
        for i, stages in enumerate(self.up):
            for stage in stages:  # type: ignore[attr-defined]
                y = self._through(stage, torch.cat((y, kept.pop()), dim=1), told, cond)
            if i < len(self.doublings):
                y = self.doublings[i](y, kept[-1].shape[2:])
        return self.conv_out(self.norm_out(y)).contiguous()

    def _through(self, stage: nn.Module, x: Tensor, told: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        inputs = (x, told, cond.get("tokens"), cond.get("mask"))
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(stage, *inputs, use_reentrant=False)
        return stage(*inputs)


def _stages(config: UNetConfig, level: Level, channels_in: list[int]) -> nn.ModuleList:
    return nn.ModuleList(Stage(config, before, level.width, level.attend) for before in channels_in)
