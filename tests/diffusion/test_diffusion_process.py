"""Schedules and frames: what the papers define, exact at both ends."""

import math
from dataclasses import replace

import pytest
import torch

from tectum.diffusion import schedules, tables
from tectum.diffusion.process import Process, alpha_sigma
from tectum.diffusion.zero_terminal import ZeroTerminal

DOUBLE = torch.float64
TIMES = torch.linspace(0.02, 0.98, 25, dtype=DOUBLE)


def test_time_is_the_inverse_of_lambda_and_lambda_falls(process: Process) -> None:
    low, high = process.schedule.span
    times = torch.linspace(low, high, 201, dtype=DOUBLE)
    lams = process.lam(times)
    assert (lams[1:] < lams[:-1]).all()
    torch.testing.assert_close(process.schedule.time(lams), times, rtol=1e-9, atol=1e-9 * high)


def test_points_hold_the_frame_and_agree_with_lambda(process: Process) -> None:
    low, high = process.schedule.span
    times = torch.linspace(low, high, 51, dtype=DOUBLE)
    for frame, sum_of in {
        "vp": lambda a, s: a**2 + s**2,
        "ve": lambda a, s: a,
        "flow": lambda a, s: a + s,
        "subvp": lambda a, s: a**2 + s,
    }.items():
        points = replace(process, frame=frame).at(times)
        torch.testing.assert_close(sum_of(points.alpha, points.sigma), torch.ones_like(times))
        finite = points.lam.isfinite()
        torch.testing.assert_close(points.lam[finite], process.lam(times)[finite], rtol=1e-12, atol=1e-12)
        one = replace(process, frame=frame).at(times[7].item())
        assert one == pytest.approx(tuple(value[7].item() for value in points), rel=1e-14)
        again = replace(process, frame=frame).at_lam(one.lam)
        assert again == pytest.approx(one, rel=1e-9, abs=1e-12)


def test_both_ends_of_every_frame_are_exact() -> None:
    ends = torch.tensor([math.inf, -math.inf], dtype=DOUBLE)
    for frame in ("vp", "flow", "subvp"):
        alpha, sigma = alpha_sigma(frame, ends)
        assert (alpha.tolist(), sigma.tolist()) == ([1.0, 0.0], [0.0, 1.0]), frame
    assert [value.tolist() for value in alpha_sigma("ve", ends)] == [[1.0, 1.0], [0.0, math.inf]]
    for frame in ("vp", "ve", "flow", "subvp"):  # no digits are lost where one of the two is tiny
        alpha, sigma = alpha_sigma(frame, torch.tensor([30.0, -30.0], dtype=DOUBLE))
        torch.testing.assert_close(alpha.log() - sigma.log(), torch.tensor([30.0, -30.0], dtype=DOUBLE), rtol=1e-15, atol=0)


def test_the_closed_forms_of_the_papers() -> None:
    """Song et al. 2021, eq. 33 and 29; Nichol & Dhariwal 2021, eq. 17; Chen 2023, alg. 1; latent diffusion; EDM; flow."""
    t = TIMES
    kept = (-0.25 * t**2 * (20 - 0.1) - 0.5 * t * 0.1).exp()
    torch.testing.assert_close(schedules.vp().alpha(t), kept)
    torch.testing.assert_close(schedules.sub_vp().alpha(t), kept)
    torch.testing.assert_close(schedules.sub_vp().sigma(t), 1 - kept**2)
    angle = (t + 0.008) / 1.008 * math.pi / 2
    torch.testing.assert_close(schedules.vp_cosine().alpha(t), angle.cos() / math.cos(0.008 / 1.008 * math.pi / 2))
    fall = (torch.tensor(3.0, dtype=DOUBLE).sigmoid() - (6 * t - 3).sigmoid()) / (
        2 * torch.tensor(3.0, dtype=DOUBLE).sigmoid() - 1
    )
    torch.testing.assert_close(schedules.vp_sigmoid().alpha(t) ** 2, fall)
    fine = torch.linspace(0, 0.98, 20001, dtype=DOUBLE)
    beta = (math.sqrt(0.85) + fine * (math.sqrt(12.0) - math.sqrt(0.85))) ** 2
    torch.testing.assert_close(schedules.vp_scaled().alpha(fine[-1]), (-torch.trapezoid(beta, fine) / 2).exp(), rtol=1e-8, atol=0)
    torch.testing.assert_close(schedules.ve(0.01, 50.0).sigma(t), 0.01 * 5000.0**t)
    torch.testing.assert_close(schedules.edm().sigma(t), t)
    torch.testing.assert_close(schedules.flow().alpha(t), 1 - t)


def test_a_table_is_the_running_product_of_one_less_beta() -> None:
    for betas in (tables.linear_betas(), tables.scaled_linear_betas(), tables.cosine_betas(), tables.sigmoid_betas()):
        power = (1 - torch.tensor(betas, dtype=DOUBLE)).cumprod(0)
        process = tables.table(betas)
        torch.testing.assert_close(process.alpha(torch.arange(1000)), power.sqrt(), rtol=1e-11, atol=0)
        torch.testing.assert_close(process.sigma(torch.arange(1000)), (1 - power).sqrt(), rtol=1e-11, atol=0)


def test_the_published_figures_of_stable_diffusion_and_ddpm() -> None:
    end = tables.table(tables.scaled_linear_betas()).at(999)
    assert (round(end.alpha, 6), round(end.sigma / end.alpha, 4)) == (0.068265, 14.6146)
    start = tables.table(tables.scaled_linear_betas()).at(0)
    assert round(start.sigma / start.alpha, 5) == 0.02917
    ddpm = tables.table(tables.linear_betas()).at(999)
    assert round(ddpm.sigma / ddpm.alpha, 2) == 157.41
    assert ddpm.alpha == pytest.approx(0.006, abs=5e-4)  # 0.6 % of the data are left, not the 99 % of √α_T


def test_a_zero_terminal_schedule_ends_in_noise_and_begins_where_it_did() -> None:
    betas = tables.scaled_linear_betas()
    plain, moved = tables.table(betas), tables.table(betas, zero_terminal=True)
    assert (moved.at(999).alpha, moved.at(999).sigma) == (0.0, 1.0)
    assert moved.at(0).alpha == pytest.approx(plain.at(0).alpha, rel=1e-15)
    assert moved.at(0).lam == pytest.approx(plain.at(0).lam, rel=1e-12)
    root = plain.alpha(torch.arange(1000))  # Lin et al. 2023, algorithm 1
    torch.testing.assert_close(
        moved.alpha(torch.arange(1000)), (root - root[-1]) * root[0] / (root[0] - root[-1]), rtol=1e-11, atol=1e-14
    )
    continuous = Process(ZeroTerminal(schedules.ScaledLinearBeta()))
    assert (continuous.at(1.0).alpha, continuous.at(0.0).alpha) == (0.0, 1.0)
    small = torch.tensor([1e-9], dtype=DOUBLE)  # near the data σ² ∝ β₀ t: nothing is lost
    expected = 0.85 * small / (1 - schedules.vp_scaled().alpha(1.0))
    torch.testing.assert_close(continuous.sigma(small) ** 2, expected, rtol=1e-6, atol=0)


def test_times_between_the_entries_of_a_table_lie_between_their_noises() -> None:
    plain, moved = (tables.table(tables.scaled_linear_betas(), zero_terminal=zero) for zero in (False, True))
    for time in (0.25, 500.5, 998.5):
        left, between, right = (plain.at(at).flow_time for at in (math.floor(time), time, math.floor(time) + 1))
        assert between == pytest.approx(left + (time % 1) * (right - left), rel=1e-11)
        left, between, right = (moved.at(at).flow_time for at in (math.floor(time), time, math.floor(time) + 1))
        assert left < between < right


def test_a_shift_is_applied_once_and_lowers_every_lambda() -> None:
    torch.testing.assert_close(schedules.flow(3.0).lam(TIMES), schedules.flow().lam(TIMES) - math.log(3.0))
    assert schedules.flow(3.0).at(0.001).sigma == pytest.approx(0.003 / 1.002, rel=1e-12)  # 0.0030, not the 0.0089 of two shifts
    assert schedules.resolution_shift(1024**2, 256**2) == 4.0
    assert schedules.length_shift(256) == pytest.approx(math.exp(0.5))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: schedules.vp(20.0, 0.1), "beta_min = 20.0 and beta_max = 0.1"),
        (lambda: schedules.ve(0.0, 1.0), "sigma_min = 0.0"),
        (lambda: schedules.flow(0.0), "shift = 0.0 must be above 0"),
        (lambda: schedules.vp_sigmoid(3.0, -3.0), "does not rise"),
        (lambda: schedules.vp_cosine(-1.0), "offset = -1.0 is negative"),
        (lambda: tables.table([]), "at least one"),
        (lambda: tables.table([0.1, 1.0]), "ZeroTerminal"),
        (lambda: tables.linear_betas(0), "at least one"),
        (lambda: schedules.resolution_shift(0, 1), "numbers of pixels"),
        (lambda: Process(schedules.Straight(), "vq"), "no frame 'vq'"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_process_is_refused(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
