"""Log-mel spectrograms. The literature has many dialects of one computation; a `MelSpec` names each choice."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tectum.errors import ConfigError, MediaError


@dataclass(frozen=True, kw_only=True, slots=True)
class MelSpec:
    """One mel dialect: waveform [..., n] at `rate` to [..., bins, frames].

    Reflects `pad` samples at both ends (n_fft // 2 is the "centred" transform, the default of None), cuts frames of `win`
    samples every `hop`, windows them (periodic), takes |DFT of n_fft|^power (plus `epsilon` under the root when power is 1),
    sums into triangular bands from `f_min` to `f_max` Hz and compresses:

    - "whisper": log10(max(x, floor)), clamped to 8 below the peak of *each waveform*, then (x + 4) / 4;
    - "decibel": 10 log10(max(x, floor));  "ln": ln(max(x, floor)).

    The bands are equally spaced on the "slaney" scale (linear below 1 kHz, logarithmic above; Auditory Toolbox) or the "htk"
    scale (2595 log10(1 + f/700)); norm "slaney" gives each band unit area. frames = 1 + (n + 2·pad - n_fft) // hop, minus the
    last one if `drop_last`. Work is done in the dtype of the waveform, at least float32, outside autocast; bands are built in
    float64.

    Whisper takes the peak over its whole input tensor, a single waveform; per waveform, a batch equals its members alone.

    >>> whisper_mel()(torch.zeros(2, 16000)).shape
    torch.Size([2, 80, 100])
    """

    name: str
    rate: int
    n_fft: int
    win: int
    hop: int
    bins: int
    f_min: float = 0.0
    f_max: float | None = None
    scale: Literal["slaney", "htk"] = "slaney"
    norm: Literal["slaney", "none"] = "slaney"
    window: Literal["hann"] = "hann"
    pad: int | None = None
    power: Literal[1, 2] = 2
    epsilon: float = 0.0
    compression: Literal["whisper", "decibel", "ln"] = "ln"
    floor: float = 1e-10
    drop_last: bool = False

    def __post_init__(self) -> None:
        if min(self.rate, self.n_fft, self.win, self.hop, self.bins) < 1 or self.win > self.n_fft:
            raise ConfigError(f"mel {self.name!r}: rate, n_fft, win, hop and bins must be at least 1 and win at most n_fft")
        if not 0 <= self.f_min < self.top <= self.rate / 2:
            raise ConfigError(f"mel {self.name!r}: bands from {self.f_min} to {self.top} Hz do not fit below {self.rate / 2} Hz")
        if self.floor <= 0 or self.epsilon < 0 or (self.pad is not None and self.pad < 0):
            raise ConfigError(f"mel {self.name!r}: floor must be positive, epsilon and pad must not be negative")
        for field, value, known in (
            ("scale", self.scale, ("slaney", "htk")), ("norm", self.norm, ("slaney", "none")), ("window", self.window, ("hann",)),
            ("power", self.power, (1, 2)), ("compression", self.compression, ("whisper", "decibel", "ln")),
        ):  # fmt: skip
            if value not in known:
                raise ConfigError(f"mel {self.name!r}: {field} is {value!r}, known are {', '.join(map(str, known))}")

    @property
    def top(self) -> float:
        """Upper edge of the highest band in Hz."""
        return self.rate / 2 if self.f_max is None else self.f_max

    @property
    def reflected(self) -> int:
        """Samples reflected at each end."""
        return self.n_fft // 2 if self.pad is None else self.pad

    def frames(self, samples: int) -> int:
        """Number of frames that `samples` samples give."""
        return 1 + (samples + 2 * self.reflected - self.n_fft) // self.hop - self.drop_last

    def filters(self) -> Tensor:
        """The triangular bands, float64 [bins, n_fft // 2 + 1] (a copy)."""
        return _filters(self).clone()

    def __call__(self, waveform: Tensor) -> Tensor:
        """[..., n] to [..., bins, frames]. Raises MediaError when n is too short to reflect or to fill one frame."""
        n = waveform.shape[-1]
        if n <= self.reflected or self.frames(n) < 1:
            raise MediaError(
                f"a sound of {n} samples is too short for mel {self.name!r}: it needs at least "
                f"{max(self.reflected + 1, self.n_fft - 2 * self.reflected + self.hop * self.drop_last)}",
                "empty",
            )
        x = waveform if waveform.dtype in (torch.float32, torch.float64) else waveform.float()
        with torch.autocast(x.device.type, enabled=False):
            flat = F.pad(x.reshape(-1, n), (self.reflected, self.reflected), mode="reflect")
            window = torch.hann_window(self.win, dtype=x.dtype, device=x.device)
            spectrum = torch.stft(flat, self.n_fft, self.hop, self.win, window, center=False, return_complex=True)
            spectrum = spectrum[..., : spectrum.shape[-1] - self.drop_last]
            power = spectrum.real.square() + spectrum.imag.square()
            energy = _filters(self).to(x) @ (power if self.power == 2 else (power + self.epsilon).sqrt())
            return self._compress(energy).reshape(*waveform.shape[:-1], *energy.shape[-2:])

    def _compress(self, energy: Tensor) -> Tensor:
        energy = energy.clamp_min(self.floor)
        if self.compression == "ln":
            return energy.log()
        if self.compression == "decibel":
            return 10 * energy.log10()
        level = energy.log10()
        return (torch.maximum(level, level.amax(dim=(-2, -1), keepdim=True) - 8) + 4) / 4

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MelSpec:
        """The inverse of `to_dict`. Raises ConfigError on an unknown field."""
        if unknown := set(values) - {field.name for field in fields(cls)}:
            raise ConfigError(f"a mel specification has no field {sorted(unknown)[0]!r}: remove it or update tectum")
        return cls(**values)


def whisper_mel(bins: int = 80) -> MelSpec:
    """Whisper's log-mel (Radford et al. 2022): 80 bins, or 128 since large-v3; 100 frames a second.

    >>> whisper_mel(128).frames(480_000)
    3000
    """
    return MelSpec(
        name=f"whisper-{bins}", rate=16_000, n_fft=400, win=400, hop=160, bins=bins, compression="whisper", drop_last=True
    )


def clap_mel(fused: bool = True) -> MelSpec:
    """LAION-CLAP's log-mel at 48 kHz (Wu et al. 2023); the unfused checkpoints use the Slaney scale. Int16 rounding is left to
    the caller."""
    scale: Literal["slaney", "htk"] = "htk" if fused else "slaney"
    return MelSpec(
        name="clap-fused" if fused else "clap-unfused",
        rate=48_000,
        n_fft=1024,
        win=1024,
        hop=480,
        bins=64,
        f_min=50,
        f_max=14_000,
        scale=scale,
        norm="none" if fused else "slaney",
        compression="decibel",
    )


def hifigan_mel() -> MelSpec:
    """HiFi-GAN's log-mel at 22.05 kHz (Kong et al. 2020), as its vocoder hears it: (n_fft - hop) / 2 samples reflected."""
    return MelSpec(
        name="hifigan",
        rate=22_050,
        n_fft=1024,
        win=1024,
        hop=256,
        bins=80,
        f_max=8000,
        pad=384,
        power=1,
        epsilon=1e-9,
        floor=1e-5,
    )


def bigvgan_mel() -> MelSpec:
    """BigVGAN's log-mel at 24 kHz, 100 bins (Lee et al. 2023)."""
    return MelSpec(
        name="bigvgan-24k", rate=24_000, n_fft=1024, win=1024, hop=256, bins=100, pad=384, power=1, epsilon=1e-9, floor=1e-5
    )


def vocos_mel() -> MelSpec:
    """The log-mel of F5-TTS and Vocos at 24 kHz (Siuzdak 2023), with F5's floor of 1e-5."""
    return MelSpec(
        name="vocos-24k", rate=24_000, n_fft=1024, win=1024, hop=256, bins=100, scale="htk", norm="none", power=1, floor=1e-5
    )


def audioldm_mel() -> MelSpec:
    """AudioLDM's log-mel at 16 kHz, 64 bins (Liu et al. 2023)."""
    return MelSpec(name="audioldm", rate=16_000, n_fft=1024, win=1024, hop=160, bins=64, f_max=8000, power=1, floor=1e-5)


@lru_cache(maxsize=32)
def _filters(spec: MelSpec) -> Tensor:
    hz_to_mel, mel_to_hz = (_slaney_mel, _slaney_hz) if spec.scale == "slaney" else (_htk_mel, _htk_hz)
    edges = mel_to_hz(np.linspace(hz_to_mel(np.array(spec.f_min)), hz_to_mel(np.array(spec.top)), spec.bins + 2))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    hz = np.arange(spec.n_fft // 2 + 1) * (spec.rate / spec.n_fft)
    bands = np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)).clip(min=0)
    if spec.norm == "slaney":
        bands *= 2 / (high - low)
    # A tensor made in inference mode may not enter autograd later, and this one outlives the call.
    with torch.inference_mode(False):
        return torch.tensor(bands)


def _slaney_mel(hz: np.ndarray) -> np.ndarray:
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def _slaney_hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(np.log(6.4) * (np.maximum(mel, 15) - 15) / 27))


def _htk_mel(hz: np.ndarray) -> np.ndarray:
    return 2595 * np.log10(1 + hz / 700)


def _htk_hz(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)
