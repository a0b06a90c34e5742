"""Balancing modalities: closed forms, why gradients are the wrong thing to scale, exact resuming, and a starved modality fed."""

import importlib
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tectum.errors import ConfigError
from tectum.nn.transformer import Transformer
from tectum.train.balance import Balance, step_factors
from tectum.train.config import TrainConfig
from tectum.train.optimizer import build_optimizer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LOSSES = {"image": torch.tensor(0.2), "sound": torch.tensor(1.2)}


class Two(nn.Module):
    """Two Transformers with tokens of their own: parameters of one, two and three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.sound = Transformer(8, 1, 2), Transformer(8, 1, 2)
        self.image.tokens, self.sound.tokens = (nn.Parameter(torch.randn(1, 3, 8)) for _ in "ab")
        self.double()  # gradients that are zero but for rounding (of the keys' biases) would be noise to Adam

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {"image": list(self.image.parameters()), "sound": list(self.sound.parameters())}

    def loss(self, step: int) -> torch.Tensor:
        x = torch.randn(4, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        both = self.image(x + self.image.tokens) * self.sound(x + self.sound.tokens)
        return (both.sum((1, 2)) - x.sum((1, 2))).square().mean()


def move(module: Two, kind: str, steps: int, *, gradients: float = 1.0, balance: Balance | None = None, lr: float = 1e-2) -> None:
    """Some steps, in which the image's gradients are scaled or its step is."""
    optimizer = build_optimizer(module, TrainConfig(steps=1, lr=lr, optimizer=kind, weight_decay=0.0))
    for step in range(steps):
        optimizer.zero_grad()
        if balance is not None:
            balance.watch(LOSSES)
        module.loss(step).backward()
        for parameter in module.parts()["image"]:
            parameter.grad.mul_(gradients)
        optimizer.step()
        if balance is not None:
            balance.settle()


def moved(module: Two) -> dict[str, torch.Tensor]:
    before = Two().parts()
    return {
        name: torch.cat([(new - old).detach().flatten() for new, old in zip(now, before[name], strict=True)])
        for name, now in module.parts().items()
    }


@pytest.mark.parametrize(("kind", "rounding"), [("adamw", 1e-4), ("muon", 0.1)])
def test_scaled_gradients_make_the_very_same_steps(kind: str, rounding: float) -> None:
    """A factor that does not change cancels in Adam's quotient, up to its epsilon, and in Muon's momentum, up to bfloat16."""
    plain, scaled = Two(), Two()
    move(plain, kind, 5)
    move(scaled, kind, 5, gradients=0.05)
    one, other = moved(plain), moved(scaled)
    for name in one:
        assert (one[name] - other[name]).norm() < rounding * one[name].norm()
    assert one["image"].norm() > 0.1


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_scaled_step_is_scaled_whatever_made_it(kind: str) -> None:
    plain, balanced = Two(), Two()
    move(plain, kind, 1)
    move(balanced, kind, 1, balance=Balance(balanced.parts()))
    factor = 1 - math.tanh(math.exp(-0.2) / math.exp(-1.2) - 1)
    torch.testing.assert_close(moved(balanced)["image"], factor * moved(plain)["image"], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(moved(balanced)["sound"], moved(plain)["sound"])


def test_for_adam_it_is_a_learning_rate_of_its_own() -> None:
    """Parameters that do not meet in the loss take the steps of a run with that learning rate."""
    torch.manual_seed(0)
    start = torch.randn(5)
    one, other, alone = (nn.Parameter(start.clone()) for _ in range(3))
    balance = Balance({"image": [one], "sound": [other]})
    together = torch.optim.AdamW([one, other], lr=0.1, weight_decay=0.3)
    slow = torch.optim.AdamW([alone], lr=0.1 * step_factors(torch.tensor([0.2, 1.2]))[0].item(), weight_decay=0.3)
    for _ in range(6):
        balance.watch(LOSSES)
        for optimizer, parameters in ((together, (one, other)), (slow, (alone,))):
            optimizer.zero_grad()
            sum(parameter.pow(4).sum() for parameter in parameters).backward()
            optimizer.step()
        balance.settle()
    torch.testing.assert_close(one, alone)
    assert (one - other).abs().max() > 0.1


@given(losses=st.lists(st.floats(0, 8), min_size=2, max_size=5), strength=st.floats(0, 5))
def test_the_slowest_keeps_its_step_and_the_others_lose_as_much_as_they_lead(losses: list[float], strength: float) -> None:
    values = torch.tensor(losses)
    factors = step_factors(values, strength)
    assert bool(((factors >= 0) & (factors <= 1)).all()) and factors[values.argmax()] == 1
    assert bool((factors[values.argsort()].diff() >= 0).all())
    torch.testing.assert_close(step_factors(values.flip(0), strength), factors.flip(0))
    torch.testing.assert_close(step_factors(values, 0.0), torch.ones(len(losses)))
    torch.testing.assert_close(step_factors(torch.full((len(losses),), losses[0]), strength), torch.ones(len(losses)))


def test_equal_losses_keep_their_whole_steps_to_the_bit() -> None:
    for n in range(2, 12):
        for loss in (0.1, 1.0, 3.0, 7.7, 90.0):
            assert step_factors(torch.full((n,), loss), 5.0).eq(1).all()


def test_losses_are_running_means_that_are_saved_with_the_module() -> None:
    task = nn.Module()
    task.model = Two()
    task.balance = Balance(task.model.parts(), memory=0.75)
    assert not any("_parts" in name or "balance.image" in name for name in task.state_dict())
    for loss in (4.0, 0.0, 0.0):
        task.balance.watch({"image": torch.tensor(loss), "sound": torch.tensor(1.0)})
    torch.testing.assert_close(task.balance.losses, torch.tensor([4 * 0.75**2, 1.0]))
    again = Balance(Two().parts(), memory=0.75)
    again.load_state_dict(task.balance.state_dict())
    assert again.factors() == task.balance.factors()


def test_without_a_watch_nothing_is_taken_back() -> None:
    module = Two()
    balance = Balance(module.parts())
    balance.watch(LOSSES)
    balance.settle()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    balance.settle()
    assert all(bool((difference == 1.0).all()) or difference.sub(1).abs().max() < 1e-6 for difference in moved(module).values())


def test_parts_that_cannot_be_balanced_are_refused() -> None:
    weight, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    for parts in ({"image": [weight]}, {"image": [weight], "sound": [weight]}):
        with pytest.raises(ConfigError, match="share no parameter"):
            Balance(parts)
    with pytest.raises(ConfigError, match="memory = 1"):
        Balance({"image": [weight], "sound": [other]}, memory=1.0)
    with pytest.raises(ConfigError, match=r"give one of each"):
        Balance({"image": [weight], "sound": [other]}).watch({"image": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="two modalities or more"):
        step_factors(torch.tensor([1.0]))


def test_a_starved_modality_is_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the accuracy that the plain run leaves on the table, most comes back; scaled gradients bring little."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    fusion = importlib.import_module("challenge_imbalance")
    best = fusion.PERCEPTRONS.world.accuracy()
    plain = fusion.run(fusion.PERCEPTRONS, "not", False, 0, "adamw")
    gradients = fusion.run(fusion.PERCEPTRONS, "by OGM", False, 0, "adamw")
    fixed = fusion.run(fusion.PERCEPTRONS, "by steps", True, 0, "adamw")
    assert plain < fusion.PERCEPTRONS.world.accuracy(["easy"]) < best
    assert gradients - plain < 0.3 * (best - plain)
    assert fixed - plain > 0.6 * (best - plain)


def test_a_starved_modality_of_transformers_is_fed_by_its_own_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    fusion = importlib.import_module("challenge_imbalance")
    best = fusion.TRANSFORMERS.world.accuracy()
    plain, fixed = (fusion.run(fusion.TRANSFORMERS, "not", alone, 0, "adamw") for alone in (False, True))
    assert plain < fusion.TRANSFORMERS.world.accuracy(["easy"]) < best
    assert fixed - plain > 0.3 * (best - plain)
