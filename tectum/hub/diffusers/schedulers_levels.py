"""Levels of noise and times as schedulers of diffusers have them, each with or without its faults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tectum.diffusion import tables
from tectum.diffusion.noise import Noise
from tectum.diffusion.process import Process
from tectum.errors import ConfigError

BY_ENTRY = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "LCMScheduler")
"""Those that go by entries of a table."""


@dataclass(frozen=True)
class Ask:
    """What is asked for."""

    name: str
    o: dict[str, Any]
    """All options."""
    steps: int
    made: frozenset[str]
    noise: Noise | None
    eta: float
    mu: float | None

    def source(self) -> Noise:
        """The noise, which this scheduler needs."""
        if self.noise is None:
            raise ConfigError(f"{self.name} adds noise: give noise=Independent(seed, samples)")
        return self.noise

    def wrong(self, what: str) -> ConfigError:
        """An error about this scheduler."""
        return ConfigError(f"{self.name} at {self.steps} steps: {what}")


@dataclass(frozen=True, eq=False)
class Levels:
    """Noise levels σ/α of a table: linear in σ/α between entries, and times linear in log(σ/α)."""

    noise: np.ndarray
    """σ/α, float32 or float64 [T]."""

    @property
    def span(self) -> tuple[float, float]:
        """0 and T-1."""
        return (0.0, float(len(self.noise) - 1))

    def lam(self, time: Tensor) -> Tensor:
        """λ(t); times outside are those of the ends."""
        return -torch.as_tensor(np.interp(time.numpy(), np.arange(len(self.noise)), self.noise), dtype=torch.float64).log()

    def time(self, lam: Tensor) -> Tensor:
        """t(λ), by logarithms that are as coarse as the levels."""
        logs = np.log(self.noise)
        place = -lam.numpy()
        left = (np.searchsorted(logs, place, side="right") - 1).clip(0, len(logs) - 2)
        share = (logs[left] - place) / (logs[left] - logs[left + 1])
        return torch.as_tensor(left + share.clip(0, 1), dtype=torch.float64)


def table_process(ask: Ask) -> Process:
    """The variance-preserving process of the configured betas."""
    o, length = ask.o, ask.o["num_train_timesteps"]
    zero, double = o.get("rescale_betas_zero_snr", False), "table" in ask.made
    low, high, kind = o["beta_start"], o["beta_end"], o["beta_schedule"]
    dtype = torch.float64 if double else torch.float32
    entries = ask.name in BY_ENTRY  # these never make a σ/α in single precision
    if o["trained_betas"] is not None:
        betas = torch.tensor(o["trained_betas"], dtype=dtype)
    elif kind == "linear":
        betas = torch.linspace(low, high, length, dtype=dtype)
    elif kind == "scaled_linear":
        betas = torch.linspace(low**0.5, high**0.5, length, dtype=dtype) ** 2
    elif kind == "squaredcos_cap_v2":
        betas = torch.tensor(tables.cosine_betas(length), dtype=dtype)
    elif kind == "sigmoid" and ask.name == "DDPMScheduler":
        betas = torch.linspace(-6, 6, length, dtype=dtype).sigmoid() * (high - low) + low
    else:
        raise ask.wrong(f"beta_schedule = {kind!r} is not known here")
    if double:
        return tables.table(betas.tolist(), zero_terminal=zero)
    power = (1 - betas).cumprod(0)
    if zero:
        root = power.sqrt()
        root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
        squares = root**2
        power = (1 - (1 - torch.cat([squares[:1], squares[1:] / squares[:-1]]))).cumprod(0)
        if not entries:
            power[-1] = 2.0**-24
    power = power.double() if entries else power
    return Process(Levels((((1 - power) / power) ** 0.5).numpy()), "vp")


def spaced_times(ask: Ask, *, extra: bool = False, whole: bool = True, last: int | None = None) -> list[float]:
    """Times by `timestep_spacing`; with `extra` one more than asked, of which the last is left out."""
    length, n, offset = ask.o["num_train_timesteps"], ask.steps, ask.o.get("steps_offset", 0)
    spacing = ask.o.get("timestep_spacing", "linspace")
    end = length if last is None else last
    if spacing not in ("linspace", "leading", "trailing"):
        raise ask.wrong(f"timestep_spacing = {spacing!r} is not known here, take 'linspace', 'leading' or 'trailing'")
    if n > length:
        raise ask.wrong(f"the table has {length} times only, take no more steps")
    exact = "spacing" in ask.made
    nodes = n + extra if n + extra <= end or not exact else n
    if spacing == "trailing":
        if exact:
            return [float(round(Fraction(end * left, n)) - 1) for left in range(n, 0, -1)]
        stride = length / n  # in floating point, as arange has it: there may be a time too many
        return [float(round(end + i * ((end - stride) - end)) - 1) for i in range(math.ceil(end / stride))]
    if spacing == "leading":
        ratio = end // nodes
        found_times = [float(left * ratio + offset) for left in range(nodes - 1, -1, -1)][:n]
        return [min(time, length - 1.0) for time in found_times] if exact else found_times
    top = end - 1
    if nodes == 1:
        return [0.0] if not (extra or exact) else [float(top)]
    if whole and exact:
        return [float(round(Fraction(top * left, nodes - 1))) for left in range(nodes - 1, -1, -1)][:n]
    line = [top / (nodes - 1) * left for left in range(nodes - 1)] + [float(top)]
    return [float(round(time)) if whole else time for time in reversed(line)][:n]


def spaced(kind: str, high: float, low: float, count: int, rho: float = 7.0) -> list[float]:
    """Noises σ/α from high to low."""
    if kind == "karras":
        share = np.linspace(0, 1, count)
        return ((high ** (1 / rho) + share * (low ** (1 / rho) - high ** (1 / rho))) ** rho).tolist()
    return np.exp(np.linspace(math.log(high), math.log(low), count)).tolist()


def consistency_times(ask: Ask) -> list[float]:
    """Every so many of the times that a consistency model was distilled for."""
    original, length = ask.o["original_inference_steps"], ask.o["num_train_timesteps"]
    if not ask.steps <= original <= length:
        raise ask.wrong(f"the model was distilled for {original} steps, take no more")
    known = [(i * (length // original)) - 1.0 for i in range(original, 0, -1)]
    return [known[math.floor(original / ask.steps * i)] for i in range(ask.steps)]


def stretched(ask: Ask, line: Tensor) -> Tensor:
    """Levels of a flow whose last is moved to `shift_terminal`, if it has one."""
    if not ask.o.get("shift_terminal"):
        return line
    if len(line) == 1:
        raise ask.wrong("shift_terminal moves the last of several levels, take two steps at least")
    return 1 - (1 - line) * (1 - ask.o["shift_terminal"]) / (1 - line[-1])


def flow_shift(ask: Ask) -> float:
    """The shift of a flow, given or configured."""
    return math.exp(ask.mu) if ask.mu is not None else ask.o["flow_shift"]


def flow_levels(ask: Ask) -> tuple[list[float], list[float]]:
    """Levels and times of a flow, for solvers that go by λ."""
    length, n, shift = ask.o["num_train_timesteps"], ask.steps, flow_shift(ask)
    line = torch.linspace(1, 1 / length, n + 1, dtype=torch.float64)
    line = line[:-1] if ask.name == "UniPCMultistepScheduler" else (1 - line).flip(0)[:-1]
    line = shift * line / (1 + (shift - 1) * line)
    line = stretched(ask, line)
    if ask.name == "UniPCMultistepScheduler" and abs(line[0].item() - 1) < 1e-6:
        line[0] -= 1e-6
    times = line * length
    return line.tolist(), (times if "times" in ask.made else times.trunc()).tolist()
