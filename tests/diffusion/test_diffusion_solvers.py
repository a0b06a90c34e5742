"""Solvers: the ends of a grid, and what compiled, batched and guided runs need. Their formulas: test_diffusion_formulas.py."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tectum.diffusion.denoiser import Denoiser
from tectum.diffusion.grids import at_lams, karras, on_device, trailing, uniform
from tectum.diffusion.guidance import ClassifierFree, Given, Projected
from tectum.diffusion.marginals import forward, pure_noise
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.noise import Independent
from tectum.diffusion.predictions import Prediction
from tectum.diffusion.process import Process
from tectum.diffusion.schedules import edm, flow, vp, vp_cosine
from tectum.diffusion.solvers.adams import Adams
from tectum.diffusion.solvers.ancestral import Ancestral, Fresh
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.plms import PLMS
from tectum.diffusion.solvers.remembering import Remembering
from tectum.diffusion.solvers.residual import unit
from tectum.diffusion.solvers.runge_kutta import Churn, Heun
from tectum.diffusion.solvers.singlestep import Singlestep
from tectum.diffusion.solvers.state import State, last, sample, zero_step
from tectum.diffusion.solvers.unipc import UniPC
from tectum.diffusion.tables import scaled_linear_betas, table

DOUBLE = torch.float64
SD = table(scaled_linear_betas())
WHO = torch.arange(64)
NOISE = Independent(0, WHO)


SOLVERS = {
    "DDIM": lambda p: Ancestral(),
    "DDPM": lambda p: Ancestral(NOISE, 1.0),
    "DDPM, larger": lambda p: Ancestral(NOISE, 1.0, residual=unit),
    "LCM": lambda p: Fresh(NOISE),
    "flow Heun": lambda p: Heun("flow"),
    **{f"{order}M": (lambda p, order=order: Multistep(order)) for order in (1, 2, 3)},
    "3M, warmed up": lambda p: Multistep(3, warmup=Singlestep(p, 3)),
    "SDE 2M": lambda p: Multistep(2, rule="bh2", eta=1.0, noise=NOISE),
    "SDE 2S": lambda p: Singlestep(p, 2, "bh2", eta=1.0, noise=NOISE),
    **{f"{order}S": (lambda p, order=order: Singlestep(p, order)) for order in (1, 2, 3)},
    **{f"UniPC-{order}": (lambda p, order=order: UniPC(order)) for order in (1, 2, 3)},
}
NOT_FROM_NOISE = {
    "Heun": lambda p: Heun(),
    "PLMS": lambda p: PLMS(),
    "Adams": lambda p: Adams(),
    "churn": lambda p: Churn(Heun(), p, NOISE, 0.2),
    "2M of ε": lambda p: Multistep(2, of="epsilon"),
    "SDE 2M of ε": lambda p: Multistep(2, of="epsilon", eta=1.0, noise=NOISE),
    "3S of ε": lambda p: Singlestep(p, 3, of="epsilon"),
    "UniPC-3 of ε": lambda p: UniPC(3, of="epsilon"),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_from_pure_noise_to_the_data_with_every_solver(name: str, ring: Mixture, unit_noise: torch.Tensor) -> None:
    """Where λ is infinite at both ends: nothing becomes NaN, and samples are near the data; numbers and tensors agree."""
    for process, grid in (
        (flow(), uniform(flow(), 12, start=1.0, end=1 / 12)),
        (table(scaled_linear_betas(), zero_terminal=True), trailing(table(scaled_linear_betas(), zero_terminal=True), 12)),
        (vp_cosine(), uniform(vp_cosine(), 12, start=1.0)),
    ):
        assert grid[0].alpha == 0
        x = last(sample(SOLVERS[name](process), ring, unit_noise, grid))
        distance = (x[:, None] - ring.means).norm(dim=2).min(1).values
        assert x.isfinite().all() and distance.mean() < 1.0
        device = on_device(grid)
        torch.testing.assert_close(last(sample(SOLVERS[name](process), ring, unit_noise, device)), x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", [*SOLVERS, *NOT_FROM_NOISE])
def test_one_step_and_no_state_in_the_solver(name: str, ring: Mixture, unit_noise: torch.Tensor) -> None:
    make = {**SOLVERS, **NOT_FROM_NOISE}[name]
    step, grid = make(SD), trailing(SD, 6)
    assert last(sample(step, ring, unit_noise, trailing(SD, 1))).isfinite().all()
    whole = list(sample(step, ring, unit_noise, grid))
    half = whole[3]  # a run goes on from any state, also after another run
    last(sample(step, ring, unit_noise * 2, grid))
    torch.testing.assert_close(last(sample(step, ring, half, grid[3:])), whole[-1].x, rtol=0, atol=0)
    assert [state.step for state in whole] == list(range(7))
    assert all(state.past[0].x0.shape == unit_noise.shape for state in whole[1:])


@pytest.mark.parametrize("name", [*SOLVERS, *NOT_FROM_NOISE])
def test_a_sample_is_the_same_alone_and_in_a_batch(name: str, ring: Mixture, unit_noise: torch.Tensor, monkeypatch) -> None:
    make, grid = {**SOLVERS, **NOT_FROM_NOISE}[name], trailing(SD, 7)
    batch = last(sample(make(SD), ring, unit_noise, grid))
    monkeypatch.setitem(globals(), "NOISE", Independent(0, WHO[40:41]))
    alone = last(sample(make(SD), ring, unit_noise[40:41], grid))
    torch.testing.assert_close(alone, batch[40:41], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [*SOLVERS, *NOT_FROM_NOISE])
def test_no_solver_looks_at_a_number_on_a_device(name: str) -> None:
    """Tensors on the device "meta" have no numbers: whoever asks for one, as a wait for a real device would be, fails."""
    make = {**SOLVERS, **NOT_FROM_NOISE}[name]
    denoiser = Denoiser(lambda x, time, cond: x * time[:, None], Prediction("v"))
    x = torch.zeros(64, 2, device="meta")
    for grid in (trailing(SD, 5), on_device(trailing(SD, 5), "meta")):
        assert last(sample(make(SD), denoiser, x, grid)).shape == (64, 2)


class Fetches(TorchDispatchMode):
    """Counts what would make the host wait for a device: numbers fetched, and sizes that depend on numbers."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "item", "equal", "is_nonzero")

    def __init__(self, but: torch.dtype | None) -> None:
        super().__init__()
        self.but = but
        """Numbers of this type are the grid's own, and never leave the host."""
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if (name in self.WAITS and args[0].dtype != self.but) or (
            name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        ):
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("tensors", [False, True])
def test_no_run_fetches_a_number(tensors: bool) -> None:
    """Also with guidance, noise, a network's conversion, and an adaptive run that is told not to ask."""
    grid, where = (on_device(trailing(SD, 7)), zero_step("cpu")) if tensors else (trailing(SD, 7), 0)
    denoiser = Denoiser(lambda x, time, cond: x * cond["word"], Prediction("v"))
    word = torch.ones(64, 2)
    guided = ClassifierFree(denoiser, {"word": word}, {"word": 0.5 * word}, 3.0, Projected(radius=1.0, momentum=-0.5), 0.7)
    plain = ClassifierFree(denoiser, {"word": word}, {"word": 0.5 * word}, 3.0)
    with Fetches(None if tensors else DOUBLE) as fetches:
        for make in {**SOLVERS, **NOT_FROM_NOISE}.values():
            last(sample(Remembering(make(SD)), guided, State(torch.ones(64, 2), where), grid))
            last(sample(make(SD), plain, State(torch.ones(64, 2), where), grid))
    assert fetches.waits == []


def test_what_a_network_says_may_be_used_as_it_is(ring: Mixture, unit_noise: torch.Tensor) -> None:
    """Steps that are sums take x₀ apart into x and a prediction; whoever hides the network gets the same samples."""
    word = torch.linspace(0.5, 1.5, 64, dtype=DOUBLE)[:, None]
    for kind in ("epsilon", "v", "x0", "flow", "edm"):
        denoiser = Denoiser(lambda x, time, cond: torch.tanh(x) * cond["word"], Prediction(kind))
        given = Given(denoiser, {"word": word})
        guided = ClassifierFree(denoiser, {"word": word}, {"word": word.flip(0)}, 2.5)
        for affine in (given, guided, replace(guided, weight=torch.linspace(1, 4, 64)), replace(guided, rescale=0.5)):
            for step in (Ancestral(), Ancestral(NOISE, 1.0), Multistep(3), Multistep(2, rule="bh2", eta=1.0, noise=NOISE)):
                states = list(sample(step, affine, unit_noise, trailing(SD, 6)))
                hidden = list(sample(step, lambda x, at, affine=affine: affine(x, at), unit_noise, trailing(SD, 6)))
                for a, b in zip(states[1:], hidden[1:], strict=True):
                    torch.testing.assert_close(a.x, b.x, rtol=1e-9, atol=1e-9)
                    torch.testing.assert_close(a.past[0].x0, b.past[0].x0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*SOLVERS, *NOT_FROM_NOISE])
def test_a_compiled_step_serves_every_step_of_every_grid(name: str, ring: Mixture, unit_noise: torch.Tensor) -> None:
    """One graph for each length of the past, whatever the numbers of steps; and the same samples."""
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs: list) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    step = {**SOLVERS, **NOT_FROM_NOISE}[name](SD)
    torch._dynamo.reset()
    compiled = torch.compile(lambda state, here, there: step(state, ring, here, there), backend=count, fullgraph=True)
    counts = []
    for steps in (8, 5, 13):
        state = State(unit_noise, zero_step("cpu"))
        grid = on_device(trailing(SD, steps))
        for here, there in itertools.pairwise(grid):
            state = compiled(state, here, there)
        counts.append(len(graphs))
        torch.testing.assert_close(state.x, last(sample(step, ring, unit_noise, grid)))
    assert counts[0] <= 4 and counts == [counts[0]] * 3


def test_the_first_step_may_be_warmed_up(ring: Mixture, unit_noise: torch.Tensor) -> None:
    grid = karras(edm(0.02, 20.0), 12, to_data=False)
    warmed = list(sample(Multistep(3, warmup=Singlestep(edm(), 3)), ring, unit_noise * 20, grid))
    single = list(sample(Singlestep(edm(), 3), ring, unit_noise * 20, grid))
    assert [len(state.past) for state in warmed[:5]] == [0, 1, 2, 3, 3]
    torch.testing.assert_close(warmed[2].x, single[2].x)
    assert not torch.equal(warmed[3].x, single[3].x)


def test_a_guided_network_is_compiled_whole(unit_noise: torch.Tensor) -> None:
    """With the network's conversion, guidance and its memory: one graph for each length of what is remembered."""
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs: list) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    word = torch.ones(64, 2, dtype=DOUBLE)
    denoiser = Denoiser(lambda x, time, cond: torch.tanh(x) * cond["word"], Prediction("v"))
    guided = ClassifierFree(denoiser, {"word": word}, {"word": 0.5 * word}, 3.0)
    projected = replace(guided, combine=Projected(momentum=-0.5))
    for step, model, needed in ((Ancestral(), guided, 1), (Multistep(2), guided, 3), (Remembering(Heun()), projected, 2)):
        torch._dynamo.reset()
        graphs.clear()
        compiled = torch.compile(lambda state, a, b, s=step, m=model: s(state, m, a, b), backend=count, fullgraph=True)
        for steps in (4, 7):
            state, grid = State(unit_noise, zero_step("cpu")), trailing(SD, steps)
            for here, there in itertools.pairwise(on_device(grid)):
                state = compiled(state, here, there)
            torch.testing.assert_close(state.x, last(sample(step, model, unit_noise, grid)))
        assert len(graphs) == needed, step


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Multistep(5), "order 5"),
        (lambda: Multistep(2, eta=1.0), "give a source of noise"),
        (lambda: Multistep(2, noise=NOISE), "or neither"),
        (lambda: Singlestep(SD, 4), "order 4"),
        (lambda: UniPC(0), "order 0"),
        (lambda: PLMS(5), "5 evaluations"),
        (lambda: Adams(0), "0 evaluations"),
        (lambda: Singlestep(SD, 2, eta=1.0), "give a source of noise"),
        (lambda: Singlestep(SD, 3, eta=1.0, noise=NOISE), "order 1 or 2"),
        (lambda: list(sample(Adams(), lambda x, at: x, torch.zeros(1, 1), uniform(flow(), 3, start=1.0))), "leave that end"),
        (
            lambda: list(sample(UniPC(2, of="epsilon"), lambda x, at: x, torch.zeros(1, 1), uniform(flow(), 3, start=1.0))),
            "leave that end",
        ),
        (lambda: Ancestral(eta=1.0), "source of it"),
        (lambda: Ancestral(NOISE, -1.0), "negative"),
        (lambda: Heun("karras"), "no form 'karras'"),  # type: ignore[arg-type]
        (lambda: last(iter([])), "read to its end"),
        (lambda: list(sample(Heun(), lambda x, at: x, torch.zeros(1, 1), uniform(flow(), 3, start=1.0))), "Heun\\('flow'\\)"),
        (lambda: list(sample(PLMS(), lambda x, at: x, torch.zeros(1, 1), uniform(flow(), 3, start=1.0))), "leave that end"),
    ],
)
def test_what_cannot_be_solved_is_refused(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_an_epsilon_model_on_a_zero_terminal_grid_is_a_clear_error() -> None:
    process = table(scaled_linear_betas(), zero_terminal=True)
    denoiser = Denoiser(lambda x, time, cond: x, Prediction("epsilon"))
    with pytest.raises(ValueError, match="predicts 'v', 'flow' or 'edm'"):
        list(sample(Ancestral(), denoiser, torch.zeros(1, 2), trailing(process, 4)))


def test_noised_pictures_and_starts_of_any_scale(ring: Mixture, unit_noise: torch.Tensor) -> None:
    """Sampling from part of the way gives back what was noised, on average, the closer the less noise there was."""
    grid = at_lams(Process(vp().schedule, "vp"), torch.linspace(2.0, 4.0, 20).tolist())
    x0 = ring.means[:1].expand(64, 2)
    x = forward(x0, unit_noise, grid[0])
    assert (last(sample(Multistep(2), ring, x, grid)) - x0).norm(dim=1).mean() < 0.5
    assert pure_noise(unit_noise, grid[0]).std() < 0.2
