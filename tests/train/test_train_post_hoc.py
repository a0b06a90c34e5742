"""Averages of any length, made after a run, agree with those made in it; and a resumed run keeps the same ones."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_task import CONFIG, SmallTask
from torch import nn

from tectum.errors import CheckpointError, ConfigError
from tectum.train.post_hoc import (
    LONGEST,
    PowerAverages,
    Profile,
    combination,
    exponent,
    inner,
    power_decay,
    reconstruct,
    relative_std,
    snapshots,
)
from tectum.train.trainer import train

STEPS, EVERY = 640, 10


def profile(gamma, t, steps=STEPS):
    """The integral of p(τ) over each step."""
    edges = np.minimum(np.arange(steps + 1) / t, 1.0) ** (gamma + 1)
    return np.diff(edges)


@pytest.mark.parametrize("std", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_the_relative_deviation_is_that_of_the_profile(std):
    gamma = exponent(std)
    assert gamma > 0 and math.isclose(relative_std(gamma), std, rel_tol=1e-9)
    tau = (np.arange(10**6) + 0.5) / 10**6
    density = (gamma + 1) * tau**gamma / 10**6
    mean = (density * tau).sum()
    assert math.isclose(math.sqrt((density * (tau - mean) ** 2).sum()), std, rel_tol=1e-4)


@pytest.mark.parametrize("std", [0.0, -1.0, LONGEST, 0.5, math.nan])
def test_a_deviation_that_no_profile_has_is_refused(std):
    with pytest.raises(ConfigError, match="σ_rel"):
        exponent(std)


def test_inner_products_are_the_integrals():
    profiles = [Profile(t, gamma) for t in (3.0, 7.0, 10.0) for gamma in (0.0, 1.5, 6.94, 17.0)]
    tau = (np.arange(10**6) + 0.5) / 10**5
    values = [(p.gamma + 1) * (tau / p.time) ** p.gamma / p.time * (tau <= p.time) for p in profiles]
    for a, of_a in zip(profiles, values, strict=True):
        for b, of_b in zip(profiles, values, strict=True):
            assert math.isclose(inner(a, b), float(of_a @ of_b) / 10**5, rel_tol=1e-3, abs_tol=1e-12)
            assert inner(a, b) == inner(b, a)


def test_the_decays_integrate_the_profile_exactly():
    for gamma in (0.0, 2.0, 16.97):
        weights = np.zeros(STEPS)
        for t in range(1, STEPS + 1):
            decay = power_decay(gamma, t)
            weights *= decay
            weights[t - 1] += 1 - decay
        np.testing.assert_allclose(weights, profile(gamma, STEPS), rtol=1e-9, atol=1e-300)


def test_a_profile_that_is_kept_is_its_own_combination():
    have = [Profile(t, exponent(std)) for t in range(100, 1001, 100) for std in (0.05, 0.1)]
    weights = combination(have, have[-1])
    np.testing.assert_allclose(weights, np.eye(len(have))[-1], atol=1e-7)


class Wandering(nn.Module):
    """Weights that move like those of a run: toward a place, with noise."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 4, dtype=torch.float64))
        self.register_buffer("running", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def walk(self):
        generator = torch.Generator().manual_seed(0)
        for t in range(1, STEPS + 1):
            noise = torch.randn(3, 4, dtype=torch.float64, generator=generator)
            self.weight.data.add_(0.02 * (torch.arange(12.0).view(3, 4) - self.weight) + 0.1 * noise)
            self.running.fill_(t)
            self.count += 1
            yield


@pytest.fixture(scope="module")
def wandered(tmp_path_factory):
    """(folder, weights [STEPS, 3, 4] after each update)."""
    folder = tmp_path_factory.mktemp("averages")
    module = Wandering()
    module.averages = PowerAverages(module)
    path = []
    for _ in module.walk():
        module.averages.keep(module, folder, EVERY)
        path.append(module.weight.detach().clone())
    return folder, torch.stack(path)


@pytest.mark.parametrize("updates", [None, 320])
@pytest.mark.parametrize("std", [0.04, 0.05, 0.06, 0.08, 0.1, 0.13, 0.17, 0.2])
def test_any_length_can_be_had_afterwards(wandered, std, updates):
    folder, path = wandered
    time = updates or STEPS
    direct = np.tensordot(profile(exponent(std), time, time), path[:time].numpy(), 1)
    found = reconstruct(folder, std, updates)
    assert set(found) == {"weight", "running"} and found["weight"].dtype == torch.float64
    farthest = path[:time].abs().amax(0).numpy()
    bound = 1e-9 if std in (0.05, 0.1) else 0.01
    assert (np.abs(found["weight"].numpy() - direct) <= bound * farthest).all()


@pytest.mark.parametrize("std", [0.04, 0.07, 0.15, 0.2])
def test_the_nearest_profile_comes_nearer_with_more_snapshots(std):
    """Quadratically: in L¹, which bounds the error of weights of at most one; and weights that do not change stay so."""
    errors = []
    for count in (16, 32, 64):
        have = [Profile(t, exponent(each)) for t in range(STEPS // count, STEPS + 1, STEPS // count) for each in (0.05, 0.1)]
        weights = combination(have, Profile(STEPS, exponent(std)))
        assert math.isclose(weights.sum(), 1.0, abs_tol=1e-9)
        kept = np.stack([profile(each.gamma, each.time) for each in have])
        errors.append(np.abs(weights @ kept - profile(exponent(std), STEPS)).sum())
    assert errors[2] < 2e-3 and all(few / many > 3 for few, many in pairwise(errors))


def test_weights_that_stand_still_are_kept(tmp_path):
    module = nn.Linear(3, 3)
    averages = PowerAverages(module)
    for _ in range(12):
        averages.keep(module, tmp_path, every=3)
    assert len(snapshots(tmp_path)) == 8
    torch.testing.assert_close(reconstruct(tmp_path, 0.25)["weight"], module.weight.detach())


class Net(nn.Module):
    """A network beside its averages."""

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.averages = PowerAverages(self)

    @property
    def temperature(self):
        return self.body.temperature

    def forward(self, x):
        return self.body(x)


class Averaged(SmallTask):
    """The hard task, with averages, and perhaps a step at which the run dies."""

    def __init__(self, out, die_at=None):
        super().__init__()
        self.module, self.out, self.die_at = Net(self.module), out, die_at

    def loss(self, batch, step):
        if step == self.die_at:
            raise InterruptedError
        return super().loss(batch, step)

    def after_step(self, step):
        super().after_step(step)
        self.module.averages.keep(self.module, self.out / "averages", every=4)


def written(out):
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.safetensors")) + sorted(out.glob("averages/*"))}


def test_a_resumed_run_keeps_the_same_averages(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(Averaged(whole), CONFIG, whole, progress=False)
    for step in (3, 7, 9):  # checkpoints are those of steps 5 and 10: every time some steps are taken again
        with pytest.raises(InterruptedError):
            train(Averaged(cut, step), CONFIG, cut, progress=False)
    train(Averaged(cut), CONFIG, cut, progress=False)
    assert written(cut) == written(whole) and len(written(whole)) == 2 + 3 * 2


def test_what_is_reconstructed_can_be_loaded(tmp_path):
    task = Averaged(tmp_path)
    train(task, CONFIG, tmp_path, progress=False)
    own = task.module.averages.averages()[1]
    net = Net(SmallTask().module)
    left = net.load_state_dict(reconstruct(tmp_path / "averages", 0.1), strict=False)
    assert not left.unexpected_keys and all(key.startswith("averages.") or "num_batches" in key for key in left.missing_keys)
    for name, value in own.items():
        torch.testing.assert_close(net.state_dict()[name], value)
    assert not any(name.startswith("averages") for name in own) and "body.1.running_var" in own


def test_mistakes_are_told(tmp_path):
    with pytest.raises(ConfigError, match="no snapshot"):
        reconstruct(tmp_path, 0.1)
    module = nn.Linear(2, 2)
    averages = PowerAverages(module)
    averages.keep(module, tmp_path, every=1)
    with pytest.raises(ConfigError, match="after 7 updates"):
        reconstruct(tmp_path, 0.1, 7)
    (tmp_path / "00000001-0.05.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="damaged"):
        reconstruct(tmp_path, 0.1)


def test_one_update_is_the_weights_themselves(tmp_path):
    module = nn.Linear(2, 2)
    averages = PowerAverages(module)
    module.weight.data.fill_(3.0)
    averages.keep(module, tmp_path, every=1)
    assert torch.equal(load_file(tmp_path / "00000001-0.1.safetensors")["weight"], module.weight)
