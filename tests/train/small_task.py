"""A small task with everything that makes resuming hard: convolution, BatchNorm, dropout, a clamp and a background thread.

Run as a program it trains in child processes that are killed, and started again until the training ends:

    python small_task.py FOLDER random SEED      killed at random moments, some twenty times
    python small_task.py FOLDER disk             for every k: killed right before the k-th operation on the disk
"""

import contextlib
import itertools
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from tectum.train.config import TrainConfig
from tectum.train.trainer import train

CONFIG = TrainConfig(steps=12, warmup=4, lr=0.01, log_every=3, eval_every=4, save_every=5, ema=0.9, seed=1, tensorboard=False)
LONG = TrainConfig(steps=300, warmup=4, lr=0.01, log_every=3, eval_every=25, save_every=4, ema=0.9, seed=1, tensorboard=False)


class SmallTask:
    """Tell by which of four shifts noise was moved."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers = [nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(8 * 6 * 6, 4)]
        self.module = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.module.register_parameter("temperature", nn.Parameter(torch.tensor(0.0)))

    def batch(self, step):
        generator = torch.Generator().manual_seed(step)
        label = torch.randint(0, 4, (16,), generator=generator)
        return torch.randn(16, 2, 8, 8, generator=generator) + label[:, None, None, None], label

    def loss(self, batch, step):
        logits = self.module(batch[0]).float() * self.module.temperature.exp()
        hits = (logits.argmax(1) == batch[1]).float().mean()
        return functional.cross_entropy(logits, batch[1]), {"accuracy": hits, "temperature": self.module.temperature.detach()}

    def evaluate(self, module, step):
        assert not module.training and not torch.is_grad_enabled()
        pictures, label = self.batch(10**6)
        return {"accuracy": (module(pictures).argmax(1) == label).float().mean().item(), "random": torch.rand(()).item()}

    def after_step(self, step):
        self.module.temperature.data.clamp_(-0.02, 0.02)


def results(folder: Path) -> dict[str, bytes]:
    """What must not depend on how often a run was killed."""
    return {name: (folder / name).read_bytes() for name in ("log.jsonl", "module.safetensors", "ema.safetensors")}


def child(folder: Path, config: TrainConfig, die_at: int | None = None) -> int:
    """Train in a forked process, which kills itself before disk operation `die_at`; returns the process id."""
    pid = os.fork()
    if pid:
        return pid
    if die_at is not None:
        count = itertools.count()

        def deadly(operation):
            def run(*arguments, **options):
                if next(count) == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return operation(*arguments, **options)

            return run

        for name in ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink"):
            setattr(os, name, deadly(getattr(os, name)))
    train(SmallTask(), config, folder, progress=False)
    os._exit(0)


def killed_at_random(folder: Path, seed: int) -> int:
    """Kill a run again and again until it ends by itself; returns how often."""
    chance = random.Random(seed)
    for kills in itertools.count():
        pid = child(folder, LONG)
        if kills < 20:
            time.sleep(chance.uniform(0.0, 0.25))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if os.waitpid(pid, 0)[1] == 0:
            return kills
    raise AssertionError


def killed_at_every_disk_operation(folder: Path) -> int:
    """For every k a fresh run that dies before its k-th operation and is started again; returns how many there are."""
    for k in itertools.count():
        run = folder / f"killed-{k}"
        if os.waitpid(child(run, CONFIG, die_at=k), 0)[1] == 0:
            return k
        assert os.waitpid(child(run, CONFIG), 0)[1] == 0, k
        if results(run) != results(folder / "whole"):
            raise SystemExit(f"killed before disk operation {k}, the run ends differently")
        left = [path for path in run.rglob("*.partial*") if path.parent.name == "checkpoints"]
        assert not left and len(list((run / "checkpoints").iterdir())) == 2, (k, left)
    raise AssertionError


if __name__ == "__main__":
    # One thread: a process with a pool of threads cannot be forked.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)  # Imports a good part of torch: once, not in every child.
    place = Path(sys.argv[1])
    assert os.waitpid(child(place / "whole", LONG if sys.argv[2] == "random" else CONFIG), 0)[1] == 0
    if sys.argv[2] == "random":
        print(killed_at_random(place / "killed", int(sys.argv[3])))
        assert results(place / "killed") == results(place / "whole"), "the killed run ends differently"
    else:
        print(killed_at_every_disk_operation(place))
