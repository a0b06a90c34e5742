"""What a denoising network is told as one vector: the time, and a class, a pooled text, sizes, a weight of guidance."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tectum.errors import ConfigError
from tectum.nn.linear import Linear
from tectum.nn.timestep import Fourier, Order, Sinusoid, TimeEmbedding, sinusoid


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionConfig:
    """What a network is told besides the grid; the names are those of the conditions it then asks for.

    features: numbers that the time becomes before it is embedded, even.
    order, shift: of the sinusoid, see `timestep.sinusoid`.
    bandwidth: if given, the time becomes random Fourier features instead, of frequencies with this standard deviation.
    classes: number of classes; 0 for none. "class" is then an id [n].
    null_class: whether there is one more, with the id `classes`, for "of no class in particular".
    pooled: width of a vector of the whole text or picture; 0 for none. "pooled" is then [n, pooled].
    sizes: how many numbers go with it (SDXL: 6, the original size, the crop's corner and the target size, each height first);
        "sizes" is then [n, sizes].
    size_features: what each of them becomes before they are embedded.
    guidance: width of the embedding of a distilled weight of guidance (LCM: 256); 0 for none. "guidance" is then w [n], 1 being
        none.
    """

    features: int
    order: Order = "cos_sin"
    shift: float = 0.0
    bandwidth: float | None = None
    classes: int = 0
    null_class: bool = False
    pooled: int = 0
    sizes: int = 0
    size_features: int = 256
    guidance: int = 0

    def __post_init__(self) -> None:
        if min(self.classes, self.pooled, self.sizes, self.guidance, self.size_features) < 0:
            raise ConfigError(f"a network cannot be told a negative number of things: {self}")
        if self.order not in ("sin_cos", "cos_sin"):
            raise ConfigError(f"there is no order {self.order!r} of a time's features: choose 'sin_cos' or 'cos_sin'")
        for name in ("features", "size_features", "guidance"):
            width = getattr(self, name)
            if width % 2 or (name == "features" and width // 2 <= max(self.shift, 0)):
                raise ConfigError(f"{name} = {width} are half sines, half cosines: take an even number, 2 or more")
        if self.null_class and not self.classes:
            raise ConfigError("a null class stands beside classes: give their number, or no null class")
        if self.sizes and not self.pooled:
            raise ConfigError("sizes are embedded together with a pooled vector: give its width, or no sizes")

    @property
    def names(self) -> tuple[str, ...]:
        """The conditions asked for."""
        asked = {"class": self.classes, "pooled": self.pooled, "sizes": self.sizes, "guidance": self.guidance}
        return tuple(name for name, count in asked.items() if count)


class Conditions(nn.Module):
    """The sum of all that a network is told, embedded: a time [n] and conditions by name to [n, width].

    >>> told = Conditions(ConditionConfig(features=8, classes=10, null_class=True), 32)
    >>> told(torch.tensor([1.0, 500.0]), {"class": torch.tensor([3, 10])}).shape
    torch.Size([2, 32])
    """

    def __init__(self, config: ConditionConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.features: nn.Module
        if config.bandwidth is None:
            self.features = Sinusoid(config.features, order=config.order, shift=config.shift)
        else:
            self.features = Fourier(config.features, order=config.order, bandwidth=config.bandwidth)
        self.time = TimeEmbedding(config.features, width)
        if config.guidance:
            self.guidance = Linear(config.guidance, config.features, bias=False)
        if config.classes:
            self.classes = nn.Embedding(config.classes + config.null_class, width)
        if config.pooled:
            self.pooled = TimeEmbedding(config.pooled + config.sizes * config.size_features, width)

    def forward(self, time: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """[n] and conditions [n, …] to [n, width], in the precision of the weights."""
        config, dtype = self.config, self.time.first.weight.dtype
        features = self.features(time).to(dtype)
        if config.guidance:
            weight = sinusoid((cond["guidance"] - 1) * 1000, config.guidance, order="sin_cos", shift=1)  # LCM's convention
            features = features + self.guidance(weight.to(dtype))
        told = self.time(features)
        if config.classes:
            told = told + self.classes(cond["class"])
        if config.pooled:
            pooled = cond["pooled"].to(dtype)
            if config.sizes:
                sizes = sinusoid(cond["sizes"], config.size_features, order=config.order, shift=config.shift)
                pooled = torch.cat((pooled, sizes.flatten(1).to(dtype)), dim=1)
            told = told + self.pooled(pooled)
        return told


def check_conditions(cond: Mapping[str, Tensor], asked: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    """Refuses conditions that a network lacks or would silently ignore.

    Raises:
        ValueError: if one of `asked` is missing, or one is neither asked for nor optional.

    >>> check_conditions({"clas": torch.zeros(2)}, ("class",))
    Traceback (most recent call last):
    ValueError: this network is told class, not clas: give the conditions it was made for
    """
    if not set(asked) <= set(cond) <= {*asked, *optional}:
        known = ", ".join((*asked, *(f"{name} (optional)" for name in optional))) or "the time alone"
        given = ", ".join(sorted(cond)) or "nothing"
        raise ValueError(f"this network is told {known}, not {given}: give the conditions it was made for")
