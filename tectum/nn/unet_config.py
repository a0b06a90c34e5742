"""The configuration of the U-Net, and the shapes of well-known ones."""

from dataclasses import dataclass

from tectum.errors import ConfigError
from tectum.nn.conditions import ConditionConfig
from tectum.nn.grid import check_sizes
from tectum.nn.residual import Modulation, Padding


@dataclass(frozen=True, kw_only=True, slots=True)
class Attend:
    """Attention after a residual block.

    heads: of it; they divide the width.
    depth: blocks of a spatial Transformer, which also attend to the context if there is one; 0 for plain self-attention.
    only_context: whether these attend to the context alone.
    """

    heads: int
    depth: int = 0
    only_context: bool = False

    def __post_init__(self) -> None:
        if self.heads < 1 or self.depth < 0:
            raise ConfigError(f"attention has one head or more and a depth of 0 or more, not {self}")
        if self.only_context and not self.depth:
            raise ConfigError(
                "only the blocks of a spatial Transformer attend to a context: give them a depth, or no only_context"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """The blocks at one resolution: `blocks` on the way down, one more on the way up, with or without attention."""

    width: int
    blocks: int = 2
    attend: Attend | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UNetConfig:
    """A U-Net over grids of 1 (sound), 2 (pictures) or 3 (video) dimensions.

    channels_in, channels_out: of the grid it is given and gives; more come in for inpainting, twice as many go out where a
        variance is learned.
    levels: finest first; from each to the next the grid is halved.
    middle: the attention between the two blocks at the coarsest resolution.
    has_middle: whether there are these two blocks.
    told: the time and whatever else is told as a vector.
    embedding: width of that vector, four times the first width if left out.
    context: width of the tokens that the spatial Transformers attend to; None for none. "tokens" are then [n, t, context], and
        "mask" [n, t] may say which of them count.
    modulation: how blocks are told, see `TimedBlock`.
    groups, eps: of the group norms.
    dropout: in the residual blocks.
    padding: of the halvings, see `Downsample`.
    """

    channels_in: int
    channels_out: int
    levels: tuple[Level, ...]
    told: ConditionConfig
    middle: Attend | None = None
    has_middle: bool = True
    dims: int = 2
    embedding: int | None = None
    context: int | None = None
    modulation: Modulation = "shift"
    groups: int = 32
    eps: float = 1e-5
    dropout: float = 0.0
    padding: Padding = "both"

    def __post_init__(self) -> None:
        check_sizes(self.dims, self.groups, [level.width for level in self.levels])
        if min(self.channels_in, self.channels_out) < 1 or min(level.blocks for level in self.levels) < 1:
            raise ConfigError("a U-Net has one channel or more at both ends, and one block or more on each level")
        attends = [(level.width, level.attend) for level in self.levels] + [(self.levels[-1].width, self.middle)]
        for width, attend in attends:
            if attend and width % attend.heads:
                raise ConfigError(f"{attend.heads} heads do not divide a width of {width}")
        if self.middle and not self.has_middle:
            raise ConfigError("there is no middle that could attend: leave middle out, or has_middle True")
        if self.context is not None and not any(attend and attend.depth for _, attend in attends):
            raise ConfigError("nothing attends to the context: give a level or the middle a depth, or no context")
        if self.context is None and any(attend and attend.only_context for _, attend in attends):
            raise ConfigError("there is no context to attend to: give the width of its tokens, or no only_context")
        if self.modulation not in ("shift", "scale_shift"):
            raise ConfigError(f"blocks are told by 'shift' or 'scale_shift', not {self.modulation!r}")
        if self.padding not in ("both", "end"):
            raise ConfigError(f"halvings pad 'both' sides or the 'end', not {self.padding!r}")

    @property
    def multiple(self) -> int:
        """What must divide the sizes of a grid: any will do where halvings pad both sides."""
        return 2 ** (len(self.levels) - 1) if self.padding == "end" else 1

    @property
    def told_width(self) -> int:
        """Width of the vector that all blocks are told."""
        return self.embedding or 4 * self.levels[0].width


def tiny(*, channels: int = 3, dims: int = 2, context: int | None = None, classes: int = 0) -> UNetConfig:
    """A U-Net for tests and first steps: two levels, some hundred thousand parameters.

    >>> [level.width for level in tiny().levels]
    [32, 64]
    """
    attend = Attend(heads=2, depth=0 if context is None else 1)
    return UNetConfig(
        channels_in=channels,
        channels_out=channels,
        levels=(Level(width=32, blocks=1), Level(width=64, blocks=1, attend=attend)),
        middle=attend,
        told=ConditionConfig(features=32, classes=classes, null_class=classes > 0),
        dims=dims,
        context=context,
        groups=8,
    )


def ddpm_cifar() -> UNetConfig:
    """That of DDPM for 32×32 pictures, 35.7 million parameters (Ho et al. 2020, arXiv:2006.11239, appendix B).

    >>> ddpm_cifar().levels[1].width
    256
    """
    return UNetConfig(
        channels_in=3,
        channels_out=3,
        levels=(Level(width=128), Level(width=256, attend=Attend(heads=1)), Level(width=256), Level(width=256)),
        middle=Attend(heads=1),
        told=ConditionConfig(features=128, order="sin_cos", shift=1),
        eps=1e-6,
        dropout=0.1,
        padding="end",
    )


def sd15(*, width: int = 320, heads: int = 8, context: int = 768, channels_in: int = 4) -> UNetConfig:
    """That of Stable Diffusion 1, for latents of 64×64, 860 million parameters (Rombach et al. 2022, arXiv:2112.10752).

    >>> [level.width for level in sd15().levels]
    [320, 640, 1280, 1280]
    """
    attend = Attend(heads=heads, depth=1)
    return UNetConfig(
        channels_in=channels_in,
        channels_out=4,
        levels=(*(Level(width=width * factor, attend=attend) for factor in (1, 2, 4)), Level(width=width * 4)),
        middle=attend,
        told=ConditionConfig(features=width),
        context=context,
    )


def sdxl(*, width: int = 320, head_width: int = 64, context: int = 2048, pooled: int = 1280) -> UNetConfig:
    """That of SDXL, for latents of 128×128, 2.6 billion parameters (Podell et al. 2023, arXiv:2307.01952, table 1).

    >>> [level.attend.depth for level in sdxl().levels if level.attend]
    [2, 10]
    """

    def attend(factor: int, depth: int) -> Attend:
        return Attend(heads=width * factor // head_width, depth=depth)

    return UNetConfig(
        channels_in=4,
        channels_out=4,
        levels=(Level(width=width), Level(width=width * 2, attend=attend(2, 2)), Level(width=width * 4, attend=attend(4, 10))),
        middle=attend(4, 10),
        told=ConditionConfig(features=width, pooled=pooled, sizes=6),
        context=context,
    )
