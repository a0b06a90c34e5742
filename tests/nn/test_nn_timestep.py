"""Features of a time against closed forms."""

import math

import pytest
import torch

from tectum.errors import ConfigError
from tectum.nn.conditions import ConditionConfig, Conditions, check_conditions
from tectum.nn.timestep import Fourier, Order, sinusoid

TIMES = torch.tensor([0.0, 0.5, 1.0, 37.0, 999.0], dtype=torch.float64)


@pytest.mark.parametrize("order", ["sin_cos", "cos_sin"])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_sinusoid_is_its_formula(order: Order, shift: float) -> None:
    found = sinusoid(TIMES, 12, order=order, shift=shift, period=500.0)
    for row, time in zip(found, TIMES.tolist(), strict=True):
        angles = [time * 500.0 ** (-i / (6 - shift)) for i in range(6)]
        sines, cosines = [math.sin(a) for a in angles], [math.cos(a) for a in angles]
        expected = sines + cosines if order == "sin_cos" else cosines + sines
        torch.testing.assert_close(row, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_shift_is_that_between_128_and_127() -> None:
    """DiT divides by 128 and reaches 10000^(-127/128); with a shift of 1, as DDPM, the last frequency is 1/10000."""
    time = torch.tensor([10000.0], dtype=torch.float64)
    for shift, last in ((0.0, 10000 ** (1 / 128)), (1.0, 1.0)):
        assert sinusoid(time, 256, shift=shift)[0, 127].item() == pytest.approx(math.sin(last), abs=1e-9)


def test_products_of_sinusoids_depend_on_the_difference_of_times_alone() -> None:
    table = sinusoid(torch.arange(50, dtype=torch.float64), 32)
    product = table @ table.T
    torch.testing.assert_close(product[:-7, :-7], product[7:, 7:])
    torch.testing.assert_close(product.diagonal(), torch.full((50,), 16.0, dtype=torch.float64))


def test_products_of_fourier_features_are_a_gaussian_kernel() -> None:
    """The mean of cos(2π f Δ) over f ~ N(0, b²) is exp(-(2π b Δ)² / 2)."""
    torch.manual_seed(0)
    layer = Fourier(40_000, order="cos_sin", bandwidth=0.5)
    x = torch.tensor([0.0, 0.1, 0.3, 0.8])
    features = layer(x)
    kernel = torch.exp(-((math.pi * (x[:, None] - x)) ** 2) / 2)
    torch.testing.assert_close(features @ features.T / 20_000, kernel, rtol=0, atol=0.03)
    torch.testing.assert_close(features[:, :20_000] ** 2 + features[:, 20_000:] ** 2, torch.ones(4, 20_000))
    other = Fourier(40_000, order="sin_cos", bandwidth=0.5)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), features.roll(20_000, dims=1))


def test_both_equal_those_of_diffusers_to_the_bit() -> None:
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    times = torch.cat([torch.arange(1000), torch.tensor([0.25, 999.9])])
    for flip, shift in ((False, 1), (True, 0), (True, 1), (False, 0)):
        expected = embeddings.get_timestep_embedding(times, 64, flip_sin_to_cos=flip, downscale_freq_shift=shift)
        assert torch.equal(sinusoid(times, 64, order="cos_sin" if flip else "sin_cos", shift=shift), expected)
    theirs = embeddings.GaussianFourierProjection(16, scale=16.0, log=False)
    ours = Fourier(32, order="sin_cos", bandwidth=16.0)
    ours.frequencies.copy_(theirs.weight)
    assert torch.equal(ours(times / 1000), theirs(times / 1000))


def test_the_time_is_not_rounded_with_the_weights() -> None:
    """In bfloat16 999 is 1000: the features are made before, in float32."""
    told = Conditions(ConditionConfig(features=64), 32)
    exact, rounded = told(torch.tensor([999.0, 1000.0]), {})
    assert (told.bfloat16()(torch.tensor([999.0]), {})[0] - exact).norm() < 0.1 * (exact - rounded).norm()


def test_what_is_told_is_a_sum_and_a_null_class_is_one_more_row() -> None:
    config = ConditionConfig(features=8, classes=3, null_class=True, pooled=5, sizes=2, size_features=4, guidance=6)
    told = Conditions(config, 16).double()
    assert config.names == ("class", "pooled", "sizes", "guidance") and told.classes.num_embeddings == 4
    time = torch.tensor([3.0, 9.0], dtype=torch.float64)
    cond = {
        "class": torch.tensor([0, 3]),
        "pooled": torch.randn(2, 5, dtype=torch.float64),
        "sizes": torch.tensor([[64, 32], [10, 1]]),
        "guidance": torch.tensor([1.0, 7.5], dtype=torch.float64),
    }
    weight = sinusoid((cond["guidance"] - 1) * 1000, 6, shift=1)
    features = sinusoid(time, 8, order="cos_sin") + weight @ told.guidance.weight.T
    sizes = torch.cat([sinusoid(cond["sizes"][:, i].double(), 4, order="cos_sin") for i in (0, 1)], dim=1)
    expected = told.time(features) + told.classes.weight[[0, 3]] + told.pooled(torch.cat([cond["pooled"], sizes], dim=1))
    torch.testing.assert_close(told(time, cond), expected, rtol=0, atol=1e-6)  # sizes come as float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 7}, "features = 7 are half sines"),
        ({"features": 2, "shift": 1}, "features = 2 are half sines"),
        ({"features": 8, "guidance": 5}, "guidance = 5 are half sines"),
        ({"features": 8, "order": "cos"}, "no order 'cos'"),
        ({"features": 8, "null_class": True}, "a null class stands beside classes"),
        ({"features": 8, "sizes": 6}, "sizes are embedded together with a pooled vector"),
        ({"features": 8, "classes": -1}, "negative number"),
    ],
)
def test_impossible_configurations(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        ConditionConfig(**options)
    assert "\n" not in str(caught.value)


def test_impossible_features_and_conditions() -> None:
    with pytest.raises(ValueError, match="a width of 7 has no room"):
        sinusoid(TIMES, 7)
    with pytest.raises(ValueError, match="a width of 2 has no room"):
        sinusoid(TIMES, 2, shift=1)
    with pytest.raises(ValueError, match="a width of 3 cannot be half"):
        Fourier(3, order="cos_sin", bandwidth=1.0)
    check_conditions({"tokens": TIMES}, ("tokens",), ("mask",))
    with pytest.raises(ValueError, match=r"is told tokens, mask \(optional\), not class, tokens"):
        check_conditions({"tokens": TIMES, "class": TIMES}, ("tokens",), ("mask",))
    with pytest.raises(ValueError, match="is told the time alone, not class"):
        check_conditions({"class": TIMES}, ())
    with pytest.raises(ValueError, match="is told class, not nothing"):
        check_conditions({}, ("class",))
