"""Gradients of the contrastive losses over 1, 2, 3 and 4 processes, in every way there is. Run as a program:

    python exchange_grid.py FOLDER

It leaves FOLDER/WORLD-RANK.safetensors: "case loss exchange way/parameter" to that parameter's gradient, with the loss and the
accuracy beside. What one process finds without an exchange, "case loss/parameter", is what all must find. Processes are forked
from one that has imported torch and has not used it yet.
"""

import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch._dynamo
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, multiprocessing, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from tectum.contrastive.caching import cached_backward
from tectum.contrastive.exchange import Alone, Exchange, Gather, Ring, Streamed, reduce_gradients
from tectum.contrastive.loss import LossOutput, info_nce, sigmoid_loss
from tectum.contrastive.targets import Dense, Ids, Targets

ROWS, COLUMNS = 13, 11
ENDS = {1: (1.0,), 2: (0.7, 1.0), 3: (0.6, 0.6, 1.0), 4: (0.4, 0.5, 0.8, 1.0)}
"""Where the processes' shares of the batch end. The second of three has nothing."""
EXCHANGES = {"gather": Gather, "ring": Ring, "streamed": Streamed}
CASES = [(case, loss) for case in ("matched", "rich") for loss in ("softmax", "sigmoid")]

Views = dict[str, Tensor]


class Towers(nn.Module):
    """Two linear ones."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.towers = nn.ModuleDict({"a": nn.Linear(5, 6), "b": nn.Linear(3, 6)}).double()

    def forward(self, views: Views) -> Views:
        return {name: F.normalize(self.towers[name](x), dim=-1) for name, x in views.items()}


def problem(case: str, loss: str, share: Callable[[int], slice]) -> tuple[Views, Targets]:
    """The views and targets of the process that has `share(count)` of any `count` items."""
    draw = torch.Generator().manual_seed(1)
    count = ROWS if case == "matched" else COLUMNS
    rows, columns = share(ROWS), share(count)
    a, b = torch.randn(ROWS, 5, generator=draw).double(), torch.randn(count, 3, generator=draw).double()
    views = {"a": a[rows], "b": b[columns]}
    if case == "matched":
        return views, Targets()
    ids = torch.randint(0, 6, (ROWS,), generator=draw)[rows], torch.randint(0, 7, (count,), generator=draw)[columns]
    ignored, confidence = torch.rand(ROWS, count, generator=draw)[rows] < 0.2, torch.rand(ROWS, generator=draw)[rows]
    targets = Targets(positives=Ids(*ids), ignored=Dense(ignored), confidence=confidence, smoothing=0.1)
    return views, replace(targets, hardness=0.5) if loss == "softmax" else targets


class Process:
    """One of several, and what it finds."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self.numbers = {name: nn.Parameter(torch.tensor(value).double()) for name, value in (("scale", 9.0), ("bias", -4.0))}
        self.found: dict[str, Tensor] = {}

    def share(self, count: int) -> slice:
        """Of a batch that is spread unevenly."""
        edges = [0, *(round(count * end) for end in ENDS[self.world])]
        return slice(edges[self.rank], edges[self.rank + 1])

    def even(self, count: int) -> slice:
        """Of a batch that is spread as evenly as can be."""
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def loss(self, name: str, targets: Targets, exchange: Exchange) -> Callable[[Views], LossOutput]:
        """Of embeddings."""
        scale, bias = self.numbers.values()
        if name == "softmax":
            return lambda views: info_nce(views["a"], views["b"], scale, targets=targets, exchange=exchange, tile=3)
        return lambda views: sigmoid_loss(views["a"], views["b"], scale, bias, targets=targets, exchange=exchange, tile=3)

    def step(self, case: str, loss: str, module: nn.Module, exchange: Exchange) -> LossOutput:
        """The plain one."""
        views, targets = problem(case, loss, self.share)
        output = self.loss(loss, targets, exchange)(module(views))
        output.loss.backward()
        return output

    def note(self, key: str, module: nn.Module, exchange: Exchange, step: Callable[[], LossOutput], *, wrapped: bool) -> None:
        """Take a step with fresh gradients, combine over processes those that no wrapper does, and keep them."""
        named = {**dict(module.named_parameters()), **self.numbers}
        for parameter in named.values():
            parameter.grad = None
        output = step()
        reduce_gradients((self.numbers if wrapped else named).values(), exchange)
        self.found |= {f"{key}/loss": output.loss.detach(), f"{key}/accuracy": output.accuracy}
        for name, parameter in named.items():
            if parameter.grad is not None:
                whole = parameter.grad.full_tensor() if wrapped and hasattr(parameter.grad, "full_tensor") else parameter.grad
                self.found[f"{key}/{name.removeprefix('module.')}"] = whole.clone()

    def alone(self) -> None:
        """What must come out."""
        module = Towers()
        for case, loss in CASES:
            self.note(f"{case} {loss}", module, Alone(), partial(self.step, case, loss, module, Alone()), wrapped=False)

    def together(self) -> None:
        """All ways."""
        reductions: list[int] = []

        def counted(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
            reductions.append(1)
            return allreduce_hook(None, bucket)

        bare, ddp, fsdp = Towers(), DistributedDataParallel(Towers()), Towers()
        ddp.register_comm_hook(None, counted)
        fully_shard(fsdp, mesh=init_device_mesh("cpu", (self.world,)))

        @contextmanager
        def unreduced():
            fsdp.set_requires_gradient_sync(False)
            yield
            fsdp.set_requires_gradient_sync(True)

        for case, loss in CASES:
            for name, kind in EXCHANGES.items():
                for way, module, exchange in (("sum", bare, kind(combine="sum")), ("ddp", ddp, kind()), ("fsdp", fsdp, kind())):
                    step = partial(self.step, case, loss, module, exchange)
                    self.note(f"{case} {loss} {name} {way}", module, exchange, step, wrapped=module is not bare)

        for loss in ("softmax", "sigmoid"):
            for way, module, no_sync in (("cached-ddp", ddp, ddp.no_sync), ("cached-fsdp", fsdp, unreduced)):
                # FSDP2 wants as many chunks everywhere, here two; DDP does not.
                views, targets = problem("matched", loss, self.share if module is ddp else self.even)
                chunk = 2 if module is ddp else -(-len(views["a"]) // 2)
                of_views = self.loss(loss, targets, Ring())
                step = partial(cached_backward, module, views, of_views, micro_batch=chunk, no_sync=no_sync)
                reductions.clear()
                self.note(f"matched {loss} ring {way}", module, Ring(), step, wrapped=True)
                if module is ddp:
                    self.found[f"matched {loss} ring {way}/reductions"] = torch.tensor(len(reductions))

    def in_groups(self) -> None:
        """Processes 0 and 2, and processes 1 and 3: each pair has a whole batch."""
        groups = [dist.new_group([0, 2]), dist.new_group([1, 3])]
        pair, module = Process(self.rank // 2, 2), Towers()
        for name, kind in EXCHANGES.items():
            exchange = kind(group=groups[self.rank % 2])
            step = partial(pair.step, "rich", "softmax", module, exchange)
            pair.note(f"rich softmax {name} group", module, exchange, step, wrapped=False)
        self.found |= pair.found


def work(rank: int, world: int, folder: Path) -> None:
    """One process's whole life."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / f'meeting-{world}'}", rank=rank, world_size=world)
    process = Process(rank, world)
    if world == 1:
        process.alone()
    process.together()
    if world == 4:
        process.in_groups()
    save_file(process.found, folder / f"{world}-{rank}.safetensors")
    dist.barrier()
    dist.destroy_process_group()


def main(folder: Path) -> None:
    """All numbers of processes, one after the other."""
    for world in ENDS:
        multiprocessing.start_processes(work, (world, folder), nprocs=world, start_method="fork")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
