"""What a model is trained on: the one interface between a recipe and the trainer."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


class Task(Protocol):
    """A module, its batches and its loss. `tectum.train.trainer.train` calls the methods below.

    For a run that is killed to continue exactly, everything that changes while training must lie in `module` (parameters and
    persistent buffers), and the weights that the run starts from must be reproducible: call `torch.manual_seed` before
    building the module.

    >>> import torch
    >>> class Line:
    ...     def __init__(self):
    ...         torch.manual_seed(0)
    ...         self.module = torch.nn.Linear(1, 1)
    ...     def batch(self, step):
    ...         x = torch.rand(32, 1, generator=torch.Generator().manual_seed(step))
    ...         return x, 3 * x - 1
    ...     def loss(self, batch, step):
    ...         x, y = batch
    ...         return torch.nn.functional.mse_loss(self.module(x), y), {}
    ...     def evaluate(self, module, step):
    ...         return {"slope": module.weight.item()}
    ...     def after_step(self, step):
    ...         pass
    """

    module: nn.Module

    def batch(self, step: int) -> Any:
        """Everything that step number `step` (from 0) learns from.

        A pure function of `step`: it runs ahead in a background thread, for steps that may never be taken and again after a
        resume. The global random state of torch belongs to the training thread, so random choices here must come from an
        own `torch.Generator` (or numpy `Generator`) seeded from the step. `tectum.data.order.batch_indices` gives the
        samples.
        """

    def loss(self, batch: Any, step: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        """The scalar to minimise, and numbers to log beside it (each averaged between two log lines).

        Runs under autocast if the configuration says "bf16", with the global random state of torch set from (seed, step).
        """

    def evaluate(self, module: nn.Module, step: int) -> dict[str, float]:
        """Metrics of `module`, a copy of `self.module` in evaluation mode with the averaged weights, after `step` steps.

        Runs without gradients, under the same autocast as `loss`; return {} for nothing.
        """

    def after_step(self, step: int) -> None:
        """Called after the weights were updated and projected, and before they are averaged."""


@runtime_checkable
class Projected(Protocol):
    """A part of a module whose parameters must stay within bounds, as a temperature must.

    The trainer calls `project_` after every update, before `Task.after_step`: a projected gradient step. Being a function of the
    weights alone, it leaves a resumed run exact.
    """

    def project_(self) -> None:
        """Put the parameters back within their bounds."""


@runtime_checkable
class Differentiated(Protocol):
    """A task that finds its gradients itself, as one must whose batch fits in memory only in parts."""

    def backward(self, batch: Any, step: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Called in place of `Task.loss`, and returns the same, detached, with the gradient added to every parameter's `.grad`.

        `tectum.contrastive.caching.cached_backward` does it for a contrastive loss over micro-batches.
        """
