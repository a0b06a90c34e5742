"""Towers: what turns one modality's raw items into vectors, with its preprocessing attached.

Every tower has three steps. `prepare(source)` decodes one item to a tensor (no model, safe in threads), `collate` puts prepared
items into one batch, `forward` maps the batch to [n, dim]. Nothing in them looks across items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.errors import ConfigError, MediaError
from tectum.media.audio import read_sound, read_windows
from tectum.media.image import ImageSpec
from tectum.media.mel import MelSpec
from tectum.media.text import Tokenizer
from tectum.models.clip_text import ClipText, ClipTextConfig
from tectum.models.encoders import GridConfig, GridEncoder, TextConfig, TextEncoder
from tectum.models.htsat import Htsat, HtsatConfig
from tectum.models.roberta import Roberta, RobertaConfig
from tectum.models.vit import ViT, ViTConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTowerConfig:
    """A grid encoder, or the ViT of a public checkpoint, over pictures."""

    kind: ClassVar[str] = "image"
    image: ImageSpec
    grid: GridConfig | ViTConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundTowerConfig:
    """A grid encoder, or the HTSAT of CLAP, over log-mel windows of `seconds`.

    A longer recording is seen through at most `max_windows` of them. A shorter one fills its window by `short`: "repeat" cuts
    the last repetition, "whole" leaves silence where it does not fit, "silence" does not repeat. `peak` brings recordings to a
    peak of 1.
    """

    kind: ClassVar[str] = "audio"
    mel: MelSpec
    grid: GridConfig | HtsatConfig
    seconds: float = 2.5
    max_windows: int = 16
    short: Literal["repeat", "whole", "silence"] = "repeat"
    peak: bool = True

    def __post_init__(self) -> None:
        if self.short not in ("repeat", "whole", "silence"):
            raise ConfigError(f"a short recording fills its window by 'repeat', 'whole' or 'silence', not {self.short!r}")
        if isinstance(self.grid, HtsatConfig) and self.grid.bins != self.mel.bins:
            raise ConfigError(f"an HTSAT over {self.grid.bins} bins cannot see spectrograms of {self.mel.bins}")
        if isinstance(self.grid, HtsatConfig) and self.mel.frames(round(self.seconds * self.mel.rate)) > self.grid.frames:
            raise ConfigError(f"{self.seconds} s give more than the {self.grid.frames} frames that fit")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTowerConfig:
    """A Transformer over tokens."""

    kind: ClassVar[str] = "text"
    text: TextConfig | ClipTextConfig | RobertaConfig


TowerConfig = ImageTowerConfig | SoundTowerConfig | TextTowerConfig


class ImageTower(nn.Module):
    """Pictures: path, bytes, Pillow image or array to [3, S, S] uint8 to [dim]."""

    kind = "image"

    def __init__(self, config: ImageTowerConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.encoder: nn.Module
        if isinstance(config.grid, ViTConfig):
            self.encoder = ViT(config.grid, dim)
        else:
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
        self.encoder: nn.Module
        if isinstance(config.grid, HtsatConfig):
            self.encoder = Htsat(config.grid, dim)
        else:
            self.encoder = GridEncoder(config.grid, dim)

    def prepare(self, source: Any) -> Tensor:
        """One recording to evenly spaced windows [w, samples], without those 40 dB quieter than the loudest."""
        windows = self._windows(source)
        power = windows.square().mean(1)
        return windows[power >= 1e-4 * power.max()] / (windows.abs().max() if self.config.peak else 1)

    def _windows(self, source: Any) -> Tensor:
        config, rate = self.config, self.config.mel.rate
        size = round(config.seconds * rate)
        if config.short != "repeat":
            clip = read_sound(source, rate=rate, seconds=config.seconds)
            if len(clip) < size:
                times = size // len(clip) if config.short == "whole" else 1
                return F.pad(clip.repeat(times), (0, size - times * len(clip))).unsqueeze(0)
        return read_windows(source, rate=rate, seconds=config.seconds, max_windows=config.max_windows)

    def collate(self, prepared: Sequence[Tensor]) -> list[Tensor]:
        """Recordings differ in their number of windows, so a batch is a list."""
        return list(prepared)

    def forward(self, recordings: Sequence[Tensor]) -> Tensor:
        """n recordings of [w_i, samples] to [n, dim]."""
        windows = torch.cat(list(recordings))
        # Some 160 s at a time: 16 windows a recording and 64 recordings would need gigabytes of activations.
        few = max(1, round(160 / self.config.seconds))
        parts = [self.encode_mel(self._mel(chunk)) for chunk in windows.split(few)]
        vectors = F.normalize(torch.cat(parts).float(), dim=-1)
        return torch.stack([part.mean(0) for part in vectors.split([len(recording) for recording in recordings])])

    def _mel(self, windows: Tensor) -> Tensor:
        if isinstance(self.config.grid, HtsatConfig) and windows.device.type != "mps":
            # CLAP's decibels have no ceiling: in float32 the quiet bands beside a pure tone are hundredths of one off.
            return self.config.mel(windows.double()).float()
        return self.config.mel(windows)

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
        self.encoder: nn.Module
        if isinstance(config.text, ClipTextConfig):
            self.encoder = ClipText(config.text, dim, tokenizer.eos)
        elif isinstance(config.text, RobertaConfig):
            self.encoder = Roberta(config.text, dim, tokenizer.pad)
        else:
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
        ConfigError: if a text tower comes without its tokenizer or with one of another vocabulary size. (The embedding tables
            of public checkpoints may be longer than their vocabulary.)
    """
    if isinstance(config, ImageTowerConfig):
        return ImageTower(config, dim)
    if isinstance(config, SoundTowerConfig):
        return SoundTower(config, dim)
    public = isinstance(config.text, ClipTextConfig | RobertaConfig)
    longer = public and tokenizer is not None and tokenizer.vocab_size < config.text.vocab_size
    if tokenizer is None or (tokenizer.vocab_size != config.text.vocab_size and not longer):
        found = "no tokenizer" if tokenizer is None else f"a tokenizer of {tokenizer.vocab_size} tokens"
        raise ConfigError(f"the text tower needs a tokenizer of {config.text.vocab_size} tokens and got {found}")
    return TextTower(config, dim, tokenizer)
