"""Sounds made from nothing: subtractive synthesis of the noises a demo needs, so that no recording has to be shipped.

Each function returns five seconds of mono float32 in [-1, 1] at `RATE`, always the same. Noise is shaped in the frequency domain,
voices are pulse trains through formant resonances (source and filter; Fant, Acoustic Theory of Speech Production, 1960).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

RATE, SECONDS = 22_050, 5.0
Signal = NDArray[np.floating]


def rain(seed: int = 1) -> NDArray[np.float32]:
    """A steady hiss of far drops under single near drops."""
    rng = np.random.default_rng(seed)
    hiss = _noise(rng, lambda f: 1 / (1 + (f / 5000) ** 2) * (f / (f + 300)))
    drops = _bursts(rng, rate=260, decay=0.004, tone=(1500, 6000), spread=0.9)
    return _finish(hiss + 0.25 * drops)


def sea_waves(seed: int = 2) -> NDArray[np.float32]:
    """Two breakers: a rumble that swells, then a hiss that runs out."""
    rng = np.random.default_rng(seed)
    t = _time()
    swell = sum((_wave(t, start, 0.9, 1.6) for start in (0.1, 2.6)), 0.15 + 0 * t)
    wash = sum((_wave(t, start, 1.1, 1.2) for start in (0.5, 3.0)), 0.05 + 0 * t)
    rumble = _noise(rng, lambda f: 1 / (1 + (f / 350) ** 2))
    hiss = _noise(rng, lambda f: (f / (f + 400)) / (1 + (f / 3500) ** 2))
    return _finish(rumble * swell + 0.8 * hiss * wash)


def clock(seed: int = 3) -> NDArray[np.float32]:
    """Tick and tock, twice a second: short damped resonances over a silent room."""
    rng = np.random.default_rng(seed)
    signal = 0.004 * _noise(rng, lambda f: 1 / (1 + (f / 800) ** 2))
    for index in range(10):
        pitch = 1.0 if index % 2 == 0 else 0.86
        for delay, gain in ((0.0, 1.0), (0.018, 0.35)):
            tick = sum(
                level * _damped(frequency * pitch, decay)
                for frequency, decay, level in ((2300, 0.010, 1.0), (3900, 0.008, 0.8), (6100, 0.006, 0.5), (900, 0.014, 0.3))
            )
            _add(signal, 0.12 + 0.5 * index + delay, gain * (tick + 0.4 * _click(rng, 0.006)))
    return _finish(signal)


def fire(seed: int = 4) -> NDArray[np.float32]:
    """Crackles of every size, in clusters, over a soft roar."""
    rng = np.random.default_rng(seed)
    roar = _noise(rng, lambda f: 1 / (1 + (f / 150) ** 1.5)) * (0.8 + 0.2 * _slow(rng, 3.0))
    hiss = _noise(rng, lambda f: f / (f + 2000) / (1 + (f / 7000) ** 2))
    fine = _bursts(rng, rate=45, decay=0.002, tone=(1500, 8000), spread=1.2)
    snaps = _bursts(rng, rate=5, decay=0.006, tone=(700, 4000), spread=0.8)
    return _finish(0.10 * roar + 0.03 * hiss + 0.5 * fine + 1.0 * snaps)


def helicopter(seed: int = 5) -> NDArray[np.float32]:
    """Blades that slap the air eleven times a second, a gearbox, and the wash between."""
    rng = np.random.default_rng(seed)
    t = _time()
    phase = 11.0 * t + 0.05 * np.sin(2 * np.pi * 0.3 * t)
    slap = np.exp(-((phase % 1.0) / 0.25)) * (1 - np.exp(-((phase % 1.0) / 0.03)))
    low = _noise(rng, lambda f: (f / (f + 30)) / (1 + (f / 160) ** 2))
    wash = _noise(rng, lambda f: (f / (f + 150)) / (1 + (f / 550) ** 2)) * (1 + 0.15 * _slow(rng, 2.0))
    gear = sum(np.sin(2 * np.pi * 92 * k * t + k) / k for k in (1, 2, 3, 4, 6))
    return _finish(2.0 * low * (0.1 + slap) + 1.2 * wash * (0.45 + slap) + 0.06 * gear)


def chainsaw(seed: int = 6) -> NDArray[np.float32]:
    """A two-stroke engine that revs up into the wood, with its rasping chain."""
    rng = np.random.default_rng(seed)
    t = _time()
    revs = 95 + 45 * _wave(t, 0.6, 0.4, 1.4) + 50 * _wave(t, 3.0, 0.4, 1.5) + 2 * _slow(rng, 8.0)
    phase = np.cumsum(revs) / RATE
    pulses = _pulses(phase, rng, jitter=0.1)
    engine = _filter(pulses, lambda f: (f / (f + 120)) / (1 + (f / 2800) ** 2) * (1 + 1.5 * np.exp(-(((f - 1100) / 500) ** 2))))
    rasp = _noise(rng, lambda f: (f / (f + 1200)) / (1 + (f / 6000) ** 2)) * (0.5 + 0.5 * np.cos(2 * np.pi * phase))
    return _finish(_unit(engine) + 0.35 * rasp * revs / 140)


def dog(seed: int = 7) -> NDArray[np.float32]:
    """Barks: a rough voice that jumps up and falls within a fifth of a second."""
    rng = np.random.default_rng(seed)
    signal = 0.002 * _noise(rng, lambda f: 1 / (1 + (f / 1000) ** 2))
    for start, gain, pitch in ((0.25, 1.0, 1.0), (0.72, 0.9, 1.04), (2.1, 0.95, 0.97), (2.55, 1.0, 1.02), (3.9, 0.85, 1.0)):
        contour = pitch * np.interp(np.linspace(0, 1, round(0.2 * RATE)), (0, 0.25, 1), (330, 620, 300))
        voice = _voice(rng, contour, ((750, 260, 1.0), (1500, 400, 0.8), (2700, 700, 0.35)), breath=0.35, rough=0.25)
        _add(signal, start, gain * voice * _envelope(len(voice), 0.06, 0.6))
    return _finish(_echo(signal))


def rooster(seed: int = 8) -> NDArray[np.float32]:
    """Cock-a-doodle-doo: three short notes and a long falling one."""
    rng = np.random.default_rng(seed)
    signal = 0.002 * _noise(rng, lambda f: 1 / (1 + (f / 1000) ** 2))
    notes: Sequence[tuple[float, float, Sequence[float], float]] = (
        (0.35, 0.22, (480, 620, 600), 0.7),
        (0.64, 0.16, (700, 760, 720), 0.8),
        (0.86, 0.42, (760, 930, 900), 1.0),
        (1.34, 1.25, (800, 880, 820, 700, 430), 0.9),
    )
    for start, seconds, pitches, gain in notes:
        places = np.linspace(0, 1, len(pitches))
        contour = np.interp(np.linspace(0, 1, round(seconds * RATE)), places, pitches)
        voice = _voice(rng, contour, ((1000, 300, 1.0), (2000, 400, 0.9), (3200, 600, 0.6)), breath=0.08, rough=0.06)
        _add(signal, start, gain * voice * _envelope(len(voice), 0.08, 0.25))
    return _finish(_echo(signal))


def crying_baby(seed: int = 9) -> NDArray[np.float32]:
    """Wails of a second, each rising and falling, with a gasp between."""
    rng = np.random.default_rng(seed)
    signal = 0.002 * _noise(rng, lambda f: 1 / (1 + (f / 1000) ** 2))
    for index, start in enumerate((0.15, 1.4, 2.65, 3.85)):
        seconds = 0.95 + 0.05 * (index % 2)
        t = np.linspace(0, 1, round(seconds * RATE))
        contour = np.interp(t, (0, 0.2, 0.7, 1), (380, 480, 460, 350)) * (1 + 0.015 * np.sin(2 * np.pi * 6 * seconds * t))
        voice = _voice(rng, contour, ((1100, 250, 1.0), (2900, 500, 0.5), (4200, 700, 0.35)), breath=0.06, rough=0.08)
        _add(signal, start, voice * _envelope(len(voice), 0.12, 0.3))
        gasp = _click(rng, 0.08)[: round(0.2 * RATE)]
        _add(signal, start + seconds + 0.05, 0.06 * gasp)
    return _finish(_echo(signal))


def _time() -> Signal:
    return np.arange(round(RATE * SECONDS)) / RATE


def _unit(signal: Signal) -> Signal:
    return signal / (signal.std() + 1e-12)


def _finish(signal: Signal) -> NDArray[np.float32]:
    """Peak 0.8, and ten milliseconds to fade in and out."""
    fade = np.minimum(1.0, np.minimum(np.arange(len(signal)), np.arange(len(signal))[::-1]) / (0.01 * RATE))
    return (0.8 * fade * signal / np.abs(signal).max()).astype(np.float32)


def _filter(signal: Signal, gain: Callable[[Signal], Signal]) -> Signal:
    """Multiply the spectrum by a real gain of the frequency in Hz (zero phase)."""
    return np.fft.irfft(np.fft.rfft(signal) * gain(np.fft.rfftfreq(len(signal), 1 / RATE)), len(signal))


def _noise(rng: np.random.Generator, gain: Callable[[Signal], Signal]) -> Signal:
    """Gaussian noise of unit variance with the given magnitude spectrum."""
    return _unit(_filter(rng.standard_normal(round(RATE * SECONDS)), gain))


def _slow(rng: np.random.Generator, cutoff: float) -> Signal:
    """A slow random drift of unit variance, in Hz up to about `cutoff`."""
    return _noise(rng, lambda f: np.exp(-((f / cutoff) ** 2)))


def _wave(t: Signal, start: float, rise: float, fall: float) -> Signal:
    """From 0 at `start` to 1 after `rise` seconds and back with the time constant `fall` / 2."""
    after = t - start
    up = np.sin(0.5 * np.pi * np.clip(after / rise, 0, 1)) ** 2
    return up * np.exp(-np.maximum(after - rise, 0) / (fall / 2))


def _damped(frequency: float, decay: float) -> Signal:
    t = np.arange(round(0.06 * RATE)) / RATE
    return np.exp(-t / decay) * np.sin(2 * np.pi * frequency * t)


def _click(rng: np.random.Generator, decay: float) -> Signal:
    t = np.arange(round(max(0.06, 3 * decay) * RATE)) / RATE
    return np.exp(-t / decay) * rng.standard_normal(len(t))


def _add(signal: Signal, start: float, part: Signal) -> None:
    """Mix a part into the signal at `start` seconds, cut at the end."""
    at = round(start * RATE)
    end = min(len(signal), at + len(part))
    signal[at:end] += part[: max(0, end - at)]


def _bursts(rng: np.random.Generator, *, rate: float, decay: float, tone: tuple[float, float], spread: float) -> Signal:
    """A Poisson rain of `rate` clicks a second: noise and a damped tone, of log-normal loudness."""
    signal = np.zeros(round(RATE * SECONDS))
    for start in rng.uniform(0, SECONDS, rng.poisson(rate * SECONDS)):
        length = decay * rng.uniform(0.5, 2)
        part = _damped(rng.uniform(*tone), length) + 0.7 * _click(rng, length)[: round(0.06 * RATE)]
        _add(signal, start, rng.lognormal(0, spread) * part)
    return _unit(signal)


def _pulses(phase: Signal, rng: np.random.Generator, *, jitter: float) -> Signal:
    """One impulse per period of `phase` (in cycles), of varying strength."""
    hits = np.flatnonzero(np.diff(np.floor(phase), prepend=-1.0) > 0)
    signal = np.zeros(len(phase))
    signal[hits] = 1 + jitter * rng.standard_normal(len(hits))
    return signal


def _voice(
    rng: np.random.Generator,
    contour: Signal,
    formants: Sequence[tuple[float, float, float]],
    *,
    breath: float,
    rough: float,
) -> Signal:
    """A throat: pulses at the pitch `contour` [n] in Hz and some breath, through resonances (Hz, width in Hz, gain)."""
    phase = np.cumsum(contour * (1 + 0.02 * rough * rng.standard_normal(len(contour)))) / RATE
    source = _unit(_pulses(phase, rng, jitter=rough)) + breath * rng.standard_normal(len(contour))
    padded = np.concatenate([source, np.zeros(2048)])

    def throat(f: Signal) -> Signal:
        resonances = sum((gain / (1 + ((f - centre) / width) ** 2) for centre, width, gain in formants), 0.02 + 0 * f)
        return resonances * f / (f + 150)

    return _unit(_filter(padded, throat)[: len(contour)])


def _envelope(length: int, attack: float, release: float) -> Signal:
    """Rise over the fraction `attack` of the length, fall over the fraction `release`."""
    t = np.linspace(0, 1, length)
    return np.clip(t / attack, 0, 1) * np.clip((1 - t) / release, 0, 1)


def _echo(signal: Signal) -> Signal:
    """A yard: a few early reflections."""
    wet = signal.copy()
    for delay, gain in ((0.031, 0.25), (0.053, 0.18), (0.087, 0.12), (0.127, 0.07)):
        at = round(delay * RATE)
        wet[at:] += gain * signal[:-at]
    return wet
