"""Towers: what turns one modality's raw items into vectors, with its preprocessing attached.

Every tower has three steps. `prepare(source)` decodes one item to a tensor (no model, safe in threads), `collate` puts prepared
items into one batch, `forward` maps the batch to [n, dim]. Nothing in them looks across items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.errors import ConfigError, MediaError
from tectum.media.audio import read_windows
from tectum.media.image import ImageSpec
from tectum.media.mel import MelSpec
from tectum.media.text import Tokenizer
from tectum.models.encoders import GridConfig, GridEncoder, TextConfig, TextEncoder


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTowerConfig:
    """A grid encoder over pictures."""

    kind: ClassVar[str] = "image"
    image: ImageSpec
    grid: GridConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundTowerConfig:
    """A grid encoder over log-mel windows of `seconds`; a longer recording is seen through at most `max_windows` of them."""

    kind: ClassVar[str] = "audio"
    mel: MelSpec
    grid: GridConfig
    seconds: float = 2.5
    max_windows: int = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTowerConfig:
    """A Transformer over tokens."""

    kind: ClassVar[str] = "text"
    text: TextConfig


TowerConfig = ImageTowerConfig | SoundTowerConfig | TextTowerConfig


class ImageTower(nn.Module):
    """Pictures: path, bytes, Pillow image or array to [3, S, S] uint8 to [dim]."""

    kind = "image"

    def __init__(self, config: ImageTowerConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = GridEncoder(config.grid, dim)

    def prepare(self, source: Any) -> Tensor:
        """One picture to uint8 [3, S, S]."""
        return self.config.image.pixels(source)

    def collate(self, prepared: Sequence[Tensor]) -> Tensor:
        """To one uint8 batch [n, 3, S, S]."""
        return torch.stack(list(prepared))

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [n, 3, h, w], uint8 or floats in 0 … 1, to [n, dim]."""
        return self.encoder(self.config.image.normalise(pixels))


class SoundTower(nn.Module):
    """Recordings of any length: path, bytes or (samples, rate) to windows [w, samples] to their mean unit vector [dim]."""

    kind = "audio"

    def __init__(self, config: SoundTowerConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = GridEncoder(config.grid, dim)

    def prepare(self, source: Any) -> Tensor:
        """One recording to evenly spaced windows [w, samples] at a peak of 1, without those 40 dB quieter than the loudest."""
        config = self.config
        windows = read_windows(source, rate=config.mel.rate, seconds=config.seconds, max_windows=config.max_windows)
        power = windows.square().mean(1)
        return windows[power >= 1e-4 * power.max()] / windows.abs().max()

    def collate(self, prepared: Sequence[Tensor]) -> list[Tensor]:
        """Recordings differ in their number of windows, so a batch is a list."""
        return list(prepared)

    def forward(self, recordings: Sequence[Tensor]) -> Tensor:
        """n recordings of [w_i, samples] to [n, dim]."""
        windows = torch.cat(list(recordings))
        # A few at a time: 16 windows a recording and 64 recordings would need gigabytes of activations.
        parts = [self.encode_mel(self.config.mel(chunk)) for chunk in windows.split(64)]
        vectors = F.normalize(torch.cat(parts).float(), dim=-1)
        return torch.stack([part.mean(0) for part in vectors.split([len(recording) for recording in recordings])])

    def encode_mel(self, mel: Tensor) -> Tensor:
        """Log-mel windows [n, bins, frames] to [n, dim]."""
        return self.encoder(mel.unsqueeze(1))


class TextTower(nn.Module):
    """Texts to token ids [context] to [dim]."""

    kind = "text"

    def __init__(self, config: TextTowerConfig, dim: int, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.encoder = TextEncoder(config.text, dim, tokenizer.pad)

    def prepare(self, source: Any) -> Tensor:
        """One text to ids [context], padded."""
        if not isinstance(source, str):
            raise MediaError(f"a text must be a str, not {type(source).__name__}: read the file first", reason="unsupported")
        return self.tokenizer([source])[0]

    def collate(self, prepared: Sequence[Tensor]) -> Tensor:
        """To one batch of ids [n, context]."""
        return torch.stack(list(prepared))

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [n, context] to [n, dim]."""
        return self.encoder(ids)


Tower = ImageTower | SoundTower | TextTower


def build_tower(config: TowerConfig, dim: int, tokenizer: Tokenizer | None) -> Tower:
    """The tower a configuration describes.

    Raises:
        ConfigError: if a text tower comes without its tokenizer or with one of another vocabulary size.
    """
    if isinstance(config, ImageTowerConfig):
        return ImageTower(config, dim)
    if isinstance(config, SoundTowerConfig):
        return SoundTower(config, dim)
    if tokenizer is None or tokenizer.vocab_size != config.text.vocab_size:
        found = "no tokenizer" if tokenizer is None else f"a tokenizer of {tokenizer.vocab_size} tokens"
        raise ConfigError(f"the text tower needs a tokenizer of {config.text.vocab_size} tokens and got {found}")
    return TextTower(config, dim, tokenizer)
