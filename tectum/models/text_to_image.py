"""Text to pictures: a text encoder, a denoiser of latents and an autoencoder (Rombach et al. 2022, arXiv:2112.10752).

The denoiser is told the text twice, as one vector and as tokens, and says which way a flow goes (Liu et al. 2022,
arXiv:2209.03003). Which solver, grid and guidance make a picture of it is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tectum.diffusion.denoiser import Conditions, Denoise, Denoiser
from tectum.diffusion.editing import Keeping, noised
from tectum.diffusion.grids import Grid, tail, uniform
from tectum.diffusion.guidance import ClassifierFree, Given
from tectum.diffusion.noise import Independent
from tectum.diffusion.predictions import Prediction
from tectum.diffusion.process import Process
from tectum.diffusion.schedules import flow
from tectum.diffusion.solvers.state import State, Step, sample
from tectum.diffusion.solvers.unipc import UniPC
from tectum.errors import ConfigError
from tectum.media.text import Tokenizer
from tectum.models.encoders import TextConfig, TextStates
from tectum.nn.autoencoder import Autoencoder, AutoencoderConfig
from tectum.nn.conditions import ConditionConfig
from tectum.nn.dit import DiT, DiTConfig
from tectum.nn.pooling import mean_pool
from tectum.nn.unet import UNet
from tectum.nn.unet_config import UNetConfig

TIME_SCALE = 1000.0  # What a network is told of the flow's time, as flow models have it.


@dataclass(frozen=True, kw_only=True, slots=True)
class TextToImageConfig:
    """What a model of this kind is made of.

    size: side of the pictures.
    text: the encoder; its width is that of the denoiser's context and of its pooled condition.
    autoencoder: folded pictures in -1 … 1 to latents.
    fold: side of the squares of pixels that become the channels of one place before the autoencoder, whose work shrinks with it.
    denoiser: of latents, a Transformer or a U-Net.
    shift: of the flow, see `tectum.diffusion.schedules.flow`.

    Raises ConfigError where the parts do not fit each other.
    """

    name: str
    description: str = ""
    size: int
    text: TextConfig
    autoencoder: AutoencoderConfig
    fold: int = 1
    denoiser: DiTConfig | UNetConfig
    shift: float = 1.0

    def __post_init__(self) -> None:
        fits = {
            "the denoiser's channels_in and channels_out": (self.denoiser.channels_in, self.denoiser.channels_out),
            "the autoencoder's latents": (self.autoencoder.latents,) * 2,
        }
        if len(set(fits.values())) > 1:
            raise ConfigError(f"the parts do not fit: {', '.join(f'{name} are {sizes}' for name, sizes in fits.items())}")
        if {self.denoiser.context, self.denoiser.told.pooled} != {self.text.width}:
            raise ConfigError(
                f"the denoiser is told tokens of {self.denoiser.context} and a vector of {self.denoiser.told.pooled}, and the "
                f"text encoder gives both a width of {self.text.width}: make them the same"
            )
        if self.autoencoder.channels != 3 * self.fold**2:
            raise ConfigError(f"folded by {self.fold}, pictures have {3 * self.fold**2} channels: give the autoencoder as many")
        side = self.factor * (self.denoiser.patch if isinstance(self.denoiser, DiTConfig) else 1)
        if self.size % side:
            raise ConfigError(f"pictures of {self.size} are no whole number of patches: give a multiple of {side}")

    @property
    def factor(self) -> int:
        """How many times smaller the latents are."""
        return self.fold * self.autoencoder.factor

    @property
    def latent_size(self) -> int:
        """Side of the latents."""
        return self.size // self.factor


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How pictures are made.

    steps: of the solver.
    guidance: w of classifier-free guidance; 1 is none.
    negative: what the pictures are led away from.
    seed: of all noise; with the number of a picture it makes that picture, whatever else is in the batch.
    solver: any of `tectum.diffusion.solvers`.
    """

    steps: int = 20
    guidance: float = 5.0
    negative: str = ""
    seed: int = 0
    solver: Step = field(default_factory=UniPC)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"{self.steps} steps make no picture: take at least one, 20 are usual")


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Edit:
    """A picture to begin from.

    picture: [3, h, w] in -1 … 1, of the model's size.
    strength: how much of the way to noise it is taken, above 0 to 1: 1 keeps nothing of it.
    hole: where something new is wanted, boolean [h, w]; everything else stays. None is everywhere.
    """

    picture: Tensor
    strength: float = 0.6
    hole: Tensor | None = None

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ConfigError(f"strength is {self.strength}: give a number above 0 and up to 1, which keeps nothing")
        if self.picture.ndim != 3 or (self.hole is not None and self.hole.shape != self.picture.shape[1:]):
            raise ConfigError("a picture to edit is [3, h, w], and its mask [h, w]")


class TextToImage(nn.Module):
    """Texts to pictures.

    >>> from tectum.media.text import train_bpe
    >>> tokenizer = train_bpe(["a red apple"] * 2, vocab_size=300, context=8)
    >>> model = TextToImage(tiny(tokenizer.vocab_size), tokenizer).eval()
    >>> model.generate(["a red apple", "a green apple"], Sampling(steps=2)).shape
    torch.Size([2, 3, 16, 16])
    """

    def __init__(self, config: TextToImageConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.text = TextStates(config.text, tokenizer.pad)
        self.network = DiT(config.denoiser) if isinstance(config.denoiser, DiTConfig) else UNet(config.denoiser)
        self.autoencoder = Autoencoder(config.autoencoder)

    @property
    def process(self) -> Process:
        """From latents to noise, along straight lines."""
        return flow(self.config.shift)

    @property
    def denoiser(self) -> Denoiser:
        """The network with what must be known to use it."""
        return Denoiser(self.network, Prediction("flow"), time_input="flow", time_scale=TIME_SCALE)

    def conditions(self, texts: Sequence[str]) -> Conditions:
        """What the denoiser is told of texts: "pooled" [n, width], "tokens" [n, s, width] and their "mask" [n, s]."""
        return self.read(self.tokenizer(texts).to(next(self.parameters()).device))

    def read(self, ids: Tensor) -> Conditions:
        """The same of token ids [n, s]."""
        states, mask = self.text.states(ids)
        return {"pooled": mean_pool(states, mask), "tokens": states, "mask": mask}

    def grid(self, steps: int) -> Grid:
        """Even steps from noise to latents."""
        return uniform(self.process, steps, start=1.0, end=1 / steps)

    def guided(self, texts: Sequence[str], sampling: Sampling) -> Denoise:
        """The denoiser of these texts, led away from the negative one."""
        if sampling.guidance == 1:
            return Given(self.denoiser, self.conditions(texts))
        both = self.conditions([*texts, *[sampling.negative] * len(texts)])
        with_, without = ({name: value.chunk(2)[part] for name, value in both.items()} for part in (0, 1))
        return ClassifierFree(self.denoiser, with_, without, sampling.guidance)

    def trajectory(
        self, texts: Sequence[str], sampling: Sampling, *, numbers: Sequence[int] | None = None, edit: Edit | None = None
    ) -> Iterator[State]:
        """The latents on their way: a state for each point of the grid, of which the newest `past` holds a preview.

        Args:
            texts: one for each picture.
            sampling: how.
            numbers: who the pictures are, 0, 1, … if left out: number 7 is the same picture alone or in a batch.
            edit: a picture to begin from.
        """
        device = next(self.parameters()).device
        who = torch.tensor(list(range(len(texts)) if numbers is None else numbers), device=device)
        if len(who) != len(texts):
            raise ConfigError(f"{len(texts)} texts have {len(who)} numbers: give one each")
        noise, side, step = Independent(sampling.seed, who), self.config.latent_size, sampling.solver
        start = noise.start((self.config.autoencoder.latents, side, side))
        grid = self.grid(sampling.steps)
        state = State(start)
        if edit is not None:
            latents = self.latents(edit.picture.to(start)[None]).expand_as(start)
            grid = tail(grid, edit.strength)
            state = noised(latents, start, grid)
            if edit.hole is not None:
                # Every place of the latents that the hole touches.
                hole = nn.functional.adaptive_max_pool2d(edit.hole.to(start)[None, None], side)
                step = Keeping(step, latents, start, hole)
        return sample(step, self.guided(texts, sampling), state, grid)

    @torch.no_grad()
    def generate(
        self,
        texts: Sequence[str],
        sampling: Sampling | None = None,
        *,
        numbers: Sequence[int] | None = None,
        edit: Edit | None = None,
    ) -> Tensor:
        """Pictures of texts, uint8 [n, 3, h, w]: `finished` of the end of `trajectory`."""
        *_, end = self.trajectory(texts, sampling or Sampling(), numbers=numbers, edit=edit)
        return self.finished(end, edit)

    @torch.no_grad()
    def finished(self, state: State, edit: Edit | None = None) -> Tensor:
        """The pictures at the end of a trajectory, uint8 [n, 3, h, w]. What an edit keeps is kept to the pixel."""
        pictures = self.pictures(state.x)
        if edit is not None and edit.hole is not None:
            pictures = torch.where(edit.hole.to(pictures.device), pictures, as_bytes(edit.picture.to(pictures.device)))
        return pictures

    @torch.no_grad()
    def latents(self, pictures: Tensor) -> Tensor:
        """Pictures in -1 … 1 [n, 3, h, w] to latents [n, c, h', w']."""
        size = self.config.size
        if pictures.shape[1:] != (3, size, size):
            raise ConfigError(
                f"{self.config.name} takes pictures of {size} × {size}, not {list(pictures.shape[1:])}: resize them"
            )
        return self.autoencoder.latents(nn.functional.pixel_unshuffle(pictures, self.config.fold))

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> Tensor:
        """Latents to pictures, uint8 [n, 3, h, w]."""
        return as_bytes(nn.functional.pixel_shuffle(self.autoencoder.grids(latents).float(), self.config.fold))


def as_bytes(pictures: Tensor) -> Tensor:
    """Pictures in -1 … 1 to uint8; what lies outside is cut off.

    >>> as_bytes(torch.tensor([-2.0, 0.0, 1.0]))
    tensor([  0, 128, 255], dtype=torch.uint8)
    """
    return ((pictures + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def tiny(vocab_size: int) -> TextToImageConfig:
    """One for tests and first steps."""
    return TextToImageConfig(
        name="tiny",
        size=16,
        text=TextConfig(vocab_size=vocab_size, context=8, width=16, blocks=1, heads=2),
        autoencoder=AutoencoderConfig(channels=12, widths=(8, 16), blocks=1, groups=4, latents=2, attends=False),
        fold=2,
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
