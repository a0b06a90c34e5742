"""Key maps: tables that say which tensor of a public checkpoint is which of ours, read forwards and backwards.

A rule pairs our key with theirs; each `{}` stands for a number (of a stage, of a block) that is the same in both. Where they
keep several of our tensors in one, the rule lists ours in their order. Numbers are only moved, so that a round trip is exact to
the bit.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tectum.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Rule:
    """Ours (one key, or several that they stack along their first axis) and theirs.

    transposed: for a projection that they use as x @ W.
    """

    ours: str | tuple[str, ...]
    theirs: str
    transposed: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Our keys."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours


def both(ours: str, theirs: str) -> tuple[Rule, Rule]:
    """The weight and the bias of one layer."""
    return Rule(f"{ours}.weight", f"{theirs}.weight"), Rule(f"{ours}.bias", f"{theirs}.bias")


def fused(ours: str, parts: tuple[str, ...], weight: str, bias: str) -> tuple[Rule, Rule]:
    """Several linear layers of ours (query, key, value) that are one of theirs."""
    return (
        Rule(tuple(f"{ours}.{part}.weight" for part in parts), weight),
        Rule(tuple(f"{ours}.{part}.bias" for part in parts), bias),
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of theirs and the tensors of ours that it holds."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool


def plan(rules: Iterable[Rule], ours: Iterable[str]) -> list[Entry]:
    """The rules written out for a model with these keys; keys that no rule names are left alone.

    >>> plan([Rule("blocks.{}.a", "layer{}.x"), Rule("b", "c")], ["blocks.0.a", "blocks.1.a", "b"])[1]
    Entry(theirs='layer1.x', ours=('blocks.1.a',), transposed=False)
    """
    known = list(ours)
    entries = []
    for rule in rules:
        pattern = re.compile(re.escape(rule.parts[0]).replace(r"\{\}", r"(\d+)"))
        for match in filter(None, map(pattern.fullmatch, known)):
            numbers = match.groups()
            parts = tuple(part.format(*numbers) for part in rule.parts)
            entries.append(Entry(rule.theirs.format(*numbers), parts, rule.transposed))
    return entries


def to_theirs(rules: Iterable[Rule], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their names and in their layout."""
    result = {}
    for entry in plan(rules, ours):
        parts = [ours[part] for part in entry.ours]
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        result[entry.theirs] = tensor.T if entry.transposed else tensor
    return result


def to_ours(
    rules: Iterable[Rule], shapes: Mapping[str, torch.Size], theirs: Mapping[str, Tensor], *, where: str, unused: str = r"$^"
) -> dict[str, Tensor]:
    """Their tensors under our names, in float32.

    Args:
        rules: the table.
        shapes: the shape of every tensor of our model; those that no rule names are not filled.
        theirs: the checkpoint.
        where: what the checkpoint is called in errors.
        unused: keys of theirs that hold nothing learned.

    Raises:
        CheckpointError: if a tensor is missing, left over, or of another shape than the configuration says.
    """
    entries = plan(rules, shapes)
    found = {key for key in theirs if not re.fullmatch(unused, key)}
    wanted = {entry.theirs for entry in entries}
    for keys, what, mend in (
        (wanted - found, "lacks", "the file is incomplete or its configuration belongs to another model"),
        (found - wanted, "holds, beyond what its configuration describes,", "this is another architecture than was said"),
    ):
        if keys:
            raise CheckpointError(f"{where} {what} {_some(keys)}: {mend}; fetch configuration and weights together")
    result: dict[str, Tensor] = {}
    for entry in entries:
        tensor = theirs[entry.theirs]
        sizes = [shapes[part] for part in entry.ours]
        expected = (sum(size[0] for size in sizes), *sizes[0][1:]) if len(sizes) > 1 else tuple(sizes[0])
        if entry.transposed and tensor.ndim == 2:
            tensor = tensor.T
        if tensor.numel() == 1 and not expected:  # scalars are stored as [] or as [1]
            tensor = tensor.reshape(())
        if tuple(tensor.shape) != expected:
            raise CheckpointError(
                f"{where}: {entry.theirs} is {list(theirs[entry.theirs].shape)} where the configuration gives {list(expected)}: "
                "fetch configuration and weights together"
            )
        pieces = tensor.split([size[0] for size in sizes]) if len(sizes) > 1 else (tensor,)
        # Copies: what a file holds lies there at any address, and the last bits of a product depend on it.
        copies = (_copy(piece) for piece in pieces)
        result.update(zip(entry.ours, copies, strict=True))
    return result


def _copy(tensor: Tensor) -> Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.to(dtype, copy=True, memory_format=torch.contiguous_format)


def _some(keys: set[str]) -> str:
    first = ", ".join(sorted(keys)[:3])
    return f"{len(keys)} tensor{'s' * (len(keys) > 1)} ({first}{', …' * (len(keys) > 3)})"
