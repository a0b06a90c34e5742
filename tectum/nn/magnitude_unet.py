"""The U-Net of EDM2, configuration G (Karras et al. 2024, arXiv:2312.02696, figure 20), over any grid."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.errors import ConfigError
from tectum.nn.conditions import check_conditions
from tectum.nn.grid import channels_last, check_grid, check_sizes, weights_last
from tectum.nn.magnitude import MPConv, MPFourier, mp_cat, mp_silu, mp_sum, unit

POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True, kw_only=True, slots=True)
class MagnitudeUNetConfig:
    """A magnitude-preserving U-Net; EDM2-XS has widths (128, 256, 384, 512), attends on the last two levels, and has 3 blocks.

    channels: of the grid.
    widths: finest first; from each to the next the grid is halved.
    blocks: on each level, one more on the way up.
    attends: for each level whether its blocks attend, in heads of `head_width` channels.
    classes: number of classes; 0 for none. "class" is then an id [n], the number of classes itself for none of them.
    residual, attention, skip, label: shares t of what is added in a block, by attention, across, and of the class.
    clip: what no activation exceeds.
    """

    channels: int
    widths: tuple[int, ...]
    blocks: int = 3
    attends: tuple[bool, ...]
    head_width: int = 64
    classes: int = 0
    dims: int = 2
    dropout: float = 0.0
    residual: float = 0.3
    attention: float = 0.3
    skip: float = 0.5
    label: float = 0.5
    clip: float = 256.0

    def __post_init__(self) -> None:
        check_sizes(self.dims, 1, self.widths)
        if min(self.channels, self.blocks, self.head_width) < 1 or self.classes < 0:
            raise ConfigError(f"no U-Net has such sizes: {self}")
        if len(self.attends) != len(self.widths):
            raise ConfigError(f"{len(self.widths)} levels need as many words on whether they attend, not {len(self.attends)}")
        for width, attends in zip(self.widths, self.attends, strict=True):
            if attends and width % self.head_width:
                raise ConfigError(f"heads of {self.head_width} channels do not fill a width of {width}")


class MagnitudeBlock(nn.Module):
    """Two convolutions around a shortcut, told the time by a gain for each channel, then attention by angles alone.

    On the way down the main path is brought to unit length at every place first.
    """

    def __init__(
        self, config: MagnitudeUNetConfig, channels_in: int, width: int, embedding: int, *, heads: int, down: bool
    ) -> None:
        super().__init__()
        self.config, self.heads, self.down = config, heads, down
        dims = config.dims
        self.shortcut = MPConv(dims, channels_in, width, kernel=1) if channels_in != width else None
        self.conv_first = MPConv(dims, width if down else channels_in, width)
        self.told, self.told_gain = MPConv(dims, embedding, width, kernel=0), nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(config.dropout)
        self.conv_second = MPConv(dims, width, width)
        if heads:
            self.project_in = MPConv(dims, width, 3 * width, kernel=1)
            self.project_out = MPConv(dims, width, width, kernel=1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """[n, c, …] and what is told [n, e] to [n, width, …]."""
        config = self.config
        if self.down:
            x = unit(x if self.shortcut is None else self.shortcut(x), 1)
        gains = self.told(told, self.told_gain) + 1
        y = self.conv_first(mp_silu(x)) * gains.reshape(*gains.shape, *[1] * config.dims)
        y = self.conv_second(self.dropout(mp_silu(y)))
        if not self.down and self.shortcut is not None:
            x = self.shortcut(x)
        x = mp_sum(x, y, config.residual)
        if self.heads:
            # Each of q, k, v as unit vectors at every place: what is compared are angles.
            y = self.project_in(x).flatten(2).unflatten(1, (3, self.heads, -1))
            q, k, v = unit(y, 3).transpose(-1, -2).unbind(1)
            y = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(x.shape)
            x = mp_sum(x, self.project_out(y), config.attention)
        return x.clamp(-config.clip, config.clip)


class MagnitudeUNet(nn.Module):
    """A grid, a time and perhaps a class to a grid: the F of an EDM denoiser, a `tectum.diffusion.denoiser.Network`.

    It expects grids of variance 1, and ¼ log σ for the time: `Denoiser(net, Prediction("edm", std), time_input="log_noise",
    scale_input=True)`. A fresh one gives zeros.

    >>> config = MagnitudeUNetConfig(channels=3, widths=(16, 32), blocks=1, attends=(False, True), head_width=16, classes=10)
    >>> MagnitudeUNet(config)(torch.zeros(2, 3, 8, 8), torch.zeros(2), {"class": torch.tensor([1, 10])}).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(self, config: MagnitudeUNetConfig) -> None:
        super().__init__()
        self.config = config
        dims, widths = config.dims, config.widths
        embedding = max(widths)
        self.features = MPFourier(widths[0])
        self.time = MPConv(dims, widths[0], embedding, kernel=0)
        self.classes = MPConv(dims, config.classes, embedding, kernel=0) if config.classes else None
        self.conv_in = MPConv(dims, config.channels + 1, widths[0])  # one more of ones: there are no biases

        def level(i: int, channels: list[int], down: bool) -> nn.ModuleList:
            heads = widths[i] // config.head_width if config.attends[i] else 0
            return nn.ModuleList(MagnitudeBlock(config, c, widths[i], embedding, heads=heads, down=down) for c in channels)

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.halved, self.doubled = nn.ModuleList(), nn.ModuleList()  # a block after each halving and doubling
        width, kept = widths[0], [widths[0]]
        for i in range(len(widths)):
            if i:
                self.halved.append(MagnitudeBlock(config, width, width, embedding, heads=0, down=True))
                kept.append(width)
            self.down.append(level(i, [width] + [widths[i]] * (config.blocks - 1), down=True))
            width, kept = widths[i], kept + [widths[i]] * config.blocks
        heads = width // config.head_width if config.attends[-1] else 0
        self.middle = nn.ModuleList(MagnitudeBlock(config, width, width, embedding, heads=h, down=False) for h in (heads, 0))
        for i in reversed(range(len(widths))):
            if i < len(widths) - 1:
                self.doubled.append(MagnitudeBlock(config, width, width, embedding, heads=0, down=False))
            self.up.append(level(i, [before + kept.pop() for before in [width] + [widths[i]] * config.blocks], down=False))
            width = widths[i]
        self.conv_out, self.gain_out = MPConv(dims, width, config.channels), nn.Parameter(torch.zeros(()))
        weights_last(self)

    def forward(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """[n, c, …], times [n] and conditions by name to [n, c, …].

        Raises:
            ValueError: if x is no such grid, its sizes cannot be halved on every level, or the conditions are not as configured.
        """
        return self.conv_out(self.hidden(x, time, cond), self.gain_out).contiguous()

    def hidden(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """What the last convolution is given, [n, widths[0], …]."""
        config, cond = self.config, cond or {}
        check_grid(x, config.dims, config.channels, 2 ** (len(config.widths) - 1))
        check_conditions(cond, ("class",) if config.classes else ())
        told = self.time(self.features(time).to(x.dtype))
        if self.classes is not None:
            # One more class than there are columns is a row of zeros: no class in particular.
            classes = F.one_hot(cond["class"], config.classes + 1)[:, :-1].to(told.dtype) * config.classes**0.5
            told = mp_sum(told, self.classes(classes), config.label)
        told = mp_silu(told)

        y = self.conv_in(channels_last(torch.cat((x, torch.ones_like(x[:, :1])), dim=1)))
        kept = [y]
        for i, blocks in enumerate(self.down):
            if i:
                y = self.halved[i - 1](POOLS[config.dims](y, 2), told)
                kept.append(y)
            for block in blocks:  # type: ignore[attr-defined]
                y = block(y, told)
                kept.append(y)
        for block in self.middle:
            y = block(y, told)
        for i, blocks in enumerate(self.up):
            if i:
                y = self.doubled[i - 1](F.interpolate(y, scale_factor=2.0, mode="nearest"), told)
            for block in blocks:  # type: ignore[attr-defined]
                y = block(mp_cat(y, kept.pop(), config.skip), told)
        return y
