"""Unfused CLAP as transformers saves it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tectum import hub
from tectum.errors import CheckpointError

RATE = 8000


@pytest.fixture(scope="module")
def sounds() -> list[np.ndarray]:
    """Noise that fills a window, sounds that fill it one and a half, two and eleven times, a pure tone, a tone with silence."""
    rng = np.random.default_rng(0)
    tone = np.sin(np.arange(RATE) * 0.7).astype(np.float32)
    noises = [
        (rng.standard_normal(n) * loud).astype(np.float32) for n, loud in ((8000, 0.3), (5300, 0.01), (4000, 0.1), (700, 0.1))
    ]
    return [*noises, tone, np.concatenate([tone[:3000], np.zeros(5000, np.float32)])]


def of_clap(folder: Path, sounds: list[np.ndarray], texts: list[str]) -> dict[str, torch.Tensor]:
    """Unit vectors by transformers alone: its own feature extractor, tokenizer and model."""
    from transformers import AutoFeatureExtractor, AutoTokenizer, ClapModel

    ids = AutoTokenizer.from_pretrained(folder)(texts, padding=True, truncation=True, return_tensors="pt")
    mel = AutoFeatureExtractor.from_pretrained(folder)(sounds, sampling_rate=RATE, return_tensors="pt")
    model = ClapModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        found = model(**ids, **mel)
    return {"audio": found.audio_embeds, "text": found.text_embeds, "logits": found.logits_per_audio}


UNUSUAL: dict[str, dict[str, Any]] = {
    "defaults": {},
    "three stages, larger windows": {
        "sound": {"spec_size": 64, "patch_size": 2, "patch_stride": [2, 2], "window_size": 8, "depths": [1, 3, 2],
                  "num_attention_heads": [1, 2, 4], "patch_embeds_hidden_size": 8, "hidden_size": 32},
    },
    "activations and eps": {
        "text": {"hidden_act": "gelu_new", "layer_norm_eps": 0.01}, "sound": {"hidden_act": "relu", "layer_norm_eps": 0.1},
        "projection_hidden_act": "gelu",
    },
    "one spectrogram part": {"sound": {"num_mel_bins": 32}, "extractor": {"feature_size": 32, "hop_length": 300}},
    "silence after short sounds": {"extractor": {"padding": "pad"}},
    "repetitions cut": {"extractor": {"padding": "repeat"}},
    "a wide projection, two segments, few heads": {
        "projection_dim": 57, "text": {"type_vocab_size": 2, "num_attention_heads": 1}, "sound": {"mlp_ratio": 1.7},
    },
}  # fmt: skip


@pytest.mark.parametrize("options", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_vectors_and_logits_equal_transformers(
    make: dict[str, Callable[..., Path]], sounds: list, texts: list, tmp_path: Path, options: dict
) -> None:
    folder = make["clap"](tmp_path / "clap", **options)
    space, expected = hub.load(folder), of_clap(folder, sounds, texts)
    found = space.embed(audio=[(sound, RATE) for sound in sounds], text=texts)
    for modality in ("audio", "text"):
        torch.testing.assert_close(found[modality], expected[modality], rtol=0, atol=1e-5)
        assert torch.cdist(expected[modality], expected[modality]).max() > 1e-2, "the oracle tells them apart"
    logits = space.scale("audio", "text").detach() * found["audio"] @ found["text"].T
    torch.testing.assert_close(logits, expected["logits"], rtol=0, atol=2e-4)


def test_a_long_sound_is_heard_whole_and_alike_each_time(clap_folder: Path, texts: list) -> None:
    """transformers draws one window at random; here three that cover 2.5 s are averaged as unit vectors."""
    long = (np.random.default_rng(1).standard_normal(20_000) * 0.1).astype(np.float32)
    space = hub.load(clap_folder)
    found = space.embed(audio=[(long, RATE)] * 2)["audio"]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)
    windows = [long[start : start + RATE] for start in (0, 6000, 12_000)]
    mean = of_clap(clap_folder, windows, texts)["audio"].mean(0, keepdim=True)
    torch.testing.assert_close(found[:1], torch.nn.functional.normalize(mean), rtol=0, atol=1e-5)


def test_the_round_trips_are_exact_and_transformers_reads_what_is_saved(
    clap_folder: Path, sounds: list, texts: list, tmp_path: Path
) -> None:
    space = hub.load(clap_folder)
    hub.save(space, tmp_path / "ours", dtype=torch.float32)
    again = hub.load(tmp_path / "ours")
    assert again.config == space.config
    hub.save(again, tmp_path / "theirs", layout="transformers")
    first, second = (load_file(folder / "model.safetensors") for folder in (clap_folder, tmp_path / "theirs"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) and first[key].dtype == second[key].dtype for key in first)
    before, after = (of_clap(folder, sounds, texts) for folder in (clap_folder, tmp_path / "theirs"))
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert hub.load(tmp_path / "theirs").fingerprint == space.fingerprint
    with pytest.raises(CheckpointError, match="cannot be saved in the layout 'open_clip'"):
        hub.save(space, tmp_path / "x", layout="open_clip")


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("audio_config", {"enable_fusion": True, "fusion_type": "channel_map"}, "a fused CLAP: load an unfused one"),
        ("audio_config", {"qkv_bias": False}, "a CLAP with qkv_bias = False"),
        ("audio_config", {"patch_stride": [2, 4]}, "only square ones side by side"),
        ("audio_config", {"window_size": 3}, "windows of 3 do not tile the grid of stage 1"),
        ("audio_config", {"spec_size": 40}, "no whole number of 16 bins"),
        ("audio_config", {"depths": [2]}, "no HTSAT has such sizes"),
        ("audio_config", {"num_mel_bins": 32}, "cannot see spectrograms of 16"),
        ("text_config", {"pad_token_id": 2}, "pads with id 1"),
        ("text_config", {"num_hidden_layers": 3}, "lacks 16 tensors"),
        ("feature_extractor", {"truncation": "fusion"}, "of CLAP the unfused models are read"),
        ("feature_extractor", {"padding": "mirror"}, "padding is 'mirror', none of repeatpad, repeat, pad"),
        ("feature_extractor", {"hop_length": 60}, "more than the 64 frames that fit"),
        ("feature_extractor", {"feature_extractor_type": "OddFeatureExtractor"}, "OddFeatureExtractor, which is not known"),
    ],
)
def test_other_models_are_refused(clap_folder: Path, tmp_path: Path, section: str, values: dict, message: str) -> None:
    folder = tmp_path / "clap"
    shutil.copytree(clap_folder, folder)
    path = folder / ("processor_config.json" if section == "feature_extractor" else "config.json")
    said = json.loads(path.read_text())
    said[section].update(values)
    path.write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match=message):
        hub.load(folder)


def test_without_its_feature_extractor_a_folder_is_refused(clap_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clap"
    shutil.copytree(clap_folder, folder)
    (folder / "processor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no preprocessor_config\.json: rate, mel bands and windows"):
        hub.load(folder)
