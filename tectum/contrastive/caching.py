"""Exact gradients of a contrastive loss over a batch whose activations do not fit in memory (GradCache, arXiv:2101.06983).

The embeddings of all chunks are made without a graph; the loss gives its gradient by the embeddings; then every chunk is run a
second time, with the same random numbers, and passes that gradient on to the parameters. Activations exist for one chunk at a
time, at the price of one more forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat
from typing import Any, TypeVar

import torch
from torch import Tensor

Outcome = TypeVar("Outcome", bound=tuple[Any, ...])


def cached_backward(
    embed: Callable[[dict[str, Any]], Mapping[str, Tensor]],
    batch: Mapping[str, Any],
    loss: Callable[[dict[str, Tensor]], Outcome],
    *,
    micro_batch: int,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Outcome:
    """Add to every parameter's `.grad` what `loss(embed(batch))[0].backward()` would, and return what `loss` gave, detached.

    Args:
        embed: views by name to embeddings by name [k, d], as `tectum.Space` does: each item's own affair (no batch
            normalisation). Towers may be frozen. Random numbers come from torch's global generators.
        batch: view name to its items: a tensor, a sequence, or a mapping of such, all of one length within a view. Views may
            differ in length; one without any is part of the last chunk.
        loss: embeddings by name [n, d] to a tuple that has the scalar loss first, as `info_nce` and `bind` give it. Its own
            parameters, such as a temperature, get their gradients too.
        micro_batch: most items of one view that are embedded at once; chunks are as equal as can be.
        no_sync: of a wrapper that combines gradients over processes in every backward pass (DDP): entered for all chunks but the
            last, which has all views, so that there is one reduction. Parameters that the loss uses must lie outside of
            the wrapper: `tectum.contrastive.exchange.reduce_gradients`. FSDP2 gathers weights in every forward pass, and so
            needs as many chunks in all processes.

    Raises:
        ValueError: if micro_batch < 1, there are no views, the parts of a view differ in length, or a second run gives
            embeddings of other shapes.

    >>> from tectum.contrastive.loss import info_nce
    >>> tower = torch.nn.Linear(8, 4)
    >>> def embed(views):
    ...     return {name: torch.nn.functional.normalize(tower(x), dim=-1) for name, x in views.items()}
    >>> batch = {"image": torch.randn(10, 8), "text": torch.randn(10, 8)}
    >>> output = cached_backward(embed, batch, lambda views: info_nce(views["image"], views["text"], 9.0), micro_batch=4)
    >>> output.loss.requires_grad, tower.weight.grad.shape
    (False, torch.Size([4, 8]))
    """
    chunks = _split(batch, micro_batch)
    devices = _devices(batch)
    parts: list[dict[str, Tensor]] = []
    states: list[list[Tensor]] = []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_random_state(devices))
            parts.append(dict(embed(dict(chunk))))
    outcome, gradients = _at_embeddings(parts, loss)
    after = _random_state(devices)
    try:
        for i, (chunk, part, state) in enumerate(zip(chunks, parts, states, strict=True), start=1):
            _set_random_state(devices, state)
            with nullcontext() if i == len(chunks) else no_sync():
                # A weight that autocast has rounded in an earlier pass may be kept without a graph.
                torch.clear_autocast_cache()
                with torch.enable_grad():
                    again = embed(dict(chunk))
                _pass_on(part, again, {name: next(gradients[name]) for name in part})
    finally:
        _set_random_state(devices, after)
    return outcome


def _at_embeddings(
    parts: list[dict[str, Tensor]], loss: Callable[[dict[str, Tensor]], Outcome]
) -> tuple[Outcome, dict[str, Iterator[Tensor | None]]]:
    """What the loss gives, and its gradient by the embeddings of each name, part by part."""
    found: dict[str, list[Tensor]] = {}
    for part in parts:
        for name, embeddings in part.items():
            found.setdefault(name, []).append(embeddings)
    leaves = {name: torch.cat(pieces).requires_grad_() for name, pieces in found.items()}
    with torch.enable_grad():
        outcome = loss(dict(leaves))
    _backward([outcome[0]], [None])
    gradients: dict[str, Iterator[Tensor | None]] = {}
    for name, leaf in leaves.items():
        sizes = [len(embeddings) for embeddings in found[name]]
        gradients[name] = repeat(None) if leaf.grad is None else iter(leaf.grad.split(sizes))
    return _detached(outcome), gradients


def _pass_on(part: Mapping[str, Tensor], again: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]) -> None:
    """Go on backward from the embeddings of one chunk."""
    first, second = ({name: tuple(embeddings.shape) for name, embeddings in run.items()} for run in (part, again))
    if first != second:
        raise ValueError(f"a chunk was embedded as {first} and then as {second}: embeddings may depend on their items alone")
    wanted = [name for name, gradient in gradients.items() if gradient is not None and again[name].requires_grad]
    if wanted:
        _backward([again[name] for name in wanted], [gradients[name] for name in wanted])


def _backward(roots: list[Tensor], gradients: list[Tensor | None]) -> None:
    """From all roots at once. Autocast has settled the types in the forward pass and stays out of this one."""
    with torch.autocast(roots[0].device.type, enabled=False):
        torch.autograd.backward(roots, gradients)


def _split(batch: Mapping[str, Any], micro_batch: int) -> list[dict[str, Any]]:
    """Chunks of the batch; each view is spread over all of them, and the last one has something of every view that has."""
    if micro_batch < 1:
        raise ValueError(f"micro_batch = {micro_batch} leaves nothing to embed: give 1 or more")
    if not batch:
        raise ValueError("the batch has no views: nothing can be embedded")
    counts = {view: _count(items) for view, items in batch.items()}
    chunks = max(1, -(-max(counts.values()) // micro_batch))
    split = []
    for i in range(chunks):
        spans = {view: slice(n * i // chunks, n * (i + 1) // chunks) for view, n in counts.items()}
        split.append({view: _cut(batch[view], at) for view, at in spans.items() if at.start < at.stop or i == chunks - 1})
    return split


def _count(items: Any) -> int:
    """How many items a view has."""
    if not isinstance(items, Mapping):
        return len(items)
    counts = {name: _count(part) for name, part in items.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"the parts of a view have lengths {counts}: all must have one entry for each item")
    return next(iter(counts.values()))


def _cut(items: Any, at: slice) -> Any:
    """Some of a view's items."""
    return {name: _cut(part, at) for name, part in items.items()} if isinstance(items, Mapping) else items[at]


def _detached(value: Any) -> Any:
    """The same without graphs, through tuples, lists and mappings."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: _detached(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        parts = [_detached(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _devices(batch: Mapping[str, Any]) -> list[torch.device]:
    """Accelerators whose random numbers an embedding may use: those of the batch, and the current one."""
    devices = {tensor.device for tensor in _tensors(batch)}
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is not None and torch.accelerator.is_available():
        devices.add(torch.device(accelerator.type, torch.accelerator.current_device_index()))
    return [device for device in devices if device.type not in ("cpu", "meta")]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | tuple | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(part)


def _random_state(devices: list[torch.device]) -> list[Tensor]:
    """Of the processor and of the devices."""
    return [torch.get_rng_state(), *(torch.get_device_module(device).get_rng_state(*_which(device)) for device in devices)]


def _set_random_state(devices: list[torch.device], states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for device, state in zip(devices, states[1:], strict=True):
        torch.get_device_module(device).set_rng_state(state, *_which(device))


def _which(device: torch.device) -> tuple[torch.device, ...]:
    """The argument that names the device; Apple's is the only one of its kind and goes without."""
    return () if device.type == "mps" else (device,)
