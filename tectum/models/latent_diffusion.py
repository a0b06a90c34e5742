"""Pictures from noise: of texts, of classes or of nothing, in latents or in pixels.

What Stable Diffusion (Rombach et al. 2022, arXiv:2112.10752), SDXL (Podell et al. 2023, arXiv:2307.01952), DiT (Peebles & Xie
2023, arXiv:2212.09748), DDPM (Ho et al. 2020, arXiv:2006.11239) and paint-mini have in common: a network, a way from noise to
data, and perhaps text encoders and an autoencoder. `tectum.models.text_to_image` is our own kind; those of diffusers are read by
`tectum.hub.diffusers.pipelines`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tectum.diffusion.denoiser import Conditions, Denoise
from tectum.diffusion.editing import Keeping, noised
from tectum.diffusion.grids import tail
from tectum.diffusion.guidance import ClassifierFree, Given
from tectum.diffusion.noise import Independent
from tectum.diffusion.solvers.state import State, sample
from tectum.errors import ConfigError
from tectum.models.prompts import Prompts
from tectum.models.sampling import Edit, Planner, Route, Sampling, Wanted
from tectum.nn.autoencoder import Autoencoder
from tectum.nn.dit import DiT
from tectum.nn.packing import pack
from tectum.nn.unet import UNet


class LatentDiffusion(nn.Module):
    """A network, its scheduler and what goes with them, as something that makes pictures.

    >>> from tectum.hub.diffusers.schedulers import Scheduler
    >>> from tectum.nn.unet_config import tiny
    >>> def planner(steps: int, noise: Noise) -> Route:
    ...     return Scheduler("DDPMScheduler", {}).plan(steps, noise=noise)
    >>> LatentDiffusion(UNet(tiny()), planner, (8, 8)).generate(2, Sampling(steps=2)).shape
    torch.Size([2, 3, 8, 8])

    Args:
        network: the denoiser.
        planner: the scheduler.
        size: height and width of what the network denoises, where nothing else is asked for.
        autoencoder: of a network of latents; None of one of pixels.
        prompts: of a network that is told texts.
        compat: do as diffusers does: a guidance below 1 is 1, and `skip` counts for the text but not for the negative one.
    """

    anchor: Tensor

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
        # Where the weights are and of which kind: once packed, a network has no parameters that say so.
        self.register_buffer("anchor", torch.zeros(()), persistent=False)

    @property
    def factor(self) -> int:
        """How many times smaller the latents are than the pictures."""
        return 1 if self.autoencoder is None else self.autoencoder.config.factor

    @property
    def multiple(self) -> int:
        """Heights and widths of pictures are multiples of this."""
        return self.factor * (self.network.config.patch if isinstance(self.network, DiT) else 1)

    @torch.no_grad()
    def pack(self, wanted: Wanted, sampling: Sampling | None = None) -> None:
        """Lay the weights of the network and of the decoder out for making pictures like these on a processor, quicker.

        The model can then do nothing else; see `tectum.nn.packing.pack`. It takes as long as a step.
        """
        sampling = sampling or Sampling()
        told = self.conditions(wanted, sampling)
        count = wanted if isinstance(wanted, int) else len(wanted)
        without = None if sampling.guidance == 1 else self.without(told, sampling)
        if without is not None:
            told = {name: torch.cat([value, without[name]]) for name, value in told.items()}
        rows = count if without is None else 2 * count
        config = self.network.config
        if config.told.guidance:
            told["guidance"] = self.anchor.new_ones(rows)
        latents = self.anchor.new_zeros(rows, config.channels_in, *self.latent_size(sampling))
        pack(self.network, latents, self.anchor.new_ones(rows), told)
        if self.autoencoder is not None:
            pack(self.autoencoder.decoder, latents[:count])

    @torch.inference_mode()
    def generate(
        self,
        wanted: Wanted,
        sampling: Sampling | None = None,
        *,
        numbers: Sequence[int] | None = None,
        start: Tensor | None = None,
        edit: Edit | None = None,
    ) -> Tensor:
        """Pictures, uint8 [n, c, h, w]: `finished` of the end of `trajectory`, whose arguments these are."""
        *_, end = self.trajectory(wanted, sampling or Sampling(), numbers=numbers, start=start, edit=edit)
        return self.finished(end, edit)

    def trajectory(
        self,
        wanted: Wanted,
        sampling: Sampling,
        *,
        numbers: Sequence[int] | None = None,
        start: Tensor | None = None,
        edit: Edit | None = None,
    ) -> Iterator[State]:
        """The latents on their way: a state for each point of the grid, of which the newest `past` holds a preview.

        Args:
            wanted: a text or the id of a class for each picture, or how many, of a network that is told neither.
            sampling: how.
            numbers: who the pictures are, 0, 1, … if left out: number 7 is the same picture alone or in a batch.
            start: unit noise to begin from [n, c, h, w] instead of that of the numbers.
            edit: a picture to begin from.

        Raises:
            ConfigError: if the network is told other things than those, or there are not as many of each.
        """
        count = wanted if isinstance(wanted, int) else len(wanted)
        who = torch.tensor(list(range(count) if numbers is None else numbers), device=self.anchor.device)
        if count < 1 or len(who) != count:
            raise ConfigError(f"{count} pictures are asked for, and {len(who)} numbers given: give one each, and at least one")
        high, wide = self.latent_size(sampling)
        shape = (self.network.config.channels_in, high, wide)
        noise = Independent(sampling.seed, who)
        if start is None:
            start = noise.start(shape, torch.promote_types(self.anchor.dtype, torch.float32))
        if start.shape != (count, *shape):
            raise ConfigError(f"the start is {list(start.shape)} where {[count, *shape]} is needed")
        route = self.planner(sampling.steps, noise)
        denoiser = route.limited(self.guided(route, wanted, sampling))
        step, grid = sampling.solver or route.step, route.grid
        if edit is None:
            return sample(step, denoiser, route.begin(start), grid)
        latents = self._latents(edit.picture.to(start), shape).expand_as(start)
        grid = tail(grid, edit.strength)
        if edit.hole is not None:
            # Every place of the latents that the hole touches.
            hole = nn.functional.adaptive_max_pool2d(edit.hole.to(start)[None, None], (high, wide))
            step = Keeping(step, latents, start, hole)
        state = noised(latents, start, grid)
        return sample(step, denoiser, state._replace(step=len(route.grid) - len(grid)), grid)

    def latent_size(self, sampling: Sampling) -> tuple[int, int]:
        """Height and width of what the network denoises."""
        if sampling.size is None:
            return self.size
        if any(side < 1 or side % self.multiple for side in sampling.size):
            raise ConfigError(f"pictures of {sampling.size} cannot be made: give multiples of {self.multiple}")
        return sampling.size[0] // self.factor, sampling.size[1] // self.factor

    @torch.no_grad()
    def guided(self, route: Route, wanted: Wanted, sampling: Sampling) -> Denoise:
        """The denoiser of what is wanted, led away from what is not."""
        config, w = self.network.config, sampling.guidance
        # A learned variance is the second half of the channels, whether or not the solver asks for it.
        denoiser = replace(route.denoiser(self.network), learned_variance=config.channels_out == 2 * config.channels_in)
        guides = w > 1 if self.compat else w != 1
        with_ = self.conditions(wanted, sampling)
        if config.told.guidance:  # distilled: it is told w
            weight = with_["tokens"].new_full((len(with_["tokens"]),), w)
            return Given(denoiser, {**with_, "guidance": weight})
        without = self.without(with_, sampling) if guides else None
        if without is None:
            return Given(denoiser, with_)
        return ClassifierFree(denoiser, with_, without, w, rescale=sampling.rescale, rescaled_as=denoiser.prediction)

    def conditions(self, wanted: Wanted, sampling: Sampling) -> dict[str, Tensor]:
        """What the network is told of what is wanted.

        Raises:
            ConfigError: if that is something else than it can be told, or there is no such class.
        """
        told, device = self.network.config.told, self.anchor.device
        if self.prompts is not None:
            texts = [] if isinstance(wanted, int) else [one for one in wanted if isinstance(one, str)]
            if isinstance(wanted, int | str) or len(texts) != len(wanted):
                raise ConfigError("this model makes pictures of texts: give a list of them")
            return self._sized(self.prompts(texts, sampling.skip), sampling)
        if told.classes:
            classes = [] if isinstance(wanted, int) else [one for one in wanted if isinstance(one, int)]
            if isinstance(wanted, int) or len(classes) != len(wanted) or not all(0 <= one < told.classes for one in classes):
                raise ConfigError(f"this model makes pictures of classes: give a list of ids from 0 to {told.classes - 1}")
            return {"class": torch.tensor(classes, device=device)}
        if not isinstance(wanted, int):
            raise ConfigError("this model makes pictures of nothing in particular: give how many")
        return {}

    def without(self, with_: Conditions, sampling: Sampling) -> dict[str, Tensor] | None:
        """What the network is told in the place of `with_` where nothing is wanted, or the negative; None if it knows no such."""
        told = self.network.config.told
        if self.prompts is not None:
            if sampling.negative is None and self.prompts.zeros:
                return {name: value if name == "sizes" else torch.zeros_like(value) for name, value in with_.items()}
            count = len(with_["tokens"])
            negative = self.prompts([sampling.negative or ""], 0 if self.compat else sampling.skip)
            # One text for all, read once.
            return self._sized({name: value.expand(count, *value.shape[1:]) for name, value in negative.items()}, sampling)
        if told.classes and told.null_class:
            return {"class": torch.full_like(with_["class"], told.classes)}
        return None

    @torch.no_grad()
    def finished(self, state: State, edit: Edit | None = None) -> Tensor:
        """The pictures at the end of a trajectory, uint8 [n, c, h, w]. What an edit keeps is kept to the pixel."""
        pictures = as_bytes(self.pictures(state.x))
        if edit is not None and edit.hole is not None:
            pictures = torch.where(edit.hole.to(pictures.device), pictures, as_bytes(edit.picture.to(pictures.device)))
        return pictures

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> Tensor:
        """Latents to pictures [n, c, h, w] in -1 … 1, or somewhat outside."""
        return latents if self.autoencoder is None else self.autoencoder.grids(latents)

    @torch.no_grad()
    def _latents(self, picture: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A picture [c, h, w] to its latents [1, *shape]."""
        channels = shape[0] if self.autoencoder is None else self.autoencoder.config.channels
        size = [channels, *(side * self.factor for side in shape[1:])]
        if list(picture.shape) != size:
            raise ConfigError(f"a picture to begin from must be {size} here, not {list(picture.shape)}: resize it")
        return picture[None] if self.autoencoder is None else self.autoencoder.latents(picture[None])

    def _sized(self, told: dict[str, Tensor], sampling: Sampling) -> dict[str, Tensor]:
        """With the sizes that SDXL is told: the picture's own, of which nothing is cut off."""
        if not self.network.config.told.sizes:
            return told
        high, wide = (side * self.factor for side in self.latent_size(sampling))
        tokens = told["tokens"]
        return {**told, "sizes": tokens.new_tensor([[high, wide, 0, 0, high, wide]]).expand(len(tokens), -1)}


def as_bytes(pictures: Tensor) -> Tensor:
    """Pictures in -1 … 1 to uint8; what lies outside is cut off.

    >>> as_bytes(torch.tensor([-2.0, 0.0, 1.0]))
    tensor([  0, 128, 255], dtype=torch.uint8)
    """
    return ((pictures.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
