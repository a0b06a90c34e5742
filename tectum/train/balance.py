"""Modalities that learn at their own pace: the one that runs ahead is slowed, in its update and not in its gradient.

Trained together, the modality that is easy to learn explains the batch, then memorises it, and the others starve (Wang et al.
2020, arXiv:1905.12681; Huang et al. 2022, arXiv:2203.12221). OGM-GE (Peng et al. 2022, arXiv:2203.15332) scales the gradients of
the one that leads. Adam divides by the size of the gradients: a constant factor leaves its step as it was, and of one that
changes only the change is felt. Here such a factor scales the step that the optimizer has made, as a learning rate of each
modality that moves with its lead (fixed ones: Yao & Mihalcea 2022, "Modality-specific learning rates for effective multimodal
additive late-fusion"), in the same way for AdamW and Muon, for parameters of any shape, and inside any loop.

The lead is read from a loss of each modality alone, by a small head on its encoder. Added to the joint loss, those losses are the
other half of the cure: each modality gets a gradient that the others cannot take away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from tectum.errors import ConfigError


def step_factors(losses: Tensor, strength: float = 1.0) -> Tensor:
    """By how much the step of each modality counts [m], in 0 … 1, from the losses [m] (nats) of each modality alone.

    With scores s = exp(−loss), the (geometric) mean probability of the truth, ρ_i is s_i over the mean score of the others, and
    the factor is 1 − tanh(strength · (ρ_i − 1)) where ρ_i > 1, else 1: that of OGM-GE, for any number of modalities, and without
    its jump at ρ = 1.

    Raises ValueError for fewer than two modalities or a negative strength.

    >>> step_factors(torch.tensor([0.2, 1.2]))
    tensor([0.0623, 1.0000])
    """
    if len(losses) < 2 or strength < 0:
        raise ValueError(f"{len(losses)} losses and a strength of {strength}: give two modalities or more, and 0 or more")
    scores = torch.exp(-losses.double())
    # By differences, so that rounding gives nobody a lead over its equals.
    lead = (scores[:, None] - scores).mean(1) * len(scores) / (len(scores) - 1)
    others = (scores - lead).clamp(min=torch.finfo(scores.dtype).tiny)
    return (1 - torch.tanh(strength * (lead / others).clamp(min=0))).to(losses)


class Balance(nn.Module):
    """Slows the parameters of the modality that leads. Make it a part of the task's module, so that a resumed run knows the pace.

    Call `watch` with every loss, and `settle` after every step of the optimizer, such as from `Task.after_step`. Stop calling
    them when a modality has taught what it can: one that knows little would hold the others back for good. Over several
    processes, give `watch` the mean losses of all, or the copies of the weights part ways.

    Args:
        parts: modality to its parameters: those of its encoder, not of what is shared.
        strength: see `step_factors`.
        memory: of the running means of the losses, 0 … 1.

    Raises:
        ConfigError: if a parameter belongs to two modalities, there are fewer than two, or a number does not fit.

    >>> image, sound = nn.Linear(2, 1), nn.Linear(2, 1)
    >>> balance = Balance({"image": image.parameters(), "sound": sound.parameters()})
    >>> balance.watch({"image": torch.tensor(0.2), "sound": torch.tensor(1.2)})
    >>> _ = nn.init.zeros_(image.weight)                                   # a step of some optimizer
    >>> balance.settle()                                                   # of which 6 % is left
    >>> balance.factors()
    {'image': 0.062..., 'sound': 1.0}
    """

    losses: Tensor

    def __init__(self, parts: Mapping[str, Iterable[Tensor]], *, strength: float = 1.0, memory: float = 0.9) -> None:
        super().__init__()
        self._parts = {name: list(parameters) for name, parameters in parts.items()}
        everything = [id(parameter) for parameters in self._parts.values() for parameter in parameters]
        if len(self._parts) < 2 or len(set(everything)) < len(everything):
            raise ConfigError(f"the parts {sorted(self._parts)} cannot be balanced: give two or more that share no parameter")
        if strength < 0 or not 0 <= memory < 1:
            raise ConfigError(f"strength = {strength} must be 0 or more and memory = {memory} in 0 … 1")
        self._strength, self._memory = strength, memory
        self._before: list[list[Tensor]] = []
        self.register_buffer("losses", torch.full((len(self._parts),), torch.nan))

    @torch.no_grad()
    def watch(self, losses: Mapping[str, Tensor]) -> None:
        """Take in the loss [] of each modality alone, and remember where the parameters are.

        Raises ConfigError if the losses are not those of the parts.
        """
        if losses.keys() != self._parts.keys():
            raise ConfigError(f"losses of {sorted(losses)} were given to balance {sorted(self._parts)}: give one of each")
        now = torch.stack([losses[name].detach() for name in self._parts]).to(self.losses)
        self.losses.copy_(torch.where(self.losses.isnan(), now, self.losses.lerp(now, 1 - self._memory)))
        self._before = [[parameter.clone() for parameter in parameters] for parameters in self._parts.values()]

    @torch.no_grad()
    def settle(self) -> None:
        """Take back a part of the step that was made since `watch`, of those that lead. Without a `watch` before, nothing."""
        for parameters, before, factor in zip(self._parts.values(), self._before, self.factors().values(), strict=False):
            for parameter, old in zip(parameters, before, strict=True):
                parameter.copy_(old.lerp(parameter, factor))
        self._before = []

    def factors(self) -> dict[str, float]:
        """The present factor of each modality, to be logged."""
        return dict(zip(self._parts, step_factors(self.losses, self._strength).tolist(), strict=True))
