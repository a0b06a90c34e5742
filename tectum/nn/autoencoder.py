"""The KL autoencoder of latent diffusion (Rombach et al. 2022, arXiv:2112.10752, appendix G), over any grid."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tectum.errors import ConfigError
from tectum.nn.gaussian import DiagonalGaussian
from tectum.nn.grid import NormSiLU, channels_last, check_grid, check_sizes, convolution, fold, unfold, weights_last
from tectum.nn.residual import Downsample, TimedBlock, Upsample
from tectum.nn.spatial import GridAttention

EPS = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderConfig:
    """An autoencoder that halves a grid once for every width after the first.

    channels: of the grid.
    latents: channels of the code.
    widths: finest first.
    fold: side of the cubes of places that become the channels of one before anything else: the work shrinks with it.
    blocks: residual blocks of the encoder on each level; the decoder has one more.
    groups: of the group norms.
    attends: whether there is self-attention, of one head, in the middle of both.
    mixes_moments, mixes_latents: whether a 1×1 convolution comes after the encoder and before the decoder.
    scale, shift: a denoiser's latents are (z - shift) · scale, which brings their standard deviation to about 1: one number, or
        one for each channel. They belong to the weights: 0.18215 for Stable Diffusion 1 and 2, 0.13025 for SDXL.
    dims: dimensions of the grid.
    """

    channels: int = 3
    latents: int = 4
    widths: tuple[int, ...] = (128, 256, 512, 512)
    fold: int = 1
    blocks: int = 2
    groups: int = 32
    attends: bool = True
    mixes_moments: bool = True
    mixes_latents: bool = True
    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0
    dims: int = 2

    def __post_init__(self) -> None:
        check_sizes(self.dims, self.groups, self.widths)
        if min(self.channels, self.latents, self.blocks, self.fold) < 1:
            raise ConfigError(f"no autoencoder has such sizes: {self}")
        for name in ("scale", "shift"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.latents:
                raise ConfigError(f"{name} has {len(value)} numbers for {self.latents} channels: give one, or one for each")
        if 0.0 in (self.scale if isinstance(self.scale, tuple) else (self.scale,)):
            raise ConfigError("a scale of 0 leaves nothing of the latents: give that of the weights")

    @property
    def factor(self) -> int:
        """How many times smaller the sizes of the code are."""
        return self.fold * 2 ** (len(self.widths) - 1)

    @property
    def folded(self) -> int:
        """Channels of the grid once it is folded."""
        return self.channels * self.fold**self.dims


def sd_autoencoder(*, scale: float = 0.18215) -> AutoencoderConfig:
    """That of Stable Diffusion, 84 million parameters: 8 times smaller, four channels. SDXL's has the scale 0.13025.

    >>> sd_autoencoder().factor
    8
    """
    return AutoencoderConfig(scale=scale)


def tiny_autoencoder(*, dims: int = 2) -> AutoencoderConfig:
    """One for tests and first steps.

    >>> tiny_autoencoder().factor
    2
    """
    return AutoencoderConfig(widths=(16, 32), blocks=1, groups=8, dims=dims)


class Middle(nn.Module):
    """A residual block, self-attention, a residual block."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.first, self.second = _block(config, width, width), _block(config, width, width)
        self.attention = GridAttention(width, 1, groups=config.groups, eps=EPS) if config.attends else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, …] to the same."""
        return self.second(self.attention(self.first(x)))


class Encoder(nn.Module):
    """A folded grid [n, c, …] to moments [n, 2 · latents, …]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        dims, widths = config.dims, config.widths
        self.conv_in = convolution(dims, config.folded, widths[0])
        self.levels = _levels(config, widths, config.blocks)
        self.halvings = nn.ModuleList(Downsample(dims, width, "end") for width in widths[:-1])
        self.middle = Middle(config)
        self.norm_out = NormSiLU(config.groups, widths[-1], EPS)
        self.conv_out = convolution(dims, widths[-1], 2 * config.latents)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, …] to [n, 2 · latents, …], smaller by the halvings."""
        y = self.conv_in(x)
        for i, level in enumerate(self.levels):
            y = level(y)
            if i < len(self.halvings):
                y = self.halvings[i](y)
        return self.conv_out(self.norm_out(self.middle(y)))


class Decoder(nn.Module):
    """A code [n, latents, …] to a folded grid [n, c, …]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        dims, widths = config.dims, config.widths[::-1]
        self.conv_in = convolution(dims, config.latents, widths[0])
        self.middle = Middle(config)
        self.levels = _levels(config, widths, config.blocks + 1)  # coarsest first
        self.doublings = nn.ModuleList(Upsample(dims, width) for width in widths[:-1])
        self.norm_out = NormSiLU(config.groups, widths[-1], EPS)
        self.conv_out = convolution(dims, widths[-1], config.folded)

    def forward(self, z: Tensor) -> Tensor:
        """[n, latents, …] to [n, c, …], larger by the doublings."""
        y = self.middle(self.conv_in(z))
        for i, level in enumerate(self.levels):
            y = level(y)
            if i < len(self.doublings):
                y = self.doublings[i](y, [2 * size for size in y.shape[2:]])
        return self.conv_out(self.norm_out(y))


class Autoencoder(nn.Module):
    """Grids to Gaussians over codes, and codes back to grids.

    `encode` and `decode` are what is trained; `latents` and `grids` are what a denoiser works with, scaled and shifted.

    >>> autoencoder = Autoencoder(tiny_autoencoder())
    >>> autoencoder.encode(torch.zeros(2, 3, 8, 12)).mean.shape
    torch.Size([2, 4, 4, 6])
    >>> autoencoder.grids(autoencoder.latents(torch.zeros(2, 3, 8, 12))).shape
    torch.Size([2, 3, 8, 12])
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        dims, latents = config.dims, config.latents
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.mix_moments = convolution(dims, 2 * latents, 2 * latents, kernel=1) if config.mixes_moments else nn.Identity()
        self.mix_latents = convolution(dims, latents, latents, kernel=1) if config.mixes_latents else nn.Identity()
        weights_last(self)

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """The codes [n, latents, …/factor] that a grid [n, c, …] may have; pictures are in -1 … 1.

        Raises:
            ValueError: if x is no such grid, or its sizes are no multiples of the factor.
        """
        check_grid(x, self.config.dims, self.config.channels, self.config.factor)
        return DiagonalGaussian.of(self.mix_moments(self.encoder(self._ready(fold(x, self.config.fold)))).contiguous())

    def decode(self, z: Tensor) -> Tensor:
        """A code [n, latents, …] to a grid [n, c, … · factor].

        Raises:
            ValueError: if z is no such code.
        """
        check_grid(z, self.config.dims, self.config.latents)
        return unfold(self.decoder(self.mix_latents(self._ready(z))), self.config.fold).contiguous()

    def latents(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """A grid as a denoiser knows it: a sample of its code by this noise, or without one its mean, shifted and scaled."""
        code = self.encode(x)
        z = code.mean if noise is None else code.sample(noise)
        return (z - self._by_channel(z, self.config.shift)) * self._by_channel(z, self.config.scale)

    def grids(self, latents: Tensor) -> Tensor:
        """What a denoiser made as a grid."""
        scaled = latents / self._by_channel(latents, self.config.scale)
        return self.decode(scaled + self._by_channel(latents, self.config.shift))

    def _ready(self, grid: Tensor) -> Tensor:
        return channels_last(grid.to(self.decoder.conv_out.weight.dtype))

    def _by_channel(self, z: Tensor, value: float | tuple[float, ...]) -> Tensor:
        return torch.as_tensor(value, dtype=z.dtype, device=z.device).reshape(-1, *[1] * self.config.dims)


def measured(config: AutoencoderConfig, latents: Tensor) -> AutoencoderConfig:
    """The configuration with the shift and scale that bring codes [n, latents, …] to mean 0 and variance 1, channel by channel.

    >>> config = measured(tiny_autoencoder(), torch.randn(8, 4, 16, 16) * 5 + 3)
    >>> [round(shift) for shift in config.shift], [round(1 / scale) for scale in config.scale]
    ([3, 3, 3, 3], [5, 5, 5, 5])
    """
    std, mean = torch.std_mean(latents.double().transpose(0, 1).flatten(1), dim=1, correction=0)
    return replace(config, scale=tuple((1 / std).tolist()), shift=tuple(mean.tolist()))


def _levels(config: AutoencoderConfig, widths: tuple[int, ...], blocks: int) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(*(_block(config, width if i else before, width) for i in range(blocks)))
        for before, width in zip((widths[0], *widths), widths, strict=False)
    )


def _block(config: AutoencoderConfig, channels_in: int, channels: int) -> TimedBlock:
    return TimedBlock(config.dims, channels_in, channels, groups=config.groups, eps=EPS)
