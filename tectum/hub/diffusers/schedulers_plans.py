"""What each scheduler of diffusers is made of here: levels of noise, times, and a solver; with or without their faults.

A correction that is not in `Ask.made` is not made, and the numbers are theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from tectum.diffusion import schedules
from tectum.diffusion.denoiser import Denoise, Denoiser, Network
from tectum.diffusion.grids import Grid
from tectum.diffusion.guidance import Clamped, Thresholded
from tectum.diffusion.predictions import Kind, Prediction
from tectum.diffusion.process import Point, Process
from tectum.diffusion.solvers.adams import Adams
from tectum.diffusion.solvers.ancestral import Ancestral, Fresh
from tectum.diffusion.solvers.plms import PLMS
from tectum.diffusion.solvers.residual import unit
from tectum.diffusion.solvers.runge_kutta import Heun
from tectum.diffusion.solvers.singlestep import Singlestep
from tectum.diffusion.solvers.state import Step
from tectum.hub.diffusers.schedulers_levels import (
    BY_ENTRY,
    Ask,
    consistency_times,
    flow_levels,
    flow_shift,
    spaced,
    spaced_times,
    stretched,
    table_process,
)
from tectum.hub.diffusers.schedulers_steps import (
    Aimed,
    Boundary,
    ByStep,
    LooseClip,
    NoisyEnd,
    PseudoRungeKutta,
    TheirPLMS,
    solver,
)

_KINDS: dict[str, Kind] = {
    "epsilon": "epsilon",
    "sample": "x0",
    "original_sample": "x0",
    "v_prediction": "v",
    "flow_prediction": "flow",
}


@dataclass(frozen=True)
class Plan:
    """How to sample."""

    process: Process
    grid: Grid
    step: Step
    """For one grid, and for numbers only: it goes by `State.step`."""
    start: float
    """What unit noise is multiplied with."""
    prediction: Prediction
    time_input: Literal["time", "log_noise"] = "time"
    scale_input: bool = False
    learned_variance: bool = False
    sign: int = 1
    """-1 for a network whose prediction has the other sign."""
    clip: float | None = None
    quantile: float | None = None
    ceiling: float = math.inf
    boundary: float | None = None
    """The time scale of a consistency model's boundary condition."""

    def denoiser(self, network: Network) -> Denoiser:
        """A network with what must be known to use it."""
        net: Network = network if self.sign > 0 else lambda x, time, cond: -network(x, time, cond)
        return Denoiser(
            net, self.prediction, self.time_input, scale_input=self.scale_input, learned_variance=self.learned_variance
        )

    def limited(self, denoiser: Denoise) -> Denoise:
        """A denoiser, guided or not, with x₀ kept to its range, and made a consistency function if it is one."""
        if self.quantile is not None:
            denoiser = Thresholded(denoiser, self.quantile, self.ceiling)
        elif self.clip is not None:
            denoiser = Clamped(denoiser, self.clip)
        return denoiser if self.boundary is None else Boundary(denoiser, self.boundary)

    def begin(self, noise: Tensor) -> Tensor:
        """Where to start, from unit noise."""
        return noise * self.start

    def told(self, time: float) -> Point:
        """The point that a network takes a time for."""
        if self.time_input == "log_noise":
            return self.process.at_lam(-4 * time)
        if isinstance(self.process.schedule, schedules.Straight):
            return Point(time, 1 - time / 1000, time / 1000)
        return self.process.at(min(max(time, 0.0), self.process.schedule.span[1]))


def make(ask: Ask) -> Plan:
    """The plan.

    Raises:
        ConfigError: if an option is not known here, or something needed was not given.
    """
    if ask.steps < 1:
        raise ask.wrong("a grid goes nowhere without a step, take at least one")
    for option in ("use_beta_sigmas", "invert_sigmas", "solver_p"):
        if ask.o.get(option):
            raise ask.wrong(f"{option} is not known here, leave it out")
    if ask.eta and ask.name != "DDIMScheduler":
        raise ask.wrong("eta is an option of DDIM only")
    if bool(ask.o.get("use_dynamic_shifting")) != (ask.mu is not None):
        raise ask.wrong("mu, the logarithm of the shift, goes with use_dynamic_shifting: give both or neither")
    if ask.name in BY_ENTRY:
        plan = _by_entry(ask)
    elif ask.name.startswith("FlowMatch"):
        plan = _flow(ask)
    elif ask.name.startswith("EDM"):
        plan = _edm(ask)
    elif "solver_order" in ask.o:
        plan = _by_lambda(ask)
    else:
        plan = _by_noise(ask)
    if plan.grid[0].alpha == 0 and plan.prediction.kind == "epsilon":
        raise ask.wrong("a prediction of ε says nothing in pure noise, where this begins; use compat=True, or a network of v")
    return plan


def _kind(ask: Ask) -> str | None:
    for kind in ("karras", "exponential"):
        if ask.o.get(f"use_{kind}_sigmas"):
            return kind
    return "lu" if ask.o.get("use_lu_lambdas") else None


def _ratio(at: Point) -> float:
    return float(at.sigma / at.alpha) if at.alpha else math.inf


def _at_noise(process: Process, noise: float) -> Point:
    return process.at_lam(-math.log(noise)) if noise else process.data()


def _rounded(ask: Ask, noises: list[float]) -> list[float]:
    return noises if "table" in ask.made else torch.tensor(noises, dtype=torch.float32).double().tolist()


def _prediction(ask: Ask) -> Prediction:
    kind = _KINDS.get(ask.o["prediction_type"])
    flowing = bool(ask.o.get("use_flow_sigmas"))
    if kind is None or ((kind == "flow") != flowing and not (flowing and kind in ("epsilon", "x0"))):
        raise ask.wrong(f"prediction_type = {ask.o['prediction_type']!r} does not go with the noise of this scheduler")
    return Prediction(kind)


def _limits(ask: Ask) -> dict[str, Any]:
    if ask.o.get("thresholding"):
        return {"quantile": ask.o["dynamic_thresholding_ratio"], "ceiling": ask.o["sample_max_value"]}
    return {"clip": ask.o["clip_sample_range"]} if ask.o.get("clip_sample") else {}


# Schedulers that go by entries of a table.


def _by_entry(ask: Ask) -> Plan:
    o, length = ask.o, ask.o["num_train_timesteps"]
    process = table_process(ask)
    times = consistency_times(ask) if ask.name == "LCMScheduler" else spaced_times(ask)
    if max(times) >= length:
        raise ask.wrong(f"a time is {int(max(times))} in a table of {length}: take a smaller steps_offset")
    data = process.data() if o.get("set_alpha_to_one", True) or ask.name == "LCMScheduler" else process.at(0.0)

    def entry(time: float) -> Point:
        return process.at(time % length)._replace(time=time)

    def entry_or_end(time: float) -> Point:
        return entry(time) if time >= 0 else data

    grid = (*map(entry, times), data)
    plan = Plan(process, grid, Ancestral(), 1.0, _prediction(ask), **_limits(ask))
    jumps = tuple(entry_or_end(time - length // ask.steps) for time in times)
    ends = None if "stride" in ask.made else jumps
    match ask.name:
        case "DDIMScheduler":
            step: Step = Ancestral(ask.source() if ask.eta else None, ask.eta)
            if "clip" not in ask.made and (plan.clip is not None or plan.quantile is not None):
                step, plan = LooseClip(plan.limited, ask.noise, ask.eta), replace(plan, clip=None, quantile=None)
        case "DDPMScheduler":
            step, plan = _ddpm(ask, plan)
            ends = tuple(entry_or_end(time) for time in [*times[1:], -1.0]) if min(times) < 0 else None
        case "PNDMScheduler":
            step, ends = _pndm(ask, plan, ends, entry), None
        case _:
            step, ends = Fresh(ask.source()), None
            plan = replace(plan, boundary=o["timestep_scaling"])
    return replace(plan, step=step if ends is None else Aimed(step, ends))


def _pndm(ask: Ask, plan: Plan, ends: tuple[Point, ...] | None, entry: Callable[[float], Point]) -> Step:
    """PLMS, with a start by Runge and Kutta if so configured."""
    grid, times = plan.grid, [point.time for point in plan.grid[:-1]]
    stride = ask.o["num_train_timesteps"] // ask.steps
    kind = Prediction("epsilon") if "average" in ask.made else plan.prediction
    step: Step = PLMS()
    if ends is not None or kind.kind != "epsilon":
        second = entry(float(times[1])) if len(times) > 1 and ask.o["skip_prk_steps"] else None
        begin = grid[0] if ends is None or second is None else entry(float(second.time) + stride)
        step = TheirPLMS(kind, ends or grid[1:], begin, second)
    if ask.o["skip_prk_steps"]:
        return step
    if len(times) < 4:
        raise ask.wrong("a start by Runge and Kutta takes four times, take more steps or set skip_prk_steps")
    starts = []
    for here, there in pairwise(grid[:4]):
        middle = entry(float(there.time) + stride // 2)
        early, late = (
            (middle, there) if ends is None else (entry(float(here.time) - stride // 2), entry(middle.time - stride // 2))
        )
        starts.append(PseudoRungeKutta(kind, early, middle, late, there))
    return ByStep((*starts, *[step] * (len(times) - 3)))


def _ddpm(ask: Ask, plan: Plan) -> tuple[Step, Plan]:
    kind, noise = ask.o["variance_type"], ask.source()
    if kind in ("fixed_small", "fixed_small_log"):
        return Ancestral(noise, 1.0), plan
    if kind == "learned_range":
        if "last noise" not in ask.made and plan.grid[-2].time > 0:
            raise ask.wrong("theirs adds noise of a learned variance to the result, which is not copied here")
        return Ancestral(noise, 1.0, learned=True), replace(plan, learned_variance=True)
    if kind == "fixed_large" or (kind == "fixed_large_log" and "last noise" in ask.made):
        step = Ancestral(noise, 1.0, residual=unit)
        return (step if "last noise" in ask.made else NoisyEnd(step, noise)), plan
    raise ask.wrong(f"variance_type = {kind!r} is not known here, or gives no numbers in diffusers either")


# Schedulers of k-diffusion: by noise.


def _by_noise(ask: Ask) -> Plan:
    o = ask.o
    process, kind, offered = table_process(ask), _kind(ask), "times" in ask.made
    times = torch.tensor(spaced_times(ask, whole=False), dtype=torch.float32).double().tolist()
    noises = [_ratio(process.at(min(max(time, 0.0), process.schedule.span[1]))) for time in times]
    log_linear = o.get("interpolation_type", "linear") == "log_linear"
    high, low = noises[0], noises[-1]
    if log_linear:
        high, low = (_ratio(process.at(end)) for end in reversed(process.schedule.span))
    if kind or log_linear:
        high, low = o.get("sigma_max") or high, o.get("sigma_min") or low
        noises = spaced(kind or "exponential", high, low, ask.steps + (kind is None))
        if kind or offered:
            times = [float(process.at_lam(-math.log(noise)).time) for noise in noises][: len(times)]
            if ask.name == "KDPM2DiscreteScheduler" and kind == "karras" and not offered:
                times = [float(round(time)) for time in times]
    if not (log_linear and not kind):
        noises.append(_ratio(process.at(0.0)) if o.get("final_sigmas_type") == "sigma_min" else 0.0)
    if o.get("timestep_type") == "continuous" and o["prediction_type"] == "v_prediction":
        times = [math.log(noise) / 4 for noise in noises[: len(times)]]
    points = [_at_noise(process, noise) for noise in _rounded(ask, noises)]
    grid = (*(at._replace(time=time) for at, time in zip(points, times, strict=False)), *points[len(times) :])
    start = 1.0 if "start" in ask.made or o["timestep_spacing"] == "leading" else float(grid[0].sigma)
    step: Step
    match ask.name:
        case "EulerDiscreteScheduler":
            step = Ancestral()
        case "EulerAncestralDiscreteScheduler":
            step = Ancestral(ask.source(), 1.0)
        case "HeunDiscreteScheduler":
            step = Heun()
        case "KDPM2DiscreteScheduler":
            step = Singlestep(process, 2, "bh2", of="epsilon")
        case "LMSDiscreteScheduler":
            step = Adams(4)
        case _:
            step = Singlestep(process, 2, "bh2", eta=1.0, noise=ask.source())
    return Plan(process, grid, step, start, _prediction(ask), **_limits(ask))


# Schedulers of DPM-Solver, UniPC and DEIS: by λ.


def _by_lambda(ask: Ask) -> Plan:
    o, offered = ask.o, "times" in ask.made
    process, kind = table_process(ask), _kind(ask)
    length, multistep = o["num_train_timesteps"], ask.name == "DPMSolverMultistepScheduler"
    high, low = (_ratio(process.at(end)) for end in reversed(process.schedule.span))
    final = 0.0 if o.get("final_sigmas_type", "sigma_min") == "zero" else low
    if o["use_flow_sigmas"]:
        if kind or final:
            raise ask.wrong("noise levels of a flow do not go with those of Karras, or with an end before the data")
        noises, times = flow_levels(ask)
        grid = (*(Point(time, 1 - noise, noise) for time, noise in zip(times, noises, strict=True)), Point(0.0, 1.0, 0.0))
        process = schedules.flow(flow_shift(ask))
    else:
        last = length - sum(process.lam(torch.arange(length)) < o.get("lambda_min_clipped", -math.inf)).item()
        times = spaced_times(ask, extra=True, last=int(last))
        noises = [_ratio(process.at(min(max(time, 0.0), length - 1.0))) for time in times]
        if kind:
            high, low = o.get("sigma_max") or high, o.get("sigma_min") or low
            repeated = bool(final) and ask.name in ("UniPCMultistepScheduler", "DEISMultistepScheduler")
            count = ask.steps + (repeated and "repeat" in ask.made)
            noises = spaced(kind, high, low, count)
            times = [float(process.at_lam(-math.log(noise)).time) for noise in noises]
            if kind in ("karras", "lu") and not offered and not (multistep and o["beta_schedule"] == "squaredcos_cap_v2"):
                times = [float(round(time)) for time in times]
            if repeated:
                final = noises[-1]
                if "repeat" in ask.made:
                    noises, times = noises[:-1], times[:-1]
        grid = tuple(_at_noise(process, noise) for noise in _rounded(ask, [*noises, final]))
        times = times if offered else [float(math.trunc(time)) for time in times]
        grid = (*(at._replace(time=time) for at, time in zip(grid, times, strict=False)), grid[-1])
    if not offered and len(times) > 1 and times[0] == times[1]:
        raise ask.wrong("diffusers fails, for its first two times are the same: leave compat=True out")
    begin = float(grid[0].sigma ** 2 + grid[0].alpha ** 2) ** 0.5 if "start" in ask.made else 1.0
    plan = Plan(process, grid, solver(ask, len(times)), begin, _prediction(ask), **_limits(ask))
    return replace(plan, learned_variance=o.get("variance_type") is not None)


# Flow matching, and EDM.


def _flow(ask: Ask) -> Plan:
    o, length, n = ask.o, ask.o["num_train_timesteps"], ask.steps
    dynamic = o.get("use_dynamic_shifting", False)
    shift = o["shift"]
    if dynamic and ask.mu is not None:
        shift = math.exp(ask.mu) if o["time_shift_type"] == "exponential" else ask.mu

    def shifted(value: Tensor) -> Tensor:
        return shift * value / (1 + (shift - 1) * value)

    least = torch.tensor(1 / length, dtype=torch.float64)
    if not dynamic and "shift" not in ask.made:
        least = shifted(least)
    line = shifted(torch.linspace(1, least.item(), n, dtype=torch.float64))
    line = stretched(ask, line)
    if kind := _kind(ask):
        line = torch.tensor(spaced(kind, line[0].item(), line[-1].item(), n), dtype=torch.float64)
    grid = (*(Point(length * sigma, 1 - sigma, sigma) for sigma in _rounded(ask, line.tolist())), Point(0.0, 1.0, 0.0))
    step: Step = Heun("flow") if ask.name == "FlowMatchHeunDiscreteScheduler" else Ancestral()
    if o.get("stochastic_sampling"):
        step = Fresh(ask.source())
    return Plan(schedules.flow(shift), grid, step, 1.0, Prediction("flow"))


def _edm(ask: Ask) -> Plan:
    o, n = ask.o, ask.steps
    high, low, data_std = o["sigma_max"], o["sigma_min"], o["sigma_data"]
    if o["prediction_type"] not in ("epsilon", "v_prediction"):
        raise ask.wrong(f"prediction_type = {o['prediction_type']!r} is not known here")
    repeated = o["final_sigmas_type"] == "sigma_min"
    noises = spaced(o["sigma_schedule"], high, low, n + (repeated and "repeat" in ask.made), o["rho"])
    if o["sigma_schedule"] == "exponential" and n == 1 and "spacing" not in ask.made:
        noises = [low]
    if not repeated:
        noises.append(0.0)
    elif "repeat" not in ask.made:
        noises.append(noises[-1] if ask.name == "EDMEulerScheduler" else low)
    process = schedules.edm(low, high)
    grid = tuple(_at_noise(process, noise) for noise in _rounded(ask, noises))
    step = Ancestral() if ask.name == "EDMEulerScheduler" else solver(ask, len(grid) - 1)
    start = math.sqrt(high**2 + (data_std**2 if "start" in ask.made else 1.0))
    sign = -1 if o["prediction_type"] == "v_prediction" else 1
    prediction = Prediction("edm", data_std)
    return Plan(process, grid, step, start, prediction, "log_noise", True, sign=sign, **_limits(ask))
