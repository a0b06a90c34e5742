"""What a step of a sampler costs beside the network: ours against the schedulers of diffusers.

    python benchmarks/samplers.py                     # needs diffusers, from the registry

The network is a function that returns a tensor that is already there, so what is measured is all else: for diffusers
`scale_model_input` and `step`, for ours the step, the time that the network is told, and x₀ from its prediction. Latents of
1 × 4 × 64 × 64 (those of a picture of 512 × 512), 50 steps, one thread, time of the process, the best of several runs taken in
turns. The host's part is alike on a GPU, where theirs also waits.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import diffusers
import torch
from torch import Tensor

from tectum.diffusion.denoiser import Denoiser
from tectum.diffusion.grids import trailing, uniform
from tectum.diffusion.guidance import Given
from tectum.diffusion.noise import Independent
from tectum.diffusion.predictions import Prediction
from tectum.diffusion.process import Process
from tectum.diffusion.schedules import flow
from tectum.diffusion.solvers.ancestral import Ancestral
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.runge_kutta import Heun
from tectum.diffusion.solvers.state import Step, last, sample
from tectum.diffusion.solvers.unipc import UniPC
from tectum.diffusion.tables import scaled_linear_betas, table

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "timestep_spacing": "trailing"}
VP = table(scaled_linear_betas())


def theirs(name: str, options: dict, x: Tensor, said: Tensor, steps: int) -> Callable[[], float]:
    """Seconds a call of the network."""
    scheduler = getattr(diffusers, name)(**options)

    def run() -> float:
        scheduler.set_timesteps(steps)
        y, scales = x, hasattr(scheduler, "scale_model_input")
        begun = time.process_time()
        for t in scheduler.timesteps:
            if scales:
                scheduler.scale_model_input(y, t)
            y = scheduler.step(said, t, y).prev_sample
        return (time.process_time() - begun) / len(scheduler.timesteps)

    return run


def ours(step: Step, process: Process, x: Tensor, said: Tensor, steps: int, kind: Prediction) -> Callable[[], float]:
    """Seconds a call of the network."""
    calls = [0]

    def network(x: Tensor, at: Tensor, cond: object) -> Tensor:
        calls[0] += 1
        return said

    denoiser = Given(Denoiser(network, kind), {})
    grid = trailing(process, steps) if kind.kind == "epsilon" else uniform(process, steps, start=1.0, end=1 / steps)

    def run() -> float:
        calls[0] = 0
        begun = time.process_time()
        last(sample(step, denoiser, x, grid))
        return (time.process_time() - begun) / calls[0]

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--size", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    x, said = torch.randn(2, 1, 4, args.size, args.size)
    eps, line = Prediction("epsilon"), Prediction("flow")
    pairs: list[tuple[str, str, dict, Step, Process, Prediction]] = [
        ("DDIM", "DDIMScheduler", SD | {"clip_sample": False}, Ancestral(), VP, eps),
        ("Euler", "EulerDiscreteScheduler", SD, Ancestral(), VP, eps),
        ("Heun", "HeunDiscreteScheduler", SD, Heun(), VP, eps),
        ("DPM-Solver++(2M)", "DPMSolverMultistepScheduler", SD, Multistep(2, "bh2"), VP, eps),
        ("DPM-Solver++(3M)", "DPMSolverMultistepScheduler", SD | {"solver_order": 3}, Multistep(3), VP, eps),
        ("UniPC-2", "UniPCMultistepScheduler", SD, UniPC(2), VP, eps),
        ("flow Euler", "FlowMatchEulerDiscreteScheduler", {}, Ancestral(), flow(), line),
        ("flow Heun", "FlowMatchHeunDiscreteScheduler", {}, Heun("flow"), flow(), line),
    ]
    print(f"| sampler | diffusers {diffusers.__version__} | tectum | ratio |\n|---|---|---|---|")
    with torch.no_grad():
        for title, name, options, step, process, kind in pairs:
            runs = (theirs(name, options, x, said, args.steps), ours(step, process, x, said, args.steps, kind))
            times = [[run() for run in runs] for _ in range(args.runs)]
            a, b = (1e6 * min(column) for column in zip(*times, strict=True))
            print(f"| {title} | {a:.0f} µs | {b:.0f} µs | {a / b:.1f} |")
    noise, here = Independent(0, torch.arange(1)), VP.at(500)
    draws = (lambda: torch.randn(x.shape), lambda: noise(x, 0, here, here))
    a, b = (1e6 * min(timed(draw) for _ in range(args.runs)) for draw in draws)
    print(f"| unit noise, which is not in the above | {a:.0f} µs | {b:.0f} µs, the same in every batch | {a / b:.1f} |")


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
