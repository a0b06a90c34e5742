"""The made sounds: each has the rhythm, pitch or colour that makes one recognise it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from tectum.cli import example_media, example_sounds
from tectum.cli.example_sounds import RATE, SECONDS

NAMES = example_media.SOUNDS


def envelope(name: str, step: float = 0.01) -> np.ndarray:
    """Loudness (RMS) in steps of `step` seconds, the loudest being 1."""
    sound = getattr(example_sounds, name)()
    size = round(step * RATE)
    blocks = sound[: len(sound) // size * size].reshape(-1, size)
    loud = np.sqrt((blocks.astype(float) ** 2).mean(1))
    return loud / loud.max()


def spectrum(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in Hz and the share of the power at each."""
    power = np.abs(np.fft.rfft(getattr(example_sounds, name)().astype(float))) ** 2
    return np.fft.rfftfreq(round(RATE * SECONDS), 1 / RATE), power / power.sum()


def share_below(name: str, hertz: float) -> float:
    frequencies, power = spectrum(name)
    return float(power[frequencies < hertz].sum())


def bursts(loud: np.ndarray, threshold: float, gap: int) -> list[tuple[int, int]]:
    """Spans of blocks above the threshold, joined where less than `gap` blocks lie between."""
    spans: list[tuple[int, int]] = []
    for at in np.flatnonzero(loud > threshold):
        if spans and at - spans[-1][1] < gap:
            spans[-1] = (spans[-1][0], int(at))
        else:
            spans.append((int(at), int(at)))
    return spans


def test_every_public_function_is_a_sound_and_is_listed() -> None:
    public = {name for name, value in vars(example_sounds).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert public == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_form(name: str) -> None:
    make = getattr(example_sounds, name)
    sound = make()
    assert (sound.shape, sound.dtype) == ((round(RATE * SECONDS),), np.float32)
    assert np.abs(sound).max() == pytest.approx(0.8, rel=1e-3)
    assert sound[0] == sound[-1] == 0
    assert abs(sound.mean()) < 0.01
    np.testing.assert_array_equal(make(), sound)
    assert np.abs(make(seed=99) - sound).max() > 0.01


def test_the_clock_ticks_twice_a_second_over_silence() -> None:
    ticks = [start for start, _ in bursts(envelope("clock"), 0.2, 10)]
    assert len(ticks) == 10
    np.testing.assert_allclose(np.diff(ticks), 50, atol=1)
    assert np.median(envelope("clock")) < 0.05


def test_the_dog_barks_five_times_for_a_fifth_of_a_second() -> None:
    barks = bursts(envelope("dog"), 0.2, 8)
    assert len(barks) == 5
    assert all(8 <= end - start <= 30 for start, end in barks)


def test_the_rooster_crows_four_notes_of_which_the_last_is_the_longest() -> None:
    notes = bursts(envelope("rooster"), 0.12, 3)
    lengths = [end - start for start, end in notes]
    assert len(lengths) == 4
    assert lengths[3] == max(lengths) > 2 * lengths[2]


def test_the_baby_cries_four_times() -> None:
    assert len(bursts(envelope("crying_baby"), 0.15, 8)) == 4


def test_the_blades_beat_eleven_times_a_second() -> None:
    loud = envelope("helicopter")
    beats = np.abs(np.fft.rfft(loud - loud.mean()))
    rates = np.fft.rfftfreq(len(loud), 0.01)
    assert rates[beats.argmax()] == pytest.approx(11, abs=0.3)
    assert share_below("helicopter", 500) > 0.7


def test_rain_is_steady_and_bright_and_waves_are_not() -> None:
    rain, waves = envelope("rain", 0.1)[1:-1], envelope("sea_waves", 0.1)[1:-1]
    assert rain.min() > 0.5
    assert waves.min() < 0.25
    assert len(bursts(waves, 0.6, 6)) == 2
    assert share_below("rain", 1000) < 0.3 < share_below("sea_waves", 1000)


def test_fire_crackles_at_random() -> None:
    loud = envelope("fire", 0.005)
    assert loud.mean() < 0.15
    peaks = bursts(loud, 0.15, 3)
    gaps = np.diff([start for start, _ in peaks])
    assert len(peaks) > 15
    assert gaps.std() > 0.5 * gaps.mean()  # a clock would give 0, a Poisson process 1


def test_the_chainsaw_revs() -> None:
    """The strongest line of the engine follows the revolutions: 95 Hz idling, more under load."""
    sound = example_sounds.chainsaw().astype(float)

    def engine(start: float) -> float:
        part = sound[round(start * RATE) : round((start + 0.3) * RATE)]
        pitch = np.fft.irfft(np.abs(np.fft.rfft(part, 2 * len(part))) ** 2)  # autocorrelation
        lags = np.arange(round(RATE / 250), round(RATE / 70))
        return RATE / lags[pitch[lags].argmax()]

    assert engine(0.2) == pytest.approx(95, rel=0.08)
    assert engine(1.0) > 1.2 * engine(0.2)
