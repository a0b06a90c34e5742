"""Small vectors: how far rounding can move a number and a cosine, and what cutting keeps."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from tectum.errors import ConfigError
from tectum.models.compact import bytes_of, calibrate, compact, to_int8


def vectors(n: int, d: int, seed: int, spread: float = 1.0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, d, generator=draw) * torch.logspace(0, -spread, d), dim=-1)


@given(n=st.integers(1, 20), d=st.integers(1, 70), seed=st.integers(0, 99), spread=st.floats(0, 3))
def test_rounding_is_off_by_half_a_step_at_most(n, d, seed, spread) -> None:
    x = vectors(n, d, seed, spread)
    for scales in (None, calibrate(x)):
        stored = to_int8(x, scales)
        assert stored.codes.dtype == torch.int8 and stored.codes.abs().max() <= 127
        assert ((stored.decode() - x).abs() <= stored.scales / 2 * (1 + 1e-5) + 1e-9).all()
    error = (to_int8(x).decode() - x).norm(dim=1)
    assert (error <= math.sqrt(d) * x.abs().amax(1) / 254 * (1 + 1e-4) + 1e-7).all()


def test_cosines_of_codes_are_those_of_the_decoded_vectors() -> None:
    x = vectors(30, 16, 0)
    stored = to_int8(x)
    codes, decoded = F.normalize(stored.codes.float(), dim=1), F.normalize(stored.decode(), dim=1)
    torch.testing.assert_close(codes @ codes.T, decoded @ decoded.T, atol=1e-6, rtol=0)


def test_it_is_symmetric_and_rounding_again_changes_nothing() -> None:
    x = vectors(30, 16, 1)
    assert torch.equal(to_int8(-x).codes, -to_int8(x).codes)
    again = to_int8(to_int8(x).decode())
    assert torch.equal(again.codes, to_int8(x).codes)
    assert to_int8(torch.zeros(2, 3)).decode().tolist() == [[0, 0, 0], [0, 0, 0]]
    assert to_int8(torch.zeros(0, 3)).codes.shape == (0, 3)


def test_a_calibration_by_quantile_cuts_the_share_it_says() -> None:
    x = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    scales = calibrate(x, 0.99)
    outside = (x.abs() > 127 * scales * (1 + 1e-6)).sum(0)
    assert outside.tolist() == [10] * 8
    stored = to_int8(x, scales)
    inside = x.abs() <= 127 * scales
    assert ((stored.decode() - x).abs()[inside] <= (scales / 2 * (1 + 1e-5)).expand(1000, 8)[inside]).all()
    assert (stored.codes.abs()[~inside] == 127).all()


def test_lengths_and_types() -> None:
    x = vectors(5, 12, 2)
    assert torch.equal(compact(x), x)
    torch.testing.assert_close(compact(x, 4), F.normalize(x[:, :4], dim=1))
    torch.testing.assert_close(compact(x, 4, "float16").float(), compact(x, 4), atol=5e-4, rtol=0)
    assert torch.equal(compact(x, 4, "int8").codes, to_int8(F.normalize(x[:, :4], dim=1)).codes)
    assert [bytes_of(256, dtype) for dtype in ("float32", "float16", "int8")] == [1024, 512, 260]
    with pytest.raises(ConfigError, match="vectors of 12 numbers cannot be cut to 13: give a number from 1 to 12"):
        compact(x, 13)
    with pytest.raises(ConfigError, match="cannot be of the type 'int4': choose one of float32, float16, int8"):
        compact(x, 4, "int4")
