"""Reading sounds: parts equal slices of the whole, nothing aliases, hostile files are told apart, memory stays bounded."""

from __future__ import annotations

import io
import resource
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tectum.errors import ConfigError, MediaError
from tectum.media.audio import read_sound, read_windows, resample, sound_info, write_sound

RNG = np.random.default_rng(0)


def noise(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    return (0.2 * RNG.standard_normal((int(seconds * rate), channels))).astype(np.float32)


def encoded(x: np.ndarray, rate: int, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate, 1 if x.ndim == 1 else x.shape[1], format=format, **options) as sound:
        for i in range(0, len(x), 2**14):
            sound.write(x[i : i + 2**14])
    return out.getvalue()


def reason(source: object, **options: object) -> str:
    with pytest.raises(MediaError) as caught:
        read_sound(source, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value.reason


def decibel(x: torch.Tensor) -> float:
    return 20 * float(x.double().square().mean().sqrt().clamp_min(1e-12).log10())


# --- resampling -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate_in", "rate_out"), [(48_000, 16_000), (44_100, 16_000), (22_050, 16_000), (96_000, 22_050)])
def test_a_sweep_above_nyquist_is_rejected_by_80_decibel_and_one_below_passes(rate_in: int, rate_out: int) -> None:
    t = np.arange(4 * rate_in) / rate_in
    fade = torch.from_numpy(scipy.signal.windows.tukey(len(t), 0.1))
    top = rate_out / 2
    above = torch.from_numpy(scipy.signal.chirp(t, 1.02 * top, 4, 0.99 * rate_in / 2)) * fade
    for read in (lambda x: resample(x, rate_in, rate_out), lambda x: read_sound((x, rate_in), rate=rate_out, seconds=3.99)):
        assert decibel(read(above)) - decibel(above) < -80
    below = torch.from_numpy(scipy.signal.chirp(t, 20, 4, 0.9 * top)) * fade
    assert abs(decibel(resample(below, rate_in, rate_out)) - decibel(below)) < 0.02


@pytest.mark.parametrize(("rate_in", "rate_out"), [(8_000, 16_000), (44_100, 16_000), (16_000, 44_100), (11_025, 48_000)])
def test_a_tone_stays_the_same_tone_in_time(rate_in: int, rate_out: int) -> None:
    x = torch.sin(2 * torch.pi * 1234 * torch.arange(2 * rate_in, dtype=torch.float64) / rate_in)
    expected = torch.sin(2 * torch.pi * 1234 * torch.arange(2 * rate_out, dtype=torch.float64) / rate_out)
    y = resample(x, rate_in, rate_out)
    assert y.shape == expected.shape and y.dtype == torch.float64
    inner = slice(rate_out // 4, -rate_out // 4)
    assert (y[inner] - expected[inner]).abs().max() < 1e-6


def test_resample_works_along_the_last_axis_row_by_row() -> None:
    x = torch.randn(2, 3, 4410)
    y = resample(x, 44_100, 16_000)
    assert y.shape == (2, 3, 1600)
    assert torch.equal(y[1, 2], resample(x[1, 2], 44_100, 16_000))
    assert torch.equal(resample(x, 16_000, 16_000), x)
    with pytest.raises(ConfigError):
        resample(x, 0, 16_000)


# --- parts, windows and the whole -----------------------------------------------------------------------------------------


KEYS = [("WAV", 16_000), ("WAV", 44_100), ("FLAC", 48_000), ("FLAC", 22_050), ("OGG", 44_100), ("MP3", 44_100), ("MP3", 16_000)]
SOUNDS = {(format, rate): encoded(noise(6, rate, 2), rate, format) for format, rate in KEYS}


@settings(max_examples=40, deadline=None)
@given(key=st.sampled_from(KEYS), rate=st.sampled_from([8_000, 16_000, 22_050, 44_100]), start=st.floats(0, 5.9),
       seconds=st.floats(0.01, 7))  # fmt: skip
def test_a_part_equals_that_slice_of_the_whole(key: tuple[str, int], rate: int, start: float, seconds: float) -> None:
    whole = read_sound(SOUNDS[key], rate=rate)
    part = read_sound(SOUNDS[key], rate=rate, start=start, seconds=seconds)
    expected = whole[round(start * rate) : round((start + seconds) * rate)]
    assert part.shape == expected.shape
    assert (part - expected).abs().max() < 1e-6


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_windows_are_slices_of_the_whole_evenly_spread(key: tuple[str, int], most: int) -> None:
    whole = read_sound(SOUNDS[key])
    windows = read_windows(SOUNDS[key], seconds=1.3, max_windows=most)
    n = round(1.3 * 16_000)
    assert windows.shape == (min(most, -(-len(whole) // n)), n)
    for i, window in enumerate(windows):
        start = round((len(whole) - n) * (i / (len(windows) - 1) if len(windows) > 1 else 0.5))
        errors = [(whole[s : s + n] - window).abs().max() for s in range(max(0, start - 1), start + 2) if s + n <= len(whole)]
        assert min(errors) < 1e-6


def test_a_short_sound_gives_one_window_that_repeats_it() -> None:
    x = noise(0.5, 16_000)[:, 0]
    windows = read_windows((x, 16_000), seconds=1.2, max_windows=9)
    assert windows.shape == (1, 19_200)
    assert np.array_equal(windows[0].numpy(), np.resize(x, 19_200))
    exact = read_windows((x, 16_000), seconds=0.5, max_windows=9)
    assert np.array_equal(exact[0].numpy(), x)


def test_path_bytes_and_array_agree(tmp_path: Path) -> None:
    x = noise(1, 44_100, 3)
    data = encoded(x, 44_100, "WAV", subtype="FLOAT")
    path = tmp_path / "a\nb 🐕.wav"
    path.write_bytes(data)
    expected = read_sound((x.T, 44_100))
    for source in (path, str(path), data, (torch.from_numpy(x.T.copy()), 44_100), (x.mean(1), 44_100)):
        assert (read_sound(source) - expected).abs().max() < 1e-6
        assert sound_info(source).seconds == 1.0
    info = sound_info(path)
    assert (info.rate, info.channels, info.frames) == (44_100, 3, 44_100)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_every_sample_type_has_full_scale_one(dtype: type) -> None:
    scale = -np.iinfo(dtype).min if np.issubdtype(dtype, np.integer) else 1
    x = (np.array([0.5, -1.0, 0.25] * 100) * scale).astype(dtype)
    assert torch.equal(read_sound((x, 16_000))[:3], torch.tensor([0.5, -1.0, 0.25]))
    subtype = {"i2": "PCM_16", "i4": "PCM_32", "f4": "FLOAT", "f8": "DOUBLE"}[x.dtype.str[1:]]
    assert torch.equal(read_sound(encoded(x, 16_000, "WAV", subtype=subtype))[:3], torch.tensor([0.5, -1.0, 0.25]))


# --- sounds that are too long, empty or wrong -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_silence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "ten hours.flac"
    with soundfile.SoundFile(path, "w", 1000, 1, format="FLAC") as sound:
        block = np.zeros(1000 * 600, np.int16)
        for _ in range(60):
            sound.write(block)
    return path


def test_ten_silent_hours_are_told_from_the_header_and_windows_stay_small(long_silence: Path) -> None:
    begin = time.perf_counter()
    assert reason(long_silence) == "huge"
    assert sound_info(long_silence).seconds == 36_000
    assert read_sound(long_silence, start=35_000, seconds=2).abs().max() == 0
    with pytest.raises(MediaError, match="silent") as caught:
        read_windows(long_silence, seconds=5, max_windows=16)
    assert caught.value.reason == "empty"
    assert reason(long_silence, start=36_001) == "empty"
    assert time.perf_counter() - begin < 3


def test_memory_is_bounded_by_what_is_asked_for(long_silence: Path) -> None:
    tracemalloc.start()  # sees numpy's arrays, which all samples pass through
    try:
        with pytest.raises(MediaError):
            read_windows(long_silence, seconds=5, max_windows=8)
        read_sound(long_silence, start=9_000, seconds=60)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_silence_and_nothing_are_empty() -> None:
    assert reason((np.zeros(16_000), 16_000)) == "empty"
    assert reason((np.full(16_000, 9e-5), 16_000)) == "empty"
    assert read_sound((np.full(16_000, 2e-4), 16_000)).shape == (16_000,)
    assert reason((np.zeros(0), 16_000)) == "empty"
    assert reason(encoded(np.zeros(0, np.float32), 16_000, "WAV")) == "empty"
    tone = np.sin(np.arange(16_000) / 9)
    assert reason((np.stack([tone, -tone]), 16_000)) == "empty"  # the channels cancel
    padded = np.concatenate([np.zeros(16_000), tone])
    assert read_sound((padded, 16_000), seconds=0.5).abs().max() == 0  # a silent part of a sound that is heard


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_sound_are_broken(value: float) -> None:
    x = noise(1, 44_100)[:, 0]
    x[20_000] = value
    for source in ((x, 44_100), encoded(x, 44_100, "WAV", subtype="FLOAT")):
        assert reason(source) == "broken"
        assert reason(source, rate=44_100) == "broken"
        with pytest.raises(MediaError):
            read_windows(source, seconds=1, max_windows=3)


def with_frames(flac: bytes, frames: int) -> bytes:
    """The same FLAC with another number of samples in its header, 0 for "unknown"."""
    out = bytearray(flac)
    out[21] = (out[21] & 0xF0) | (frames >> 32)
    out[22:26] = struct.pack(">I", frames & 0xFFFFFFFF)
    return bytes(out)


def test_headers_that_lie_about_length() -> None:
    x = noise(3, 16_000)[:, 0]
    flac = encoded(x, 16_000, "FLAC")
    true = read_sound(flac)
    unknown = with_frames(flac, 0)
    assert sound_info(unknown).frames is None and sound_info(unknown).seconds is None
    assert torch.equal(read_sound(unknown), true)
    assert torch.equal(read_windows(unknown, seconds=1, max_windows=3), read_windows(flac, seconds=1, max_windows=3))
    assert reason(unknown, max_seconds=2.9) == "huge"
    assert torch.equal(read_sound(unknown, max_seconds=3), true)
    assert reason(with_frames(flac, 2**35)) == "huge"
    longer = with_frames(flac, 10 * 16_000)
    assert reason(longer) == "broken"
    assert torch.equal(read_sound(longer, start=1, seconds=1), true[16_000:32_000])
    with pytest.raises(MediaError):
        read_windows(longer, seconds=1, max_windows=5)
    assert reason(flac[: len(flac) // 2]) == "broken"
    wav = encoded(x, 16_000, "WAV")
    assert reason(wav[: len(wav) // 2]) == "broken"
    piped = wav[:4] + b"\xff\xff\xff\xff" + wav[8:40] + b"\xff\xff\xff\xff" + wav[44:]  # written to a pipe: sizes unknown
    assert torch.equal(read_sound(piped), read_sound(wav))


def test_an_mp3_without_its_length_or_cut_short_is_read_as_far_as_it_goes() -> None:
    x = np.concatenate([noise(4, 16_000)[:, 0], 0.01 * noise(4, 16_000)[:, 0]])
    data = encoded(x, 16_000, "MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    at = max(data.find(b"Xing"), data.find(b"Info"))
    assert at > 0
    for damaged in (data[:at] + bytes(120) + data[at + 120 :], data[: len(data) * 2 // 3]):
        sound = read_sound(damaged)
        assert 16_000 < len(sound) < 16_000 * 9
        windows = read_windows(damaged, seconds=1, max_windows=4)
        assert windows.shape == (4, 16_000) and windows[0].abs().max() > 0.1


def test_what_is_no_sound(tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(100)
    assert reason(b"some text that is no sound at all") == "mislabelled"
    assert reason(png) == "mislabelled"
    assert reason(RNG.bytes(4000)) == "broken"
    assert reason(b"") == "empty"
    assert reason(b"RIFF") in ("broken", "mislabelled")
    assert reason(tmp_path) == reason(tmp_path / "missing.wav") == reason("/dev/zero") == "unreadable"
    assert reason((np.zeros((16_000, 100)), 16_000)) == "unsupported"  # [n, channels] instead of [channels, n]
    assert reason((np.zeros((1, 1, 9)), 16_000)) == "unsupported"
    for rate in (0, 1, 10**7):
        assert reason((np.ones(100), rate)) == "unsupported"
    wav = bytearray(encoded(noise(1, 16_000), 16_000, "WAV"))
    wav[24:28] = struct.pack("<I", 3)
    assert reason(bytes(wav)) == "unsupported"
    for options in ({"start": -1}, {"seconds": 0}, {"rate": 0}):
        with pytest.raises(ConfigError):
            read_sound((np.ones(100), 16_000), **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        read_windows((np.ones(100), 16_000), seconds=1, max_windows=0)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG"])
def test_any_damage_gives_a_sound_or_a_media_error(format: str) -> None:
    good = encoded(noise(0.5, 16_000), 16_000, format)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        data = bytearray(good)
        for _ in range(rng.integers(1, 5)):
            data[rng.integers(0, len(data) if seed % 2 else min(len(data), 200))] = rng.integers(0, 256)
        for read in (lambda d: read_sound(d, max_seconds=60), lambda d: read_windows(d, seconds=0.2, max_windows=3)):
            try:
                assert torch.isfinite(read(bytes(data))).all()
            except MediaError as error:
                assert error.reason != "unreadable"


# --- writing ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("extension", "tolerance"), [(".wav", 1e-4), (".flac", 1e-4), (".ogg", 0.15), (".mp3", 0.15)])
def test_what_is_written_is_read_again(tmp_path: Path, extension: str, tolerance: float) -> None:
    t = torch.arange(32_000) / 16_000
    x = torch.stack([0.5 * torch.sin(2 * torch.pi * 440 * t), 0.3 * torch.sin(2 * torch.pi * 660 * t)])
    path = tmp_path / f"tone{extension}"
    write_sound(path, x, 16_000)
    assert sound_info(path).channels == 2
    y = read_sound(path)
    assert abs(len(y) - 32_000) < 2500
    assert (y[4000:28_000] - x.mean(0)[4000:28_000]).square().mean().sqrt() < tolerance
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_long_vorbis_does_not_overflow_the_encoder(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.ogg", noise(20, 44_100, 2).T, 44_100)  # in one call, libsndfile 1.2 crashes the process
    assert sound_info(tmp_path / "a.ogg").seconds == pytest.approx(20)


def test_a_refused_write_leaves_nothing_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_sound(path, np.ones(10), 16_000)
    before = path.read_bytes()
    bad: list[tuple[Path, np.ndarray, int, str]] = [
        (path, np.array([np.nan]), 16_000, "broken"),
        (path, np.zeros(0), 16_000, "empty"),
        (tmp_path / "a.txt", np.ones(9), 16_000, "unsupported"),
        (tmp_path / "b.mp3", np.ones(9), 12_345, "unsupported"),
        (tmp_path / "no" / "a.wav", np.ones(9), 16_000, "unreadable"),
    ]
    for target, x, rate, expected in bad:
        with pytest.raises(MediaError) as caught:
            write_sound(target, x, rate)
        assert caught.value.reason == expected
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_descriptors_are_closed(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    path = tmp_path / "a.wav"
    write_sound(path, noise(0.1, 16_000).T, 16_000)
    (tmp_path / "bad.wav").write_bytes(b"RIFFxxxxWAVErubbish")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        for _ in range(400):
            sound_info(path)
            read_windows(path, seconds=0.01, max_windows=2)
            assert reason(tmp_path / "bad.wav")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
