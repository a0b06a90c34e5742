"""Schedulers of diffusers: its numbers with compat=True, for every class, spacing and number of steps; and better ones without.

A closed-form function stands for the network. diffusers runs in double precision as far as its tensors can be cast: in single
precision it loses up to 2.5e-4 by rounding alone (DEIS at 1,000 steps), and nothing could be compared.
"""

import functools
import importlib
import inspect
import itertools
import json
import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tectum.diffusion.grids import karras, trailing
from tectum.diffusion.guidance import Given
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.state import sample
from tectum.diffusion.solvers.unipc import UniPC
from tectum.diffusion.tables import scaled_linear_betas, table
from tectum.errors import CheckpointError, ConfigError
from tectum.hub.diffusers.schedulers import CORRECTIONS, KNOWN, Scheduler, load, save
from tectum.hub.diffusers.schedulers_plans import Plan

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore")

DOUBLE = torch.float64
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ZERO = {"rescale_betas_zero_snr": True}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
BY_NOISE = ("EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete", "LMSDiscrete", "DPMSolverSDE")
BY_LAMBDA = ("DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep")
TWICE = ("HeunDiscrete", "KDPM2Discrete", "DPMSolverSDE", "FlowMatchHeunDiscrete")
START = torch.randn(2, 3, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
NOISES = torch.randn(2100, 2, 3, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))


@functools.cache
def table_of(name: str, options: str) -> np.ndarray:
    return getattr(diffusers, name)(**json.loads(options)).alphas_cumprod.double().numpy()


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """KDPM2 takes seconds to be made, for it mixes arrays and tensors a thousand times; with arrays its numbers are the same."""
    theirs = diffusers.KDPM2DiscreteScheduler._sigma_to_t

    def with_arrays(self, sigma, log_sigmas) -> np.ndarray:
        return theirs(self, np.asarray(sigma), np.asarray(log_sigmas))

    monkeypatch.setattr(diffusers.KDPM2DiscreteScheduler, "_sigma_to_t", with_arrays)


class Network:
    """What is best for unit normal data, and a bounded disturbance; it knows the noise from the time only."""

    def __init__(self, name: str, options: dict) -> None:
        self.kind = options.get("prediction_type", "epsilon")
        self.flow, self.edm = "FlowMatch" in name or options.get("use_flow_sigmas", False), name.startswith("EDM")
        self.learned = options.get("variance_type") == "learned_range"
        self.continuous = options.get("timestep_type") == "continuous"
        if not (self.flow or self.edm):
            plain = {key: value for key, value in options.items() if key != "rescale_betas_zero_snr"}
            self.power = table_of(name, json.dumps(plain))

    def __call__(self, x: torch.Tensor, time: torch.Tensor, cond=None) -> torch.Tensor:
        t, wave = time.reshape(-1)[0].item(), torch.sin(2 * x)
        if self.edm:
            return 0.4 * wave + 0.05 * t
        if self.flow:
            sigma = min(max(t / 1000, 0.0), 1.0)
            alpha = 1 - sigma
            return (sigma - alpha) / (sigma**2 + alpha**2) * x + 0.3 * sigma * alpha * wave
        power = 1 / (1 + math.exp(8 * t)) if self.continuous else float(np.interp(t, np.arange(len(self.power)), self.power))
        alpha, sigma = math.sqrt(power), math.sqrt(1 - power)
        if self.kind == "epsilon":
            value = sigma * x + 0.3 * alpha * sigma * wave
        else:
            value = alpha * x - 0.3 * sigma**2 * wave if self.kind == "sample" else 0.3 * sigma * wave
        return torch.cat([value, wave], 1) if self.learned else value


def theirs(name: str, options: dict, steps: int, monkeypatch, eta: float = 0.0) -> Iterator[torch.Tensor]:
    """Their loop: the samples at the start and after every step."""
    scheduler = getattr(diffusers, f"{name}Scheduler")(**options)
    scheduler.set_timesteps(steps)
    for key, value in list(vars(scheduler).items()):
        if isinstance(value, torch.Tensor) and value.dtype == torch.float32 and key != "timesteps":
            setattr(scheduler, key, value.double())
    done = [0]
    module = importlib.import_module(type(scheduler).__module__)
    monkeypatch.setattr(module, "randn_tensor", lambda shape, dtype=None, **more: NOISES[done[0]].to(dtype), raising=False)
    if name == "DPMSolverSDE":
        scheduler.noise_sampler = Halves(scheduler, done)
    network = Network(f"{name}Scheduler", options)
    x = START * getattr(scheduler, "init_noise_sigma", 1.0)
    yield x
    count = len(scheduler.timesteps)
    for i, t in enumerate(scheduler.timesteps):
        given = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(network(given, t), t, x, **({"eta": eta} if eta else {})).prev_sample
        if name in TWICE:
            half = not scheduler.state_in_first_order and i + 1 < count
        elif name == "PNDM" and not options["skip_prk_steps"]:
            half = i < 12 and i % 4 != 3
        else:
            half = name == "PNDM" and i == 0 and count > 1
        if not half:
            yield x
            done[0] += 1


class Halves:
    """Noise for both evaluations of a step: the second is made of the first, carried on, and a new one, as a path would be."""

    def __init__(self, scheduler, done: list[int]) -> None:
        self.scheduler, self.done, self.middle = scheduler, done, 0.0

    def __call__(self, here: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        def up(a: float, b: float) -> float:
            return b * math.sqrt(1 - (b / a) ** 2)

        a, b, first, second = float(here), float(there), NOISES[2 * self.done[0]], NOISES[2 * self.done[0] + 1]
        if self.scheduler.state_in_first_order:
            self.middle = b
            return first
        m = self.middle
        return ((b / m) ** 2 * up(a, m) * first + up(m, b) * second) / up(a, b)


def planned(name: str, options: dict, steps: int, **more) -> Plan:
    return Scheduler(f"{name}Scheduler", options).plan(steps, noise=lambda x, step, here, there: NOISES[step], **more)


def ours(name: str, options: dict, plan: Plan) -> list[torch.Tensor]:
    denoiser = plan.limited(Given(plan.denoiser(Network(f"{name}Scheduler", options)), {}))
    states = sample(plan.step, denoiser, plan.begin(START), plan.grid)
    scales = [point.alpha if name in BY_NOISE else 1.0 for point in plan.grid]
    return [state.x / scale if scale else state.x for state, scale in zip(states, scales, strict=True)]


def compare(name: str, options: dict, steps: int, monkeypatch, **more) -> None:
    """Equal to 1e-5 of the size of x after every step, or both refuse."""
    try:
        expected = list(theirs(name, options, steps, monkeypatch, **more))
    except (IndexError, AssertionError, UnboundLocalError, ValueError):
        with pytest.raises(ConfigError):
            planned(name, options, steps, compat=True, **more)
        return
    found = ours(name, options, planned(name, options, steps, compat=True, **more))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        if not b.isfinite().all():  # two of its points are the same, or it takes 0 times infinity: nothing can be compared
            return
        assert (a - b).abs().max() <= 1e-5 * max(1.0, b.abs().max().item()), (steps, (a - b).abs().max())


def base(name: str) -> dict:
    options = {} if "Flow" in name or name.startswith("EDM") else dict(SD)
    return {**options, **({"skip_prk_steps": True} if name == "PNDM" else {}), **({"shift": 3.0} if "Flow" in name else {})}


NAMES = [name.removesuffix("Scheduler") for name in KNOWN if find_spec("torchsde") or name != "DPMSolverSDEScheduler"]
SPACED = [
    (name, spacing)
    for name in NAMES
    for spacing in ("leading", "trailing", "linspace")
    if "timestep_spacing" in KNOWN[f"{name}Scheduler"] or spacing == "linspace"
]


@pytest.mark.parametrize(("name", "spacing"), SPACED)
def test_every_scheduler_in_every_spacing_has_their_numbers(name: str, spacing: str, monkeypatch) -> None:
    known = "timestep_spacing" in KNOWN[f"{name}Scheduler"]
    for steps in (1, 2, 7, 13, 50, 61):
        compare(name, {**base(name), **({"timestep_spacing": spacing} if known else {})}, steps, monkeypatch)


@pytest.mark.parametrize("name", NAMES)
def test_and_with_a_thousand_steps(name: str, monkeypatch) -> None:
    steps = 200 if name == "LMSDiscrete" else 1000  # its integrals are made by numerical quadrature, four a step
    compare(name, base(name), steps, monkeypatch)


def cases() -> list[tuple[str, dict]]:
    """Every option, with everything that it may depend on."""
    found: list[tuple[str, dict]] = []

    def add(name: str, *more: dict, **common) -> None:
        found.extend((name, {**base(name), **common, **one}) for one in more or ({},))

    v, trailing, last = {"prediction_type": "v_prediction"}, {"timestep_spacing": "trailing"}, {"final_sigmas_type": "sigma_min"}
    for name in ("DDIM", "DDPM", "LCM", "EulerDiscrete", "HeunDiscrete", "LMSDiscrete", *BY_LAMBDA):
        add(name, {"prediction_type": "sample"}, v)
    for name in ("EulerAncestralDiscrete", "KDPM2Discrete", "DPMSolverSDE"):
        add(name, v)
    for name in (*BY_NOISE, *BY_LAMBDA):
        if name != "EulerAncestralDiscrete":
            add(name, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True})
    for rule, order, lower in itertools.product(("midpoint", "heun"), (1, 2, 3), (True, False)):
        common = {"solver_type": rule, "solver_order": order, "lower_order_final": lower}
        for name in ("DPMSolverMultistep", "DPMSolverSinglestep"):
            add(name, {"algorithm_type": "sde-dpmsolver++"}, {"algorithm_type": "dpmsolver", **last}, {}, **common)
        add("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver", **last}, **common)
        add("EDMDPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++"}, {}, **common)
    add("DPMSolverMultistep", {"euler_at_final": True, **last}, {"thresholding": True, "sample_max_value": 1.5})
    add("DPMSolverMultistep", {"use_lu_lambdas": True})
    add("DPMSolverMultistep", {"use_karras_sigmas": True}, {"lambda_min_clipped": -5.1}, **COSINE)
    add("DPMSolverMultistep", {"lambda_min_clipped": -5.1}, **COSINE, **trailing)
    add("DPMSolverSinglestep", {"lambda_min_clipped": -5.1}, **COSINE)
    for order, rule in itertools.product((1, 2, 3), ("bh1", "bh2")):
        add("UniPCMultistep", {}, {"predict_x0": False, **last}, solver_order=order, solver_type=rule)
    add("UniPCMultistep", {"disable_corrector": [0, 1, 3]}, {"solver_order": 3, "lower_order_final": False}, **last)
    add("UniPCMultistep", {"use_karras_sigmas": True}, **last)
    add("DEISMultistep", {"solver_order": 1}, {"solver_order": 3})
    for name in ("DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep"):
        add(name, {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0})
    for spacing in ("leading", "trailing", "linspace"):
        add("PNDM", v, {"set_alpha_to_one": True}, timestep_spacing=spacing)
        add("PNDM", v, {}, timestep_spacing=spacing, skip_prk_steps=False)
    add("DDIM", {"set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False})
    add("DDIM", {"thresholding": True, "sample_max_value": 2.0}, {**ZERO, **v, **trailing})
    for kind in ("fixed_small_log", "fixed_large"):
        add("DDPM", {}, trailing, variance_type=kind)
    add("DDPM", {}, {"thresholding": True}, {"clip_sample": False}, variance_type="learned_range")
    add("DPMSolverMultistep", {"variance_type": "learned_range"})
    add("DDPM", {"beta_schedule": "sigmoid"}, {"trained_betas": np.linspace(1e-3, 0.02, 1000).tolist()})
    add("EulerDiscrete", {**ZERO, **v, **trailing}, last)
    add("EulerDiscrete", {"interpolation_type": "log_linear"}, {"interpolation_type": "log_linear", "use_karras_sigmas": True})
    add("EulerDiscrete", {"timestep_type": "continuous", "use_karras_sigmas": True, "sigma_min": 0.002, "sigma_max": 700.0}, **v)
    add("HeunDiscrete", {"clip_sample": True})
    add("FlowMatchEulerDiscrete", {"shift_terminal": 0.1}, {"stochastic_sampling": True})
    add("FlowMatchEulerDiscrete", {"use_karras_sigmas": True}, {"use_exponential_sigmas": True})
    for name in ("EDMEuler", "EDMDPMSolverMultistep"):
        add(name, {"sigma_schedule": "exponential"}, v, {"sigma_data": 1.0, **last})
    return [case for case in found if case[0] in NAMES]


CASES = cases()


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CASES)])
def test_options_have_their_numbers(name: str, options: dict, monkeypatch) -> None:
    for steps in (1, 7, 17):
        compare(name, options, steps, monkeypatch)


def test_ddim_with_noise_has_their_numbers(monkeypatch) -> None:
    for more in ({"clip_sample": False}, {"timestep_spacing": "trailing"}):
        for steps in (1, 2, 13):
            compare("DDIM", {**SD, **more}, steps, monkeypatch, eta=0.7)


@pytest.mark.parametrize("name", NAMES)
def test_options_left_out_are_those_of_the_class(name: str) -> None:
    parameters = inspect.signature(getattr(diffusers, f"{name}Scheduler").__init__).parameters
    assert {key: one.default for key, one in parameters.items() if key != "self"} == dict(KNOWN[f"{name}Scheduler"])


@pytest.mark.parametrize(("name", "spacing"), SPACED)
def test_the_default_has_as_many_steps_as_asked_and_ends_in_data(name: str, spacing: str) -> None:
    known = "timestep_spacing" in KNOWN[f"{name}Scheduler"]
    options = {**base(name), **({"timestep_spacing": spacing, "steps_offset": 1} if known else {})}
    for steps in (1, 2, 7, 13, 50, 61, 1000):
        if name == "LCM" and steps > 50:
            continue
        try:
            plan = planned(name, options, steps)
        except ConfigError as error:
            assert steps == 1000 and "steps_offset" in str(error)
            continue
        assert len(plan.grid) == steps + 1
        levels = [float(point.flow_time) for point in plan.grid]
        assert levels == sorted(levels, reverse=True)
        if steps <= 61:
            assert ours(name, options, plan)[-1].isfinite().all()


def test_sixty_one_trailing_steps_are_sixty_two_in_diffusers() -> None:
    plans = [planned("DDIM", {**SD, "timestep_spacing": "trailing"}, 61, compat=compat) for compat in (True, False)]
    assert [len(plan.grid) - 1 for plan in plans] == [62, 61]
    assert plans[0].grid[-2].time == -1


def test_what_changes_is_what_is_wrong() -> None:
    """Each correction is found where it matters, and nowhere else."""

    def found(name: str, steps: int = 12, **options) -> set[str]:
        return set(Scheduler(f"{name}Scheduler", {**base(name), **options}).changes(steps, samples=8).each)

    assert found("DDIM", clip_sample=False) == set()
    assert found("DDIM", clip_sample=False, timestep_spacing="trailing") == {"stride"}  # 1000 / 12 is no whole number
    assert found("DDIM", clip_sample=False, timestep_spacing="trailing", steps=10) == set()
    assert found("DDIM", clip_sample=False, timestep_spacing="trailing", steps=61) == {"spacing", "stride"}
    assert found("DDIM", clip_sample=True, clip_sample_range=0.5) == {"clip"}
    assert found("DDPM", variance_type="fixed_large", timestep_spacing="trailing") == {"last noise"}
    assert found("DPMSolverMultistep", solver_order=3) == {"curvature"}
    assert found("DPMSolverMultistep", solver_order=2) == set()
    assert "times" in found("DPMSolverMultistep", use_karras_sigmas=True)
    assert found("DPMSolverSinglestep", solver_order=3) == {"block"}
    assert {"stride", "average"} == found("PNDM", prediction_type="v_prediction", timestep_spacing="trailing")
    assert found("FlowMatchEulerDiscrete") == {"shift"} and found("FlowMatchEulerDiscrete", shift=1.0) == set()
    assert "repeat" in found("EDMEuler", final_sigmas_type="sigma_min")
    assert found("EulerDiscrete", timestep_spacing="trailing") == {"start"}
    assert "table" in found("EulerDiscrete", **ZERO, timestep_spacing="trailing", prediction_type="v_prediction")
    assert set(CORRECTIONS) >= found("UniPCMultistep", use_karras_sigmas=True, final_sigmas_type="sigma_min") >= {"repeat"}


def test_changes_are_infinite_where_theirs_fails() -> None:
    changes = Scheduler("DPMSolverMultistepScheduler", {**COSINE, "use_karras_sigmas": True}).changes(12, samples=4)
    assert changes.all == math.inf and changes.each["times"] > 0


def test_a_file_is_read_and_its_class_may_be_swapped(tmp_path: Path) -> None:
    """As `from_config` does: what is explicit is kept, what was left out is the new class's own."""
    config = {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", **SD, "clip_sample": False}
    config |= {
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    }
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    read = load(tmp_path)
    assert read.plan(50).grid[0].time == 981 and read.plan(50).grid[-1].sigma > 0
    for name in ("DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "DDIMScheduler"):
        expected = getattr(diffusers, name).from_config(config)
        swapped = read.swapped(name)
        assert {key: expected.config[key] for key in swapped.options} == swapped.options
        expected.set_timesteps(20)
        assert [point.time for point in swapped.plan(20, compat=True).grid[:-1]] == pytest.approx(expected.timesteps.tolist())


def test_what_is_saved_is_read_by_both(tmp_path: Path) -> None:
    scheduler = Scheduler("DPMSolverMultistepScheduler", {**SD, "solver_order": 3, "lambda_min_clipped": -math.inf})
    save(scheduler, tmp_path / "scheduler")
    assert load(tmp_path / "scheduler") == scheduler
    read = diffusers.DPMSolverMultistepScheduler.from_pretrained(tmp_path / "scheduler", local_files_only=True)
    assert {key: read.config[key] for key in scheduler.options} == scheduler.options


def test_the_default_is_made_of_what_the_house_has() -> None:
    """So a plan may be compiled, cut (`grids.tail`) and put on a device like any other."""
    process, options = table(scaled_linear_betas()), {**SD, "timestep_spacing": "trailing"}
    low = process.at(110).sigma / process.at(110).alpha
    for name, spaced, grid in (("DDIM", False, trailing(process, 9)), ("EulerDiscrete", True, karras(process, 9, noise_min=low))):
        found = planned(name, {**options, **({"use_karras_sigmas": True} if spaced else {})}, 9).grid
        assert sum(found, ()) == pytest.approx(sum(grid, ()), rel=1e-9)
    assert isinstance(planned("DPMSolverMultistep", options, 9).step, Multistep)
    assert isinstance(planned("UniPCMultistep", options, 9).step, UniPC)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Scheduler("TCDScheduler", {}), "no solver for TCDScheduler"),
        (lambda: Scheduler("DDIMScheduler", {"betas": 3}), "remove betas"),
        (lambda: Scheduler("DDIMScheduler", {}).plan(0), "at least one"),
        (lambda: Scheduler("DDIMScheduler", {}).plan(1001), "1000 times only"),
        (lambda: Scheduler("DDIMScheduler", {}).plan(5, eta=1.0), "adds noise"),
        (lambda: Scheduler("PNDMScheduler", {}).plan(3), "skip_prk_steps"),
        (lambda: Scheduler("EulerDiscreteScheduler", {"use_beta_sigmas": True}).plan(5), "use_beta_sigmas"),
        (lambda: Scheduler("EulerDiscreteScheduler", {"prediction_type": "noise"}).plan(5), "prediction_type = 'noise'"),
        (lambda: Scheduler("EulerDiscreteScheduler", {"beta_schedule": "odd"}).plan(5), "beta_schedule = 'odd'"),
        (lambda: Scheduler("EulerDiscreteScheduler", {"timestep_spacing": "odd"}).plan(5), "timestep_spacing = 'odd'"),
        (lambda: Scheduler("EulerDiscreteScheduler", {}).plan(5, eta=1.0), "eta is an option of DDIM"),
        (lambda: Scheduler("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver"}).plan(5), "cannot end at the data"),
        (lambda: Scheduler("DPMSolverMultistepScheduler", {"solver_order": 4}).plan(5), "solver_order = 4"),
        (lambda: Scheduler("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}).plan(5), "mu, the logarithm"),
        (lambda: Scheduler("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}).plan(5), "invert_sigmas"),
        (lambda: Scheduler("EulerDiscreteScheduler", {**ZERO, "timestep_spacing": "trailing"}).plan(5), "network of v"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(make, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "scheduler_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="_class_name is missing"):
        load(tmp_path)


def test_a_dynamic_shift_is_given_and_is_theirs() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.set_timesteps(9, mu=0.9)
    for compat in (True, False):
        plan = Scheduler("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}).plan(9, mu=0.9, compat=compat)
        assert [point.sigma for point in plan.grid] == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)
