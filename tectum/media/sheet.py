"""Pictures side by side on one sheet, and one after the other in a GIF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import IO

from PIL import Image
from torch import Tensor

from tectum.errors import ConfigError


def picture(pixels: Tensor) -> Image.Image:
    """uint8 [3, h, w] as a Pillow image.

    >>> import torch
    >>> picture(torch.zeros(3, 2, 4, dtype=torch.uint8)).size
    (4, 2)
    """
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def sheet(pictures: Tensor, *, columns: int | None = None, gap: int = 2) -> Image.Image:
    """Pictures, uint8 [n, 3, h, w], row by row on white; about as many columns as rows if left out.

    >>> import torch
    >>> sheet(torch.zeros(5, 3, 8, 8, dtype=torch.uint8)).size
    (28, 18)
    """
    n, _, height, width = pictures.shape
    if n == 0:
        raise ConfigError("there is no picture to put on a sheet: give at least one")
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    whole = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), (255, 255, 255))
    for at, one in enumerate(pictures):
        whole.paste(picture(one), ((at % columns) * (width + gap), (at // columns) * (height + gap)))
    return whole


def write_gif(file: IO[bytes], frames: Sequence[Image.Image], *, milliseconds: int = 80, hold: int = 1500) -> None:
    """An endless GIF of frames of one size; the last one stays for `hold` milliseconds."""
    if not frames:
        raise ConfigError("there is no frame to make a GIF of: give at least one")
    durations = [milliseconds] * (len(frames) - 1) + [hold]
    # One palette for all: a palette for each frame flickers.
    palette = frames[-1].quantize(255)
    reduced = [frame.quantize(255, palette=palette, dither=Image.Dither.NONE) for frame in frames]
    reduced[0].save(file, "GIF", save_all=True, append_images=reduced[1:], duration=durations, loop=0, optimize=False)
