"""Mel spectrograms against golden values, an independent implementation, and transformers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.signal
import torch
from transformers import ClapFeatureExtractor, WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from tectum.errors import ConfigError, MediaError
from tectum.media.mel import MelSpec, audioldm_mel, bigvgan_mel, clap_mel, hifigan_mel, vocos_mel, whisper_mel

PRESETS = [whisper_mel(), whisper_mel(128), clap_mel(), clap_mel(fused=False), hifigan_mel(), bigvgan_mel(), vocos_mel(),
           audioldm_mel()]  # fmt: skip
T = np.arange(16_000) / 16_000
SINE = 0.5 * np.sin(2 * np.pi * 440 * T)
CHIRP = 0.5 * scipy.signal.chirp(T, 100, 1, 4000, phi=-90)


def reference(spec: MelSpec, x: np.ndarray) -> np.ndarray:
    """Frame by frame, in float64, with transformers' bands: shares no code with the implementation."""
    bands = mel_filter_bank(
        spec.n_fft // 2 + 1,
        spec.bins,
        spec.f_min,
        spec.f_max or spec.rate / 2,
        spec.rate,
        norm=None if spec.norm == "none" else spec.norm,
        mel_scale=spec.scale,
    )
    pad = spec.n_fft // 2 if spec.pad is None else spec.pad
    x = np.pad(x.astype(np.float64), pad, mode="reflect")
    window = scipy.signal.get_window("hann", spec.win)
    frames = [np.fft.rfft(x[i : i + spec.n_fft] * window) for i in range(0, len(x) - spec.n_fft + 1, spec.hop)]
    power = np.abs(np.array(frames[:-1] if spec.drop_last else frames).T) ** 2
    y = np.maximum(bands.T @ (power if spec.power == 2 else np.sqrt(power + spec.epsilon)), spec.floor)
    if spec.compression == "whisper":
        y = np.log10(y)
        return (np.maximum(y, y.max() - 8) + 4) / 4
    return np.log(y) if spec.compression == "ln" else 10 * np.log10(y)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_whispers_golden_values(dtype: torch.dtype) -> None:
    rounding = 5e-6 + 1e-6  # the values are given with five digits
    y = whisper_mel()(torch.tensor(SINE, dtype=dtype))
    assert y.shape == (80, 100) and y.dtype == dtype
    for got, golden in (
        (y.min(), -0.56180),
        (y.max(), 1.43820),
        (y.mean(), -0.44942),
        (y[10, 50], 1.34874),
        (y[11, 50], 1.43820),
        (y[12, 50], 1.29352),
    ):
        assert abs(got - golden) < rounding
    y = whisper_mel(128)(torch.tensor(SINE, dtype=dtype))
    assert y.shape == (128, 100) and abs(y.max() - 1.48535) < rounding
    y = whisper_mel()(torch.tensor(CHIRP, dtype=dtype))
    assert abs(y.min() + 0.56194) < rounding and abs(y.max() - 1.43806) < rounding and abs(y.mean() + 0.39749) < rounding
    assert (whisper_mel()(torch.zeros(16_000, dtype=dtype)) == -1.5).all()


@pytest.mark.parametrize("spec", PRESETS, ids=lambda spec: spec.name)
def test_every_dialect_equals_the_independent_implementation(spec: MelSpec) -> None:
    rng = np.random.default_rng(0)
    for x in (SINE, CHIRP, 0.1 * rng.standard_normal(12_345), np.zeros(5000)):
        expected = reference(spec, x)
        y = spec(torch.from_numpy(x))
        assert y.shape == expected.shape == (spec.bins, spec.frames(len(x)))
        assert np.abs(y.numpy() - expected).max() < 1e-6
    # In float32 the bands that a pure tone leaves empty hold rounding noise, so compare where every band sounds.
    x = 0.1 * rng.standard_normal(12_345).astype(np.float32)
    assert np.abs(spec(torch.from_numpy(x)).numpy() - reference(spec, x)).max() < 1e-3


@pytest.mark.parametrize("spec", PRESETS, ids=lambda spec: spec.name)
def test_bands_are_triangles_built_in_double_precision(spec: MelSpec) -> None:
    bands = spec.filters()
    assert bands.dtype == torch.float64 and bands.shape == (spec.bins, spec.n_fft // 2 + 1)
    expected = mel_filter_bank(
        spec.n_fft // 2 + 1,
        spec.bins,
        spec.f_min,
        spec.f_max or spec.rate / 2,
        spec.rate,
        norm=None if spec.norm == "none" else spec.norm,
        mel_scale=spec.scale,
    )
    assert np.abs(bands.numpy() - expected.T).max() < 1e-14
    assert (bands >= 0).all()
    bands[:] = 0
    assert spec.filters().any(), "a caller can spoil the cached bands"


def test_whispers_bands_have_the_published_counts() -> None:
    for bins, nonzero in ((80, 391), (128, 394)):
        bands = whisper_mel(bins).filters()
        assert int((bands > 0).sum()) == nonzero and bands.any(1).all()
    htk = replace(whisper_mel(), scale="htk").filters()
    assert abs(float((htk - whisper_mel().filters()).abs().max()) - 3.6e-2) < 5e-4


@pytest.mark.parametrize("bins", [80, 128])
def test_equals_transformers_whisper(bins: int) -> None:
    extractor = WhisperFeatureExtractor(feature_size=bins)
    for x in (SINE, CHIRP, 0.05 * np.random.default_rng(1).standard_normal(30_000)):
        expected = extractor._np_extract_fbank_features(x[None], "cpu")[0]
        assert np.abs(whisper_mel(bins)(torch.from_numpy(x)).numpy() - expected).max() < 1e-6
    x = np.concatenate([CHIRP, SINE]).astype(np.float32)
    expected = extractor(x, sampling_rate=16_000, return_tensors="np").input_features[0]
    padded = torch.zeros(480_000)  # Whisper pads to 30 s before the transform
    padded[: len(x)] = torch.from_numpy(x)
    assert expected.shape == (bins, 3000)
    assert np.abs(whisper_mel(bins)(padded).numpy() - expected).max() < 1e-3  # both in float32


@pytest.mark.parametrize("fused", [True, False])
def test_equals_transformers_clap(fused: bool) -> None:
    extractor = ClapFeatureExtractor(frequency_min=50, frequency_max=14_000)
    x = 0.3 * np.random.default_rng(0).standard_normal(48_000)
    filters = extractor.mel_filters if fused else extractor.mel_filters_slaney
    expected = extractor._np_extract_fbank_features(x, filters).T
    assert np.abs(clap_mel(fused)(torch.from_numpy(x)).numpy() - expected).max() < 1e-4


def test_a_batch_equals_its_members_whatever_their_loudness() -> None:
    x = torch.stack([torch.from_numpy(CHIRP), 1e-4 * torch.from_numpy(SINE), torch.zeros(16_000, dtype=torch.float64)])
    for spec in PRESETS:
        together = spec(x.reshape(3, 1, -1))
        assert together.shape[:2] == (3, 1)
        for row, one in zip(together[:, 0], x, strict=True):
            # Not bit for bit: a matrix product adds in another order for another number of frames.
            torch.testing.assert_close(row, spec(one), rtol=1e-9, atol=1e-9)


def test_autocast_and_half_precision_do_not_touch_the_bands() -> None:
    x = torch.from_numpy(CHIRP).float()
    expected = whisper_mel()(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(whisper_mel()(x), expected)
    assert whisper_mel()(x.half()).dtype == torch.float32


def test_the_cache_made_in_inference_mode_serves_training() -> None:
    spec = whisper_mel(37)
    with torch.inference_mode():
        spec(torch.randn(8000))
    x = torch.randn(8000, dtype=torch.float64, requires_grad=True)
    spec(x).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()
    assert torch.isfinite(torch.autograd.grad(hifigan_mel()(0 * x).sum(), x)[0]).all()  # the root of 0 has no infinite slope


@pytest.mark.parametrize("spec", PRESETS, ids=lambda spec: spec.name)
def test_too_short_is_a_sentence_and_the_shortest_works(spec: MelSpec) -> None:
    lengths = [n for n in range(1, 2500) if n > spec.reflected and spec.frames(n) >= 1]
    assert spec(torch.ones(lengths[0])).shape[-1] == spec.frames(lengths[0])
    with pytest.raises(MediaError, match=rf"needs at least {lengths[0]}$"):
        spec(torch.ones(lengths[0] - 1))


def test_specs_travel_as_json_hash_and_refuse_nonsense() -> None:
    for spec in PRESETS:
        again = MelSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
        assert again == spec and hash(again) == hash(spec)
    for wrong in (
        {"hops": 1},
        {"hop": 0},
        {"win": 500},
        {"f_max": 9000},
        {"f_min": 8000},
        {"scale": "bark"},
        {"power": 3},
        {"compression": "log2"},
        {"floor": 0},
        {"norm": "l2"},
        {"window": "povey"},
        {"pad": -1},
    ):
        with pytest.raises(ConfigError):
            MelSpec.from_dict(whisper_mel().to_dict() | wrong)
