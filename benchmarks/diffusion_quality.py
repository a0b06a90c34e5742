"""How near to the exact solution samplers come, by evaluations of the network: those of tectum beside those of diffusers.

The network is the best there can be, of eight Gaussians in a ring, under the noise of Stable Diffusion's table. All begin at its
last time, from the same noise. The exact solution is that of the probability-flow equation, by 4,000 steps down to the table's
first time, and what the network takes for the data there, which is how all but DEIS end. Everything is in float64, but for what
diffusers itself rounds. (Its UniPC in ε gives no numbers where the way ends at the data.)
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from measuring import print_table
from torch import Tensor

from tectum.diffusion.grids import Grid, exponential, karras, trailing
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.optimise import optimised
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.runge_kutta import Heun
from tectum.diffusion.solvers.state import Step, last, sample
from tectum.diffusion.solvers.unipc import UniPC
from tectum.diffusion.tables import scaled_linear_betas, table

VP = table(scaled_linear_betas())
EVALUATIONS = (6, 8, 10, 15, 20, 40)
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SPACINGS: dict[str, dict[str, Any]] = {
    "trailing": {"timestep_spacing": "trailing"},
    "linspace": {"timestep_spacing": "linspace"},
    "Karras": {"use_karras_sigmas": True},
    "even λ": {"use_lu_lambdas": True},
}
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "DDIM": ("DDIMScheduler", {"clip_sample": False}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "DPM-Solver++(2M)": ("DPMSolverMultistepScheduler", {"solver_order": 2}),
    "DPM-Solver++(3M)": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "UniPC-2": ("UniPCMultistepScheduler", {"solver_order": 2}),
    "UniPC-3": ("UniPCMultistepScheduler", {"solver_order": 3}),
    "DEIS-3": ("DEISMultistepScheduler", {"solver_order": 3}),
}
OURS: dict[str, Step] = {
    "Heun": Heun(),
    "DPM-Solver++(2M)": Multistep(2, "bh2"),
    "DPM-Solver++(3M)": Multistep(3, "published"),
    "DPM-Solver++(3M), corrected": Multistep(3),
    "UniPC-2": UniPC(2),
    "UniPC-3": UniPC(3),
    "UniPC-3 in ε": UniPC(3, of="epsilon"),
}
GRIDS: dict[str, Callable[[int], Grid]] = {
    "trailing": lambda steps: trailing(VP, steps),
    "Karras": lambda steps: karras(VP, steps),
    "even λ": lambda steps: exponential(VP, steps),
}


def compare(options: argparse.Namespace) -> None:
    """Prints the table: of every solver its best spacing at every number of evaluations, and the best of all on both sides."""
    data, noise = ring(), torch.randn(256, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = last(sample(UniPC(3), data, noise, exponential(VP, 4000)))

    def error(found: Tensor) -> float:
        return (found - exact).square().mean().sqrt().item()

    sides = {
        "diffusers": {title: best(error, lambda n, t=title: theirs(*THEIRS[t], data, noise, n)) for title in THEIRS},
        "tectum": {title: best(error, lambda n, t=title: ours(OURS[t], data, noise, n)) for title in OURS},
    }
    sides["tectum"] |= {"UniPC-2, on a grid made for the network": best(error, lambda n: fitted(data, noise, n))}
    rows = [(side, title, *map(shown, errors)) for side, errors_of in sides.items() for title, errors in errors_of.items()]
    least = [[min(column, key=lambda pair: pair[0]) for column in zip(*side.values(), strict=True)] for side in sides.values()]
    ratio = tuple(f"{a[0] / b[0]:.1f}" for a, b in zip(*least, strict=True))
    print("Root mean square error by evaluations of the network, with the best spacing of each; t, l, K, e: which")
    print_table(("", "solver", *map(str, EVALUATIONS)), [*rows, ("ratio", "best of diffusers over best of tectum", *ratio)])


def ring() -> Mixture:
    """Eight Gaussians of different widths on a circle, scaled to unit variance."""
    angle = torch.arange(8, dtype=torch.float64) / 8 * 2 * math.pi
    means, stds = 2 * torch.stack([angle.cos(), angle.sin()], 1), torch.linspace(0.2, 0.5, 8, dtype=torch.float64)
    scale = (means.square().mean() + stds.square().mean()).sqrt()
    return Mixture(means / scale, stds / scale, torch.full((8,), 1 / 8, dtype=torch.float64))


Found = dict[str, Tensor]


def best(error: Callable[[Tensor], float], run: Callable[[int], Found]) -> list[tuple[float, str]]:
    """The least error and the first letter of its spacing, for each number of evaluations."""
    return [min((error(found), name[0]) for name, found in run(n).items()) for n in EVALUATIONS]


def shown(cell: tuple[float, str]) -> str:
    """An error and its spacing."""
    return f"{cell[0]:.1e} {cell[1]}" if math.isfinite(cell[0]) else "-"


def theirs(name: str, options: dict[str, Any], data: Mixture, noise: Tensor, evaluations: int) -> Found:
    """Samples of a scheduler by its spacings, but for those that it cannot do with so many evaluations."""
    found = {}
    for spacing, more in SPACINGS.items():
        scheduler = getattr(diffusers, name)(**SD, **options)
        if not more.keys() <= scheduler.config.keys():
            continue
        scheduler = getattr(diffusers, name)(**SD, **options, **more)
        # Heun asks twice a step, but once in the last.
        try:
            scheduler.set_timesteps((evaluations + 1) // 2 if "Heun" in name else evaluations)
        except (ValueError, IndexError):
            continue
        if len(scheduler.timesteps) > evaluations:
            continue
        x = noise * (1.0 if not hasattr(scheduler, "sigmas") or "Heun" not in name else 1 / VP.at(999.0).alpha)
        try:
            for t in scheduler.timesteps:
                at = VP.at(float(t))
                seen = scheduler.scale_model_input(x, t)
                x = scheduler.step((seen - at.alpha * data(seen, at)) / at.sigma, t, x).prev_sample
        except IndexError:  # times that come twice
            continue
        found[spacing] = x.double()
    return found or {"none": torch.full_like(noise, torch.inf)}


def ours(step: Step, data: Mixture, noise: Tensor, evaluations: int) -> Found:
    """Samples of a solver by its spacings."""
    steps = (evaluations + 1) // 2 if isinstance(step, Heun) else evaluations
    return {spacing: last(sample(step, data, noise, grid(steps))) for spacing, grid in GRIDS.items()}


def fitted(data: Mixture, noise: Tensor, evaluations: int) -> Found:
    """Samples on a grid that was chosen by other samples of the same network."""
    other = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grid = optimised(data, other, exponential(VP, 64), evaluations)
    return {"own": last(sample(UniPC(2), data, noise, grid))}
