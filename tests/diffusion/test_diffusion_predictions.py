"""Predictions: every one of them turns into every other and back, also at the ends."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tectum.diffusion.predictions import KINDS, Prediction
from tectum.diffusion.process import Point, Process, alpha_sigma
from tectum.diffusion.schedules import edm, flow, vp

DOUBLE = torch.float64
ALL = [Prediction(kind, 0.7) for kind in KINDS]


def draw(n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 2, dtype=DOUBLE, generator=generator), torch.randn(n, 2, dtype=DOUBLE, generator=generator)


@given(
    lam=st.floats(-6, 6),
    frame=st.sampled_from(["vp", "ve", "flow", "subvp"]),
    pair=st.sampled_from(list(itertools.product(ALL, ALL))),
)
def test_converters_invert_each_other_and_hold_the_data_and_the_noise(lam: float, frame, pair) -> None:
    source, target = pair
    alpha, sigma = (value.item() for value in alpha_sigma(frame, torch.tensor(lam, dtype=DOUBLE)))
    at = Point(0.0, alpha, sigma)
    x0, noise = draw()
    x = alpha * x0 + sigma * noise
    value = source.target(x0, noise, at)
    close = {"rtol": 1e-7, "atol": 1e-8}
    torch.testing.assert_close(source.to_x0(value, x, at), x0, **close)
    torch.testing.assert_close(source.to_epsilon(value, x, at), noise, **close)
    other = source.convert(value, x, at, target)
    torch.testing.assert_close(other, target.target(x0, noise, at), rtol=1e-6, atol=1e-6 * max(1.0, 1 / sigma))
    torch.testing.assert_close(target.convert(other, x, at, source), value, rtol=1e-6, atol=1e-6 * max(1.0, 1 / sigma))


def test_a_different_time_for_each_sample_is_the_same_as_one_by_one(process: Process) -> None:
    low, high = process.schedule.span
    times = torch.tensor([0.2, 0.5, 0.7], dtype=DOUBLE) * (high - low) + low
    together, (x0, noise) = process.at(times), draw()
    for source, target in itertools.product(ALL, ALL):
        value = source.target(x0, noise, together)
        x = together.alpha[:, None] * x0 + together.sigma[:, None] * noise
        found = source.convert(value, x, together, target)
        for i, time in enumerate(times.tolist()):
            one = source.convert(value[i : i + 1], x[i : i + 1], process.at(time), target)
            torch.testing.assert_close(found[i : i + 1], one)


@pytest.mark.parametrize("kind", ["v", "flow", "edm"])
def test_those_that_say_both_hold_where_there_is_only_noise_or_only_data(kind) -> None:
    prediction, (x0, noise) = Prediction(kind, 0.7), draw()
    for at, x in ((Point(1.0, 0.0, 1.0), noise), (Point(0.0, 1.0, 0.0), x0)):
        value = prediction.target(x0, noise, at)
        torch.testing.assert_close(prediction.to_x0(value, x, at), x0)
        torch.testing.assert_close(prediction.to_epsilon(value, x, at), noise)


def test_what_a_prediction_does_not_hold_is_an_error_not_a_number() -> None:
    x0, noise = draw()
    only_noise, only_data = Point(1.0, 0.0, 1.0), Point(0.0, 1.0, 0.0)
    for kind in ("epsilon", "score"):
        with pytest.raises(ValueError, match="only noise or only data"):
            Prediction(kind).to_x0(noise, noise, only_noise)
    with pytest.raises(ValueError, match="'x0'"):
        Prediction("x0").to_epsilon(x0, x0, only_data)
    with pytest.raises(ValueError, match="'score'"):
        Prediction("v").convert(x0, x0, only_data, Prediction("score"))
    with pytest.raises(ValueError, match="no prediction 'noise'"):
        Prediction("noise")  # type: ignore[arg-type]
    # ε stays ε wherever it is, and points on a device are never looked at.
    assert Prediction("epsilon").convert(noise, noise, only_noise, Prediction("epsilon")) is noise
    tensors = Point(*(torch.tensor(value, dtype=DOUBLE) for value in only_noise))
    assert not Prediction("epsilon").to_x0(noise, noise, tensors).isfinite().any()


def test_edm_is_the_preconditioning_of_the_paper_and_v_turned_round_for_unit_data() -> None:
    """Karras et al. 2022, table 1: c_skip = c²/(σ²+c²), c_out = σc/√(σ²+c²), in any frame of x/α."""
    sigma, c = 3.0, 0.7
    mix = Prediction("edm", c).x0_mix(edm().at(sigma))
    assert mix == pytest.approx((c**2 / (sigma**2 + c**2), sigma * c / (sigma**2 + c**2) ** 0.5))
    at = vp().at(0.3)
    skip, out = Prediction("v").x0_mix(at)
    assert Prediction("edm", 1.0).x0_mix(at) == pytest.approx((skip, -out))
    x0, noise = draw()
    torch.testing.assert_close(Prediction("flow").target(x0, noise, flow().at(0.9)), noise - x0)
    torch.testing.assert_close(Prediction("score").target(x0, noise, edm().at(4.0)), -noise / 4)
