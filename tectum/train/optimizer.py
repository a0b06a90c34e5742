"""AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) or Muon with decay groups, and the cosine schedule with linear warm-up."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from tectum.errors import CheckpointError
from tectum.train.config import TrainConfig
from tectum.train.muon import Muon, hidden_matrices

_NO_DECAY = frozenset({"pos", "position", "positional", "temperature", "norm"})


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of step `step` (from 0): a linear rise over `warmup` steps, then half a cosine from lr to min_lr.

    lr (step + 1) / warmup                                         for step < warmup
    min_lr + (lr - min_lr) (1 + cos(pi (step - warmup) / (steps - warmup))) / 2    from there on

    >>> [learning_rate(TrainConfig(steps=10, lr=1.0, warmup=2), step) for step in (0, 1, 2, 6)]
    [0.5, 1.0, 1.0, 0.5]
    """
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = min((step - config.warmup) / max(config.steps - config.warmup, 1), 1.0)
    return config.min_lr + (config.lr - config.min_lr) * (1 + math.cos(math.pi * done)) / 2


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies to a parameter: matrices and kernels, but no bias, gain, position or temperature.

    >>> decays("tower.0.weight", torch.zeros(3, 3)), decays("tower.0.bias", torch.zeros(3))
    (True, False)
    >>> decays("tower.pos_embed", torch.zeros(1, 9, 3)), decays("norm1.weight", torch.zeros(3, 3))
    (False, False)
    """
    words = {word.rstrip("0123456789") for word in re.split(r"[._]", name.lower())}
    return parameter.ndim >= 2 and not words & _NO_DECAY


def build_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the parameters of `module` that ask for a gradient, in a group with decay and one without; or `Muon`.

    The state exists from the start, laid out in memory like its parameter, so that a restored optimizer runs through the
    very same arithmetic as one that was never stopped.
    """
    named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    ids = {id(parameter) for _, parameter in named}
    orthogonal = {id(parameter) for parameter in hidden_matrices(module)} if config.optimizer == "muon" else set()
    kept = {id(parameter) for name, parameter in named if name.startswith(config.no_decay)}
    decayed = (orthogonal | {id(parameter) for name, parameter in named if decays(name, parameter)}) - kept
    groups: list[dict[str, Any]] = []
    for options, members in (({}, ids - orthogonal), ({"orthogonal": True}, orthogonal)):
        for decay, wanted in ((config.weight_decay, members & decayed), (0.0, members - decayed)):
            chosen = [parameter for _, parameter in named if id(parameter) in wanted]
            groups.append({"params": chosen, "weight_decay": decay, **options})
    kind = Muon if config.optimizer == "muon" else torch.optim.AdamW
    # Fused, an update is one pass over the memory and takes a sixth of the time.
    optimizer = kind([group for group in groups if group["params"]], lr=config.lr, betas=config.betas, fused=True)
    for _, parameter in named:
        if id(parameter) in orthogonal:
            optimizer.state[parameter] = {"momentum": torch.zeros_like(parameter, memory_format=torch.preserve_format)}
            continue
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    return optimizer


def optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state by the names of the module's parameters: `NAME.exp_avg`, `NAME.momentum`, …."""
    state: dict[Any, dict[str, Tensor]] = optimizer.state
    return {
        f"{name}.{key}": value
        for name, parameter in module.named_parameters()
        if parameter in state
        for key, value in state[parameter].items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, saved: dict[str, Tensor]) -> None:
    """Copy tensors of `optimizer_tensors` back in place. Raises CheckpointError if names or shapes differ."""
    current = optimizer_tensors(optimizer, module)
    if current.keys() != saved.keys() or any(current[key].shape != saved[key].shape for key in current):
        raise CheckpointError("the optimizer state in the checkpoint belongs to another model: train into another folder")
    for key, value in current.items():
        value.copy_(saved[key])
