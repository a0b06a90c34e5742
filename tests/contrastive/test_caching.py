"""Gradient caching: the gradients of the whole batch, from one chunk at a time."""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.contrastive.binding import Edge, bind
from tectum.contrastive.caching import cached_backward
from tectum.contrastive.loss import LossOutput, info_nce, sigmoid_loss
from tectum.contrastive.targets import Ids, Targets

COUNTS = {"image": 7, "text": 7, "audio": 3}
EDGES = (Edge(a="image", b="text"), Edge(a="audio", b="image", weight=0.5, frozen="image"))


class Towers(nn.Module):
    """Three of them with dropout, a scale and a bias. It remembers what it was given and whether there was a graph."""

    def __init__(self, dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.towers = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(5, 6), nn.Dropout(dropout), nn.Linear(6, 4)) for name in COUNTS}
        )
        self.numbers = nn.ParameterDict({"scale": torch.tensor(5.0), "bias": torch.tensor(-2.0)})
        self.seen: list[tuple[bool, dict[str, Tensor]]] = []
        self.to(dtype)

    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.seen.append((torch.is_grad_enabled(), dict(views)))
        return {name: F.normalize(self.towers[name](x), dim=-1) for name, x in views.items()}

    def softmax(self, views: dict[str, Tensor]) -> LossOutput:
        return info_nce(views["image"], views["text"], self.numbers["scale"])

    def sigmoid(self, views: dict[str, Tensor]) -> LossOutput:
        ids = torch.arange(7) // 2, torch.arange(3)
        targets = Targets(positives=Ids(*ids), smoothing=0.1)
        return sigmoid_loss(views["image"], views["audio"], self.numbers["scale"], self.numbers["bias"], targets=targets)

    def binding(self, views: dict[str, Tensor]) -> tuple[Tensor, dict[Edge, LossOutput]]:
        return bind(views, EDGES, {edge: self.numbers["scale"] for edge in EDGES}, {EDGES[1]: torch.eye(3, 7)})


def views(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {name: torch.randn(count, 5, generator=draw).to(dtype) for name, count in COUNTS.items()}


def gradients(module: nn.Module) -> dict[str, Tensor | None]:
    found = {name: parameter.grad for name, parameter in module.named_parameters()}
    module.zero_grad()
    return found


def freeze(towers: Towers, names: tuple[str, ...]) -> Towers:
    for name in names:
        towers.towers[name].requires_grad_(False)
    return towers


@pytest.mark.parametrize("frozen", [(), ("image",), ("text", "audio"), ("image", "text", "audio")])
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 7, 99])
@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "binding"])
def test_gradients_are_those_of_the_whole_batch(loss: str, micro_batch: int, frozen: tuple[str, ...]) -> None:
    towers = freeze(Towers(), frozen)
    whole = getattr(towers, loss)(towers(views()))
    whole[0].backward()
    expected = gradients(towers)
    output = cached_backward(towers, views(), getattr(towers, loss), micro_batch=micro_batch)
    torch.testing.assert_close(output[0], whole[0].detach(), rtol=1e-12, atol=0)
    for name, gradient in gradients(towers).items():
        assert (gradient is None) == (expected[name] is None), name
        torch.testing.assert_close(gradient, expected[name], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("micro_batch", [1, 3, 7])
@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "binding"])
def test_dropout_draws_the_same_masks_twice_and_the_random_state_goes_on(loss: str, micro_batch: int) -> None:
    """The same chunks one after the other, with all their graphs."""
    towers = Towers(dropout=0.5)
    torch.manual_seed(3)
    cached_backward(towers, views(), getattr(towers, loss), micro_batch=micro_batch)
    state, found, chunks = torch.get_rng_state(), gradients(towers), [chunk for graph, chunk in towers.seen if not graph]
    torch.manual_seed(3)
    parts = [towers(chunk) for chunk in chunks]
    assert torch.equal(torch.get_rng_state(), state)
    getattr(towers, loss)({name: torch.cat([part[name] for part in parts if name in part]) for name in COUNTS})[0].backward()
    torch.testing.assert_close(found, gradients(towers), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("count", [0, 5])
def test_a_view_without_items_is_embedded_all_the_same(count: int) -> None:
    """So that over processes all have the same views, and every tower has a gradient."""
    towers = Towers()
    batch = {"image": views()["image"][:count], "audio": views()["audio"][:0]}

    def loss(found: dict[str, Tensor]) -> tuple[Tensor]:
        return (found["image"][:, 0].sum() + found["audio"][:, 0].sum(),)

    cached_backward(towers, batch, loss, micro_batch=2)
    assert [dict.keys(chunk) for graph, chunk in towers.seen if graph][-1] == batch.keys()
    found = gradients(towers)
    assert not found["towers.audio.0.weight"].any() and (count == 0) == (not found["towers.image.0.weight"].any())


def test_gradients_are_added_to_those_there() -> None:
    towers = Towers()
    cached_backward(towers, views(), towers.softmax, micro_batch=3)
    once = {
        name: gradient.clone() for name, gradient in ((n, p.grad) for n, p in towers.named_parameters()) if gradient is not None
    }
    cached_backward(towers, views(), towers.softmax, micro_batch=2)
    for name, gradient in once.items():
        torch.testing.assert_close(dict(towers.named_parameters())[name].grad, 2 * gradient)


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 5])
def test_chunks_are_small_even_and_complete_and_only_the_second_pass_has_a_graph(micro_batch: int) -> None:
    towers, batch = Towers(), views()
    cached_backward(towers, batch, towers.softmax, micro_batch=micro_batch)
    first, second = ([chunk for graph, chunk in towers.seen if graph == wanted] for wanted in (False, True))
    assert len(first) == len(second) == -(-7 // micro_batch)
    for name, count in COUNTS.items():
        sizes = [len(chunk.get(name, ())) for chunk in first]
        assert sum(sizes) == count and max(sizes) - min(sizes) <= 1 and max(sizes) <= micro_batch and sizes[-1] > 0
        for chunks in (first, second):
            assert torch.equal(torch.cat([chunk[name] for chunk in chunks if name in chunk]), batch[name])


def test_all_chunks_but_the_last_run_without_synchronisation() -> None:
    towers, inside = Towers(), [False]
    seen: list[tuple[bool, bool]] = []

    @contextmanager
    def no_sync():
        inside[0] = True
        yield
        inside[0] = False

    def embed(chunk: Mapping[str, Tensor]) -> dict[str, Tensor]:
        seen.append((torch.is_grad_enabled(), inside[0]))
        return towers(chunk)

    cached_backward(embed, views(), towers.softmax, micro_batch=3, no_sync=no_sync)
    assert [quiet for graph, quiet in seen if graph] == [True, True, False]


def test_items_may_be_lists_and_mappings_and_one_view_may_give_several_embeddings() -> None:
    towers, batch = Towers(), views()
    sentences = [f"{'x' * i}" for i in range(7)]
    given = {"image": {"pixels": batch["image"], "nested": {"mask": torch.ones(7, 1).double()}}, "text": sentences}

    def embed(chunk: Mapping[str, Any]) -> dict[str, Tensor]:
        found = {}
        if "image" in chunk:
            found["image"] = towers({"image": chunk["image"]["pixels"] * chunk["image"]["nested"]["mask"]})["image"]
        if "text" in chunk:
            rows = torch.stack([batch["text"][len(sentence)] for sentence in chunk["text"]])
            found["text"], found["again"] = towers({"text": torch.cat((rows, -rows))})["text"].chunk(2)
        return found

    def loss(found: dict[str, Tensor]) -> tuple[Tensor, str]:
        return info_nce(found["image"], found["text"], 4.0).loss + info_nce(found["image"], found["again"], 4.0).loss, "note"

    whole = loss(embed(given))[0]
    whole.backward()
    expected = gradients(towers)
    value, note = cached_backward(embed, given, loss, micro_batch=2)
    assert note == "note" and not value.requires_grad
    torch.testing.assert_close(gradients(towers), expected)


@pytest.mark.parametrize("around", ["call", "embed"])
def test_under_autocast_no_weight_is_left_out(around: str) -> None:
    """Autocast keeps rounded weights for the length of its block; those of the pass without a graph would lead nowhere."""
    towers = Towers(dtype=torch.float32)

    def autocast(on: bool) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=on)

    def embed(chunk: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with autocast(True):
            return towers(chunk)

    with autocast(True):
        whole = towers.softmax(towers(views(torch.float32)))
    whole.loss.backward()
    expected = gradients(towers)
    with autocast(around == "call"):
        output = cached_backward(embed, views(torch.float32), towers.softmax, micro_batch=3)
    torch.testing.assert_close(output.loss, whole.loss.detach(), rtol=1e-3, atol=0)
    for name, gradient in gradients(towers).items():
        assert (gradient is None) == (expected[name] is None), name
        if gradient is not None and expected[name] is not None:
            assert (gradient - expected[name]).norm() <= 0.03 * expected[name].norm() + 1e-6, name


def refused(match: str, embed: Callable[..., Any], batch: Mapping[str, Any], micro_batch: int = 2) -> None:
    with pytest.raises(ValueError, match=match):
        cached_backward(embed, batch, lambda found: (found["image"].sum(),), micro_batch=micro_batch)


def test_mistakes_are_told_and_the_random_state_goes_on_after_them() -> None:
    towers, batch = Towers(), views()
    refused("micro_batch = 0", towers, batch, 0)
    refused("no views", towers, {})
    refused("lengths {'pixels': 7, 'mask': 6}", towers, {"image": {"pixels": batch["image"], "mask": torch.ones(6)}})
    lengths = iter([2, 2, 2, 1, 2, 2, 1, 1])

    def moody(chunk: Mapping[str, Tensor]) -> dict[str, Tensor]:
        torch.rand(3)
        return {"image": towers(chunk)["image"][: next(lengths)]}

    torch.manual_seed(0)
    refused("and then as", moody, batch)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    for _ in range(4):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
