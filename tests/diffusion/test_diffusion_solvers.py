"""Solvers: the formulas of the papers written out, the ends of a grid, strides, and what compiled and batched runs need."""

import itertools
import math

import pytest
import torch

from tectum.diffusion.denoiser import Denoiser
from tectum.diffusion.grids import at_lams, karras, on_device, trailing, uniform
from tectum.diffusion.marginals import forward, pure_noise
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.noise import Independent
from tectum.diffusion.predictions import Prediction
from tectum.diffusion.process import Process
from tectum.diffusion.schedules import edm, flow, vp, vp_cosine
from tectum.diffusion.solvers.ancestral import Ancestral, Fresh
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.plms import PLMS
from tectum.diffusion.solvers.residual import unit
from tectum.diffusion.solvers.runge_kutta import Churn, Heun
from tectum.diffusion.solvers.singlestep import Singlestep
from tectum.diffusion.solvers.state import State, last, sample, zero_step
from tectum.diffusion.solvers.unipc import UniPC
from tectum.diffusion.tables import linear_betas, scaled_linear_betas, table

DOUBLE = torch.float64
SD = table(scaled_linear_betas())
WHO = torch.arange(64)
NOISE = Independent(0, WHO)


class Fixed:
    """The same noise at every step."""

    def __init__(self, z: torch.Tensor) -> None:
        self.z = z

    def __call__(self, x, step, here, there) -> torch.Tensor:
        return self.z


def test_one_formula_is_ddim_euler_flow_euler_ddpm_and_euler_ancestral(ring: Mixture, unit_noise: torch.Tensor) -> None:
    x, z = unit_noise, unit_noise.flip(0)
    here, there = SD.at(700), SD.at(400)
    x0 = ring(x, here)
    noise = (x - here.alpha * x0) / here.sigma
    for eta in (0.0, 0.4, 1.0):  # Song et al. 2020, eq. 12 and 16
        a, b = here.alpha**2, there.alpha**2
        s = eta * math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b)
        expected = there.alpha * x0 + math.sqrt(1 - b - s**2) * noise + s * z
        torch.testing.assert_close(Ancestral(Fixed(z), eta)(State(x), ring, here, there).x, expected)
    here, there = edm().at(5.0), edm().at(2.0)
    x0 = ring(5 * x, here)
    euler = 5 * x + (2.0 - 5.0) * (5 * x - x0) / 5.0
    torch.testing.assert_close(Ancestral()(State(5 * x), ring, here, there).x, euler)
    up = math.sqrt(2.0**2 * (5.0**2 - 2.0**2) / 5.0**2)  # Euler-ancestral of k-diffusion
    down = math.sqrt(2.0**2 - up**2)
    expected = 5 * x + (down - 5.0) * (5 * x - x0) / 5.0 + up * z
    torch.testing.assert_close(Ancestral(Fixed(z), 1.0)(State(5 * x), ring, here, there).x, expected)
    here, there = flow(3.0).at(0.8), flow(3.0).at(0.5)
    x0 = ring(x, here)
    velocity = (x - x0) / here.sigma
    torch.testing.assert_close(Ancestral()(State(x), ring, here, there).x, x + (there.sigma - here.sigma) * velocity)


def test_both_variances_of_ddpm_and_the_learned_one_between_them() -> None:
    betas = torch.tensor(linear_betas(), dtype=DOUBLE)
    power, process = (1 - betas).cumprod(0), table(linear_betas())
    x, zero, one = (
        torch.zeros(3, 2, 4, dtype=DOUBLE),
        (lambda x, at: torch.zeros_like(x)),
        Fixed(torch.ones(3, 2, 4, dtype=DOUBLE)),
    )

    def variance(step: Ancestral, t: int, denoiser=zero) -> float:
        return step(State(x), denoiser, process.at(t), process.at(t - 1)).x[0, 0, 0].item() ** 2

    for t in (1, 100, 999):
        small = (betas[t] * (1 - power[t - 1]) / (1 - power[t])).item()
        large = betas[t].item()
        assert variance(Ancestral(one, 1.0), t) == pytest.approx(small, rel=1e-8)
        assert variance(Ancestral(one, 1.0, residual=unit), t) == pytest.approx(large, rel=1e-8)
        for said, share in ((-1.0, 0.0), (1.0, 1.0), (0.0, 0.5), (0.5, 0.75)):

            def network(x, time, cond, said=said) -> torch.Tensor:
                return torch.cat([0 * x, 0 * x + said], 1)

            learned = Denoiser(network, Prediction("x0"), learned_variance=True)
            expected = math.exp(share * math.log(large) + (1 - share) * math.log(small))  # Nichol & Dhariwal 2021, eq. 15
            assert variance(Ancestral(one, 1.0, learned=True), t, learned) == pytest.approx(expected, rel=1e-8)
    end = Ancestral(one, 1.0, learned=True)(State(x), learned, process.at(0), process.data())
    assert torch.equal(end.x, torch.zeros_like(x))
    with pytest.raises(ValueError, match="learned_variance=True"):
        variance(Ancestral(one, 1.0, learned=True), 5)


def test_dpm_solver_2m_and_2s_are_their_algorithms(ring: Mixture, unit_noise: torch.Tensor) -> None:
    """Lu et al. 2022, arXiv:2211.01095, algorithms 2 and 1, written out."""
    grid = trailing(SD, 5)[:-1]
    x, old, old_h = unit_noise, None, None
    for here, there in itertools.pairwise(grid):
        d = ring(x, here)
        h = there.lam - here.lam
        mixed = d if old is None else (1 + h / (2 * old_h)) * d - h / (2 * old_h) * old
        x = there.sigma / here.sigma * x - there.alpha * math.expm1(-h) * mixed
        old, old_h = d, h
    torch.testing.assert_close(last(sample(Multistep(2, rule="bh2"), ring, unit_noise, grid)), x)

    x = unit_noise
    for here, there in itertools.pairwise(grid):
        d, h = ring(x, here), there.lam - here.lam
        middle = SD.at_lam(here.lam + h / 2)
        u = middle.sigma / here.sigma * x - middle.alpha * math.expm1(-h / 2) * d
        x = there.sigma / here.sigma * x - there.alpha * math.expm1(-h) * ring(u, middle)
    torch.testing.assert_close(last(sample(Singlestep(SD, 2, "bh2"), ring, unit_noise, grid)), x)


def test_third_order_in_the_notation_of_the_published_code(ring: Mixture, unit_noise: torch.Tensor) -> None:
    """As it is shipped, D2 is a divided difference; doubled, it is the second derivative that its coefficient was made for."""
    grid = trailing(SD, 6)[:-1]
    for rule, factor in (("published", 1.0), ("exact", 2.0)):
        *_, before, _ = states = list(sample(Multistep(3, rule=rule), ring, unit_noise, grid))
        (d0, l0), (d1, l1), (d2, l2) = [(one.x0, one.at.lam) for one in states[-1].past]
        here, there = grid[-2], grid[-1]
        h, h0, h1 = there.lam - l0, l0 - l1, l1 - l2
        r0, r1 = h0 / h, h1 / h
        first, second = (d0 - d1) / r0, (d1 - d2) / r1
        slope = first + r0 / (r0 + r1) * (first - second)
        curve = factor * (first - second) / (r0 + r1)
        phi1, phi2 = math.expm1(-h), math.expm1(-h) / h + 1
        x = there.sigma / here.sigma * before.x - there.alpha * phi1 * d0 + there.alpha * phi2 * slope
        x = x - there.alpha * (phi2 / h - 0.5) * curve
        torch.testing.assert_close(states[-1].x, x)


def test_unipc_of_first_order_is_a_trapezoid_after_ddim(ring: Mixture, unit_noise: torch.Tensor) -> None:
    grid = trailing(SD, 4)[:-1]
    predicted, corrected, old = unit_noise, unit_noise, None
    for i, (here, there) in enumerate(itertools.pairwise(grid)):
        d = ring(predicted, here)
        if i:
            before = grid[i - 1]
            h = here.lam - before.lam
            corrected = here.sigma / before.sigma * corrected - here.alpha * math.expm1(-h) * (old + d) / 2
        h = there.lam - here.lam
        predicted = there.sigma / here.sigma * corrected - there.alpha * math.expm1(-h) * d
        old = d
    torch.testing.assert_close(last(sample(UniPC(1), ring, unit_noise, grid)), predicted)


def test_flow_heun_is_heun_on_the_velocity(ring: Mixture, unit_noise: torch.Tensor) -> None:
    grid = uniform(flow(), 5, start=1.0, end=0.2, to_data=False)
    x = unit_noise
    for here, there in itertools.pairwise(grid):

        def velocity(x, at):
            return (x - ring(x, at)) / at.sigma

        k = velocity(x, here)
        dt = there.sigma - here.sigma
        x = x + dt / 2 * (k + velocity(x + dt * k, there))
    torch.testing.assert_close(last(sample(Heun("flow"), ring, unit_noise, grid)), x)


def test_plms_is_its_weights_on_the_noises(ring: Mixture, unit_noise: torch.Tensor) -> None:
    grid = trailing(SD, 8)[:-1]

    def transfer(x, noise, here, there):
        return there.alpha * (x - here.sigma * noise) / here.alpha + there.sigma * noise

    def predicted(x, at):
        return (x - at.alpha * ring(x, at)) / at.sigma

    x, noises = unit_noise, []
    weights = {2: (3, -1), 3: (23, -16, 5), 4: (55, -59, 37, -9)}
    for here, there in itertools.pairwise(grid):
        noises = [predicted(x, here), *noises][:4]
        if len(noises) == 1:
            noise = (noises[0] + predicted(transfer(x, noises[0], here, there), there)) / 2
        else:
            chosen = weights[len(noises)]
            noise = sum(w * e for w, e in zip(chosen, noises, strict=True)) / sum(chosen)
        x = transfer(x, noise, here, there)
    torch.testing.assert_close(last(sample(PLMS(), ring, unit_noise, grid)), x)


def test_lcm_draws_all_noise_anew(ring: Mixture, unit_noise: torch.Tensor) -> None:
    grid = trailing(SD, 4)
    states = list(sample(Fresh(NOISE), ring, unit_noise, grid))
    for i in range(4):
        z = NOISE(unit_noise, i, grid[i], grid[i + 1])
        torch.testing.assert_close(states[i + 1].x, grid[i + 1].alpha * ring(states[i].x, grid[i]) + grid[i + 1].sigma * z)


SOLVERS = {
    "DDIM": lambda p: Ancestral(),
    "DDPM": lambda p: Ancestral(NOISE, 1.0),
    "DDPM, larger": lambda p: Ancestral(NOISE, 1.0, residual=unit),
    "LCM": lambda p: Fresh(NOISE),
    "flow Heun": lambda p: Heun("flow"),
    **{f"{order}M": (lambda p, order=order: Multistep(order)) for order in (1, 2, 3)},
    "3M, warmed up": lambda p: Multistep(3, warmup=Singlestep(p, 3)),
    "SDE 2M": lambda p: Multistep(2, rule="bh2", eta=1.0, noise=NOISE),
    **{f"{order}S": (lambda p, order=order: Singlestep(p, order)) for order in (1, 2, 3)},
    **{f"UniPC-{order}": (lambda p, order=order: UniPC(order)) for order in (1, 2, 3)},
}
NOT_FROM_NOISE = {"Heun": lambda p: Heun(), "PLMS": lambda p: PLMS(), "churn": lambda p: Churn(Heun(), p, NOISE, 0.2)}


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


@pytest.mark.parametrize("name", ["DDPM", "3S", "SDE 2M"])
def test_a_compiled_step_serves_every_step_of_every_grid(name: str, ring: Mixture, unit_noise: torch.Tensor) -> None:
    """One graph for each length of the past, whatever the numbers of steps; and the same samples."""
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs: list) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    step = SOLVERS[name](SD)
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


def test_churn_is_the_algorithm_of_the_paper(ring: Mixture, unit_noise: torch.Tensor) -> None:
    """Karras et al. 2022, algorithm 2."""
    grid = karras(edm(0.05, 20.0), 10)
    churn = Churn(Heun(), edm(), NOISE, gamma=0.25, low=0.1, high=8.0, inflate=1.007)
    x = unit_noise * 20
    for i, (here, there) in enumerate(itertools.pairwise(grid)):
        gamma = 0.25 if 0.1 <= here.sigma <= 8.0 else 0.0
        lifted = edm().at(here.sigma * (1 + gamma))
        x = x + math.sqrt(lifted.sigma**2 - here.sigma**2) * 1.007 * NOISE(x, i, here, lifted)
        k = (x - ring(x, lifted)) / lifted.sigma
        y = x + (there.sigma - lifted.sigma) * k
        if there.sigma:
            y = x + (there.sigma - lifted.sigma) / 2 * (k + (y - ring(y, there)) / there.sigma)
        x = y
    torch.testing.assert_close(last(sample(churn, ring, unit_noise * 20, grid)), x, rtol=1e-6, atol=1e-6)


def test_the_first_step_may_be_warmed_up(ring: Mixture, unit_noise: torch.Tensor) -> None:
    grid = karras(edm(0.02, 20.0), 12, to_data=False)
    warmed = list(sample(Multistep(3, warmup=Singlestep(edm(), 3)), ring, unit_noise * 20, grid))
    single = list(sample(Singlestep(edm(), 3), ring, unit_noise * 20, grid))
    assert [len(state.past) for state in warmed[:5]] == [0, 1, 2, 3, 3]
    torch.testing.assert_close(warmed[2].x, single[2].x)
    assert not torch.equal(warmed[3].x, single[3].x)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Multistep(5), "order 5"),
        (lambda: Multistep(2, eta=1.0), "give a source of noise"),
        (lambda: Multistep(2, noise=NOISE), "or neither"),
        (lambda: Singlestep(SD, 4), "order 4"),
        (lambda: UniPC(0), "order 0"),
        (lambda: PLMS(5), "5 evaluations"),
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
