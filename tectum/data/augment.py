"""Batched augmentation on tensors; every function takes its own generator, so a batch is a function of its seed."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """n numbers [n] from U(low, high)."""
    return torch.rand(n, generator=generator) * (high - low) + low


def random_crop(
    grids: Tensor,
    size: tuple[int, int],
    generator: torch.Generator,
    *,
    scale: tuple[float, float] = (0.35, 1.0),
    ratio: float = 4 / 3,
    degrees: float = 0.0,
    flip: Tensor | None = None,
    inside: bool = True,
) -> Tensor:
    """Random resized crops (Inception's, arXiv:1409.4842) with rotation and mirror, [n, c, H, W] to float [n, c, *size].

    Args:
        grids: uint8 or float.
        size: of the result.
        scale: range of the crop's share of the area; above 1 it zooms out.
        ratio: largest aspect change r; the log of the aspect is uniform in ±log r.
        degrees: largest rotation.
        flip: boolean [n], which grids may be mirrored (each then is with probability ½).
        inside: place the crop inside the grid, else centre it up to a tenth off; outside reads zero.
    """
    n = len(grids)
    area = uniform(n, *scale, generator).sqrt()
    aspect = torch.exp(uniform(n, -math.log(ratio), math.log(ratio), generator) / 2)
    width, height = area * aspect, area / aspect
    if inside:
        width, height = width.clamp(max=1), height.clamp(max=1)
        free_x, free_y = 1 - width, 1 - height
    else:
        free_x = free_y = torch.full((n,), 0.1)
    x, y = free_x * uniform(n, -1, 1, generator), free_y * uniform(n, -1, 1, generator)
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    mirror = torch.where(flip, mirror, 1.0) if flip is not None else torch.ones(n)
    angle = uniform(n, -1, 1, generator) * math.radians(degrees)
    cos, sin = angle.cos(), angle.sin()
    rows = torch.stack(
        (torch.stack((mirror * width * cos, -height * sin, x), 1), torch.stack((mirror * width * sin, height * cos, y), 1)), 1
    )
    grid = F.affine_grid(rows, [n, grids.shape[1], *size], align_corners=False)
    padding = "reflection" if inside else "zeros"
    return F.grid_sample(grids.float(), grid, mode="bilinear", padding_mode=padding, align_corners=False)


def jitter_colour(pictures: Tensor, generator: torch.Generator, *, strength: float = 0.4, grey: float = 0.1) -> Tensor:
    """Random brightness, contrast, saturation and channel gains on [n, 3, h, w] in 0 … 255; a share `grey` loses its colour."""
    n = len(pictures)

    def factor(width: float) -> Tensor:
        return uniform(n, 1 - width, 1 + width, generator)[:, None, None, None]

    grey_level = pictures.mean(1, keepdim=True)
    saturation = factor(strength)
    saturation = torch.where(torch.rand(n, generator=generator)[:, None, None, None] < grey, 0.0, saturation)
    pictures = grey_level + (pictures - grey_level) * saturation
    mean = pictures.mean((1, 2, 3), keepdim=True)
    pictures = mean * factor(strength) + (pictures - mean) * factor(strength)
    gains = 1 + (torch.rand(n, 3, 1, 1, generator=generator) - 0.5) * strength * 0.5
    return (pictures * gains).clamp(0, 255)


def cut_mix(grids: Tensor, generator: torch.Generator, *, share: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """CutMix (arXiv:1905.04899): paste a box of a partner into a share of the grids.

    Returns the grids [n, c, h, w], the partner of each [n] and the kept share λ [n] (1 where nothing was pasted), so that the
    target is λ·own + (1 − λ)·partner's.
    """
    n, _, height, width = grids.shape
    partner = torch.randperm(n, generator=generator)
    side = torch.sqrt(1 - torch.rand(n, generator=generator)) * (torch.rand(n, generator=generator) < share)
    cy, cx = torch.rand(n, generator=generator) * height, torch.rand(n, generator=generator) * width
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    box = ((rows - cy[:, None]).abs() < (side * height / 2)[:, None])[:, :, None] & (
        (columns - cx[:, None]).abs() < (side * width / 2)[:, None]
    )[:, None, :]
    mixed = torch.where(box[:, None], grids[partner], grids)
    return mixed, partner, 1 - box.float().mean((1, 2))


def mask_bands(mel: Tensor, generator: torch.Generator, *, bins: int = 12, frames: int = 40) -> Tensor:
    """SpecAugment without warping (arXiv:1904.08779): a band of bins and one of frames of [n, bins, frames] set to the mean."""
    n, height, width = mel.shape
    mean = mel.mean((1, 2), keepdim=True)

    def band(length: int, most: int) -> Tensor:
        size = torch.rand(n, generator=generator) * most
        start = torch.rand(n, generator=generator) * (length - size)
        at = torch.arange(length)
        return (at >= start[:, None]) & (at < (start + size)[:, None])

    hidden = band(height, bins)[:, :, None] | band(width, frames)[:, None, :]
    return torch.where(hidden, mean, mel)
