"""The options of a training run that do not depend on what is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from tectum.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Fields that change neither the weights nor the loss, so that a resumed run may give them new values.
FREE_ON_RESUME = frozenset({"log_every", "eval_every", "save_every", "tensorboard"})


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Options of `tectum.train.trainer.train`.

    steps          number of optimizer steps
    lr, min_lr     peak learning rate after the warm-up; the value that the cosine ends at
    optimizer      "adamw", or "muon" for linear maps and convolutions with AdamW for the rest (see `tectum.train.muon`)
    weight_decay   decoupled decay, for matrices and kernels only (see `tectum.train.optimizer`)
    no_decay       beginnings of the names of parameters that never decay, such as those of a pretrained tower
    betas          AdamW's decay rates of the first and second moment
    warmup         steps of linear warm-up
    clip           largest norm of the whole gradient; 0 leaves it unclipped
    ema            decay of the exponential moving average of the weights; 0 makes it equal to the weights
    seed           seeds the random numbers of every step, together with the step's number
    precision      "bf16": the loss runs under autocast to bfloat16, weights and optimizer stay float32; "fp32": no autocast
    log_every      steps between two lines of `log.jsonl`, each the mean over its steps
    eval_every     steps between two calls of `task.evaluate`, which is always called at the end; 0: only at the end
    save_every     steps between two checkpoints
    tensorboard    write TensorBoard events to `OUT/tensorboard`, if the package `tensorboard` is installed

    Raises ConfigError naming the field that does not fit.

    >>> TrainConfig(steps=100).lr
    0.001
    """

    steps: int
    lr: float = 1e-3
    min_lr: float = 0.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 0.05
    no_decay: tuple[str, ...] = ()
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: int = 200
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    precision: Literal["bf16", "fp32"] = "bf16"
    log_every: int = 20
    eval_every: int = 500
    save_every: int = 500
    tensorboard: bool = True

    def __post_init__(self) -> None:
        def need(field: str, fits: bool, rule: str) -> None:
            if not fits:
                raise ConfigError(f"{field} must be {rule}, got {getattr(self, field)!r}")

        for field in ("steps", "log_every", "save_every"):
            need(field, getattr(self, field) >= 1, "1 or more")
        for field in ("eval_every", "warmup", "seed"):
            need(field, getattr(self, field) >= 0, "0 or more")
        for field in ("lr", "min_lr", "weight_decay", "clip"):
            need(field, 0 <= getattr(self, field) < math.inf, "finite and 0 or more")
        need("min_lr", self.min_lr <= self.lr, f"at most lr ({self.lr!r})")
        need("betas", len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas), "two numbers in [0, 1)")
        need("ema", 0 <= self.ema < 1, "in [0, 1)")
        need("optimizer", self.optimizer in ("adamw", "muon"), '"adamw" or "muon"')
        need("precision", self.precision in ("bf16", "fp32"), '"bf16" or "fp32"')


def check_same(saved: Mapping[str, Any], given: DataclassInstance, where: str) -> None:
    """Compare options read from JSON with those given now, all but those in `FREE_ON_RESUME`.

    Raises ConfigError naming the first field that differs, with both values. A field that was not saved is not compared.
    """
    for option in fields(given):
        value = jsonable(getattr(given, option.name))
        if option.name not in FREE_ON_RESUME and saved.get(option.name, value) != value:
            raise ConfigError(
                f"{where} was begun with {option.name}={saved[option.name]!r}, now {option.name}={value!r} is asked for: "
                "give the old value, train into another folder, or start over without resuming"
            )


def jsonable(value: Any) -> Any:
    """An option as JSON gives it back: tuples as lists, paths as text.

    >>> jsonable((1, 2))
    [1, 2]
    """
    if isinstance(value, tuple | list):
        return [jsonable(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
