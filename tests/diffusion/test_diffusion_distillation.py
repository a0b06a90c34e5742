"""A student that does exactly what its lesson asks has no loss and no gradient; the boundary holds; in every frame."""

import math
from itertools import pairwise

import pytest
import torch

from tectum.diffusion import schedules
from tectum.diffusion.denoiser import Denoiser, loss
from tectum.diffusion.distillation import Consistency, Matching, Nearing, Progressive, boundary, guided
from tectum.diffusion.grids import at_lams, at_times
from tectum.diffusion.guidance import ClassifierFree
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.predictions import KINDS, Prediction
from tectum.diffusion.process import Process
from tectum.diffusion.solvers.ancestral import Ancestral
from tectum.diffusion.solvers.runge_kutta import Heun
from tectum.diffusion.solvers.state import last, sample
from tectum.diffusion.tables import linear_betas, table
from tectum.diffusion.weights import UniformLam, plain_flow, plain_x0, stratified, truncated_snr

FRAMES = {
    "vp": schedules.vp(),
    "ve": schedules.edm(),
    "flow": schedules.flow(),
    "subvp": schedules.sub_vp(),
    "table": table(linear_betas()),
}
TOLD = {"x0", "v", "flow", "edm"}
N = 64


@pytest.fixture(params=FRAMES)
def frame(request):
    return FRAMES[request.param]


def drawn(n=N, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, n, 2, dtype=torch.float64, generator=generator)
    return 2 * x0, noise, stratified(n, torch.tensor(0.3))


class Answers:
    """A student that answers a given function of x and λ, plus its one parameter."""

    def __init__(self, answer, process, kind):
        self.off = torch.zeros((), dtype=torch.float64, requires_grad=True)
        self.answer, self.process, self.prediction = answer, process, Prediction(kind)
        self.denoiser = Denoiser(self.network, self.prediction, time_input="log_noise")

    def network(self, x, time, cond):
        at = self.process.at_lam(-4 * time)
        x0 = self.answer(x, at, cond) + self.off
        return self.prediction.target(x0, (x - at.alpha[:, None] * x0) / at.sigma[:, None], at)


def has_learned(lesson, answer, process, kind, cond=None, tolerance=1e-18):
    """No loss and no gradient with it; a loss without."""
    student = Answers(answer, process, kind)
    losses = lesson(student.denoiser, *drawn(), cond)
    assert losses.shape == (N,) and losses.max() < tolerance
    (slope,) = torch.autograd.grad(losses.sum(), student.off)
    assert abs(slope) < 1e-6
    wrong = lesson(Answers(lambda *given: answer(*given) + 0.1, process, kind).denoiser, *drawn(), cond)
    assert wrong.min() > 1e-6


@pytest.mark.parametrize("kind", sorted(TOLD))
def test_two_steps_of_the_teacher_are_one_of_the_student(ring, frame, kind):
    grid = at_lams(frame, torch.linspace(-2, 3, 8).tolist())
    lesson = Progressive(lambda x, at, cond: ring(x, at), grid, truncated_snr)

    def answer(x, at, cond):
        """x₀ of the one step that ends where two of the solver do, each sample by itself."""
        rows = []
        for row, lam in zip(x, at.lam, strict=True):
            first = min(range(0, 8, 2), key=lambda i: abs(grid[i].lam - float(lam)))
            here, there = grid[first], grid[first + 2]
            end = last(sample(Ancestral(), ring, row[None], grid[first : first + 3]))
            ratio = there.sigma / here.sigma
            rows.append((end - ratio * row) / (there.alpha - ratio * here.alpha))
        return torch.cat(rows)

    has_learned(lesson, answer, frame, kind)
    start = 4 * drawn()[1]
    student = Answers(answer, frame, kind).denoiser
    with torch.no_grad():
        ends = last(sample(Ancestral(), student, start, grid[::2]))
    torch.testing.assert_close(ends, last(sample(Ancestral(), ring, start, grid)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", sorted(TOLD))
def test_progressive_from_pure_noise_to_the_data(ring, kind):
    grid = at_times(schedules.flow(), (1.0, 0.5))
    assert (grid[0].alpha, grid[-1].sigma) == (0.0, 0.0)
    lesson = Progressive(lambda x, at, cond: ring(x, at), grid, plain_x0)
    x0, noise, uniform = drawn()
    denoiser = Denoiser(lambda x, time, cond: torch.zeros_like(x), Prediction(kind))
    losses = lesson(denoiser, x0, noise, uniform)
    middle = 0.5 * ring(noise, grid[0]) + 0.5 * noise
    expected = ((denoiser(noise, grid[0]) - ring(middle, grid[1])) ** 2).mean(1)
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize("lams", [[0.0], [0.0, 1.0], [0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 2.0], [0.0, 0.0, 2.0]])
def test_a_grid_that_no_student_can_halve_is_refused(ring, lams):
    with pytest.raises(ValueError, match="even number of steps"):
        Progressive(lambda x, at, cond: ring(x, at), at_lams(schedules.edm(), lams, to_data=False), plain_x0)


@pytest.mark.parametrize("kind", sorted(TOLD))
def test_guidance_is_matched(ring, frame, kind):
    def network(x, time, cond):
        return ring(x, frame.at_lam(-4 * time)) + cond["shift"]

    teacher = Denoiser(network, Prediction("x0"), time_input="log_noise")
    lesson = Matching(guided(teacher, {"shift": torch.zeros(1, 2)}), UniformLam(frame, -2, 3), truncated_snr)
    generator = torch.Generator().manual_seed(2)
    cond = {"shift": torch.randn(N, 2, generator=generator), "guidance": 1 + 6 * torch.rand(N, generator=generator)}

    def answer(x, at, told):
        own, nothing = {"shift": told["shift"]}, {"shift": torch.zeros(N, 2)}
        return ClassifierFree(teacher, own, nothing, told["guidance"])(x, at)

    has_learned(lesson, answer, frame, kind, cond)


def test_matching_learns_the_mean_of_what_a_teacher_says(ring):
    """With the data's own noise-free answer as the teacher's, it is the loss of denoising."""
    process, (x0, noise, uniform) = schedules.flow(), drawn()
    denoiser = Denoiser(lambda x, time, cond: torch.tanh(x), Prediction("flow"))
    draw = UniformLam(process, -3, 3)
    lesson = Matching(lambda x, at, cond: x0, draw, plain_flow)
    torch.testing.assert_close(lesson(denoiser, x0, noise, uniform), loss(denoiser, x0, noise, draw(uniform), plain_flow))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "x0"])
def test_the_boundary_is_exact_whatever_the_network(frame, kind):
    x = drawn()[0]
    for network in (lambda x, time, cond: 100 * torch.cos(5 * x), lambda x, time, cond: torch.full_like(x, math.nan)):
        student = Denoiser(network, Prediction(kind), time_input="log_noise")
        assert torch.equal(boundary(student, x, frame.data()), x)
        each = frame.at_lam(torch.full((N,), torch.inf, dtype=torch.float64))
        assert torch.equal(boundary(student, x, each), x)
    mix = student.prediction.x0_mix(frame.data())
    assert (mix.first, abs(mix.second)) == (1.0, 0.0)
    near = frame.at_lam(12.0)
    smooth = Denoiser(lambda x, time, cond: torch.cos(x), Prediction(kind), time_input="log_noise")
    torch.testing.assert_close(smooth(near.alpha * x, near), x, rtol=0, atol=1e-4)


def test_a_student_without_a_boundary_is_refused():
    student = Denoiser(lambda x, time, cond: x, Prediction("x0"))
    lesson = Consistency(schedules.edm(), UniformLam(schedules.edm(), -2, 2), plain_x0, Nearing(3))
    with pytest.raises(ValueError, match="does not keep x"):
        lesson(student, *drawn())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "x0"])
def test_consistency_tuning_begins_as_denoising(frame, kind):
    x0, noise, uniform = drawn()
    student = Denoiser(lambda x, time, cond: torch.cos(x), Prediction(kind))
    draw = UniformLam(frame, -2, 3)
    tuned = Consistency(frame, draw, truncated_snr, Nearing(0))(student, x0, noise, uniform)
    torch.testing.assert_close(tuned, loss(student, x0, noise, draw(uniform), truncated_snr))


GAUSS = Mixture(*(torch.tensor(values, dtype=torch.float64) for values in ([[0.5, -1.0]], [0.7], [1.0])))


def flows_to(x: torch.Tensor, at, process: Process) -> torch.Tensor:
    """Where the probability flow of one Gaussian ends, which is known in closed form."""
    alpha, sigma = (torch.as_tensor(value, dtype=torch.float64).reshape(-1, 1) for value in (at.alpha, at.sigma))
    mean, std = GAUSS.means[0], GAUSS.stds[0]
    return mean + std * (x - alpha * mean) / (alpha**2 * std**2 + sigma**2).sqrt()


@pytest.mark.parametrize(("step", "order"), [(Ancestral(), 2), (Heun(), 3)])
def test_the_consistency_map_is_the_limit_of_distillation(frame, step, order):
    """Its loss is the square of one local error of the solver: h^2p+2 for order p; without a solver's error there is none."""
    student = Answers(lambda x, at, cond: flows_to(x, at, frame), frame, "edm").denoiser

    def error(gap):
        lesson = Consistency(
            frame,
            UniformLam(frame, -1, 1),
            plain_x0,
            lambda noise: noise * math.exp(-gap),
            lambda x, at, cond: GAUSS(x, at),
            step,
        )
        return lesson(student, *drawn()).mean().sqrt().item()

    slope = math.log(error(0.02) / error(0.01)) / math.log(2)
    assert abs(slope - order) < 0.1


def test_one_datum_is_found_in_one_step_from_any_gap(frame):
    """All paths lead to it on straight lines of σ/α, so the map that says it has no loss at all."""
    point = Mixture(torch.tensor([[0.3, -2.0]], dtype=torch.float64), torch.zeros(1).double(), torch.ones(1).double())
    for teacher in (None, lambda x, at, cond: point(x, at)):
        lesson = Consistency(frame, UniformLam(frame, -2, 2), plain_x0, Nearing(2), teacher)
        student = Answers(lambda x, at, cond: point.means.expand_as(x), frame, "edm").denoiser
        x0, noise, uniform = drawn()
        assert lesson(student, point.means.expand_as(x0), noise, uniform).max() < 1e-18


def test_the_nearer_point_comes_closer():
    noise = torch.logspace(-2, 2, 50, dtype=torch.float64)
    gaps = [noise - Nearing(stage)(noise) for stage in range(9)]
    assert all((late <= early + 1e-12).all() and (late > 0).all() for early, late in pairwise(gaps))
    assert torch.equal(gaps[0], noise)
    torch.testing.assert_close(gaps[8], gaps[7] / 2)
