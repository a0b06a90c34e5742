"""A small student on eight Gaussians in a ring needs fewer steps than the exact denoiser it learned from."""

import copy
import math

import pytest
import torch
from torch import nn

from tectum.diffusion import schedules
from tectum.diffusion.denoiser import Denoiser
from tectum.diffusion.distillation import Consistency, Matching, Nearing, Progressive, guided
from tectum.diffusion.grids import at_lams
from tectum.diffusion.guidance import Given
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.noise import Independent
from tectum.diffusion.predictions import Prediction
from tectum.diffusion.solvers.ancestral import Ancestral, Fresh
from tectum.diffusion.solvers.state import last, sample
from tectum.diffusion.weights import UniformLam, UnitVariance, stratified

ANGLE = torch.arange(8) / 8 * 2 * math.pi
RING = Mixture(2 * torch.stack([ANGLE.cos(), ANGLE.sin()], 1), torch.full((8,), 0.2), torch.full((8,), 1 / 8))
ENDS = (-math.log(20.0), -math.log(0.02))
PROCESS = schedules.flow()
WEIGHT = UnitVariance(1.4)
COUNT = 1000


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x, time, cond):
        told = cond.get("guidance", torch.ones(len(x)))
        return self.layers(torch.cat([x, time[:, None], told[:, None]], 1))


def denoiser(net):
    return Denoiser(net, Prediction("edm", 1.4), time_input="log_noise", scale_input=True)


def teacher(x, at, cond):
    return RING(x, at)


def grid(process, steps):
    """Even steps of λ, of which the last ends at the data."""
    return at_lams(process, torch.linspace(*ENDS, steps + 1)[:-1].tolist())


def learn(net, lessons, rate=5e-3, n=192, cond=None, data=RING):
    """A step for each lesson."""
    optimizer, generator = torch.optim.Adam(net.parameters()), torch.Generator().manual_seed(0)
    for step, lesson in enumerate(lessons):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / len(lessons))
        noise, own = torch.randn(2, n, 2, generator=generator)
        x0 = data.sample(own, torch.rand(n, generator=generator))
        told = None if cond is None else cond(generator, n)
        loss = lesson(denoiser(net), x0, noise, stratified(n, torch.rand((), generator=generator)), told).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def samples(model, process, steps, solver=None):
    points = grid(process, steps)
    noise = torch.randn(COUNT, 2, generator=torch.Generator().manual_seed(5))
    return last(sample(solver or Ancestral(), model, points[0].sigma * noise, points))


def energy_distance(made, real=None):
    """From other samples, or from the data, which has about 0.002 from itself."""
    if real is None:
        generator = torch.Generator().manual_seed(6)
        real = RING.sample(torch.randn(COUNT, 2, generator=generator), torch.rand(COUNT, generator=generator))
    between = torch.cdist(made, real).mean()
    return float(2 * between - torch.cdist(made, made).mean() - torch.cdist(real, real).mean())


def test_progressive_distillation_halves_the_steps():
    """From eight steps to four, two and one: with two a half, with one a tenth of what the teacher is off with as many."""
    net, told = Net(), teacher
    for steps, share in ((4, 1.0), (2, 0.5), (1, 0.1)):
        learn(net, [Progressive(told, grid(PROCESS, 2 * steps), WEIGHT)] * 200)
        told = denoiser(copy.deepcopy(net))
        ours, theirs = (energy_distance(samples(model, PROCESS, steps)) for model in (told, RING))
        assert ours < theirs * share, (steps, ours, theirs)


@pytest.mark.parametrize("told", [None, teacher], ids=["tuning", "distillation"])
def test_a_consistency_model_needs_one_step(told):
    net, draw, steps = Net(), UniformLam(PROCESS, *ENDS), 600
    learn(net, [Consistency(PROCESS, draw, WEIGHT, Nearing(6 * step // steps), told) for step in range(steps)])
    for count, share in ((1, 0.1), (2, 0.5)):
        fresh = samples(denoiser(net), PROCESS, count, Fresh(Independent(1, torch.arange(COUNT))))
        ours, theirs = energy_distance(fresh), energy_distance(samples(RING, PROCESS, count))
        assert ours < theirs * share, (count, ours, theirs)


def test_a_student_learns_every_weight_of_guidance():
    """Half the evaluations, and samples that differ from those of the teacher by less than half of what guidance does."""
    right = Mixture(RING.means[[0, 1, 7]], RING.stds[:3], torch.full((3,), 1 / 3))

    def network(x, time, cond):
        at = PROCESS.at_lam(-4 * time)
        return torch.where(cond["right"][:, None] > 0, right(x, at), RING(x, at))

    strong = guided(Denoiser(network, Prediction("x0"), time_input="log_noise"), {"right": torch.zeros(1)})

    def told(generator, n):
        return {"right": torch.ones(n), "guidance": 1 + 3 * torch.rand(n, generator=generator)}

    net = Net()
    learn(net, [Matching(strong, UniformLam(PROCESS, *ENDS), WEIGHT)] * 500, cond=told, data=right)
    plain = samples(right, PROCESS, 8)
    for weight in (2.5, 4.0):
        cond = {"right": torch.ones(COUNT), "guidance": torch.full((COUNT,), weight)}
        ours = samples(Given(denoiser(net), cond), PROCESS, 8)
        theirs = samples(lambda x, at, cond=cond: strong(x, at, cond), PROCESS, 8)
        assert energy_distance(ours, theirs) < energy_distance(plain, theirs) / 2, weight
