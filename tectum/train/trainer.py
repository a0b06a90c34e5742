"""The training loop. A run that is killed at any moment and started again ends in the same weights, bit for bit.

Three things make that so: a batch is a pure function of its step, the random numbers of a step are a pure function of
(seed, step), and checkpoints appear whole or not at all. It holds on one machine with one number of threads: another number
sums in another order.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tectum.data.loader import prefetch
from tectum.errors import CheckpointError, ConfigError, TectumError
from tectum.train import checkpoint
from tectum.train.config import TrainConfig, check_same
from tectum.train.ema import EMA
from tectum.train.interrupt import postponed_interrupt
from tectum.train.log import Log
from tectum.train.optimizer import build_optimizer, learning_rate, optimizer_tensors, restore_optimizer
from tectum.train.progress import Reporter
from tectum.train.task import Differentiated, Projected, Task

MAX_SKIPPED_IN_A_ROW = 10


@dataclass
class _State:
    """Where a run stands, beside its tensors; all of it goes into the checkpoint's JSON."""

    step: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)  # name -> [sum, count] since the last log line
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss: float = math.nan  # of the last log line
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def train(task: Task, config: TrainConfig, out: Path, *, resume: bool = True, progress: bool = True) -> dict[str, float]:
    """Train `task.module` and return the metrics of the last evaluation, with the last logged "loss" and "seconds" of training.

    In the folder `out` it leaves `module.safetensors` and `ema.safetensors` (the weights after the last step and their moving
    average), `log.jsonl`, `checkpoints/` and perhaps `tensorboard/`. If `out` holds checkpoints the run continues from the
    last one; with `resume=False` they and the log are removed first. Afterwards `task.module` holds the last step's weights.

    A step whose loss or gradient is not finite changes nothing and is counted as "skipped" in the log. Ctrl-C ends the current
    step, saves a checkpoint and raises KeyboardInterrupt; a second Ctrl-C does not wait.

    Raises ConfigError if `out` was begun with another configuration, CheckpointError if it cannot be read or written, and
    TectumError after ten steps in a row without a finite loss.

    >>> train(task, TrainConfig(steps=100), Path("runs/line"))  # doctest: +SKIP
    {'slope': 2.9, 'loss': 0.01, 'seconds': 1.2}
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {out} ({error.strerror}): choose another one") from error
    with checkpoint.locked(out):
        return _train(task, config, out, resume, progress)


def _train(task: Task, config: TrainConfig, out: Path, resume: bool, progress: bool) -> dict[str, float]:
    folder = out / "checkpoints"
    checkpoint.clean(folder, everything=not resume)
    module = task.module.train()
    device = next(module.parameters()).device
    ema, optimizer = EMA(module, config.ema), build_optimizer(module, config)
    state = _restore(folder, config, module, ema, optimizer)
    bounded = [part for part in module.modules() if isinstance(part, Projected)]

    def save() -> None:
        log.sync()
        state.seconds += time.monotonic() - clock
        tensors = {"module": module.state_dict(), "ema": ema.module.state_dict()}
        tensors["optimizer"] = optimizer_tensors(optimizer, module)
        checkpoint.write(folder, state.step, tensors, {"config": asdict(config), **asdict(state)})

    log = Log(out / "log.jsonl", state.step, tensorboard=config.tensorboard)
    clock = time.monotonic()
    with (
        closing(log),
        _deterministic(),
        Reporter(config, state.step, enabled=progress) as report,
        postponed_interrupt() as interrupt,
        closing(prefetch(task.batch, state.step, config.steps)) as batches,
    ):
        if state.step:
            report.say(f"continuing from step {state.step} of {config.steps}")
        for step, batch in batches:
            loss = _step(task, config, optimizer, state, batch, step, device)
            if state.skipped_in_a_row == 0:
                for part in bounded:
                    part.project_()
                task.after_step(step)
                ema.update(module, step)
            elif state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
                raise TectumError(
                    f"the loss or its gradient was not finite in {MAX_SKIPPED_IN_A_ROW} steps in a row, up to step {step + 1}: "
                    "lower lr, lengthen warmup, or look for broken samples"
                )
            done = state.step = step + 1
            last = done == config.steps
            report.step(done, loss)
            if done % config.log_every == 0 or last:
                log.write("train", done, _averages(state, learning_rate(config, step)))
            if last or (config.eval_every and done % config.eval_every == 0):
                state.metrics = _evaluate(task, config, ema, done, device)
                log.write("eval", done, state.metrics)
                report.evaluated(done, state.metrics)
            if last or done % config.save_every == 0 or interrupt.is_set():
                save()
                clock = time.monotonic()
            if interrupt.is_set() and not last:
                report.say(f"stopped after step {done} of {config.steps}, saved in {out}: run the same command again to continue")
                raise KeyboardInterrupt
    checkpoint.save_tensors(out / "module.safetensors", module.state_dict())
    checkpoint.save_tensors(out / "ema.safetensors", ema.module.state_dict())
    return {**state.metrics, "loss": state.loss, "seconds": state.seconds}


def _step(
    task: Task, config: TrainConfig, optimizer: torch.optim.Optimizer, state: _State, batch: Any, step: int, device: torch.device
) -> float:
    """One optimizer step, or none if the loss or its gradient is not finite; returns the loss."""
    buffers = [buffer.clone() for buffer in task.module.buffers()]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.manual_seed(_seed(config.seed, step))
    optimizer.zero_grad(set_to_none=True)
    if isinstance(task, Differentiated):
        with _autocast(config, device):
            loss, stats = task.backward(batch, step)
    else:
        with _autocast(config, device):
            loss, stats = task.loss(batch, step)
        loss.backward()
    norm = nn.utils.clip_grad_norm_(parameters, config.clip or torch.inf)
    value = loss.item()
    if not bool(torch.isfinite(norm)) or not bool(torch.isfinite(loss)):
        # The forward pass has already moved running statistics, perhaps to NaN: put them back.
        for buffer, before in zip(task.module.buffers(), buffers, strict=True):
            buffer.copy_(before)
        state.skipped += 1
        state.skipped_in_a_row += 1
        return value
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    optimizer.step()
    state.skipped_in_a_row = 0
    for name, number in {"loss": value, "grad_norm": norm, **stats}.items():
        total = state.sums.setdefault(name, [0.0, 0])
        total[0] += float(number)
        total[1] += 1
    return value


def _averages(state: _State, lr: float) -> dict[str, float]:
    """The line of the log: means since the last line, which start anew."""
    means = {name: total / count for name, (total, count) in state.sums.items()}
    state.sums = {}
    state.loss = means.setdefault("loss", math.nan)  # No loss if every step was skipped.
    return {**means, "lr": lr, "skipped": state.skipped}


@torch.no_grad()
def _evaluate(task: Task, config: TrainConfig, ema: EMA, done: int, device: torch.device) -> dict[str, float]:
    torch.manual_seed(_seed(config.seed, done, 1))
    with _autocast(config, device):
        return {name: float(value) for name, value in task.evaluate(ema.module, done).items()}


def _restore(folder: Path, config: TrainConfig, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> _State:
    """Load the newest checkpoint that can be read; the state of a run that has none is a fresh one."""
    damaged: CheckpointError | None = None
    for path in reversed(checkpoint.find(folder)):
        try:
            tensors, saved = checkpoint.read(path)
        except CheckpointError as error:
            damaged = error
            continue
        if damaged is not None:
            warnings.warn(f"{damaged}; continuing from {path.name}", stacklevel=3)
        check_same(saved.pop("config"), config, str(path))
        try:
            module.load_state_dict(tensors["module"])
            ema.module.load_state_dict(tensors["ema"])
        except RuntimeError as error:
            detail = str(error).splitlines()[-1].strip()
            raise CheckpointError(f"{path} belongs to another model ({detail}): train into another folder") from error
        restore_optimizer(optimizer, module, tensors["optimizer"])
        return _State(**saved)
    if damaged is not None:
        raise damaged
    return _State()


def _seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def _autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16")


@contextmanager
def _deterministic() -> Iterator[None]:
    """Choose algorithms that sum in a fixed order, where torch has them; a warning names an operation that has none."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    debugging: Any = torch.utils.deterministic
    fill = debugging.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    debugging.fill_uninitialized_memory = False  # Switched on along with the line above, and it costs time.
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        debugging.fill_uninitialized_memory = fill
