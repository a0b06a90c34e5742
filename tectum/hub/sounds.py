"""Sound preprocessing as CLAP's checkpoints describe it, to and from our `MelSpec` and the windows of a sound tower."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tectum.errors import CheckpointError, ConfigError
from tectum.hub.files import read_processor
from tectum.media.mel import MelSpec, clap_mel
from tectum.models.htsat import HtsatConfig
from tectum.models.towers import SoundTowerConfig

# What transformers' class does where its file is silent.
_CLAP = {
    "feature_size": 64, "sampling_rate": 48_000, "hop_length": 480, "max_length_s": 10, "fft_window_size": 1024,
    "frequency_min": 0, "frequency_max": 14_000, "truncation": "fusion", "padding": "repeatpad",
}  # fmt: skip
_SHORT = {"repeatpad": "whole", "repeat": "repeat", "pad": "silence"}


def read_sounds(folder: Path, grid: HtsatConfig) -> SoundTowerConfig:
    """The sound tower that preprocessor_config.json, or the "feature_extractor" of processor_config.json, describes.

    transformers cuts a random window out of a longer recording. Here all of it is seen, through up to 16 evenly spaced windows,
    whose unit vectors are averaged.

    Raises:
        CheckpointError: if neither file is there, or what it asks for is not known here.
    """
    path, said = read_processor(folder, "feature_extractor", "rate, mel bands and windows of the sounds")
    if (kind := said.get("feature_extractor_type", "ClapFeatureExtractor")) != "ClapFeatureExtractor":
        raise CheckpointError(f"{path} is of a {kind}, which is not known here: save it with CLAP's own feature extractor")
    try:
        return _tower({**_CLAP, **said}, grid)
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} asks for sounds that are not known here: {error}") from error


def _tower(values: Mapping[str, Any], grid: HtsatConfig) -> SoundTowerConfig:
    if values["truncation"] != "rand_trunc":
        raise ValueError(f"truncation is {values['truncation']!r}; of CLAP the unfused models are read, which say 'rand_trunc'")
    if values["padding"] not in _SHORT:
        raise ValueError(f"padding is {values['padding']!r}, none of {', '.join(_SHORT)}")
    short: Any = _SHORT[values["padding"]]
    return SoundTowerConfig(mel=_mel(values), grid=grid, seconds=float(values["max_length_s"]), short=short, peak=False)


def _mel(values: Mapping[str, Any]) -> MelSpec:
    size = int(values["fft_window_size"])
    return replace(
        clap_mel(fused=False),
        rate=int(values["sampling_rate"]),
        n_fft=size,
        win=size,
        hop=int(values["hop_length"]),
        bins=int(values["feature_size"]),
        f_min=float(values["frequency_min"]),
        f_max=float(values["frequency_max"]),
    )


def write_sounds(tower: SoundTowerConfig) -> dict[str, Any]:
    """The contents of preprocessor_config.json.

    Raises:
        CheckpointError: if transformers has no words for it.
    """
    mel, seconds = tower.mel, tower.seconds
    same = _mel({"sampling_rate": mel.rate, "fft_window_size": mel.n_fft, "hop_length": mel.hop, "feature_size": mel.bins,
                 "frequency_min": mel.f_min, "frequency_max": mel.top})  # fmt: skip
    if replace(mel, name=same.name, f_max=mel.top) != same or tower.peak or seconds != int(seconds):
        raise CheckpointError("sounds prepared otherwise than CLAP's have no name in transformers' layout: save without a layout")
    return {
        "feature_extractor_type": "ClapFeatureExtractor",
        "feature_size": mel.bins,
        "sampling_rate": mel.rate,
        "hop_length": mel.hop,
        "max_length_s": int(seconds),
        "fft_window_size": mel.n_fft,
        "padding_value": 0.0,
        "return_attention_mask": False,
        "frequency_min": mel.f_min,
        "frequency_max": mel.top,
        "truncation": "rand_trunc",
        "padding": {ours: theirs for theirs, ours in _SHORT.items()}[tower.short],
    }
