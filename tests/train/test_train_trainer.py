"""The trainer against an independent loop, and what it does when numbers are not finite."""

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_task import CONFIG, SmallTask
from torch import nn

from tectum.errors import ConfigError, TectumError
from tectum.train.config import TrainConfig
from tectum.train.trainer import train


class Line:
    """Linear regression on y = 3 x - 1, on batches that can be spoilt."""

    def __init__(self, spoilt=()):
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.spoilt, self.updated, self.losses = set(spoilt), [], []

    def batch(self, step):
        x = torch.rand(32, 4, generator=torch.Generator().manual_seed(step))
        y = 3 * x.sum(1, keepdim=True) - 1
        return (x * math.nan, y) if step in self.spoilt else (x, y)

    def loss(self, batch, step):
        loss = nn.functional.mse_loss(self.module(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss, {"step": step, "twice": loss.detach() * 2}

    def evaluate(self, module, step):
        return {"bias": module[1].bias.item(), "nothing": math.nan}

    def after_step(self, step):
        self.updated.append(step)


PLAIN = TrainConfig(steps=40, lr=0.05, min_lr=0.01, warmup=5, weight_decay=0.1, clip=0.7, ema=0.9, precision="fp32",
                    log_every=7, eval_every=15, save_every=10, tensorboard=False)  # fmt: skip


def lines(out, kind):
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def test_it_takes_the_steps_of_a_plain_loop(tmp_path):
    task, oracle = Line(), Line()
    train(task, PLAIN, tmp_path, progress=False)
    module = oracle.module
    matrices, vectors = [module[1].weight], [module[0].weight, module[0].bias, module[1].bias]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.98))
    average = {name: value.clone() for name, value in module.state_dict().items()}
    for step in range(40):
        rate = 0.05 * (step + 1) / 5 if step < 5 else 0.01 + 0.02 * (1 + math.cos(math.pi * (step - 5) / 35))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        oracle.loss(oracle.batch(step), step)[0].backward()
        norm = torch.sqrt(sum(p.grad.square().sum() for p in module.parameters()))
        for p in module.parameters():
            p.grad *= min(1.0, 0.7 / norm.item())
        optimizer.step()
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * value if value.is_floating_point() else value.clone()
    for name, value in load_file(tmp_path / "module.safetensors").items():
        torch.testing.assert_close(value, module.state_dict()[name], rtol=1e-4, atol=1e-5)
    for name, value in load_file(tmp_path / "ema.safetensors").items():
        torch.testing.assert_close(value, average[name], rtol=1e-4, atol=1e-5)


def test_log_lines_are_means_over_their_window(tmp_path):
    task = Line()
    returned = train(task, PLAIN, tmp_path, progress=False)
    windows = [range(begin, min(begin + 7, 40)) for begin in range(0, 40, 7)]
    records = lines(tmp_path, "train")
    assert [record["step"] for record in lines(tmp_path, "eval")] == [15, 30, 40]
    assert len(records) == len(windows)
    for record, window in zip(records, windows, strict=True):
        assert record["loss"] == pytest.approx(np.mean([task.losses[step] for step in window]))
        assert record["twice"] == pytest.approx(2 * record["loss"])
        assert record["skipped"] == 0
    assert returned["loss"] == records[-1]["loss"]
    assert returned["bias"] == lines(tmp_path, "eval")[-1]["bias"]
    assert lines(tmp_path, "eval")[-1]["nothing"] is None  # JSON knows no NaN.


def test_a_step_without_a_finite_loss_changes_nothing(tmp_path):
    task = Line(spoilt={20})
    config = replace(PLAIN, steps=21, save_every=1, log_every=1)
    train(task, config, tmp_path, progress=False)
    assert task.updated == list(range(20))
    for name in ("module", "ema", "optimizer"):
        before, after = (load_file(tmp_path / f"checkpoints/step-{step:08d}/{name}.safetensors") for step in (20, 21))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    assert [record["skipped"] for record in lines(tmp_path, "train")] == [0] * 20 + [1]
    assert lines(tmp_path, "train")[-1]["loss"] is None


def test_an_infinite_gradient_is_skipped_like_an_infinite_loss(tmp_path):
    class Root(Line):
        def loss(self, batch, step):
            # sqrt(0) = 0 has an infinite slope.
            return super().loss(batch, step)[0] + (self.module[1].bias * (0.0 if step == 3 else 1.0)).abs().sqrt().sum(), {}

    task = Root()
    train(task, replace(PLAIN, steps=6), tmp_path, progress=False)
    assert task.updated == [0, 1, 2, 4, 5]


def test_nine_spoilt_steps_in_a_row_are_borne_ten_are_not(tmp_path):
    train(Line(spoilt={*range(3, 12), *range(13, 22)}), PLAIN, tmp_path / "nine", progress=False)
    assert lines(tmp_path / "nine", "train")[-1]["skipped"] == 18
    with pytest.raises(TectumError, match=r"not finite in 10 steps in a row, up to step 13: lower lr"):
        train(Line(spoilt=range(3, 30)), PLAIN, tmp_path / "ten", progress=False)


def test_the_random_numbers_of_a_step_do_not_depend_on_the_past(tmp_path):
    class Dice(Line):
        def __init__(self, throws):
            super().__init__()
            self.throws, self.thrown = throws, []

        def loss(self, batch, step):
            self.thrown.append(torch.rand(self.throws)[0].item())
            return super().loss(batch, step)

    first, second = Dice(1), Dice(50)
    for task, out in ((first, "a"), (second, "b")):
        train(task, replace(PLAIN, steps=10), tmp_path / out, progress=False)
    assert first.thrown == second.thrown
    assert len(set(first.thrown)) == 10


def test_autocast_follows_the_precision(tmp_path):
    class Spy(Line):
        def loss(self, batch, step):
            self.seen = self.module(batch[0]).dtype
            return nn.functional.mse_loss(self.module(batch[0]).float(), batch[1]), {}

        def evaluate(self, module, step):
            return {"bits": float(torch.finfo(module(self.batch(0)[0]).dtype).bits)}

    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        task = Spy()
        metrics = train(task, replace(PLAIN, steps=1, precision=precision), tmp_path / precision, progress=False)
        assert task.seen == dtype
        assert metrics["bits"] == torch.finfo(dtype).bits
        assert all(p.dtype == torch.float32 for p in task.module.parameters())


def test_global_settings_are_put_back(tmp_path):
    before = (torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory)
    train(Line(), replace(PLAIN, steps=2), tmp_path, progress=False)
    assert (torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory) == before


def test_tied_weights_are_saved_so_that_they_load(tmp_path):
    class Tied(Line):
        def __init__(self):
            super().__init__()
            self.module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1))
            self.module[1].weight = self.module[0].weight

        def evaluate(self, module, step):
            return {"tied": float(module[0].weight is module[1].weight)}

    assert train(Tied(), replace(PLAIN, steps=3), tmp_path, progress=False)["tied"] == 1
    task = Tied()
    task.module.load_state_dict(load_file(tmp_path / "module.safetensors"))


def test_plain_lines_where_there_is_no_terminal(tmp_path, capsys):
    train(Line(), PLAIN, tmp_path / "a")
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[1] for line in printed if "steps/s" in line] == [f"{n}/40" for n in (7, 14, 21, 28, 35, 40)]
    assert all("loss" in line and "left" in line for line in printed if "steps/s" in line)
    assert sum("bias" in line for line in printed) == 3
    train(Line(), PLAIN, tmp_path / "b", progress=False)
    assert capsys.readouterr().out == ""


def test_a_bar_in_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    train(Line(), PLAIN, tmp_path)
    printed = capsys.readouterr().out
    assert "40/40" in printed and "loss" in printed and "steps/s" in printed


def test_tensorboard_is_written_only_if_asked_for_and_installed(tmp_path, monkeypatch):
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "torch.utils.tensorboard", None)
        train(Line(), replace(PLAIN, steps=2, tensorboard=True), tmp_path / "missing", progress=False)
    assert not (tmp_path / "missing/tensorboard").exists()
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(Line(), replace(PLAIN, tensorboard=True), tmp_path / "there", progress=False)
    read = events.EventAccumulator(str(tmp_path / "there/tensorboard"))
    read.Reload()
    assert [event.step for event in read.Scalars("train/loss")] == [7, 14, 21, 28, 35, 40]
    assert [event.step for event in read.Scalars("eval/bias")] == [15, 30, 40]


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="cannot make the folder"):
        train(SmallTask(), CONFIG, tmp_path / "out", progress=False)
