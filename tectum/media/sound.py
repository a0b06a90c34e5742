"""One sound, opened: what its header says, and its frames as mono blocks. The floor below `audio`."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import soundfile
from torch import Tensor

from tectum.errors import MediaError
from tectum.media.kinds import image_format, is_text
from tectum.media.source import display, open_source

Source = str | Path | bytes | tuple[np.ndarray | Tensor, int]

_LOWEST, _HIGHEST = 1_000, 1_000_000  # sampling rates in Hz
_UNKNOWN = 2**62  # libsndfile gives about 2^63 frames when the header does not tell
_BLOCK = 2**18  # samples, all channels together, decoded at a time
_ESTIMATING = ("MP3", "OGG")  # formats whose length is estimated from the file, not promised by its header


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundInfo:
    """What a sound's header says. `frames` and `seconds` are None when it does not tell (a FLAC written to a pipe), and an
    estimate for MP3 and Ogg."""

    seconds: float | None
    rate: int
    channels: int
    frames: int | None


class _Reader(soundfile.SoundFile):
    def seekable(self) -> bool:
        """False, so that soundfile does not seek after every read, which fails at the end of a FLAC of unknown length."""
        return False


@dataclass(frozen=True, slots=True)
class FileSound:
    """A sound file, opened anew for every part: in Ogg only the first seek of an open file is exact."""

    source: str | Path | bytes
    name: str
    info: SoundInfo
    format: str

    @property
    def seeks(self) -> bool:
        """Whether a part can be decoded alone. MP3 frames borrow bits from earlier ones: after a seek the first are garbled."""
        return self.format != "MP3"

    def blocks(self, first: int, stop: int | None) -> Iterator[np.ndarray]:
        """Mono float32 blocks of the frames [first, stop), to the end when None."""
        frames, rate = self.info.frames, self.info.rate
        if frames is not None and first >= frames:
            return
        size = max(1, _BLOCK // self.info.channels)
        place = first if self.seeks else 0
        with _opened(self.source) as sound:
            try:
                if place:
                    sound.seek(place)
                while stop is None or place < stop:
                    block = sound.read(size if stop is None else min(size, stop - place), dtype="float32", always_2d=True)
                    if len(block) == 0:
                        break
                    place += len(block)
                    kept = block[max(0, first - place + len(block)) :]
                    if len(kept):
                        yield kept.mean(axis=1) if kept.shape[1] > 1 else kept[:, 0]
            except soundfile.LibsndfileError as error:
                if self.format not in _ESTIMATING:
                    raise MediaError(
                        f"{self.name} is damaged after {place / rate:.1f} s ({error.error_string}): restore it from a copy"
                    ) from error
        promised = frames if stop is None or frames is None else min(stop, frames)
        if promised is not None and place < promised and self.format not in _ESTIMATING:
            raise MediaError(
                f"{self.name} ends after {place / rate:.1f} s of the {self.info.seconds:.1f} s its header promises: "
                "it is truncated, restore it from a copy"
            )


@dataclass(frozen=True, slots=True)
class ArraySound:
    """Samples in memory, already mono."""

    samples: np.ndarray
    name: str
    info: SoundInfo
    seeks: ClassVar[bool] = True

    def blocks(self, first: int, stop: int | None) -> Iterator[np.ndarray]:
        """As `FileSound.blocks`."""
        if len(part := self.samples[first:stop]):
            yield part


Sound = FileSound | ArraySound


def open_sound(source: Source) -> Sound:
    """Reads the header of a file or of bytes, or takes an array [n] or [channels, n] with its rate.

    Raises MediaError: "broken", "empty", "mislabelled", "unsupported", "unreadable".
    """
    if isinstance(source, tuple):
        return _from_array(*source)
    name = display(source)
    with _opened(source) as sound:
        known = 0 <= sound.frames < _UNKNOWN
        info = SoundInfo(
            seconds=sound.frames / sound.samplerate if known else None,
            rate=sound.samplerate,
            channels=sound.channels,
            frames=sound.frames if known else None,
        )
        _check(name, info)
        return FileSound(source, name, info, sound.format)


def _from_array(samples: np.ndarray | Tensor, rate: int) -> ArraySound:
    x = samples.detach().cpu().numpy() if isinstance(samples, Tensor) else np.asarray(samples)
    if x.ndim not in (1, 2) or (x.ndim == 2 and not 1 <= len(x) <= 64) or x.dtype.kind not in "if":
        raise MediaError(
            f"an array of shape {x.shape} and type {x.dtype} is no sound: give numbers [n] or [channels, n] of at "
            "most 64 channels",
            "unsupported",
        )
    full = 1.0 if x.dtype.kind == "f" else -float(np.iinfo(x.dtype).min)
    mono = np.ascontiguousarray((x if x.ndim == 1 else x.mean(axis=0, dtype=np.float64)) / full, np.float32)
    info = SoundInfo(seconds=len(mono) / max(rate, 1), rate=int(rate), channels=1 if x.ndim == 1 else len(x), frames=len(mono))
    _check("the given array", info)
    return ArraySound(mono, "the given array", info)


def _check(name: str, info: SoundInfo) -> None:
    if not _LOWEST <= info.rate <= _HIGHEST:
        raise MediaError(
            f"{name} is sampled at {info.rate:,} Hz: resample it to between {_LOWEST:,} and {_HIGHEST:,} Hz", "unsupported"
        )
    if info.frames == 0:
        raise MediaError(f"{name} holds no sample: restore it from a copy or delete it", "empty")


@contextmanager
def _opened(source: str | Path | bytes) -> Iterator[_Reader]:
    with open_source(source) as file:
        head = file.read(4096)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        name = display(source)
        # libsndfile silently shortens a WAV that was cut. Sizes near 2 GiB and beyond stand for "unknown" (written to a pipe).
        promised = int.from_bytes(head[4:8], "little") + 8
        if head.startswith(b"RIFF") and size + size // 100 + 1024 < promised < 2**31 - 2**16:
            raise MediaError(
                f"{name} has {size:,} of the {promised:,} bytes its header promises: it is truncated, restore it from a copy"
            )
        handle: io.BytesIO | int
        if isinstance(file, io.BytesIO):
            handle = file
        else:
            # libsndfile reads a descriptor without Python's help; it takes the place where that stands for the start.
            handle = file.fileno()
            os.lseek(handle, 0, os.SEEK_SET)
        try:
            sound = _Reader(handle, closefd=False)
        except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: it takes the bytes for headerless samples
            raise _not_a_sound(name, head, error) from error
        with sound:
            yield sound


def _not_a_sound(name: str, head: bytes, error: Exception) -> MediaError:
    if picture := image_format(head):
        return MediaError(f"{name} holds a {picture} picture, not a sound: give it that extension", "mislabelled")
    if is_text(head):
        return MediaError(f"{name} holds text, not a sound: rename it to .txt", "mislabelled")
    return MediaError(f"{name} is no WAV, FLAC, MP3 or Ogg sound that can be read ({error}): it is damaged or of another format")
