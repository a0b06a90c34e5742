"""Where the other columns of the logits are: in this process, or spread over several.

Each process holds its rows `a` and its columns `b`, as many as it likes. It forms the logits of its own rows with the columns of
all, so every pair is computed by one process alone in each pass. The loss is that of the whole batch, the same number everywhere.

Gradients, where losses are often wrong by a factor: a process gets the gradient of the *whole* loss by its own embeddings. Their
sum over processes is the gradient by the parameters; but DDP and FSDP2 take the *mean*. So with `combine="mean"` the gradients
are multiplied by the number of processes here, and with `combine="sum"` they are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

Add = Callable[[int, Tensor, Tensor], None]
"""Given the number of a block's first column and the block [k, d], adds to the block's gradient [k, d]."""


class Span(NamedTuple):
    """Which columns of all the own ones are."""

    start: int
    total: int


class Exchange(Protocol):
    """The columns of all processes, and sums over processes. All processes call the same methods in the same order."""

    @property
    def factor(self) -> int:
        """What the gradients by own embeddings are multiplied by."""

    def span(self, b: Tensor) -> Span:
        """Where the own columns [m, …] stand."""

    def gather(self, b: Tensor) -> Tensor:
        """The columns of all [total, …]."""

    def blocks(self, b: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The columns of all in blocks [k, d], with the number of the first."""

    def backward(self, b: Tensor, add: Add) -> Tensor:
        """The gradient [m, d] of own columns: `add` is called for every block, in the order of `blocks`."""

    def sum_(self, values: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their sums over processes."""

    def max_(self, value: Tensor) -> None:
        """Replace a tensor by its maximum over processes."""


@dataclass(frozen=True, slots=True)
class Alone:
    """One process."""

    @property
    def factor(self) -> int:
        """One."""
        return 1

    def span(self, b: Tensor) -> Span:
        """All columns."""
        return Span(0, len(b))

    def gather(self, b: Tensor) -> Tensor:
        """Itself."""
        return b

    def blocks(self, b: Tensor) -> Iterator[tuple[int, Tensor]]:
        """One block."""
        yield 0, b

    def backward(self, b: Tensor, add: Add) -> Tensor:
        """One call."""
        gradient = torch.zeros_like(b)
        add(0, b, gradient)
        return gradient

    def sum_(self, values: Sequence[Tensor]) -> None:
        """Nothing to add."""

    def max_(self, value: Tensor) -> None:
        """Nothing to compare."""


@dataclass(frozen=True, slots=True)
class Gather:
    """The columns of all are fetched at once: the fewest messages, and memory O(total · d).

    Args:
        group: of processes; all of them when left out.
        combine: how training combines the parameters' gradients of the processes afterwards.
    """

    group: dist.ProcessGroup | None = None
    combine: Literal["mean", "sum"] = "mean"

    @property
    def factor(self) -> int:
        """The number of processes, against the mean."""
        return dist.get_world_size(self.group) if self.combine == "mean" else 1

    @property
    def rank(self) -> int:
        """Of this process in the group."""
        return dist.get_rank(self.group)

    def span(self, b: Tensor) -> Span:
        """After the columns of the processes before."""
        counts = self.counts(b)
        return Span(sum(counts[: self.rank]), sum(counts))

    def counts(self, b: Tensor) -> list[int]:
        """How many columns each process has."""
        counts = torch.zeros(dist.get_world_size(self.group), dtype=torch.int64, device=b.device)
        counts[self.rank] = len(b)
        dist.all_reduce(counts, group=self.group)
        return counts.tolist()

    def gather(self, b: Tensor) -> Tensor:
        """In the order of the processes."""
        counts = self.counts(b)
        # Collectives want equal shapes, so short blocks are sent with a tail that is cut off.
        parts = [b.new_empty(max(counts), *b.shape[1:]) for _ in counts]
        dist.all_gather(parts, _padded(b, max(counts)), group=self.group)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def blocks(self, b: Tensor) -> Iterator[tuple[int, Tensor]]:
        """One block."""
        yield 0, self.gather(b)

    def backward(self, b: Tensor, add: Add) -> Tensor:
        """One call, and a sum over processes that leaves each its own columns."""
        counts, everything = self.counts(b), self.gather(b)
        gradient = torch.zeros_like(everything)
        add(0, everything, gradient)
        own = b.new_empty(max(counts), *b.shape[1:])
        dist.reduce_scatter(own, [_padded(part, max(counts)) for part in gradient.split(counts)], group=self.group)
        return own[: len(b)]

    def sum_(self, values: Sequence[Tensor]) -> None:
        """In one message."""
        flat = torch.cat([value.reshape(-1) for value in values])
        dist.all_reduce(flat, group=self.group)
        for value, total in zip(values, flat.split([value.numel() for value in values]), strict=True):
            value.copy_(total.view_as(value))

    def max_(self, value: Tensor) -> None:
        """In one message."""
        dist.all_reduce(value, dist.ReduceOp.MAX, group=self.group)


@dataclass(frozen=True, slots=True)
class Streamed(Gather):
    """One process after the other shows its columns to all: memory for one block of columns beside the own ones."""

    def blocks(self, b: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The block of every process, in their order."""
        counts = self.counts(b)
        for owner, start in enumerate(accumulate(counts[:-1], initial=0)):
            block = b.contiguous() if owner == self.rank else b.new_empty(counts[owner], *b.shape[1:])
            dist.broadcast(block, group=self.group, group_src=owner)
            yield start, block

    def backward(self, b: Tensor, add: Add) -> Tensor:
        """What all found for a block is added up at its owner."""
        own = torch.zeros_like(b)
        for owner, (start, block) in enumerate(self.blocks(b)):
            gradient = torch.zeros_like(block)
            add(start, block, gradient)
            dist.reduce(gradient, group=self.group, group_dst=owner)
            own = gradient if owner == self.rank else own
        return own


@dataclass(frozen=True, slots=True)
class Ring(Gather):
    """Blocks of columns travel from neighbour to neighbour, the next one during the work on this one: memory for three blocks.

    Inf-CL (arXiv:2410.17243) sends its columns round in this way.
    """

    def blocks(self, b: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The own block, then that of the process before, and so on."""
        counts, block = self.counts(b), b.contiguous()
        for step in range(len(counts)):
            owner = (self.rank - step) % len(counts)
            send = None if step == len(counts) - 1 else self._pass_on(block, counts[owner - 1])
            yield sum(counts[:owner]), block
            if send is not None:
                block = send()

    def backward(self, b: Tensor, add: Add) -> Tensor:
        """The gradient follows its block once round, and so comes home."""
        counts, gradient = self.counts(b), torch.zeros_like(b)
        for step, (start, block) in enumerate(self.blocks(b)):
            add(start, block, gradient)
            gradient = self._pass_on(gradient, counts[self.rank - step - 1])()
        return gradient

    def _pass_on(self, block: Tensor, count: int) -> Callable[[], Tensor]:
        """Send a block to the next process; the result waits for the block [count, d] of the process before."""
        processes = dist.get_world_size(self.group)
        if processes == 1:
            return lambda: block
        incoming = block.new_empty(count, *block.shape[1:])
        works = dist.batch_isend_irecv(
            [
                dist.P2POp(dist.isend, block, group=self.group, group_peer=(self.rank + 1) % processes),
                dist.P2POp(dist.irecv, incoming, group=self.group, group_peer=(self.rank - 1) % processes),
            ]
        )

        def wait() -> Tensor:
            for work in works:
                work.wait()
            return incoming

        return wait


def reduce_gradients(parameters: Iterable[Tensor], exchange: Exchange) -> None:
    """Combine the `.grad` of parameters over processes as `exchange` says, in one message; all processes must have the same ones.

    For what the wrapper of the towers (DDP, FSDP2) does not see, such as the temperature of a loss.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients:
        exchange.sum_(gradients)
        for gradient in gradients:
            gradient /= exchange.factor


def _padded(block: Tensor, count: int) -> Tensor:
    """[k, …] made longer."""
    return torch.cat((block, block.new_zeros(count - len(block), *block.shape[1:])))
