"""The recipe bind_cached, from files of vectors to projectors, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tectum.errors import ConfigError, DataError
from tectum.models.projector import load_projectors
from tectum.train.recipe import load_recipe, override

RECIPE = load_recipe(Path(__file__).parents[2] / "recipes" / "bind_cached.py")


def files(folder: Path) -> str:
    """Pictures and texts in one file, sounds, of every other sample, in another that says no kinds."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(200, 4))
    image, text, audio = (latent @ rng.normal(size=(4, size)) for size in (9, 9, 7))
    names = [f"{i}.x" for i in range(200)]
    both = {"vectors": np.concatenate((image, text)), "paths": names * 2, "kinds": ["image"] * 200 + ["text"] * 200}
    np.savez(folder / "both.npz", **{name: np.array(column) for name, column in both.items()})
    np.savez(folder / "audio.npz", vectors=audio[::2], paths=names[::2])
    return f"vectors={folder / 'both.npz'},{folder / 'audio.npz'}"


def recipe(*settings: str):
    return override(RECIPE.Recipe(), ["steps=40", "batch=64", "lr=0.01", *settings])


def records(out: Path) -> list[dict[str, float]]:
    return [record for line in (out / "log.jsonl").read_text().splitlines() if (record := json.loads(line))["kind"] == "eval"]


def test_from_files_to_projectors(tmp_path) -> None:
    chosen = recipe(files(tmp_path), "edges=image-text,image-audio", "dim=6", "drop=0.2", "lengths=2,6", "steps=150")
    RECIPE.run(chosen, tmp_path / "out")
    projectors = load_projectors(tmp_path / "out")
    with np.load(tmp_path / "both.npz") as held:
        vectors = torch.from_numpy(held["vectors"]).float()
    views = projectors({"image": vectors[:200], "text": vectors[200:]})
    assert (views["image"] @ views["text"].T).argmax(1).eq(torch.arange(200)).float().mean() > 0.3
    found = records(tmp_path / "out")[-1]
    for name in ("audio to text R@1", "text to image R@1", "image-text gap", "image-audio scale", "image-audio harder"):
        assert np.isfinite(found[name])
    assert found["audio to text R@1"] > 0.3  # Never paired.
    pictures = {path.name for path in (tmp_path / "out" / "similarity").iterdir()}
    assert pictures == {"image-text-000150.png", "image-audio-000150.png"}


def test_by_sigmoid_about_an_anchor_it_ends_where_it_ended_before(tmp_path) -> None:
    settings = (files(tmp_path), "edges=image-audio", "anchor=image", "hidden=8", "dropout=0.1")
    chosen = recipe(*settings, "loss=sigmoid")
    for out in ("one", "other"):
        RECIPE.run(chosen, tmp_path / out)
    names = ("projectors.safetensors", "projectors.json", "log.jsonl", "similarity/image-audio-000040.png")
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes() for name in names)
    assert list(load_projectors(tmp_path / "one").configs) == ["audio"]
    with pytest.raises(ConfigError, match="was begun with loss='sigmoid'"):
        RECIPE.run(recipe(*settings), tmp_path / "one")


def test_mistakes_are_told(tmp_path) -> None:
    given = files(tmp_path)
    for settings, words in (
        ((given, "edges=image-video"), "there is no edge 'image-video': the files hold image, text, audio"),
        ((given, "edges=image"), "there is no edge 'image'"),
        ((given, "anchor=video"), "there is no anchor 'video'"),
        ((), "the files hold nothing, give vectors=FILE.npz"),
    ):
        with pytest.raises(ConfigError, match=words):
            RECIPE.run(recipe(*settings), tmp_path / words[:20])
    np.savez(tmp_path / "more.npz", vectors=np.ones((2, 5)), paths=["a", "b"], kinds=["image", "image"])
    with pytest.raises(DataError, match=r"the image vectors have the lengths \[5, 9\]"):
        RECIPE.run(recipe(f"{given},{tmp_path / 'more.npz'}"), tmp_path / "out")
