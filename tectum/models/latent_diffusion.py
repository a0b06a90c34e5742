"""Pictures from a denoiser of other people's making: of texts, of classes or of nothing, in latents or in pixels.

What Stable Diffusion (Rombach et al. 2022, arXiv:2112.10752), SDXL (Podell et al. 2023, arXiv:2307.01952), DiT (Peebles & Xie
2023, arXiv:2212.09748) and DDPM (Ho et al. 2020, arXiv:2006.11239) have in common: a network, a way from noise to data, and
perhaps text encoders and an autoencoder. `tectum.hub.diffusers.pipelines` reads them from their folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from tectum.diffusion.denoiser import Conditions, Denoise, Denoiser, Network
from tectum.diffusion.grids import Grid
from tectum.diffusion.guidance import ClassifierFree, Given
from tectum.diffusion.noise import Independent, Noise
from tectum.diffusion.solvers.state import State, Step, sample
from tectum.errors import ConfigError
from tectum.media.text import Tokenizer
from tectum.models.clip_text import ClipText
from tectum.models.text_to_image import as_bytes
from tectum.nn.autoencoder import Autoencoder
from tectum.nn.dit import DiT
from tectum.nn.unet import UNet

Wanted = Sequence[str] | Sequence[int] | int
"""What pictures are to be of: texts, ids of classes, or a number of pictures of nothing in particular."""


class Route(Protocol):
    """A way from noise to data, as a scheduler plans it."""

    @property
    def grid(self) -> Grid:
        """The points on the way."""
        ...

    @property
    def step(self) -> Step:
        """What goes from one to the next."""
        ...

    def denoiser(self, network: Network) -> Denoiser:
        """A network with what must be known to use it."""
        ...

    def limited(self, denoiser: Denoise) -> Denoise:
        """A denoiser whose x₀ is kept to its range, if there is one."""
        ...

    def begin(self, noise: Tensor) -> Tensor:
        """Where to start, from unit noise."""
        ...


Planner = Callable[[int, Noise], Route]
"""(steps, noise) to the way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Making:
    """How pictures are made.

    steps: of the solver.
    guidance: w of classifier-free guidance, of networks that are told something; 1 is none.
    rescale: φ, how far the contrast that guidance adds is taken back (Lin et al. 2023, arXiv:2305.08891, eq. 16).
    negative: what pictures of texts are led away from; None is what the model was trained with for no text.
    seed: of all noise; with the number of a picture it makes that picture, whatever else is in the batch.
    solver: any of `tectum.diffusion.solvers`, on the scheduler's grid; None is the scheduler's own.
    skip: last blocks of the text encoders that are left out beyond those that always are ("clip skip").
    size: height and width in pixels, the size the model was trained for if left out.
    """

    steps: int = 50
    guidance: float = 5.0
    rescale: float = 0.0
    negative: str | None = None
    seed: int = 0
    solver: Step | None = None
    skip: int = 0
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"{self.steps} steps make no picture: take at least one, 50 are usual")
        if not 0 <= self.rescale <= 1:
            raise ConfigError(f"rescale is {self.rescale}: give a number from 0, which is none, to 1")


class Prompts(nn.Module):
    """Texts to what a denoiser is told of them, by one text encoder or several side by side.

    As in SDXL, `pooled` gives the states before the last block without a norm, and the last encoder's vector of the whole text;
    else it is the states at the end, after the norm, as in Stable Diffusion. Padding is attended to like any other token.
    """

    def __init__(self, encoders: Sequence[ClipText], tokenizers: Sequence[Tokenizer], *, pooled: bool, zeros: bool) -> None:
        """`zeros` says that no text is zeros, and not what the encoders make of an empty text."""
        super().__init__()
        if len(encoders) != len(tokenizers) or not encoders or len({tokenizer.context for tokenizer in tokenizers}) > 1:
            raise ConfigError("each text encoder needs a tokenizer, and all of them the same number of tokens")
        self.encoders, self.tokenizers = nn.ModuleList(encoders), tuple(tokenizers)
        self.pooled, self.zeros = pooled, zeros

    @property
    def width(self) -> int:
        """Of the tokens."""
        return sum(encoder.config.width for encoder in self._encoders())

    def forward(self, texts: Sequence[str], skip: int = 0) -> dict[str, Tensor]:
        """ "tokens" [n, s, width], and "pooled" [n, dim] if there is such a vector."""
        device = next(self.parameters()).device
        ids = [tokenizer(texts).to(device) for tokenizer in self.tokenizers]
        encoders = self._encoders()
        states = [
            encoder.states(rows, skip=skip + self.pooled, normed=not self.pooled)
            for encoder, rows in zip(encoders, ids, strict=True)
        ]
        told = {"tokens": torch.cat(states, dim=2)}
        return told | {"pooled": encoders[-1](ids[-1])} if self.pooled else told

    def _encoders(self) -> list[ClipText]:
        return [encoder for encoder in self.encoders if isinstance(encoder, ClipText)]


class LatentDiffusion(nn.Module):
    """A network, its scheduler and what goes with them, as something that makes pictures.

    >>> from tectum.hub.diffusers.schedulers import Scheduler
    >>> from tectum.nn.unet_config import tiny
    >>> def planner(steps: int, noise: Noise) -> Route:
    ...     return Scheduler("DDPMScheduler", {}).plan(steps, noise=noise)
    >>> LatentDiffusion(UNet(tiny()), planner, (8, 8)).generate(2, Making(steps=2)).shape
    torch.Size([2, 3, 8, 8])

    Args:
        network: the denoiser.
        planner: the scheduler.
        size: height and width of what the network denoises, where nothing else is asked for.
        autoencoder: of a network of latents; None of one of pixels.
        prompts: of a network that is told texts.
        compat: do as diffusers does: a guidance below 1 is 1, and `skip` counts for the text but not for the negative one.
    """

    def __init__(
        self,
        network: UNet | DiT,
        planner: Planner,
        size: tuple[int, int],
        *,
        autoencoder: Autoencoder | None = None,
        prompts: Prompts | None = None,
        compat: bool = False,
    ) -> None:
        super().__init__()
        if (network.config.context is not None) != (prompts is not None):
            raise ConfigError("text encoders go with a network that is told texts: give both or neither")
        if autoencoder is not None and autoencoder.config.latents != network.config.channels_in:
            raise ConfigError(
                f"the network denoises {network.config.channels_in} channels and the autoencoder has "
                f"{autoencoder.config.latents}: they belong to different models"
            )
        if prompts is not None and prompts.width != network.config.context:
            raise ConfigError(
                f"the network is told tokens of {network.config.context} and the text encoders give {prompts.width}: they belong "
                "to different models"
            )
        self.network, self.planner, self.size, self.compat = network, planner, size, compat
        self.autoencoder, self.prompts = autoencoder, prompts

    @property
    def factor(self) -> int:
        """How many times smaller the latents are than the pictures."""
        return 1 if self.autoencoder is None else self.autoencoder.config.factor

    @property
    def multiple(self) -> int:
        """Heights and widths of pictures are multiples of this."""
        return self.factor * (self.network.config.patch if isinstance(self.network, DiT) else 1)

    @torch.no_grad()
    def generate(
        self,
        wanted: Wanted,
        making: Making | None = None,
        *,
        numbers: Sequence[int] | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """Pictures, uint8 [n, c, h, w]: those at the end of `trajectory`, whose arguments these are."""
        *_, end = self.trajectory(wanted, making or Making(), numbers=numbers, start=start)
        return as_bytes(self.pictures(end.x))

    def trajectory(
        self, wanted: Wanted, making: Making, *, numbers: Sequence[int] | None = None, start: Tensor | None = None
    ) -> Iterator[State]:
        """The latents on their way: a state for each point of the grid, of which the newest `past` holds a preview.

        Args:
            wanted: a text or the id of a class for each picture, or how many, of a network that is told neither.
            making: how.
            numbers: who the pictures are, 0, 1, … if left out: number 7 is the same picture alone or in a batch.
            start: unit noise to begin from [n, c, h, w] instead of that of the numbers.

        Raises:
            ConfigError: if the network is told other things than those, or there are not as many of each.
        """
        count = wanted if isinstance(wanted, int) else len(wanted)
        parameter = next(self.network.parameters())
        who = torch.tensor(list(range(count) if numbers is None else numbers), device=parameter.device)
        if count < 1 or len(who) != count:
            raise ConfigError(f"{count} pictures are asked for, and {len(who)} numbers given: give one each, and at least one")
        high, wide = self.latent_size(making)
        shape = (self.network.config.channels_in, high, wide)
        noise = Independent(making.seed, who)
        if start is None:
            start = noise.start(shape, torch.promote_types(parameter.dtype, torch.float32))
        if start.shape != (count, *shape):
            raise ConfigError(f"the start is {list(start.shape)} where {[count, *shape]} is needed")
        route = self.planner(making.steps, noise)
        denoiser = route.limited(self.guided(route, wanted, making))
        return sample(making.solver or route.step, denoiser, route.begin(start), route.grid)

    def latent_size(self, making: Making) -> tuple[int, int]:
        """Height and width of what the network denoises."""
        if making.size is None:
            return self.size
        if any(side < 1 or side % self.multiple for side in making.size):
            raise ConfigError(f"pictures of {making.size} cannot be made: give multiples of {self.multiple}")
        return making.size[0] // self.factor, making.size[1] // self.factor

    @torch.no_grad()
    def guided(self, route: Route, wanted: Wanted, making: Making) -> Denoise:
        """The denoiser of what is wanted, led away from what is not."""
        config, w = self.network.config, making.guidance
        # A learned variance is the second half of the channels, whether or not the solver asks for it.
        denoiser = replace(route.denoiser(self.network), learned_variance=config.channels_out == 2 * config.channels_in)
        guides = w > 1 if self.compat else w != 1
        with_ = self.conditions(wanted, making)
        if config.told.guidance:  # distilled: it is told w
            weight = with_["tokens"].new_full((len(with_["tokens"]),), w)
            return Given(denoiser, {**with_, "guidance": weight})
        without = self.without(with_, making) if guides else None
        if without is None:
            return Given(denoiser, with_)
        return ClassifierFree(denoiser, with_, without, w, rescale=making.rescale, rescaled_as=denoiser.prediction)

    def conditions(self, wanted: Wanted, making: Making) -> dict[str, Tensor]:
        """What the network is told of what is wanted.

        Raises:
            ConfigError: if that is something else than it can be told, or there is no such class.
        """
        told, device = self.network.config.told, next(self.network.parameters()).device
        if self.prompts is not None:
            texts = [] if isinstance(wanted, int) else [one for one in wanted if isinstance(one, str)]
            if isinstance(wanted, int | str) or len(texts) != len(wanted):
                raise ConfigError("this model makes pictures of texts: give a list of them")
            return self._sized(self.prompts(texts, making.skip), making)
        if told.classes:
            classes = [] if isinstance(wanted, int) else [one for one in wanted if isinstance(one, int)]
            if isinstance(wanted, int) or len(classes) != len(wanted) or not all(0 <= one < told.classes for one in classes):
                raise ConfigError(f"this model makes pictures of classes: give a list of ids from 0 to {told.classes - 1}")
            return {"class": torch.tensor(classes, device=device)}
        if not isinstance(wanted, int):
            raise ConfigError("this model makes pictures of nothing in particular: give how many")
        return {}

    def without(self, with_: Conditions, making: Making) -> dict[str, Tensor] | None:
        """What the network is told in the place of `with_` where nothing is wanted, or the negative; None if it knows no such."""
        told = self.network.config.told
        if self.prompts is not None:
            if making.negative is None and self.prompts.zeros:
                return {name: value if name == "sizes" else torch.zeros_like(value) for name, value in with_.items()}
            count = len(with_["tokens"])
            negative = self.prompts([making.negative or ""], 0 if self.compat else making.skip)
            # One text for all, read once.
            return self._sized({name: value.expand(count, *value.shape[1:]) for name, value in negative.items()}, making)
        if told.classes and told.null_class:
            return {"class": torch.full_like(with_["class"], told.classes)}
        return None

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> Tensor:
        """Latents at the end of a trajectory to pictures [n, c, h, w] in -1 … 1, or somewhat outside."""
        return latents if self.autoencoder is None else self.autoencoder.grids(latents)

    def _sized(self, told: dict[str, Tensor], making: Making) -> dict[str, Tensor]:
        """With the sizes that SDXL is told: the picture's own, of which nothing is cut off."""
        if not self.network.config.told.sizes:
            return told
        high, wide = (side * self.factor for side in self.latent_size(making))
        tokens = told["tokens"]
        return {**told, "sizes": tokens.new_tensor([[high, wide, 0, 0, high, wide]]).expand(len(tokens), -1)}
