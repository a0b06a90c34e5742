"""Files of small media, made for tests."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import soundfile
from fake_space import COLOURS
from PIL import Image


def make_picture(path: Path, colour: str = "red", seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).integers(-15, 15, (16, 16, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)).save(path, format="PNG")
    return path


def make_sound(path: Path, pitch: str = "high", seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(8000 * seconds)) / 8000
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * (1900 if pitch == "high" else 100) * times), 8000)
    return path


def make_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def make_old(folder: Path) -> None:
    """Put all files' times an hour back: a file that changed just now is looked at again by the next run, as it must be."""
    past = time.time() - 3600
    for path in [folder, *folder.rglob("*")]:
        if path.is_file() and not path.is_symlink():
            os.utime(path, (past, past))
