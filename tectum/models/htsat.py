"""HTSAT, a Swin Transformer over log-mel spectrograms (Chen et al. 2022, arXiv:2202.00874), as CLAP has it (arXiv:2211.06687)."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from tectum.errors import ConfigError
from tectum.nn.activation import Activation, activation
from tectum.nn.patches import PatchEmbedding
from tectum.nn.swin import Swin


@dataclass(frozen=True, kw_only=True, slots=True)
class HtsatConfig:
    """A Swin Transformer over a spectrogram that is folded into a square.

    `side` is the square's, a multiple of `bins`: the spectrogram is stretched to side²/bins frames, and its side/bins parts stand
    one under the other. `projection` is the activation of the head.
    """

    bins: int
    side: int
    patch: int
    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    mlp_ratio: float = 4.0
    activation: Activation = "gelu"
    eps: float = 1e-5
    projection: Activation = "relu"

    def __post_init__(self) -> None:
        if min(self.bins, self.side, self.patch, self.width, self.window, *self.heads) < 1 or len(self.depths) != len(self.heads):
            raise ConfigError(f"no HTSAT has such sizes: {self}")
        if self.side % self.bins or self.side % self.patch:
            raise ConfigError(f"a square of {self.side} is no whole number of {self.bins} bins and of patches of {self.patch}")
        if any(self.width * 2**i % heads for i, heads in enumerate(self.heads)):
            raise ConfigError(f"{self.heads} heads do not divide a width of {self.width} that doubles with each stage")

    @property
    def frames(self) -> int:
        """How many frames fit; fewer are stretched to as many."""
        return self.side**2 // self.bins


class Htsat(nn.Module):
    """Log-mel spectrograms [n, 1, bins, frames] to vectors [n, dim], not normalised.

    Raises:
        ConfigError: if the windows do not tile the grid of every stage.
    """

    def __init__(self, config: HtsatConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.norm_bins = nn.BatchNorm1d(config.bins)
        self.patches = PatchEmbedding(1, config.width, (config.patch, config.patch))
        self.norm = nn.LayerNorm(config.width)
        try:
            self.swin = Swin(
                config.side // config.patch,
                config.width,
                config.depths,
                config.heads,
                window=config.window,
                mlp_ratio=config.mlp_ratio,
                activation=config.activation,
                eps=config.eps,
            )
        except ValueError as error:
            raise ConfigError(f"no HTSAT has such sizes: {error}") from error
        width = config.width * 2 ** (len(config.depths) - 1)
        self.head = nn.Sequential(nn.Linear(width, dim), activation(config.projection), nn.Linear(dim, dim))

    def forward(self, mel: Tensor) -> Tensor:
        """[n, 1, bins, frames] to [n, dim].

        Raises:
            ValueError: if there are more frames than fit.
        """
        bins, frames = self.config.bins, self.config.frames
        if mel.shape[-1] > frames:
            raise ValueError(f"{mel.shape[-1]} frames are more than the {frames} that fit")
        x = self.norm_bins(mel[:, 0]).unsqueeze(1)
        x = F.interpolate(x, (bins, frames), mode="bicubic", align_corners=True)
        x = _folded(x, self.config.side)
        x = self.patches(x).permute(0, 2, 3, 1)
        return self.head(self.swin(self.norm(x)).mean((1, 2)))


def _folded(x: Tensor, side: int) -> Tensor:
    """[n, 1, bins, frames] to a square [n, 1, side, side]: the first part of the frames on top, all bins of it, then the next."""
    return x.unflatten(3, (-1, side)).transpose(2, 3).flatten(2, 3)
