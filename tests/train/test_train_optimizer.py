"""The schedule's closed form, which parameters decay, and the moving average's closed form."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from tectum.errors import CheckpointError, ConfigError
from tectum.train.config import TrainConfig
from tectum.train.ema import EMA, ema_decay
from tectum.train.muon import orthogonalize
from tectum.train.optimizer import build_optimizer, decays, learning_rate, optimizer_tensors, restore_optimizer


@given(steps=st.integers(1, 500), warmup=st.integers(0, 600), lr=st.floats(1e-6, 1), part=st.floats(0, 1))
def test_the_schedule_rises_linearly_and_falls_as_half_a_cosine(steps, warmup, lr, part):
    config = TrainConfig(steps=steps, warmup=warmup, lr=lr, min_lr=lr * part)
    rates = np.array([learning_rate(config, step) for step in range(steps)])
    rise = min(warmup, steps)
    np.testing.assert_allclose(rates[:rise], lr * np.arange(1, rise + 1) / max(warmup, 1))
    fall = np.arange(steps - rise) / max(steps - warmup, 1)
    np.testing.assert_allclose(rates[rise:], lr * part + lr * (1 - part) * np.cos(np.pi * fall / 2) ** 2, rtol=1e-9)
    assert rates.max() <= lr * (1 + 1e-12)


def test_the_fall_is_that_of_torch():
    config = TrainConfig(steps=50, warmup=10, lr=0.3, min_lr=0.01)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.01)
    for step in range(10, 50):
        assert learning_rate(config, step) == pytest.approx(cosine.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        cosine.step()


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm1 = nn.BatchNorm2d(4)
        self.pos_embed = nn.Parameter(torch.zeros(1, 9, 4))
        self.temperature = nn.Parameter(torch.zeros(2, 2))
        self.composer = nn.Linear(4, 4)
        self.frozen = nn.Parameter(torch.zeros(3, 3), requires_grad=False)


def test_only_matrices_and_kernels_decay():
    tower = Tower()
    assert {name for name, parameter in tower.named_parameters() if decays(name, parameter)} == {
        "conv.weight",
        "composer.weight",
        "frozen",
    }
    optimizer = build_optimizer(tower, TrainConfig(steps=1, weight_decay=0.1))
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert {id(p) for p in decayed["params"]} == {id(tower.conv.weight), id(tower.composer.weight)}
    everything = [id(p) for p in (*decayed["params"], *free["params"])]
    assert sorted(everything) == sorted(id(p) for p in tower.parameters() if p.requires_grad)


def test_decay_shrinks_by_its_closed_form_and_spares_the_rest():
    # With a zero gradient AdamW only decays: w <- w (1 - lr wd).
    layer = nn.Linear(3, 3)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    optimizer = build_optimizer(layer, TrainConfig(steps=1, lr=0.1, weight_decay=0.5))
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight, before["weight"] * (1 - 0.1 * 0.5))
    torch.testing.assert_close(layer.bias, before["bias"], rtol=0, atol=0)


def test_a_restored_optimizer_goes_on_bit_for_bit():
    def make():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)).to(memory_format=torch.channels_last)
        return module, build_optimizer(module, TrainConfig(steps=1, lr=0.1))

    def advance(module, optimizer, step):
        optimizer.zero_grad()
        module(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        optimizer.step()

    (first, optimizer), (second, restored) = make(), make()
    for step in range(6):
        if step == 3:
            second.load_state_dict(first.state_dict())
            saved = {name: value.contiguous().clone() for name, value in optimizer_tensors(optimizer, first).items()}
            restore_optimizer(restored, second, saved)
        advance(first, optimizer, step)
        if step >= 3:
            advance(second, restored, step)
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(CheckpointError, match="another model"):
        restore_optimizer(restored, second, {})


def test_the_average_equals_its_weighted_sum():
    # average_T = sum_t w_t (1 - d_t) prod_{s > t} d_s + w_start prod_s d_s
    decay, steps = 0.9, 300
    layer = nn.BatchNorm1d(1)
    layer.weight.data.fill_(7.0)
    average = EMA(layer, decay)
    values = np.random.default_rng(0).normal(size=steps)
    for t, value in enumerate(values):
        layer.weight.data.fill_(value)
        layer.running_mean.fill_(2 * value)
        layer.num_batches_tracked.fill_(t)
        average.update(layer, t)
    d = np.array([min(decay, (1 + t) / (10 + t)) for t in range(steps)])
    weights = np.append((1 - d) * np.append(np.cumprod(d[:0:-1])[::-1], 1.0), np.prod(d))
    assert weights.sum() == pytest.approx(1)
    assert average.module.weight.item() == pytest.approx(weights @ np.append(values, 7.0), abs=1e-6)
    assert average.module.running_mean.item() == pytest.approx(weights @ np.append(2 * values, 0.0), abs=1e-6)
    assert average.module.num_batches_tracked.item() == steps - 1


def test_the_average_is_a_copy_in_evaluation_mode():
    layer = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    average = EMA(layer, 0.99)
    assert not average.module.training and layer.training
    assert not any(p.requires_grad for p in average.module.parameters())
    layer[0].weight.data.fill_(math.inf)
    assert torch.isfinite(average.module[0].weight).all()


def test_infinite_masks_stay_infinite():
    module = nn.Linear(1, 1)
    module.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    average = EMA(module, 0.9)
    average.update(module, 5)
    assert torch.equal(average.module.mask, module.mask)


@given(decay=st.floats(0, 0.9999), updates=st.integers(0, 10**6))
def test_the_decay_warms_up(decay, updates):
    assert ema_decay(decay, updates) <= decay
    assert ema_decay(decay, updates) <= ema_decay(decay, updates + 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("lr", -1.0), ("lr", math.nan), ("min_lr", 1.0), ("warmup", -1), ("clip", math.inf), ("ema", 1.0),
     ("betas", (0.9, 1.0)), ("betas", (0.9,)), ("precision", "fp16"), ("log_every", 0), ("eval_every", -1), ("seed", -1)],
)  # fmt: skip
def test_options_that_make_no_sense_are_named(field, value):
    with pytest.raises(ConfigError, match=f"^{field} must be"):
        TrainConfig(**{"steps": 10, field: value})


def test_orthogonalised_matrices_have_singular_values_near_one_and_the_same_vectors():
    torch.manual_seed(0)
    for shape in ((7, 7), (5, 40), (40, 5)):
        matrix = torch.randn(shape)
        found = orthogonalize(matrix)
        values = torch.linalg.svdvals(found)
        assert values.min() > 0.6 and values.max() < 1.3
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        core = u.T @ found @ v.T
        assert (core - core.diagonal().diag()).abs().max() < 0.06


def test_muon_moves_matrices_along_the_polar_factor_and_the_rest_as_adamw():
    """A first step: the momentum is a multiple of the gradient, so the update is its polar factor, times 0.2 sqrt(max side)."""
    torch.manual_seed(0)
    config = TrainConfig(steps=1, lr=0.01, weight_decay=0.1, optimizer="muon", clip=0.0)
    ours, theirs = Tower(), Tower()
    theirs.load_state_dict(ours.state_dict())
    muon = build_optimizer(ours, config)
    adamw = build_optimizer(theirs, replace(config, optimizer="adamw"))
    gradients = {name: torch.randn_like(parameter) for name, parameter in ours.named_parameters() if parameter.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in ours.named_parameters()}
    for module, optimizer in ((ours, muon), (theirs, adamw)):
        for name, gradient in gradients.items():
            module.get_parameter(name).grad = gradient.clone()
        optimizer.step()
    for name in ("conv.weight", "composer.weight"):
        gradient = gradients[name].flatten(1)
        u, _, v = torch.linalg.svd(gradient, full_matrices=False)
        wanted = before[name] * (1 - 0.01 * 0.1) - 0.01 * 0.2 * max(gradient.shape) ** 0.5 * (u @ v).reshape(before[name].shape)
        moved, expected = (ours.get_parameter(name) - before[name]).flatten(), (wanted - before[name]).flatten()
        assert functional.cosine_similarity(moved, expected, dim=0) > 0.97
    for name in gradients.keys() - {"conv.weight", "composer.weight"}:
        torch.testing.assert_close(ours.get_parameter(name), theirs.get_parameter(name))


def test_muon_leaves_what_has_no_gradient():
    tower = Tower()
    optimizer = build_optimizer(tower, TrainConfig(steps=1, optimizer="muon"))
    before = tower.composer.weight.detach().clone()
    tower.conv.weight.grad = torch.ones_like(tower.conv.weight)
    optimizer.step()
    assert torch.equal(tower.composer.weight, before)
    assert not optimizer.state[tower.composer.weight]["momentum"].any()
