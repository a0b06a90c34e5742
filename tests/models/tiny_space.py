"""A small random space of three towers, for tests of what must hold for any weights."""

import torch

from tectum.media.image import ImageSpec
from tectum.media.mel import whisper_mel
from tectum.media.text import train_bpe
from tectum.models.encoders import GridConfig, TextConfig
from tectum.models.space import Space, SpaceConfig
from tectum.models.towers import ImageTowerConfig, SoundTowerConfig, TextTowerConfig

TEXTS = ["a dog barks", "rain on the roof", "a red apple", "sea waves at night", "a quick brown fox jumps over the lazy dog"]


def tiny_space(seed: int = 0, *, patches: bool = False) -> Space:
    """Towers of a few thousand parameters; with `patches` a plain ViT and AST instead of convolutions."""
    tokenizer = train_bpe(TEXTS, vocab_size=300, context=12)
    if patches:
        image = GridConfig(channels=3, patch=(8, 8), width=16, blocks=1, heads=2)
        audio = GridConfig(channels=1, patch=(16, 16), width=16, blocks=1, heads=2)
    else:
        image = GridConfig(channels=3, widths=(8, 16), depths=(1, 1), blocks=1, heads=2)
        audio = GridConfig(channels=1, widths=(4, 8), depths=(1, 1), blocks=1, heads=2)
    text = TextConfig(vocab_size=tokenizer.vocab_size, context=12, width=16, blocks=2, heads=2)
    config = SpaceConfig(
        name="tiny",
        dim=12,
        towers={
            "image": ImageTowerConfig(image=ImageSpec(size=32), grid=image),
            "text": TextTowerConfig(text=text),
            "audio": SoundTowerConfig(mel=whisper_mel(80), seconds=0.5, max_windows=4, grid=audio),
        },
    )
    torch.manual_seed(seed)
    space = Space(config, tokenizer)
    for module in space.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):  # as after some training: nothing is exactly 0 or 1
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return space.eval()
