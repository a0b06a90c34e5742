"""A model without weights: vectors are plain functions of the content, so that tests know what must be found."""

from __future__ import annotations

import hashlib
import threading
import time
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tectum.media.audio import read_windows
from tectum.media.image import read_image

COLOURS = {"red": (230, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230), "yellow": (230, 230, 20), "grey": (128, 128, 128)}
CONTEXT = 96


def direction(name: str, dim: int) -> np.ndarray:
    """A fixed random unit vector [dim] for a name."""
    seed = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(dim)
    return vector / np.linalg.norm(vector)


class FakeSpace:
    """Pictures point where the word for their colour points, sounds where "high" or "low" does, each with some noise of its own.

    Prepared items are tensors as a real model's are; `prepared` and `encoded` count the work,
    `halved` has whether it was done in bfloat16.
    """

    def __init__(
        self, dim: int = 64, *, fingerprint: str = "fake-1", background: int = 0, slow: float = 0.0, precision: str = "fp32"
    ) -> None:
        self.name = "fake"
        self.precision = precision
        self.halved: set[bool] = set()
        self.dim = dim
        self.modalities = ("image", "audio", "text")
        self.fingerprint = fingerprint
        self.slow = slow
        self.calibration: dict[str, tuple[float, float, float]] = {}
        random = np.random.default_rng(1)
        vectors = random.standard_normal((background, dim))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.background = {kind: torch.tensor(vectors, dtype=torch.float32) for kind in self.modalities} if background else {}
        self.prepared = 0
        self.encoded = 0
        self._lock = threading.Lock()

    def prepare(self, modality: str, source: Any) -> Tensor:
        with self._lock:
            self.prepared += 1
        if modality == "image":
            image: Image.Image = read_image(source).resize((8, 8))
            return torch.tensor(np.asarray(image)).permute(2, 0, 1)
        if modality == "audio":
            return read_windows(source, rate=8000, seconds=0.25, max_windows=2)
        assert isinstance(source, str)
        words = [zlib.crc32(word.strip(".,!?").encode("utf-8", "surrogatepass")) for word in source.lower().split()][:CONTEXT]
        return torch.tensor(words + [0] * (CONTEXT - len(words)), dtype=torch.int64)

    def encode(self, modality: str, prepared: Sequence[Tensor]) -> Tensor:
        self.encoded += len(prepared)
        self.halved.add(torch.is_autocast_enabled("cpu"))
        time.sleep(self.slow * len(prepared))
        vectors = np.stack([getattr(self, f"_{modality}")(item) for item in prepared]) if prepared else np.zeros((0, self.dim))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return torch.tensor(vectors, dtype=torch.float32)

    def embed(self, *, batch_size: int = 64, **sources: Any) -> dict[str, Tensor]:
        return {name: self.encode(name, [self.prepare(name, item) for item in items]) for name, items in sources.items()}

    def _image(self, pixels: Tensor) -> np.ndarray:
        mean = pixels.float().mean((1, 2)).numpy()
        name = min(COLOURS, key=lambda colour: float(np.abs(mean - COLOURS[colour]).sum()))
        return direction(name, self.dim) + 0.5 * direction(hashlib.sha256(pixels.numpy().tobytes()).hexdigest(), self.dim)

    def _audio(self, windows: Tensor) -> np.ndarray:
        crossings = float((windows[:, 1:] * windows[:, :-1] < 0).float().mean())
        own = direction(hashlib.sha256(windows.numpy().tobytes()).hexdigest(), self.dim)
        return direction("high" if crossings > 0.1 else "low", self.dim) + 0.5 * own

    def _text(self, tokens: Tensor) -> np.ndarray:
        words = {zlib.crc32(word.encode()): word for word in (*COLOURS, "high", "low")}
        known = [words[code] for code in tokens.tolist() if code in words]
        own = hashlib.sha256(tokens.numpy().tobytes()).hexdigest()
        return sum((direction(word, self.dim) for word in known or [own]), np.zeros(self.dim)) + 0.1 * direction(own, self.dim)
