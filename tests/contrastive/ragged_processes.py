"""Binding over two processes, of which one has the partners of the other's rows and lacks a view. Run as a program.

It ends well if loss and gradients are those of one process that has everything.
"""

import socket

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing
from torch.nn import functional as F

from tectum.contrastive.binding import Edge, bind
from tectum.contrastive.exchange import Gather, Ring, Streamed

EDGES = (Edge(a="image", b="text"), Edge(a="audio", b="image", frozen="image"), Edge(a="text", b="audio", loss="sigmoid"))
SCALES = {edge: torch.tensor(5.0, dtype=torch.float64) for edge in EDGES}
BIASES = {EDGES[2]: torch.tensor(-2.0, dtype=torch.float64)}
SHARES = {"image": ([0, 3, 5], [1, 2]), "text": ([3, 1], [2, 0, 6]), "audio": ([2, 0, 3], [])}

Views = dict[str, Tensor]


def share(rank: int | None) -> tuple[Views, Views, Views]:
    """All embeddings, and those and the ids that one process has (None: a process alone)."""
    draw = torch.Generator().manual_seed(0)
    full = {view: F.normalize(torch.randn(8, 5, generator=draw).double(), dim=-1).requires_grad_() for view in SHARES}
    rows = {view: [*parts[0], *parts[1]] if rank is None else parts[rank] for view, parts in SHARES.items()}
    ids = {view: torch.tensor(of_view, dtype=torch.int64) for view, of_view in rows.items()}
    return full, {view: full[view][of_view] for view, of_view in ids.items()}, ids


def work(rank: int, port: int) -> None:
    """What each process does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    whole, views, ids = share(None)
    expected, _ = bind(views, EDGES, SCALES, ids=ids, biases=BIASES)
    expected.backward()
    for exchange in (Gather(combine="sum"), Streamed(combine="sum"), Ring(combine="sum")):
        full, views, ids = share(rank)
        total, outputs = bind(views, EDGES, SCALES, ids=ids, biases=BIASES, exchange=exchange)
        total.backward()
        gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in full.values()]
        for gradient in gradients:
            dist.all_reduce(gradient)
        assert tuple(outputs) == EDGES
        torch.testing.assert_close(total, expected)
        torch.testing.assert_close(gradients, [x.grad for x in whole.values()])
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = free.getsockname()[1]
    multiprocessing.start_processes(work, (place,), nprocs=2, start_method="fork")
