"""What the layouts of all networks of Hugging Face diffusers share: options that are read and none ignored, and key maps."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from tectum.errors import CheckpointError
from tectum.hub.files import read_weights, write_json, write_tensors
from tectum.hub.keymap import Rule, both, plan, to_ours, to_theirs
from tectum.hub.layouts.clip_hf import possible, whole

WEIGHTS = "diffusion_pytorch_model"
SILU = ("silu", "swish")
N_co = TypeVar("N_co", bound=nn.Module, covariant=True)
C = TypeVar("C")
_PROJECTIONS = ("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("out", "to_out.0")
_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # until diffusers 0.15


@dataclass(frozen=True, eq=False, slots=True)
class Component(Generic[N_co]):
    """A network of a diffusers folder.

    network: of tectum.
    notes: what else its config.json says and no number depends on, such as "sample_size"; kept for saving.
    """

    network: N_co
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Options:
    """The options in a config.json over the defaults of its class.

    where: the file.
    values: by name.
    """

    where: Path
    values: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def whole(self, key: str) -> int:
        """A whole number."""
        return whole(self.values, key, self.where)

    def number(self, key: str) -> float:
        """A number."""
        value = self[key]
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise CheckpointError(f"{self.where} gives {key} as {value!r}, which is no number: restore the file")
        return float(value)

    def several(self, key: str) -> tuple[Any, ...]:
        """A list."""
        value = self[key]
        if not isinstance(value, list | tuple) or not value:
            raise CheckpointError(f"{self.where} gives {key} as {value!r}, where a list is needed: restore the file")
        return tuple(value)

    def each(self, key: str, count: int) -> tuple[Any, ...]:
        """One value for each of `count` levels: a list of so many, or one for all."""
        value = self[key]
        if not isinstance(value, list | tuple):
            return (value,) * count
        if len(value) != count:
            raise CheckpointError(f"{self.where} gives {key} for {len(value)} levels, and has {count}: restore the file")
        return tuple(value)

    def wholes(self, key: str, count: int) -> tuple[int, ...]:
        """A whole number for each of `count` levels."""
        return tuple(whole({key: value}, key, self.where) for value in self.each(key, count))

    def refuse(self, key: str, known: str) -> CheckpointError:
        """The error for a value that is not known here, and which are."""
        return CheckpointError(f"{self.where} sets {key} to {self[key]!r}, which is not read here: {known}")

    def configure(self, make: Callable[["Options"], C]) -> C:
        """The configuration that `make` makes of them, its error in terms of the file."""
        with possible(self.where, "configuration"):
            return make(self)


@dataclass(frozen=True, slots=True)
class Layout:
    """How diffusers writes one class of networks.

    name: of the class.
    defaults: all its options.
    only: of some of them the values that are read.
    notes: those that no number depends on.
    """

    name: str
    defaults: Mapping[str, Any]
    only: Mapping[str, tuple[Any, ...]]
    notes: tuple[str, ...]

    def options(self, folder: Path, said: Mapping[str, Any]) -> Options:
        """The options that the config.json of a folder says: none is unknown, and those in `only` have a value listed there.

        Raises:
            CheckpointError: if that is not so: what an option does to the numbers is not guessed.
        """
        where = folder / "config.json"
        strange = sorted(key for key in said if key not in self.defaults and not key.startswith("_"))
        if strange:
            raise CheckpointError(
                f"{where} has an option {strange[0]!r} that is not known here: remove it if the network does not depend on it"
            )
        found = Options(where, {key: said.get(key, value) for key, value in self.defaults.items()})
        for key, allowed in self.only.items():
            if found[key] not in allowed:
                raise found.refuse(key, f"it must be {' or '.join(map(repr, allowed))}")
        return found

    def component(
        self, given: Options, make: Callable[[], N_co], rules: Iterable[Rule], theirs: Mapping[str, Tensor] | None = None
    ) -> Component[N_co]:
        """The network that `make` makes, filled with `theirs` or what is beside its options, and its notes.

        Raises:
            CheckpointError: if the weights are not there, or not those of such a network.
        """
        folder = given.where.parent
        network = filled(make, rules, weights(folder) if theirs is None else theirs, str(folder))
        return Component(network, {key: given[key] for key in self.notes if given[key] != self.defaults[key]})

    def write(
        self, component: Component[Any], folder: Path, said: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype
    ) -> None:
        """The two files of a network: what is `said` goes over the notes, these over the defaults."""
        notes = {key: value for key, value in component.notes.items() if key in self.defaults}
        write_json(folder / "config.json", {"_class_name": self.name, **self.defaults, **notes, **said})
        write_tensors(folder / f"{WEIGHTS}.safetensors", tensors, dtype)


def attention(ours: str, theirs: str, *, bias: bool) -> Iterator[Rule]:
    """Query, key, value and what follows, of which the last always has a bias."""
    for name, name_theirs in _PROJECTIONS:
        pair = both(f"{ours}.{name}", f"{theirs}.{name_theirs}")
        yield from pair if bias or name == "out" else pair[:1]


def residual(ours: str, theirs: str) -> Iterator[Rule]:
    """A `TimedBlock`."""
    names = ("norm_first", "norm1"), ("conv_first", "conv1"), ("norm_second", "norm2"), ("conv_second", "conv2")
    for name, name_theirs in (*names, ("shortcut", "conv_shortcut"), ("told", "time_emb_proj")):
        yield from both(f"{ours}.{name}", f"{theirs}.{name_theirs}")


def plain_attention(ours: str, theirs: str) -> Iterator[Rule]:
    """A `GridAttention`."""
    yield from both(f"{ours}.norm", f"{theirs}.group_norm")
    yield from attention(f"{ours}.attention", theirs, bias=True)


def embedding(ours: str, theirs: str) -> Iterator[Rule]:
    """A `TimeEmbedding`."""
    yield from both(f"{ours}.first", f"{theirs}.linear_1")
    yield from both(f"{ours}.second", f"{theirs}.linear_2")


def filled(
    make: Callable[[], N_co], rules: Iterable[Rule], theirs: Mapping[str, Tensor], where: str, *, unused: str = r"$^"
) -> N_co:
    """The network that `make` makes, with a checkpoint's weights in it, in float32 and evaluation mode.

    Raises:
        CheckpointError: if the weights are not those of such a network.
    """
    with torch.device("meta"):  # nothing is drawn that is overwritten, and wrong sizes cost no memory
        network = make()
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    network.load_state_dict(to_ours(list(rules), shapes, theirs, where=where, unused=unused), assign=True)
    return network.eval()


def weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder, modern.

    Raises:
        CheckpointError: if there are none, or they are no safetensors.
    """
    return modern(read_weights(folder, WEIGHTS, f"{WEIGHTS}.fp16", f"{WEIGHTS}.bf16"))


def modern(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a network with attention as it is written today: linear maps, not 1×1 convolutions, under new names.

    >>> {key: list(tensor.shape) for key, tensor in modern({"attentions.0.key.weight": torch.zeros(8, 8, 1, 1)}).items()}
    {'attentions.0.to_k.weight': [8, 8]}
    """
    found = {}
    for key, tensor in tensors.items():
        key = re.sub(r"(?<=\.)(query|key|value|proj_attn)(?=\.(weight|bias)$)", lambda match: _OLD[match[1]], key)
        linear = tensor.shape[2:] == (1, 1) and re.search(r"\.(proj_in|proj_out|to_q|to_k|to_v|to_out\.0)\.weight$", key)
        found[key] = tensor.flatten(1) if linear else tensor
    return found


def named(network: nn.Module, rules: Iterable[Rule]) -> dict[str, Tensor]:
    """The weights of a network under the names of a layout.

    Raises:
        CheckpointError: if some have no name there.
    """
    ours = network.state_dict()
    rules = list(rules)
    known = {part for entry in plan(rules, ours) for part in entry.ours}
    wordless(*((key, key not in known) for key in sorted(ours)))
    return to_theirs(rules, ours)


def wordless(*parts: tuple[str, object], within: str = "") -> None:
    """Refuses what a layout has no words for: each part by its name, and whether it is there; all perhaps `within` something.

    Raises:
        CheckpointError: if one is.
    """
    for what, there in parts:
        if there:
            raise CheckpointError(
                f"the layout of diffusers has no words for {what}{within}: a network can be saved there only without it"
            )
