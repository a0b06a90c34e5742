"""Samplers of diffusers: a `scheduler_config.json` becomes our process, grid and solver.

Their schedulers differ from the algorithms that they are named after in a dozen places. Each is a *correction* here, made unless
`compat=True` is asked for; `changes` says which of them change the pictures of a given configuration, and by how much.

    name = load(folder / "scheduler")
    plan = name.plan(30, noise=Independent(seed, samples))
    denoiser = plan.denoiser(network)                      # then guidance, as one likes
    *_, end = sample(plan.step, plan.limited(denoiser), plan.begin(noise), plan.grid)

Pictures are in the frame of the grid, "vp" where diffusers scales x by √(1+σ²) before each call of the network, so a network is
given the sample itself. A part of a grid (`grids.tail`) is started with State(x, step=the number of steps left out).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tectum.diffusion.guidance import Given
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.noise import Independent, Noise
from tectum.diffusion.solvers.state import last, sample
from tectum.errors import CheckpointError, ConfigError
from tectum.hub.diffusers.schedulers_levels import Ask
from tectum.hub.diffusers.schedulers_plans import Plan, make
from tectum.hub.files import parse_json, write_json

CORRECTIONS: Mapping[str, str] = {
    "spacing": "exactly N times, all of them in the table; N = 1 begins where the noise is largest",
    "stride": "a step ends where the next one begins",
    "times": "the network is told the time of the noise that it is shown, neither rounded nor another's",
    "table": "noise levels in double precision; pure noise is pure; between entries σ/(α+σ) is linear",
    "curvature": "the third-order step integrates the second derivative, not half of it, and with the right sign",
    "block": "a third-order single step uses all of its three evaluations",
    "clip": "where x₀ is clipped, the noise is what is left of x",
    "last noise": "no noise is added to the result",
    "average": "of networks that predict v, noises are averaged, not predictions at different points",
    "shift": "the shift of a flow is applied once",
    "repeat": "no last step from a point to itself",
    "start": "sampling begins with the variance that x has there",
}
"""What the default does otherwise than diffusers, by name."""

_TABLE = {
    "num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "trained_betas": None,
    "prediction_type": "epsilon", "timestep_spacing": "linspace", "steps_offset": 0,
}  # fmt: skip
_WIDE = {"beta_start": 0.00085, "beta_end": 0.012}
_CLIP = {"clip_sample": True, "clip_sample_range": 1.0}
_LIMIT = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
_NOISES = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_FLOW = {"use_flow_sigmas": False, "flow_shift": 1.0, "use_dynamic_shifting": False, "time_shift_type": "exponential"}
_DPM = {"solver_order": 2, "algorithm_type": "dpmsolver++", "solver_type": "midpoint", "final_sigmas_type": "zero"}
_EDM = {
    "sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "sigma_schedule": "karras", "num_train_timesteps": 1000,
    "prediction_type": "epsilon", "rho": 7.0, "final_sigmas_type": "zero",
}  # fmt: skip
_LEADING = {"timestep_spacing": "leading"}
_ZERO = {"rescale_betas_zero_snr": False}
_CLIPPED = {"lambda_min_clipped": -math.inf, "variance_type": None}

KNOWN: Mapping[str, Mapping[str, Any]] = {
    "DDPMScheduler": _TABLE | _CLIP | _LIMIT | _LEADING | _ZERO | {"variance_type": "fixed_small"},
    "DDIMScheduler": _TABLE | _CLIP | _LIMIT | _LEADING | _ZERO | {"set_alpha_to_one": True},
    "PNDMScheduler": _TABLE | _LEADING | {"skip_prk_steps": False, "set_alpha_to_one": False},
    "LCMScheduler": _TABLE | _WIDE | _CLIP | _LIMIT | _LEADING | _ZERO
    | {"beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": True}
    | {"original_inference_steps": 50, "timestep_scaling": 10.0},
    "EulerDiscreteScheduler": _TABLE | _NOISES | _ZERO
    | {"interpolation_type": "linear", "timestep_type": "discrete", "final_sigmas_type": "zero"}
    | {"sigma_min": None, "sigma_max": None},
    "EulerAncestralDiscreteScheduler": _TABLE | _ZERO,
    "HeunDiscreteScheduler": _TABLE | _WIDE | _NOISES | _CLIP | {"clip_sample": False},
    "KDPM2DiscreteScheduler": _TABLE | _WIDE | _NOISES,
    "LMSDiscreteScheduler": _TABLE | _NOISES,
    "DPMSolverSDEScheduler": _TABLE | _WIDE | _NOISES | {"noise_sampler_seed": None},
    "DPMSolverMultistepScheduler": _TABLE | _NOISES | _LIMIT | _FLOW | _DPM | _ZERO | _CLIPPED
    | {"lower_order_final": True, "euler_at_final": False, "use_lu_lambdas": False},
    "DPMSolverSinglestepScheduler": {key: value for key, value in _TABLE.items() if not key.startswith(("timestep_", "steps_"))}
    | _NOISES | _LIMIT | _FLOW | _DPM | _CLIPPED | {"lower_order_final": False},
    "DEISMultistepScheduler": _TABLE | _NOISES | _LIMIT | _FLOW
    | {"solver_order": 2, "algorithm_type": "deis", "solver_type": "logrho", "lower_order_final": True},
    "UniPCMultistepScheduler": _TABLE | _NOISES | _LIMIT | _FLOW | _ZERO
    | {"solver_order": 2, "predict_x0": True, "solver_type": "bh2", "lower_order_final": True, "disable_corrector": []}
    | {"solver_p": None, "final_sigmas_type": "zero", "sigma_min": None, "sigma_max": None, "shift_terminal": None},
    "FlowMatchEulerDiscreteScheduler": {
        "num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": False, "base_shift": 0.5, "max_shift": 1.15,
        "base_image_seq_len": 256, "max_image_seq_len": 4096, "invert_sigmas": False, "shift_terminal": None,
        "time_shift_type": "exponential", "stochastic_sampling": False,
    } | _NOISES,
    "FlowMatchHeunDiscreteScheduler": {"num_train_timesteps": 1000, "shift": 1.0},
    "EDMEulerScheduler": _EDM,
    "EDMDPMSolverMultistepScheduler": _EDM | _LIMIT | _DPM | {"lower_order_final": True, "euler_at_final": False},
}  # fmt: skip
"""The schedulers that can be read, with the options that each has and what they are if left out."""


class Changes(NamedTuple):
    """How far the default is from diffusers."""

    all: float
    """With all corrections."""
    each: dict[str, float]
    """How far it would be from itself without one of them, the largest first."""


@dataclass(frozen=True)
class Scheduler:
    """A scheduler of diffusers: its class and the options that were given; the others are the class's own.

    >>> Scheduler("DDIMScheduler", {"timestep_spacing": "trailing"}).plan(4).grid[0].time
    999.0

    Raises:
        ConfigError: if we have no solver for the class, or none of the classes knows an option.
    """

    name: str
    given: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.name not in KNOWN:
            raise ConfigError(f"there is no solver for {self.name} here: take one of {', '.join(sorted(KNOWN))}")
        strange = set(self.given) - {key for options in KNOWN.values() for key in options}
        if strange:
            raise ConfigError(f"{self.name} has options that are not known here: remove {', '.join(sorted(strange))}")

    @property
    def options(self) -> dict[str, Any]:
        """All options of the class; those given that only other classes have are left out, as diffusers does."""
        known = KNOWN[self.name]
        return {**known, **{key: value for key, value in self.given.items() if key in known}}

    def swapped(self, name: str) -> Scheduler:
        """Another class with the same options. What was not given is the new class's own."""
        return Scheduler(name, self.given)

    def plan(
        self, steps: int, *, noise: Noise | None = None, compat: bool = False, eta: float = 0.0, mu: float | None = None
    ) -> Plan:
        """How to sample in so many steps.

        Args:
            steps: N, as diffusers counts them: `len(plan.grid) - 1` is more where its times are more than N.
            noise: for those that add some.
            compat: diffusers' numbers, with none of the `CORRECTIONS`.
            eta: of DDIM.
            mu: the logarithm of the shift, for those with `use_dynamic_shifting`.

        Raises:
            ConfigError: if an option is not known here, or something needed was not given.
        """
        return make(self._ask(steps, noise, frozenset() if compat else frozenset(CORRECTIONS), eta, mu))

    def changes(self, steps: int, *, samples: int = 64, eta: float = 0.0, mu: float | None = None) -> Changes:
        """The corrections that change the result of this scheduler, and by how much.

        Each is left out alone, on data of which the best network is known: three blurred points between -0.8 and 0.8. A change is
        the root mean square distance between pictures with and without it, of the same noise, in units of the data's
        standard deviation; less than 1e-5 is none. It is infinite where diffusers fails or gives no number.

        >>> found = Scheduler("DDIMScheduler", {"timestep_spacing": "trailing", "clip_sample": False}).changes(61)
        >>> sorted(found.each), found.all > 0.1
        (['spacing', 'stride'], True)
        """
        made = frozenset(CORRECTIONS)
        ours = self._result(steps, made, samples, eta, mu)

        def distance(names: frozenset[str]) -> float:
            theirs = self._result(steps, names, samples, eta, mu)
            return math.inf if theirs is None or ours is None else (ours - theirs).square().mean().sqrt().item() / _DATA_STD

        sizes = {name: distance(made - {name}) for name in CORRECTIONS}
        each = {name: size for name, size in sorted(sizes.items(), key=lambda item: -item[1]) if size > 1e-5}
        return Changes(distance(frozenset()), each)

    def _ask(self, steps: int, noise: Noise | None, made: frozenset[str], eta: float, mu: float | None) -> Ask:
        return Ask(self.name, self.options, steps, made, noise, eta, mu)

    def _result(self, steps: int, made: frozenset[str], samples: int, eta: float, mu: float | None) -> Tensor | None:
        noise = Independent(0, torch.arange(samples))
        try:
            plan = make(self._ask(steps, noise, made, eta, mu))
            denoiser = plan.limited(Given(plan.denoiser(_Known(plan)), {}))
            end = last(sample(plan.step, denoiser, plan.begin(noise.start((4, 1), torch.float64)), plan.grid))
        except (ConfigError, ValueError, ZeroDivisionError, OverflowError):
            return None
        return end if end.isfinite().all() else None


def save(scheduler: Scheduler, folder: str | Path) -> None:
    """Write a `scheduler_config.json` that diffusers reads, with the options that were given."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_json(Path(folder) / "scheduler_config.json", {"_class_name": scheduler.name, **scheduler.given})


def load(path: str | Path) -> Scheduler:
    """The scheduler of a folder or of a `scheduler_config.json` itself.

    Raises:
        CheckpointError: if the file is missing, is no JSON object or names no class.
        ConfigError: as `Scheduler`.
    """
    path = Path(path)
    file = path / "scheduler_config.json" if path.is_dir() else path
    try:
        config = parse_json(file, file.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: give the folder of a scheduler, or its scheduler_config.json") from error
    name = config.get("_class_name")
    if not isinstance(name, str):
        raise CheckpointError(f"{file} names no class: _class_name is missing, restore the file")
    return Scheduler(name, {key: value for key, value in config.items() if not key.startswith("_")})


_DATA = Mixture(
    torch.tensor([[-0.8], [0.1], [0.8]], dtype=torch.float64),
    torch.tensor([0.05, 0.1, 0.05], dtype=torch.float64),
    torch.tensor([0.3, 0.4, 0.3], dtype=torch.float64),
)
_DATA_STD = 0.626


@dataclass(frozen=True, eq=False)
class _Known:
    """The best network for `_DATA`, which knows the noise only from the time that it is told."""

    plan: Plan

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        at = self.plan.told(time[0].item())
        if self.plan.scale_input:
            x = x * math.sqrt(at.sigma**2 + (at.alpha * self.plan.prediction.data_std) ** 2)
        flat = x.reshape(-1, 1)
        x0 = _DATA(flat, at).view_as(x)
        value = self.plan.prediction.target(x0, (x - at.alpha * x0) / at.sigma, at)
        return self.plan.sign * value
