"""Post-hoc averages of weights (Karras et al. 2024, EDM2, arXiv:2312.02696, §3): how long they are is chosen after the run.

A power-function average θ̂(t) = ∫ τ^γ θ(τ) dτ / ∫ τ^γ dτ over 0 … t forgets the start by itself, whatever the length of the run.
Its length is told by σ_rel, the standard deviation of its profile as a share of t. Two of them are kept in training and saved now
and then. Any other is the combination of those snapshots whose profile is nearest, found by least squares.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tectum.errors import CheckpointError, ConfigError
from tectum.train.checkpoint import save_tensors

LONGEST = 12**-0.5
"""σ_rel of the plain mean of all weights, γ = 0."""
_NAME = re.compile(r"(\d+)-(0\.\d+)\.safetensors")


class Profile(NamedTuple):
    """How much each moment counts in a power-function average: p(τ) = (γ+1) τ^γ / t^(γ+1) for τ in 0 … t."""

    time: float
    """t, in updates."""
    gamma: float


def exponent(std: float) -> float:
    """γ of an average with σ_rel = `std`: the largest root of σ² (γ+2)² (γ+3) = γ+1 (EDM2, algorithm 2).

    Raises:
        ConfigError: outside 0 … 0.2887.

    >>> round(exponent(0.05), 3), round(exponent(0.10), 3)
    (16.972, 6.937)
    """
    if not 0 < std < LONGEST:
        raise ConfigError(f"σ_rel = {std} is outside 0 … {LONGEST:.4f}: 0.05 and 0.10 are usual")
    return float(np.roots([1, 7, 16 - std**-2, 12 - std**-2]).real.max())


def relative_std(gamma: float) -> float:
    """σ_rel = √(γ+1) / ((γ+2) √(γ+3)).

    >>> round(relative_std(exponent(0.07)), 12)
    0.07
    """
    return math.sqrt(gamma + 1) / ((gamma + 2) * math.sqrt(gamma + 3))


def power_decay(gamma: float, updates: int) -> float:
    """β = (1 - 1/t)^(γ+1), the decay of update number t (from 1). So θ̂ is the integral exactly, θ being constant in each step.

    >>> power_decay(0.0, 1), power_decay(0.0, 4)
    (0.0, 0.75)
    """
    return (1 - 1 / updates) ** (gamma + 1)


def inner(a: Profile, b: Profile) -> float:
    """∫ p_a(τ) p_b(τ) dτ (EDM2, algorithm 3).

    >>> inner(Profile(4, 0), Profile(2, 0))  # constants 1/4 and 1/2, over two steps
    0.25
    """
    early, late = sorted((a, b))
    both = (a.gamma + 1) * (b.gamma + 1) / ((a.gamma + b.gamma + 1) * late.time)
    return both * (early.time / late.time) ** late.gamma


def combination(have: Sequence[Profile], want: Profile) -> np.ndarray:
    """The weights [n] of the profiles whose sum is nearest to the one wanted, in least squares over τ.

    They sum to one, which is not asked for in EDM2: few snapshots do not reach the start, and without it what they miss there
    would be missing from the weights of the model.
    """
    n = len(have)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = [[inner(a, b) for b in have] for a in have]
    system[n, n] = 0.0
    return np.linalg.lstsq(system, np.array([*(inner(a, want) for a in have), 1.0]), rcond=1e-14)[0][:n]


class PowerAverages(nn.Module):
    """Power-function averages of another module's weights, kept as buffers.

    What a run must not lose lies in the task's module, so put this one there, and call `keep` in `Task.after_step`:

        self.module.averages = PowerAverages(self.module)
        …
        def after_step(self, step):
            self.averages.keep(self.module, out / "averages", every=500)

    A run that is resumed goes on bit for bit, and writes again what it wrote after its checkpoint. The averages have no gradient
    and no part in the forward pass.

    >>> module = nn.Linear(1, 1, bias=False)
    >>> module.averages = PowerAverages(module, stds=(0.1, 0.2))
    >>> for value in (1.0, 2.0):
    ...     _ = module.weight.data.fill_(value)
    ...     module.averages.update(module)
    >>> [round(average["weight"].item(), 3) for average in module.averages.averages()]
    [1.996, 1.859]
    """

    updates: Tensor

    def __init__(self, module: nn.Module, stds: Sequence[float] = (0.05, 0.10)) -> None:
        super().__init__()
        self.stds, self.gammas = tuple(stds), tuple(map(exponent, stds))
        self.names = tuple(name for name, _ in _floats(module))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        for i in range(len(self.stds)):
            for k, (_, value) in enumerate(_floats(module)):
                self.register_buffer(f"{i}-{k}", value.detach().clone())

    def averages(self) -> list[dict[str, Tensor]]:
        """For each σ_rel the averaged weights by name, those of a module's state."""
        return [{name: self.get_buffer(f"{i}-{k}") for k, name in enumerate(self.names)} for i in range(len(self.stds))]

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights of the module after one more update."""
        self.updates += 1
        done = int(self.updates)
        current = dict(_floats(module))
        for gamma, average in zip(self.gammas, self.averages(), strict=True):
            share = 1 - power_decay(gamma, done)
            for name, value in average.items():
                value.lerp_(current[name], share)

    def keep(self, module: nn.Module, folder: Path, every: int) -> None:
        """`update`, and after every so many of them a snapshot in the folder, one file for each σ_rel."""
        self.update(module)
        if int(self.updates) % every == 0:
            self.save(folder)

    def save(self, folder: Path) -> None:
        """A snapshot of now: UPDATES-STD.safetensors, each whole or absent."""
        folder.mkdir(parents=True, exist_ok=True)
        for std, average in zip(self.stds, self.averages(), strict=True):
            save_tensors(folder / f"{int(self.updates):08d}-{std}.safetensors", average)


def reconstruct(folder: Path, std: float, updates: int | None = None) -> dict[str, Tensor]:
    """The weights, averaged with any σ_rel, at the last snapshot or an earlier one: for `load_state_dict(…, strict=False)`.

    Good from the smallest σ_rel kept up to about three times the largest. Tensors are read one file at a time, and summed in
    double precision.

    Raises:
        ConfigError: if the folder has no snapshots up to there, or σ_rel is out of range.
        CheckpointError: if one cannot be read.
    """
    have = snapshots(folder)
    time = max(have).time if have and updates is None else float(updates or 0)
    used = {profile: path for profile, path in have.items() if profile.time <= time}
    if not used or max(used).time != time:
        raise ConfigError(f"{folder} has no snapshot of averages after {time:.0f} updates: train with PowerAverages.keep")
    weights = combination(list(used), Profile(time, exponent(std)))
    total: dict[str, Tensor] = {}
    kinds: dict[str, torch.dtype] = {}
    for weight, path in zip(weights.tolist(), used.values(), strict=True):
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"the snapshot {path} is damaged ({error}): remove it, and all but it will do") from error
        for name, value in tensors.items():
            kinds[name] = value.dtype
            total[name] = total.get(name, 0) + weight * value.double()
    return {name: value.to(kinds[name]) for name, value in total.items()}


def snapshots(folder: Path) -> dict[Profile, Path]:
    """The snapshots in a folder, the earliest first."""
    found = [(match, path) for path in folder.glob("*.safetensors") if (match := _NAME.fullmatch(path.name))]
    return dict(sorted((Profile(float(match[1]), exponent(float(match[2]))), path) for match, path in found))


def _floats(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and floating-point buffers by name, but for averages of them."""
    own = tuple(f"{name}." for name, part in module.named_modules() if isinstance(part, PowerAverages))
    for name, value in module.state_dict(keep_vars=True).items():
        if value.is_floating_point() and not name.startswith(own):
            yield name, value
