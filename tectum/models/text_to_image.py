"""Our own text-to-image models: a text encoder that learns with its denoiser, a flow of latents, an autoencoder.

A `tectum.models.latent_diffusion.LatentDiffusion` that is described by one configuration. The denoiser is told the text twice, as
one vector and as tokens, and says which way a flow goes (Liu et al. 2022, arXiv:2209.03003).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from tectum.diffusion.denoiser import Denoise, Denoiser, Network
from tectum.diffusion.grids import Grid, uniform
from tectum.diffusion.noise import Noise
from tectum.diffusion.predictions import Prediction
from tectum.diffusion.process import Process
from tectum.diffusion.schedules import flow
from tectum.diffusion.solvers.state import Step
from tectum.diffusion.solvers.unipc import UniPC
from tectum.errors import ConfigError
from tectum.media.text import Tokenizer
from tectum.models.encoders import TextConfig
from tectum.models.latent_diffusion import LatentDiffusion
from tectum.models.prompts import WordPrompts
from tectum.nn.autoencoder import Autoencoder, AutoencoderConfig
from tectum.nn.conditions import ConditionConfig
from tectum.nn.dit import DiT, DiTConfig
from tectum.nn.unet import UNet
from tectum.nn.unet_config import UNetConfig

TIME_SCALE = 1000.0  # What a network is told of the flow's time, as flow models have it.


@dataclass(frozen=True, kw_only=True, slots=True)
class TextToImageConfig:
    """What a model of this kind is made of.

    size: side of the pictures.
    text: the encoder; its width is that of the denoiser's context and of its pooled condition.
    autoencoder: pictures in -1 … 1 to latents.
    denoiser: of latents, a Transformer or a U-Net.
    shift: of the flow, see `tectum.diffusion.schedules.flow`.

    Raises ConfigError where the parts do not fit each other.
    """

    name: str
    description: str = ""
    size: int
    text: TextConfig
    autoencoder: AutoencoderConfig
    denoiser: DiTConfig | UNetConfig
    shift: float = 1.0

    def __post_init__(self) -> None:
        if self.denoiser.told.pooled != self.text.width:
            raise ConfigError(
                f"the denoiser is told a vector of {self.denoiser.told.pooled}, and the text encoder gives one of "
                f"{self.text.width}: make them the same"
            )
        side = self.autoencoder.factor * (self.denoiser.patch if isinstance(self.denoiser, DiTConfig) else 1)
        if self.size % side:
            raise ConfigError(f"pictures of {self.size} are no whole number of patches: give a multiple of {side}")


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowRoute:
    """Along straight lines from noise to latents, as `tectum.models.sampling.Route` asks."""

    process: Process
    grid: Grid
    step: Step = field(default_factory=UniPC)

    def denoiser(self, network: Network) -> Denoiser:
        """A network that says which way the flow goes."""
        return Denoiser(network, Prediction("flow"), time_input="flow", time_scale=TIME_SCALE)

    def limited(self, denoiser: Denoise) -> Denoise:
        """Latents have no range."""
        return denoiser

    def begin(self, noise: Tensor) -> Tensor:
        """The noise itself."""
        return noise


class TextToImage(LatentDiffusion):
    """Texts to pictures.

    >>> from tectum.media.text import train_bpe
    >>> from tectum.models.sampling import Sampling
    >>> tokenizer = train_bpe(["a red apple"] * 2, vocab_size=300, context=8)
    >>> model = TextToImage(tiny(tokenizer.vocab_size), tokenizer).eval()
    >>> model.generate(["a red apple", "a green apple"], Sampling(steps=2)).shape
    torch.Size([2, 3, 16, 16])

    Raises:
        ConfigError: if the parts do not fit each other.
    """

    prompts: WordPrompts
    autoencoder: Autoencoder

    def __init__(self, config: TextToImageConfig, tokenizer: Tokenizer) -> None:
        side = config.size // config.autoencoder.factor
        super().__init__(
            DiT(config.denoiser) if isinstance(config.denoiser, DiTConfig) else UNet(config.denoiser),
            self.route,
            (side, side),
            autoencoder=Autoencoder(config.autoencoder),
            prompts=WordPrompts(config.text, tokenizer),
        )
        self.config = config

    def route(self, steps: int, noise: Noise | None = None) -> FlowRoute:
        """Even steps from noise to latents; no noise is needed on the way."""
        process = flow(self.config.shift)
        return FlowRoute(process=process, grid=uniform(process, steps, start=1.0, end=1 / steps))


def tiny(vocab_size: int) -> TextToImageConfig:
    """One for tests and first steps."""
    return TextToImageConfig(
        name="tiny",
        size=16,
        text=TextConfig(vocab_size=vocab_size, context=8, width=16, blocks=1, heads=2),
        autoencoder=AutoencoderConfig(fold=2, widths=(8, 16), blocks=1, groups=4, latents=2, attends=False),
        denoiser=DiTConfig(
            channels_in=2,
            channels_out=2,
            patch=2,
            width=32,
            blocks=2,
            heads=2,
            told=ConditionConfig(features=16, pooled=16),
            context=16,
        ),
    )
