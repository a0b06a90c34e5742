"""The U-Net by what must hold of it; its parity with diffusers is in tests/hub/test_hub_diffusers_networks.py."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tectum.diffusion.denoiser import Denoiser
from tectum.diffusion.guidance import ClassifierFree
from tectum.diffusion.predictions import Prediction
from tectum.diffusion.schedules import vp
from tectum.errors import ConfigError
from tectum.nn.conditions import ConditionConfig
from tectum.nn.residual import Downsample, TimedBlock, Upsample
from tectum.nn.spatial import ContextBlock, GridAttention, SpatialTransformer
from tectum.nn.unet import UNet
from tectum.nn.unet_config import Attend, Level, UNetConfig, ddpm_cifar, sd15, sdxl, tiny

TIMES = torch.tensor([3.0, 700.0, 0.0], dtype=torch.float64)


def test_a_fresh_network_is_silent_and_its_blocks_are_their_shortcuts(random: Callable) -> None:
    x, told = random(2, 16, 5, 6).float(), random(2, 32).float()
    assert torch.equal(UNet(tiny(channels=16))(x, TIMES[:2]), torch.zeros_like(x))
    block = TimedBlock(2, 16, 16, groups=4, eps=1e-5, told=32, modulation="scale_shift")
    for layer, given in (
        (block, (x, told)),
        (GridAttention(16, 2, groups=4, eps=1e-5), (x,)),
        (SpatialTransformer(16, 2, depth=2, context_width=None, groups=4), (x,)),
    ):
        assert torch.equal(layer(*given), x)


@pytest.mark.parametrize("context", [None, 10])
@pytest.mark.parametrize("sizes", [(8,), (7,), (6, 8), (5, 7), (4, 3, 5)])
def test_a_grid_keeps_its_sizes_and_does_not_depend_on_its_batch(
    sizes: tuple[int, ...], context: int | None, random: Callable, trained: Callable
) -> None:
    unet = trained(UNet(tiny(dims=len(sizes), context=context, classes=4)))
    x, cond = random(3, 3, *sizes), {"class": torch.tensor([0, 4, 2])}
    if context:
        cond["tokens"] = random(3, 6, context)
    y = unet(x, TIMES, cond)
    assert y.shape == x.shape and y.is_contiguous()
    alone = unet(x[1:2], TIMES[1:2], {name: value[1:2] for name, value in cond.items()})
    torch.testing.assert_close(y[1:2], alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("padding", ["both", "end"])
@pytest.mark.parametrize("dims", [1, 2])
def test_over_a_grid_that_is_constant_along_a_further_axis_the_network_of_more_dimensions_is_the_same(
    dims: int, padding: str, random: Callable, trained: Callable, extended: Callable
) -> None:
    """A kernel with nothing off its middle sees one slice, every slice is the same, and attention to copies is attention."""
    config = replace(tiny(dims=dims, context=5), padding=padding)
    flat = trained(UNet(config))
    deep = extended(flat, trained(UNet(replace(config, dims=dims + 1))))
    x, cond = random(2, 3, *(6, 8)[:dims]), {"tokens": random(2, 4, 5)}
    expected = flat(x, TIMES[:2], cond)
    for copies in (4, 5) if padding == "both" else (4,):
        found = deep(x.unsqueeze(2).expand(-1, -1, copies, *x.shape[2:]), TIMES[:2], cond)
        torch.testing.assert_close(found, expected.unsqueeze(2).expand_as(found), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("sizes", [(1, 2), (3, 4), (5, 9), (64, 37)])
def test_an_odd_grid_is_halved_to_the_larger_half_and_doubled_to_a_crop(sizes: tuple[int, int], random: Callable) -> None:
    x, down, up = random(1, 4, *sizes), Downsample(2, 4, "both").double(), Upsample(2, 4).double()
    half = down(x)
    assert half.shape[2:] == tuple(-(-size // 2) for size in sizes)
    doubled = half.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, : sizes[0], : sizes[1]]
    torch.testing.assert_close(up(half, sizes), up.conv(doubled))


def test_padding_at_the_end_is_tensorflows_same_and_refuses_odd_sizes(random: Callable) -> None:
    """Of an even size "same" with stride 2 takes windows that start at 0, 2, 4, … and one zero after the end."""
    down, x = Downsample(1, 2, "end").double(), random(1, 2, 6)
    windows = torch.nn.functional.pad(x, (0, 1)).unfold(2, 3, 2)
    torch.testing.assert_close(down(x), torch.einsum("ncok,dck->ndo", windows, down.conv.weight) + down.conv.bias[:, None])
    unet = UNet(replace(tiny(), padding="end"))
    with pytest.raises(ValueError, match="whose sizes 2 divides, not 8 × 7"):
        unet(torch.zeros(1, 3, 8, 7), TIMES[:1])
    with pytest.raises(ValueError, match="a grid of 7 cannot be halved"):
        down(random(1, 2, 7))


def test_masked_tokens_are_not_seen_and_others_are(random: Callable, trained: Callable) -> None:
    unet = trained(UNet(tiny(context=10)))
    x, tokens = random(2, 3, 6, 4), random(2, 5, 10)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    y = unet(x, TIMES[:2], {"tokens": tokens, "mask": mask})
    torch.testing.assert_close(y[1:], unet(x[1:], TIMES[1:2], {"tokens": tokens[1:, :2]}))
    torch.testing.assert_close(y[:1], unet(x[:1], TIMES[:1], {"tokens": tokens[:1]}))
    assert (y[1] - unet(x, TIMES[:2], {"tokens": tokens})[1]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="attends to a context"):
        ContextBlock(8, 2, 10)(torch.zeros(1, 3, 8), None, None)


def test_where_only_the_context_is_attended_to_places_do_not_see_each_other(random: Callable, trained: Callable) -> None:
    block = trained(ContextBlock(8, 2, 10, only_context=True))
    x, context, mask = random(2, 5, 8), random(2, 4, 10), torch.tensor([[True] * 4, [True, False, True, False]])
    y = block(x, context, mask)
    for place in range(5):
        torch.testing.assert_close(block(x[:, place : place + 1], context, mask), y[:, place : place + 1])
    torch.testing.assert_close(block(x[1:], context[1:, ::2], None), y[1:])
    seeing = trained(ContextBlock(8, 2, 10))
    assert (seeing(x[:, :1], context, mask) - seeing(x, context, mask)[:, :1]).abs().max() > 1e-3


def test_without_a_middle_the_rest_stays(random: Callable, trained: Callable) -> None:
    whole = trained(UNet(replace(tiny(), middle=None)))
    none = UNet(replace(tiny(), middle=None, has_middle=False)).double().eval()
    none.load_state_dict({name: value for name, value in whole.state_dict().items() if not name.startswith("middle")})
    for stage in whole.middle:  # a block that adds nothing is none
        torch.nn.init.zeros_(stage.block.conv_second.weight)
        torch.nn.init.zeros_(stage.block.conv_second.bias)
    x = random(2, 3, 8, 6)
    torch.testing.assert_close(none(x, TIMES[:2]), whole(x, TIMES[:2]))


def test_checkpointing_changes_no_gradient(random: Callable, trained: Callable) -> None:
    config = replace(tiny(context=6), dropout=0.3)
    gradients = []
    state = trained(UNet(config)).state_dict()
    for checkpointing in (False, True):
        unet = UNet(config, checkpointing=checkpointing).double()
        unet.load_state_dict(state)
        torch.manual_seed(5)
        x, tokens = random(2, 3, 7, 6).requires_grad_(), random(2, 4, 6)
        unet(x, TIMES[:2], {"tokens": tokens}).square().sum().backward()
        gradients.append([x.grad, *(parameter.grad for parameter in unet.parameters())])
    for plain, again in zip(*gradients, strict=True):
        assert plain is not None and plain.abs().max() > 0  # everything takes part
        torch.testing.assert_close(again, plain, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_the_input_is_right(random: Callable, trained: Callable) -> None:
    unet = trained(UNet(UNetConfig(channels_in=1, channels_out=1, levels=(Level(width=4),), told=TOLD, groups=2)))
    assert torch.autograd.gradcheck(lambda x: unet(x, TIMES[:1]), random(1, 1, 3, 2).requires_grad_())
    x = random(1, 1, 3, 2)
    before = x.clone()
    with torch.no_grad():
        unet(x, TIMES[:1])
    assert torch.equal(x, before), "nothing is done in place to what comes in"


TOLD = ConditionConfig(features=4)


def test_kernels_keep_their_layout_through_loading_and_the_numbers_do_not_depend_on_it(
    random: Callable, trained: Callable
) -> None:
    unet = trained(UNet(tiny()))
    x = random(1, 3, 8, 8)
    expected = unet(x, TIMES[:1])
    for assign in (False, True):
        other = UNet(tiny()).double().eval()
        state = {name: value.clone(memory_format=torch.contiguous_format) for name, value in unet.state_dict().items()}
        other.load_state_dict(state, assign=assign)
        assert other.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(other(x, TIMES[:1]), expected, rtol=1e-12, atol=1e-12)


def test_it_is_a_network_of_a_denoiser_with_guidance(random: Callable, trained: Callable) -> None:
    unet = UNet(tiny(classes=4)).eval()
    trained(unet).float()
    denoiser = Denoiser(unet, Prediction("epsilon"))
    x, at = random(2, 3, 8, 8).float(), vp().at(0.5)
    cond, null = {"class": torch.tensor([1, 2])}, {"class": torch.tensor([4, 4])}
    with torch.no_grad():
        guided = ClassifierFree(denoiser, cond, null, weight=3.0)(x, at)
        with_, without = denoiser(x, at, cond), denoiser(x, at, null)
    torch.testing.assert_close(guided, without + 3 * (with_ - without), rtol=1e-4, atol=1e-4)


def test_it_is_one_graph_whatever_the_times(random: Callable, trained: Callable) -> None:
    """Compiled without a break, and so without a word from the host; and once."""
    unet = trained(UNet(tiny(context=6, classes=4)))
    graphs = []
    compiled = torch.compile(unet, backend=lambda module, _: graphs.append(module) or module.forward, fullgraph=True)
    x, cond = random(2, 3, 8, 8), {"class": torch.tensor([1, 4]), "tokens": random(2, 5, 6)}
    with torch.no_grad():
        for times in (TIMES[:2], TIMES[1:]):
            torch.testing.assert_close(compiled(x, times, cond), unet(x, times, cond))
    assert len(graphs) == 1


def test_the_presets_are_the_published_sizes() -> None:
    """35.7, 860 and 2,570 million parameters, as the papers say."""
    with torch.device("meta"):
        counts = [sum(p.numel() for p in UNet(config).parameters()) for config in (ddpm_cifar(), sd15(), sdxl())]
    assert [round(count / 1e6, 1) for count in counts] == [35.7, 859.5, 2567.5]


def test_grids_and_conditions_that_do_not_fit_are_refused() -> None:
    unet = UNet(tiny(classes=3))
    with pytest.raises(ValueError, match=r"takes grids \[n, 3, h, w\], not \[2, 4, 8, 8\]"):
        unet(torch.zeros(2, 4, 8, 8), TIMES[:2], {"class": torch.tensor([0, 0])})
    with pytest.raises(ValueError, match=r"takes grids \[n, 3, h, w\], not \[3, 8, 8\]"):
        unet(torch.zeros(3, 8, 8), TIMES[:2])
    with pytest.raises(ValueError, match="is told class, not nothing"):
        unet(torch.zeros(2, 3, 8, 8), TIMES[:2])
    with pytest.raises(ValueError, match="is told class, not class, tokens"):
        unet(torch.zeros(2, 3, 8, 8), TIMES[:2], {"class": torch.tensor([0, 0]), "tokens": torch.zeros(2, 3, 4)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ()}, "no levels"),
        ({"dims": 4}, "1, 2 or 3 dimensions, not 4"),
        ({"groups": 12}, "12 groups do not divide a width of 32"),
        ({"levels": (Level(width=32, blocks=0),)}, "one block or more"),
        ({"channels_in": 0}, "one channel or more"),
        ({"levels": (Level(width=32, attend=Attend(heads=5)),)}, "5 heads do not divide a width of 32"),
        ({"middle": Attend(heads=7)}, "7 heads do not divide a width of 64"),
        ({"context": 8}, "nothing attends to the context"),
        ({"has_middle": False}, "there is no middle that could attend"),
        ({"middle": Attend(heads=2, depth=1, only_context=True)}, "there is no context to attend to"),
        ({"modulation": "film"}, "'shift' or 'scale_shift', not 'film'"),
        ({"padding": "same"}, "'both' sides or the 'end', not 'same'"),
    ],
)
def test_impossible_configurations(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        replace(tiny(), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"), [({"heads": 0}, "one head or more"), ({"heads": 1, "only_context": True}, "give them a depth")]
)
def test_impossible_attention(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Attend(**options)
