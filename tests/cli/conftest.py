"""A real model of a few thousand random weights under the name of the default one, and a folder of small media."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import Done, Run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models that holds a tiny "space-mini"."""
    import torch

    from tectum import hub
    from tectum.media.image import ImageSpec
    from tectum.media.mel import whisper_mel
    from tectum.media.text import train_bpe
    from tectum.models.encoders import GridConfig, TextConfig
    from tectum.models.space import Space, SpaceConfig
    from tectum.models.towers import ImageTowerConfig, SoundTowerConfig, TextTowerConfig

    torch.manual_seed(0)
    tokenizer = train_bpe(["a dog barks", "rain"], 260, context=16)
    config = SpaceConfig(
        name="space-mini",
        description="random weights",
        dim=16,
        towers={
            "image": ImageTowerConfig(image=ImageSpec(size=16), grid=GridConfig(channels=3, patch=(8, 8), width=16, heads=2)),
            "text": TextTowerConfig(text=TextConfig(vocab_size=tokenizer.vocab_size, context=16, width=16, blocks=1, heads=2)),
            "audio": SoundTowerConfig(
                mel=whisper_mel(), grid=GridConfig(channels=1, patch=(20, 20), width=16, heads=2), seconds=0.5, max_windows=2
            ),
        },
    )
    space = Space(config, tokenizer)
    space.background = {kind: torch.nn.functional.normalize(torch.randn(128, 16), dim=-1) for kind in space.modalities}
    folder = tmp_path_factory.mktemp("weights")
    hub.save(space, folder / "space-mini", dtype=torch.float32)
    return folder


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures (one under a hostile name), two sounds, a text, and three files that cannot be used."""
    import soundfile
    from PIL import Image

    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "c.bmp", "new\nline [bold]\x1b[31m 🐕.png"):
        Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(folder / name)
    for name, hertz in (("high.wav", 3000), ("low.flac", 200)):
        soundfile.write(folder / name, 0.5 * np.sin(2 * np.pi * hertz * np.arange(8000) / 16000), 16000)
    (folder / "note.txt").write_text("Rain all day, and the dog barks.\n")
    (folder / "empty.png").write_bytes(b"")
    (folder / "words.jpg").write_text("this is no picture")
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:200])
    return folder


@pytest.fixture
def tectum(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process, in an empty folder, with the tiny model."""
    monkeypatch.setenv("TECTUM_WEIGHTS", str(weights))
    monkeypatch.delenv("TECTUM_LIBRARY", raising=False)
    monkeypatch.delenv("TECTUM_DEBUG", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Done:
        from tectum.cli.main import main

        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture
def process(weights: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Start the command as a process of its own."""

    def start(*arguments: object, **variables: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "TECTUM_WEIGHTS": str(weights), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
        command = [sys.executable, "-m", "tectum", *map(str, arguments)]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return start
