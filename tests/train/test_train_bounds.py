"""What the optimizer must leave alone: bounds that hold after every step, and frozen towers."""

import itertools
import json
import math
import signal

import pytest
import torch
from safetensors.torch import load_file
from tiny_space import TEXTS, tiny_space
from torch import nn

from tectum.contrastive.binding import Edge, bind
from tectum.contrastive.temperature import MAX_SCALE, Temperatures
from tectum.models.space import Space
from tectum.train.config import TrainConfig
from tectum.train.optimizer import build_optimizer, optimizer_tensors
from tectum.train.trainer import train

CONFIG = TrainConfig(
    steps=24, lr=0.3, betas=(0.0, 0.98), warmup=1, clip=0, ema=0.9, precision="fp32", save_every=5, log_every=4, tensorboard=False
)


class Pushed:
    """A temperature that is pushed up for sixteen steps, far past its limit, and then down."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.module = nn.ModuleDict({"inner": Temperatures([("image", "text")], start=20.0)})
        self.stop_at, self.scales, self.gradients = stop_at, [], []

    def batch(self, step):
        return 1.0 if step < 16 else -1.0

    def loss(self, batch, step):
        if step == self.stop_at:
            signal.raise_signal(signal.SIGINT)
        return -batch * self.module["inner"].scale("text", "image").log(), {}

    def evaluate(self, module, step):
        return {"scale": module["inner"].scale("image", "text").item()}

    def after_step(self, step):
        (log_scale,) = self.module["inner"].values()
        assert log_scale <= torch.tensor(MAX_SCALE).log()
        self.gradients.append(log_scale.grad.item())
        self.scales.append(self.module["inner"].scale("image", "text").item())


def test_a_scale_is_within_its_limit_after_every_step_and_comes_back_at_once(tmp_path) -> None:
    task = Pushed()
    train(task, CONFIG, tmp_path, progress=False)
    assert max(task.scales) <= MAX_SCALE and task.scales[15] == pytest.approx(MAX_SCALE, rel=1e-6)
    assert [abs(gradient) for gradient in task.gradients] == pytest.approx([1.0] * 24)  # d log scale / d log scale
    assert all(later < sooner for sooner, later in itertools.pairwise(task.scales[15:]))
    averages = load_file(tmp_path / "ema.safetensors")
    assert all(value <= math.log(MAX_SCALE) + 1e-6 for value in averages.values())


def test_a_bounded_run_that_is_stopped_ends_the_same(tmp_path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(Pushed(), CONFIG, whole, progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(Pushed(stop_at=12), CONFIG, stopped, progress=False)
    train(Pushed(), CONFIG, stopped, progress=False)
    for name in ("log.jsonl", "module.safetensors", "ema.safetensors"):
        assert (whole / name).read_bytes() == (stopped / name).read_bytes()


@pytest.mark.parametrize("start", [0.5, 7.0, 99.0, 100.0, 5000.0])
def test_the_gradient_lives_on_both_sides_of_the_limit(start) -> None:
    temperatures = Temperatures([("a", "b")], start=start)
    scale = temperatures.scale("b", "a")
    assert scale.item() == pytest.approx(min(start, MAX_SCALE), rel=1e-5) and scale <= MAX_SCALE
    scale.log().backward()
    (log_scale,) = temperatures.values()
    assert log_scale.grad.item() > 0
    temperatures.project_()
    assert temperatures.scale("a", "b").item() == pytest.approx(min(max(start, 1.0), MAX_SCALE), rel=1e-5)


class LockedImage:
    """Texts and sounds learn from pictures whose tower is locked (LiT)."""

    def __init__(self, *, locked: bool = True) -> None:
        torch.manual_seed(0)
        self.module = nn.ModuleDict({"space": tiny_space()})
        if locked:
            self.space.freeze("image")
        self.edges = (Edge(a="image", b="text"), Edge(a="image", b="audio"))

    @property
    def space(self) -> Space:
        return self.module["space"]

    def batch(self, step):
        draw = torch.Generator().manual_seed(step)
        pixels = torch.randint(0, 256, (5, 3, 32, 32), generator=draw, dtype=torch.uint8)
        waves = list(torch.randn(5, 1, 8000, generator=draw) * 0.1)
        return {"image": pixels, "text": self.space.tower("text").tokenizer(TEXTS), "audio": waves}

    def loss(self, batch, step):
        assert self.space.training and self.space.tower("text").training and not self.space.tower("image").training
        views = self.space(batch)
        assert not views["image"].requires_grad and views["text"].requires_grad
        return bind(views, self.edges, {edge: self.space.scale(edge.a, edge.b) for edge in self.edges})[0], {}

    def evaluate(self, module, step):
        return {}

    def after_step(self, step):
        assert all(parameter.grad is None for parameter in self.space.tower("image").parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_frozen_tower_stays_the_same_to_the_bit_and_has_no_optimizer_state(tmp_path, optimizer) -> None:
    task = LockedImage()
    before = {name: value.clone() for name, value in task.module.state_dict().items()}
    config = TrainConfig(steps=4, lr=0.01, warmup=1, optimizer=optimizer, weight_decay=0.5, precision="fp32", tensorboard=False)
    train(task, config, tmp_path, progress=False)
    for file in ("module", "ema"):
        after = load_file(tmp_path / f"{file}.safetensors")
        moved = {name.split(".")[2] for name in before if not torch.equal(before[name], after[name]) and ".towers." in name}
        assert moved == {"text", "audio"}
        assert all(torch.equal(before[name], after[name]) for name in before if ".towers.image." in name)
    state = load_file(tmp_path / "checkpoints" / "step-00000004" / "optimizer.safetensors")
    assert state and not [name for name in state if ".towers.image." in name]


def test_named_parts_do_not_decay() -> None:
    module = LockedImage(locked=False).module
    for optimizer in ("adamw", "muon"):
        config = TrainConfig(steps=1, weight_decay=0.1, no_decay=("space.towers.image", "space.towers.text"), optimizer=optimizer)
        built, plain = (
            build_optimizer(module, config),
            build_optimizer(module, TrainConfig(steps=1, weight_decay=0.1, optimizer=optimizer)),
        )
        names = {id(parameter): name for name, parameter in module.named_parameters()}

        def decaying(found, names=names):
            return {names[id(p)] for group in found.param_groups if group["weight_decay"] for p in group["params"]}

        assert decaying(built) == {name for name in decaying(plain) if ".towers.audio." in name}
        assert optimizer_tensors(built, module).keys() == optimizer_tensors(plain, module).keys()
        assert sum(len(group["params"]) for group in built.param_groups) == len(names)


def test_checkpoints_from_before_there_were_such_options_go_on(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Pushed(stop_at=12), CONFIG, tmp_path, progress=False)
    state = tmp_path / "checkpoints" / "step-00000013" / "state.json"
    saved = json.loads(state.read_text())
    del saved["config"]["no_decay"]
    state.write_text(json.dumps(saved))
    assert train(Pushed(), CONFIG, tmp_path, progress=False)["scale"] <= MAX_SCALE
