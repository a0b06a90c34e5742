"""The diffusion Transformer by what must hold of it; its parity with diffusers is in tests/hub/test_hub_diffusers_networks.py."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tectum.errors import ConfigError
from tectum.nn.conditions import ConditionConfig
from tectum.nn.dit import DiT, ToldBlock, dit, grid_positions, unpatch
from tectum.nn.patches import sincos_positions

TOLD = ConditionConfig(features=16, classes=5, null_class=True)
CONFIG = replace(dit(2, 24, 4), channels_in=3, channels_out=3, told=TOLD)
TIMES = torch.tensor([3.0, 700.0, 0.0], dtype=torch.float64)
CLASSES = torch.tensor([0, 5, 2])


def test_a_fresh_block_is_the_identity_and_a_fresh_network_is_silent() -> None:
    x = torch.randn(2, 7, 24)
    block = ToldBlock(24, 4, context_width=10, eps_mlp=1e-6)
    assert torch.equal(block(x, torch.randn(2, 24), torch.randn(2, 3, 10), None), x)
    y = DiT(replace(CONFIG, channels_out=6))(torch.randn(2, 3, 4, 6), TIMES[:2], {"class": CLASSES[:2]})
    assert torch.equal(y, torch.zeros(2, 6, 4, 6))


@pytest.mark.parametrize("sizes", [(6,), (4, 6), (2, 4, 6)])
def test_unpatch_brings_every_number_back_to_its_place(sizes: tuple[int, ...], random: Callable) -> None:
    """Patches cut by PyTorch's unfold, whose channels are then put last."""
    x = random(2, 5, *sizes)
    cut = x
    for axis in range(len(sizes)):
        cut = cut.unfold(2 + axis, 2, 2)
    places = cut.shape[2 : 2 + len(sizes)]
    patches = cut.flatten(2 + len(sizes)).movedim(1, -1).flatten(1, len(sizes)).flatten(2)
    assert torch.equal(unpatch(patches, places, 2), x)


def test_positions_are_those_of_the_house_with_the_column_first_and_tell_all_places_apart() -> None:
    house = sincos_positions(5, 7, 32)
    torch.testing.assert_close(grid_positions((5, 7), 32), house.roll(16, dims=1), rtol=0, atol=1e-5)
    deep = grid_positions((3, 4, 5), 24)
    distances = torch.cdist(deep, deep) + 9 * torch.eye(60)
    assert deep.shape == (60, 24) and distances.min() > 0.1
    grown = grid_positions((6, 8, 9), 24).reshape(6, 8, 9, 24)[:3, :4, :5]
    assert torch.equal(grown.reshape(60, 24), deep), "they do not move with the grid"


@pytest.mark.parametrize("sizes", [(8,), (4, 6), (2, 4, 6)])
@pytest.mark.parametrize("context", [None, 10])
def test_any_grid_keeps_its_sizes_and_does_not_depend_on_its_batch(
    sizes: tuple[int, ...], context: int | None, random: Callable, trained: Callable
) -> None:
    model = trained(DiT(replace(CONFIG, dims=len(sizes), context=context)))
    x, cond = random(3, 3, *sizes), {"class": CLASSES}
    if context:
        cond["tokens"] = random(3, 6, context)
    y = model(x, TIMES, cond)
    alone = model(x[1:2], TIMES[1:2], {name: value[1:2] for name, value in cond.items()})
    assert y.shape == x.shape
    torch.testing.assert_close(y[1:2], alone, rtol=1e-10, atol=1e-12)


def test_masked_tokens_are_not_seen_and_a_pooled_text_is(random: Callable, trained: Callable) -> None:
    model = trained(DiT(replace(CONFIG, context=10, told=ConditionConfig(features=16, pooled=7))))
    x, tokens, pooled = random(2, 3, 4, 6), random(2, 5, 10), random(2, 7)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    y = model(x, TIMES[:2], {"tokens": tokens, "mask": mask, "pooled": pooled})
    torch.testing.assert_close(y[1:], model(x[1:], TIMES[1:2], {"tokens": tokens[1:, :2], "pooled": pooled[1:]}))
    other = model(x, TIMES[:2], {"tokens": tokens, "mask": mask, "pooled": -pooled})
    assert (other - y).abs().amin((1, 2, 3)).min() > 0 and (other - y).abs().max() > 1e-2


def test_a_block_is_its_formula(random: Callable, trained: Callable) -> None:
    block = trained(ToldBlock(8, 2, context_width=None, eps_mlp=0.25))
    x, told = random(1, 5, 8), random(1, 8)
    shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = (told @ block.modulation.weight.T + block.modulation.bias).split(
        8, dim=1
    )

    def norm(y: Tensor, eps: float) -> Tensor:
        return (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + eps).sqrt()

    y = x + gate * block.attention(norm(x, 1e-6) * (1 + scale) + shift)
    expected = y + gate_mlp * block.mlp(norm(y, 0.25) * (1 + scale_mlp) + shift_mlp)
    torch.testing.assert_close(block(x, told, None, None), expected)


def test_checkpointing_changes_no_gradient(random: Callable, trained: Callable) -> None:
    plain = trained(DiT(CONFIG))
    again = DiT(CONFIG, checkpointing=True).double()
    again.load_state_dict(plain.state_dict())
    x = random(2, 3, 4, 6)
    for model in (plain, again):
        model(x, TIMES[:2], {"class": CLASSES[:2]}).square().sum().backward()
    for a, b in zip(plain.parameters(), again.parameters(), strict=True):
        assert a.grad.abs().max() > 0
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)


def test_the_presets_are_the_published_sizes() -> None:
    """DiT-S, B, L and XL have 33, 130, 458 and 675 million parameters (arXiv:2212.09748, table 4)."""
    shapes = ((12, 384, 6), (12, 768, 12), (24, 1024, 16), (28, 1152, 16))
    with torch.device("meta"):
        counts = [sum(p.numel() for p in DiT(dit(*shape)).parameters()) for shape in shapes]
    assert [round(count / 1e6) for count in counts] == [33, 130, 458, 675]


def test_grids_and_configurations_that_do_not_fit_are_refused() -> None:
    model = DiT(CONFIG)
    with pytest.raises(ValueError, match="whose sizes 2 divides, not 4 × 5"):
        model(torch.zeros(1, 3, 4, 5), TIMES[:1], {"class": CLASSES[:1]})
    with pytest.raises(ValueError, match=r"takes grids \[n, 3, h, w\]"):
        model(torch.zeros(1, 4, 4, 4), TIMES[:1], {"class": CLASSES[:1]})
    with pytest.raises(ValueError, match="is told class, not nothing"):
        model(torch.zeros(1, 3, 4, 4), TIMES[:1])
    for options, message in (
        ({"heads": 5}, "5 heads do not divide a width of 24"),
        ({"width": 30, "heads": 5}, "2 axes need a width that 4 divides, not 30"),
        ({"dims": 0}, "1, 2 or 3 dimensions, not 0"),
        ({"patch": 0}, "no diffusion Transformer has such sizes"),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(CONFIG, **options)
