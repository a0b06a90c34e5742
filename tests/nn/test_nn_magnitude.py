"""Magnitudes are kept: by integrals, by algebra, and in the whole network."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tectum.errors import ConfigError
from tectum.nn.magnitude import MPConv, MPFourier, mp_cat, mp_silu, mp_sum, unit
from tectum.nn.magnitude_unet import MagnitudeBlock, MagnitudeUNet, MagnitudeUNetConfig

CONFIG = MagnitudeUNetConfig(channels=3, widths=(32, 48), blocks=2, attends=(False, True), head_width=16, classes=5)


def rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


def test_silu_of_unit_normal_numbers_keeps_their_magnitude() -> None:
    """∫ mp_silu(x)² N(x; 0, 1) dx = 1, by quadrature."""
    x = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    density = torch.exp(-(x**2) / 2) / (2 * torch.pi) ** 0.5
    assert torch.trapezoid(mp_silu(x) ** 2 * density, x).item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_sums_and_rows_of_orthogonal_unit_vectors_are_unit_vectors(share: float) -> None:
    basis = torch.linalg.qr(torch.randn(64, 64, dtype=torch.float64)).Q * 8  # rows of mean square 1
    a, b = basis[:1], basis[1:2]
    assert rms(mp_sum(a, b, share)) == pytest.approx(1)
    narrow, wide = (
        unit(torch.randn(2, 4, 50, dtype=torch.float64), (1, 2)),
        unit(torch.randn(2, 12, 50, dtype=torch.float64), (1, 2)),
    )
    row = mp_cat(narrow, wide, share)
    assert row.shape[1] == 16 and rms(row) == pytest.approx(1, abs=1e-3)
    # b's part of the sum of squares is its share's, whatever the widths.
    part = row[:, 4:].square().sum() / row.square().sum()
    assert part.item() == pytest.approx(share**2 / (share**2 + (1 - share) ** 2), abs=1e-3)


def test_fourier_features_of_any_number_have_magnitude_1() -> None:
    layer = MPFourier(200_000)
    features = layer(torch.tensor([0.0, -1.3, 4.0]))
    torch.testing.assert_close(features.square().mean(1), torch.ones(3), rtol=0, atol=0.02)
    # and are nearly a Gaussian kernel, as those of `Fourier`
    assert (features[0] * features[1]).mean().item() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("dims", "kernel"), [(1, 3), (2, 3), (3, 3), (2, 1), (2, 0)])
def test_a_convolution_keeps_the_magnitude_of_white_noise_and_its_gradient_is_orthogonal(dims: int, kernel: int) -> None:
    layer = MPConv(dims, 24, 40, kernel)
    with torch.no_grad():
        layer.weight.mul_(7).add_(0.3)  # however long the stored weights are
    x = torch.randn(400 if kernel == 0 else 8, 24, *((24, 12, 8)[dims - 1],) * dims if kernel else ())
    y = layer.eval()(x)
    inside = y if kernel < 3 else y[(..., *(slice(1, -1),) * dims)]  # outside there are zeros, not noise
    assert rms(inside) == pytest.approx(1, abs=0.05)
    (y * torch.randn_like(y)).sum().backward()
    products = (layer.weight.grad * layer.weight).flatten(1).sum(1)
    lengths = layer.weight.grad.flatten(1).norm(dim=1) * layer.weight.flatten(1).norm(dim=1)
    assert (products.abs() < 2e-4 * lengths).all()


def test_in_training_the_stored_weights_are_brought_back_and_the_numbers_stay() -> None:
    layer, x = MPConv(2, 4, 6), torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        layer.weight.mul_(100)
    before = layer.eval()(x)
    assert rms(layer.weight) > 50
    torch.testing.assert_close(layer.train()(x), before, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(layer.weight.square().mean((1, 2, 3)), torch.ones(6), rtol=0, atol=1e-3)
    stored = layer.weight.clone()
    layer(x)
    torch.testing.assert_close(layer.weight, stored, rtol=2e-4, atol=0)
    y = F.conv2d(x, unit(layer.weight, (1, 2, 3)) / 36**0.5, padding=1)
    torch.testing.assert_close(layer(x, gain=2.0), 2 * y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("down", [True, False])
@pytest.mark.parametrize(("channels_in", "width"), [(48, 48), (32, 48)])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_block_gives_white_noise_of_variance_1_that_again(dims: int, channels_in: int, width: int, down: bool) -> None:
    """At every place off the border, outside of which there are zeros, and in every picture."""
    config = replace(CONFIG, dims=dims)
    block = MagnitudeBlock(config, channels_in, width, 20, heads=0, down=down)
    y = block(torch.randn(4, channels_in, *((600, 24, 10)[dims - 1],) * dims), torch.randn(4, 20))
    inside = y[(..., *(slice(2, -2),) * dims)]
    assert rms(inside) == pytest.approx(1, abs=0.03)
    torch.testing.assert_close(inside.square().flatten(1).mean(1), torch.ones(4), rtol=0, atol=0.1)


def test_an_untrained_network_keeps_the_variance_through_every_block() -> None:
    """1 after each, less what the zeros outside take away; without attention, which at first is a mean over all places."""
    model = MagnitudeUNet(replace(CONFIG, widths=(64, 96), attends=(False, False)))
    found = []
    for module in model.modules():
        if isinstance(module, MagnitudeBlock):
            module.register_forward_hook(lambda _, inputs, y: found.append(rms(y)))
    with torch.no_grad():
        model.hidden(torch.randn(4, 3, 32, 32), torch.tensor([-1.0, -0.2, 0.4, 1.0]), {"class": torch.tensor([0, 5, 2, 1])})
    assert len(found) == 4 + 1 + 2 + 1 + 6 and min(found) > 0.9 and max(found) < 1.1, found


@pytest.mark.parametrize("sizes", [(16,), (16, 16), (4, 8, 8)])
def test_the_network_keeps_magnitudes_however_long_its_weights_are(sizes: tuple[int, ...]) -> None:
    model = MagnitudeUNet(replace(CONFIG, dims=len(sizes), widths=(64, 96), head_width=32))
    x, times, cond = torch.randn(4, 3, *sizes), torch.tensor([-1.0, -0.2, 0.4, 1.0]), {"class": torch.tensor([0, 5, 2, 1])}
    assert torch.equal(model(x, times, cond), torch.zeros_like(x))
    assert 0.7 < rms(model.hidden(x, times, cond)) < 1.4
    with torch.no_grad():
        before = model.eval().hidden(x, times, cond)
        for parameter in model.parameters():
            parameter *= 10 ** (2 * torch.rand(len(parameter), *[1] * (parameter.ndim - 1))) if parameter.ndim else 1
        torch.testing.assert_close(model.hidden(x, times, cond), before, rtol=1e-2, atol=1e-2)


def test_training_with_steps_far_too_large_leaves_weights_and_numbers_bounded() -> None:
    model = MagnitudeUNet(CONFIG)
    x, times, cond = torch.randn(4, 3, 8, 8), torch.linspace(-1, 1, 4), {"class": torch.tensor([0, 5, 2, 1])}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e4)
    for _ in range(4):
        optimizer.zero_grad()
        (model(x, times, cond) - x).square().mean().clamp(max=1e6).backward()
        optimizer.step()
    assert model.hidden(x, times, cond).abs().max() <= CONFIG.clip
    assert max(rms(parameter) for parameter in model.parameters() if parameter.ndim > 1) < 1.01


def test_a_picture_does_not_depend_on_its_batch_and_no_class_is_a_row_of_zeros() -> None:
    model = MagnitudeUNet(CONFIG).double().eval()
    for name, parameter in model.named_parameters():
        if "gain" in name:
            parameter.data.fill_(1.0)
    x, times = torch.randn(3, 3, 8, 4, dtype=torch.float64), torch.tensor([0.1, 0.2, -0.7], dtype=torch.float64)
    y = model(x, times, {"class": torch.tensor([5, 0, 3])})
    torch.testing.assert_close(y[1:2], model(x[1:2], times[1:2], {"class": torch.tensor([0])}), rtol=1e-9, atol=1e-11)
    model.classes.weight.data.add_(3.0)
    changed = model(x, times, {"class": torch.tensor([5, 0, 3])})
    torch.testing.assert_close(changed[0], y[0])
    assert (changed[1] - y[1]).abs().max() > 1e-3


def test_what_does_not_fit_is_refused() -> None:
    model = MagnitudeUNet(CONFIG)
    with pytest.raises(ValueError, match="sizes 2 divides, not 8 × 7"):
        model(torch.zeros(1, 3, 8, 7), torch.zeros(1), {"class": torch.tensor([1])})
    with pytest.raises(ValueError, match="is told class, not nothing"):
        model(torch.zeros(1, 3, 8, 8), torch.zeros(1))
    for options, message in (
        ({"attends": (True,)}, "2 levels need as many words"),
        ({"head_width": 32}, "heads of 32 channels do not fill a width of 48"),
        ({"blocks": 0}, "no U-Net has such sizes"),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(CONFIG, **options)
