"""Sounds: any file to mono float32 at the wanted rate, whole or in parts, with memory bounded by what is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from tectum.errors import ConfigError, MediaError
from tectum.files import written_beside
from tectum.media.sound import Sound, SoundInfo, Source, open_sound
from tectum.media.source import display

__all__ = ["LOUDEST", "SILENCE", "SoundInfo", "Source", "read_sound", "read_windows", "resample", "sound_info", "write_sound"]

SILENCE = 1e-4  # a peak below this, -80 dB of full scale, is silence
LOUDEST = 1e6  # floats beyond this are damage: even 16-bit samples left unscaled stay below 32768


def sound_info(source: Source) -> SoundInfo:
    """Reads the header only. Raises MediaError: "broken", "empty", "mislabelled", "unsupported", "unreadable".

    >>> sound_info((np.zeros((2, 8000)), 16000))
    SoundInfo(seconds=0.5, rate=16000, channels=2, frames=8000)
    """
    return open_sound(source).info


def read_sound(
    source: Source, *, rate: int = 16_000, start: float = 0.0, seconds: float | None = None, max_seconds: float = 3600
) -> Tensor:
    """Mono float32 [n] at `rate` Hz: channels averaged, band-limited resampling by soxr VHQ, full scale ±1.

    Only the asked-for part, `seconds` from `start`, is decoded; it equals that slice of the whole. An array source is [n] or
    [channels, n] with its rate, integers are scaled to ±1.

    Raises MediaError: "huge" when the part is longer than `max_seconds`; "empty" when it holds no sample, or when it is the
    whole sound and its peak is below 1e-4; "broken" on samples that are missing, NaN, infinite or absurdly large; and as
    `sound_info`.

    >>> read_sound((np.ones(8000, np.float32), 8000)).shape
    torch.Size([16000])
    """
    if start < 0 or (seconds is not None and seconds <= 0) or rate < 1:
        raise ConfigError(f"cannot read {seconds} s from {start} s at {rate} Hz: start must be ≥ 0, seconds and rate > 0")
    sound = open_sound(source)
    left = math.inf if sound.info.seconds is None else max(sound.info.seconds - start, 0)
    asked = left if seconds is None else min(seconds, left)
    if max_seconds < asked < math.inf:
        raise _too_long(sound, f"{asked:,.0f} s", max_seconds)
    # Reading a little past the limit tells a sound that is longer than it when the header says nothing.
    limit = math.floor(max_seconds * rate) + 2
    count = limit if seconds is None else min(round((start + seconds) * rate) - round(start * rate), limit)
    samples = _part(sound, rate, round(start * rate), count)
    if len(samples) == limit:
        raise _too_long(sound, f"more than {max_seconds:,.0f} s", max_seconds)
    if len(samples) == 0:
        raise MediaError(f"{sound.name} ends before {start} s: ask for an earlier part", "empty")
    whole = start == 0 and (seconds is None or len(samples) < count or seconds >= left)
    return _checked(samples, sound, silence=whole)


def read_windows(source: Source, *, rate: int = 16_000, seconds: float, max_windows: int) -> Tensor:
    """Windows [w, round(seconds · rate)] spread evenly over a sound of any length, mono float32 as `read_sound`.

    As many as it takes to cover the sound, at most `max_windows`: the first starts with the sound and the last ends with it (a
    single one lies in the middle). A sound shorter than a window gives one window that repeats it. Each window equals its slice
    of the whole. Memory is bounded by the windows, never by the file.

    Raises MediaError as `read_sound`, but never "huge"; "empty" when all windows are silent.

    >>> read_windows((np.ones(40_000, np.float32), 16_000), seconds=1, max_windows=8).shape
    torch.Size([3, 16000])
    """
    n = round(seconds * rate)
    if n < 1 or max_windows < 1:
        raise ConfigError(f"cannot cut {max_windows} windows of {seconds} s at {rate} Hz: give at least one sample in one window")
    sound = open_sound(source)
    windows = _windows(sound, sound.info.frames, rate, n, max_windows) if sound.info.frames is not None else None
    if windows is None:
        counted = sum(len(block) for block in sound.blocks(0, None))
        windows = _windows(sound, counted, rate, n, max_windows)
    if windows is None:
        raise MediaError(f"{sound.name} gives another length each time it is read: convert it to FLAC or WAV")
    return _checked(windows, sound, silence=True)


def resample(x: Tensor, rate_in: int, rate_out: int) -> Tensor:
    """Band-limited resampling of [..., n] along time by soxr VHQ (no aliasing above -80 dB), on the CPU and without gradient.

    >>> resample(torch.zeros(2, 44_100), 44_100, 16_000).shape
    torch.Size([2, 16000])
    """
    if rate_in < 1 or rate_out < 1:
        raise ConfigError(f"cannot resample from {rate_in} to {rate_out} Hz: rates must be positive")
    if rate_in == rate_out or x.numel() == 0:
        return x.clone()
    flat = x.detach().reshape(-1, x.shape[-1]).to("cpu", x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32)
    rows = [soxr.resample(row, rate_in, rate_out, "VHQ") for row in flat.numpy()]
    return torch.from_numpy(np.stack(rows)).to(x.device).reshape(*x.shape[:-1], -1)


def write_sound(path: str | Path, samples: Tensor | np.ndarray, rate: int) -> None:
    """Writes [n] or [channels, n], full scale ±1 and clipped there, as the extension says: wav, flac (16 bit), ogg, mp3.

    The file appears complete or not at all. Raises MediaError: "unsupported", "empty", "broken" (NaN), "unreadable".
    """
    path = Path(path)
    x = np.atleast_2d(np.asarray(samples.detach().cpu() if isinstance(samples, Tensor) else samples, np.float32))
    kind = path.suffix[1:].upper()
    if kind not in ("WAV", "FLAC", "OGG", "MP3"):
        raise MediaError(f"{display(path)} has no sound extension: end its name in .wav, .flac, .ogg or .mp3", "unsupported")
    if x.ndim != 2 or x.size == 0:
        raise MediaError(f"an array of shape {x.shape} is no sound for {display(path)}: give [n] or [channels, n]", "empty")
    if not np.isfinite(x).all():
        raise MediaError(f"the sound for {display(path)} holds NaN or infinite samples: repair it before writing")
    try:
        with written_beside(path) as file, soundfile.SoundFile(file, "w", rate, len(x), format=kind) as sound:
            # In blocks: libsndfile's Vorbis encoder overflows the stack when handed minutes at once.
            for i in range(0, x.shape[1], 2**14):
                sound.write(x[:, i : i + 2**14].T)
    except (soundfile.LibsndfileError, OSError) as error:
        why = "unreadable" if isinstance(error, OSError) else "unsupported"
        raise MediaError(f"{display(path)} cannot be written ({len(x)} channels at {rate} Hz): {error}", why) from error


def _part(sound: Sound, rate: int, first: int, count: int) -> np.ndarray:
    """At most `count` samples from number `first` of the whole sound resampled to `rate`; fewer at its end.

    The part is cut on the whole sound's own sample grid with a margin that holds the resampling filter, so parts and whole agree.
    """
    native = sound.info.rate
    if native == rate:
        return _joined(sound.blocks(first, first + count))
    grid = native // math.gcd(native, rate)
    margin = 512 * math.ceil(max(1.0, native / rate))
    begin = max(0, first * native // rate - margin) // grid * grid
    stop = -(-(first + count) * native // rate) + margin
    lead = first - begin * rate // native
    return _joined(_resampled(sound.blocks(begin, stop), native, rate))[lead : lead + count]


def _resampled(blocks: Iterator[np.ndarray], native: int, rate: int) -> Iterator[np.ndarray]:
    if native == rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(native, rate, 1, "float32", "VHQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _joined(pieces: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *pieces])


def _windows(sound: Sound, frames: int, rate: int, n: int, most: int) -> np.ndarray | None:
    """[w, n], or None when the sound turns out shorter than `frames`."""
    total = frames * rate // sound.info.rate
    if total <= n:
        clip = _part(sound, rate, 0, n)
        return None if len(clip) == 0 else np.resize(clip, (1, n))
    w = min(most, -(-total // n))
    starts = [(total - n) // 2] if w == 1 else [i * (total - n) // (w - 1) for i in range(w)]
    out = np.empty((w, n), np.float32)
    if not sound.seeks:
        return out if _fill(out, starts, _resampled(sound.blocks(0, None), sound.info.rate, rate)) else None
    for row, start in zip(out, starts, strict=True):
        if len(part := _part(sound, rate, start, n)) < n:
            return None
        row[:] = part
    return out


def _fill(out: np.ndarray, starts: list[int], blocks: Iterator[np.ndarray]) -> bool:
    """Copies the windows out of a stream as it passes; False when it ends too early."""
    n, place = out.shape[1], 0
    for block in blocks:
        for row, start in zip(out, starts, strict=True):
            low, high = max(start, place), min(start + n, place + len(block))
            if low < high:
                row[low - start : high - start] = block[low - place : high - place]
        place += len(block)
    return place >= starts[-1] + n


def _checked(samples: np.ndarray, sound: Sound, *, silence: bool) -> Tensor:
    peak = float(np.abs(samples).max())
    if not peak <= LOUDEST:
        raise MediaError(f"{sound.name} holds samples that are NaN, infinite or as large as {peak:.3g}: it is damaged")
    if silence and peak < SILENCE:
        raise MediaError(
            f"{sound.name} is silent (peak {peak:.1e} in the mix of {sound.info.channels} channel(s)): there is nothing to hear",
            "empty",
        )
    return torch.from_numpy(np.ascontiguousarray(samples))


def _too_long(sound: Sound, length: str, limit: float) -> MediaError:
    return MediaError(
        f"{sound.name} is {length} long, the limit is {limit:,.0f} s: ask for a part (start, seconds) or raise max_seconds",
        "huge",
    )
