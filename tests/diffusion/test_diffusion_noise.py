"""Keyed noise: the published cipher, the law of unit normals, and no dependence on batch, order or number of steps."""

import math

import pytest
import torch
from scipy import stats

from tectum.diffusion.brownian import Brownian
from tectum.diffusion.grids import exponential
from tectum.diffusion.noise import Independent, normal, philox
from tectum.diffusion.process import Process
from tectum.diffusion.schedules import edm, flow

AT = flow().at


def counter(*words: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor([word]) for word in words)


@pytest.mark.parametrize(
    ("words", "seed", "expected"),
    [
        ((0, 0, 0, 0), 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, 0xFFFFFFFF_FFFFFFFF, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0x299F31D0_A4093822, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_the_cipher_gives_the_published_answers(words, seed: int, expected: str) -> None:
    """The known-answer vectors that Salmon et al. distribute with Random123."""
    assert " ".join(f"{word.item():08x}" for word in philox(counter(*words), seed)) == expected


def test_a_sample_has_the_same_noise_alone_in_a_batch_and_in_any_order() -> None:
    shape, x = (3, 8, 8), torch.zeros(64, 3, 8, 8)
    everyone = torch.arange(64)
    shuffled = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    for make in (Independent, Brownian):
        noise = make(5, everyone)(x, 3, AT(0.9), AT(0.7))
        assert torch.equal(make(5, shuffled)(x, 3, AT(0.9), AT(0.7)), noise[shuffled])
        for i in (0, 17, 63):
            assert torch.equal(make(5, everyone[i : i + 1])(x[:1], 3, AT(0.9), AT(0.7)), noise[i : i + 1])
            assert torch.equal(make(5, everyone[i : i + 1]).start(shape), make(5, everyone).start(shape)[i : i + 1])


def test_a_larger_picture_begins_with_the_same_numbers_and_types_only_round() -> None:
    who = torch.tensor([4])
    long = Independent(1, who).start((10_007,))
    assert torch.equal(Independent(1, who).start((13,)), long[:, :13])
    double = Independent(1, who).start((13,), torch.float64)
    assert torch.equal(double.float(), long[:, :13])
    assert torch.equal(Independent(1, who).start((13,), torch.bfloat16), double.bfloat16())


def test_seeds_samples_steps_and_uses_all_matter_and_negative_seeds_are_fine() -> None:
    who, x = torch.tensor([0]), torch.zeros(1, 64)
    base = Independent(0, who)(x, 0, AT(1.0), AT(0.5))
    others = [
        Independent(1, who)(x, 0, AT(1.0), AT(0.5)),
        Independent(1 << 32, who)(x, 0, AT(1.0), AT(0.5)),
        Independent(-1, who)(x, 0, AT(1.0), AT(0.5)),
        Independent(0, who + 1)(x, 0, AT(1.0), AT(0.5)),
        Independent(0, who)(x, 1, AT(1.0), AT(0.5)),
        Independent(0, who).start((64,)),
        Brownian(0, who)(x, 0, AT(1.0), AT(0.5)),
    ]
    for other in others:
        assert abs(torch.corrcoef(torch.cat([base, other]))[0, 1]) < 0.5
    step = torch.tensor(1)
    assert torch.equal(Independent(0, who)(x, step, AT(1.0), AT(0.5)), others[4])


def test_the_numbers_are_independent_unit_normals() -> None:
    numbers = normal(11, torch.arange(100), 2, 1, (2000,))
    flat = numbers.flatten()
    n = len(flat)
    assert stats.kstest(flat.numpy(), "norm").pvalue > 1e-3
    for power, value, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):  # moments, within 5 standard errors
        assert flat.pow(power).mean().item() == pytest.approx(value, abs=5 * math.sqrt(spread / n))
    for other in (
        normal(11, torch.arange(100), 3, 1, (2000,)),
        normal(12, torch.arange(100), 2, 1, (2000,)),
        numbers.roll(1, 0),
        *(numbers.roll(shift, 1) for shift in (1, 2, 3, 4)),
    ):
        assert abs((numbers * other).mean().item()) < 5 / math.sqrt(n)
        assert abs((numbers**2 * other**2).mean().item() - 1) < 5 * math.sqrt(
            8 / n
        )  # of squares, too: the two of a pair share a radius


def test_a_brownian_path_has_the_law_of_one() -> None:
    x = torch.zeros(2500, 8, dtype=torch.float64)
    noise = Brownian(3, torch.arange(2500))
    places = [0.0, 0.1, 0.3, 0.30001, 0.7, 1.0]

    def path(u: float) -> torch.Tensor:  # W(u) - W(0)
        return noise(x, 0, AT(u), AT(0.0)).reshape(-1, 1) * math.sqrt(u)

    for u in places[1:]:
        assert stats.kstest((path(u) / math.sqrt(u)).flatten().numpy(), "norm").pvalue > 1e-3
    values = torch.cat([path(u) for u in places[1:]], 1)
    expected = torch.tensor([[min(u, v) for v in places[1:]] for u in places[1:]], dtype=torch.float64)
    torch.testing.assert_close(values.T.cov(), expected, rtol=0, atol=0.03)
    increments = torch.diff(values, dim=1) / torch.diff(torch.tensor(places[1:], dtype=torch.float64)).sqrt()
    torch.testing.assert_close(increments.T.cov(), torch.eye(4, dtype=torch.float64), rtol=0, atol=0.04)


@pytest.mark.parametrize("frame", ["vp", "ve", "flow"])
def test_half_steps_follow_the_same_path(frame) -> None:
    process = Process(edm(0.01, 50.0).schedule, frame)
    noise, x = Brownian(9, torch.arange(3)), torch.zeros(3, 5, dtype=torch.float64)

    def width(a, b) -> float:  # as the path counts time
        return round(a.flow_time * 2**24) / 2**24 - round(b.flow_time * 2**24) / 2**24

    coarse, fine = (exponential(process, steps, to_data=False) for steps in (4, 8))
    for i in range(4):
        here, half, there = fine[2 * i], fine[2 * i + 1], fine[2 * i + 2]
        whole = noise(x, i, coarse[i], coarse[i + 1]) * math.sqrt(width(here, there))
        halves = noise(x, 7, here, half) * math.sqrt(width(here, half)) + noise(x, 8, half, there) * math.sqrt(width(half, there))
        torch.testing.assert_close(halves, whole, rtol=0, atol=1e-12)
    apart = [torch.tensor([point.alpha, point.sigma], dtype=torch.float64).expand(3, 2).T for point in (coarse[0], coarse[1])]
    points = [type(coarse[0])(0.0, *values) for values in apart]  # a point for each sample
    torch.testing.assert_close(noise(x, 0, *points), noise(x, 0, coarse[0], coarse[1]))
    assert torch.equal(noise(x, 0, coarse[0], coarse[0]), torch.zeros_like(x))


def test_large_samples_take_the_path_in_parts_and_get_the_same_numbers() -> None:
    who = torch.tensor([2])
    small = Brownian(1, who)(torch.zeros(1, 64), 0, AT(0.9), AT(0.4))
    large = Brownian(1, who)(torch.zeros(1, 90_000), 0, AT(0.9), AT(0.4))
    assert torch.equal(large[:, :64], small)
