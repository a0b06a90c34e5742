"""Nested vectors: the gradient is the sum of the gradients at each length, and a cut is a projection."""

import pytest
import torch
from torch.nn import functional as F

from tectum.contrastive.binding import Edge, bind
from tectum.contrastive.caching import cached_backward
from tectum.contrastive.loss import info_nce
from tectum.contrastive.matryoshka import matryoshka, truncate

DIMS = (2, 5, 12)


def views(seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {name: F.normalize(torch.randn(7, 12, generator=draw).double(), dim=-1).requires_grad_() for name in ("image", "text")}


def loss(pair):
    return info_nce(pair["image"], pair["text"], 8.0)


def test_the_gradient_is_the_weighted_sum_of_the_gradients_at_each_length() -> None:
    weights, pair = (0.5, 2.0, 1.0), views()
    total, parts = matryoshka(loss, pair, DIMS, weights)
    found = torch.autograd.grad(total, list(pair.values()))
    expected = [torch.zeros_like(x) for x in pair.values()]
    for dim, weight in zip(DIMS, weights, strict=True):
        alone = views()
        cut = {name: F.normalize(x[:, :dim], dim=-1) for name, x in alone.items()}
        value = loss(cut).loss
        torch.testing.assert_close(parts[dim].loss, value)
        for gradient, x in zip(expected, torch.autograd.grad(value, list(alone.values())), strict=True):
            gradient += weight * x
    torch.testing.assert_close(list(found), expected)


def test_the_full_length_alone_is_the_plain_loss() -> None:
    pair = views()
    total, _ = matryoshka(loss, pair, [12])
    torch.testing.assert_close(total, loss(pair).loss)


def test_later_numbers_learn_from_the_longer_lengths_only() -> None:
    pair = views()
    total, _ = matryoshka(loss, pair, [2, 5])
    gradient = torch.autograd.grad(total, pair["image"])[0]
    assert gradient[:, 5:].count_nonzero() == 0 and gradient[:, :5].abs().min() > 0


def test_cutting_twice_is_cutting_once_and_gives_unit_vectors() -> None:
    vectors = views()["image"]
    torch.testing.assert_close(truncate(truncate(vectors, 5), 2), truncate(vectors, 2))
    torch.testing.assert_close(truncate(vectors, 5).norm(dim=1), torch.ones(7, dtype=torch.float64))
    torch.testing.assert_close(truncate(vectors, 12), vectors)


def test_it_wraps_bind_and_goes_through_cached_gradients() -> None:
    edge, tower = Edge(a="image", b="text"), torch.nn.Linear(9, 12).double()
    batch = {name: torch.randn(7, 9, generator=torch.Generator().manual_seed(i)).double() for i, name in enumerate(views())}

    def embed(parts):
        return {name: F.normalize(tower(x), dim=-1) for name, x in parts.items()}

    def nested(pair):
        return matryoshka(lambda cut: bind(cut, [edge], {edge: torch.tensor(8.0)}), pair, DIMS)

    whole = torch.autograd.grad(nested(embed(batch))[0], list(tower.parameters()))
    cached_backward(embed, batch, nested, micro_batch=3)
    torch.testing.assert_close([parameter.grad for parameter in tower.parameters()], list(whole))


@pytest.mark.parametrize(("dims", "weights"), [([], None), ([2], [1.0, 1.0]), ([13], None), ([0], None)])
def test_lengths_that_do_not_fit(dims, weights) -> None:
    with pytest.raises(ValueError, match=r"at least one|have no first"):
        matryoshka(loss, views(), dims, weights)
