"""The same drawings in other colours, and told so: what makes "a blue house" something that can be asked for.

Colours turn about the grey axis of RGB, which keeps the sum of the three. A drawing is turned if most of its colour is of one
hue and its name says none. Apples and bananas are not: what comes of "a blue apple" then shows whether a colour is understood
apart from the things that have it.
"""

import math
import re
from dataclasses import replace

import torch
from space_mini_data import Drawings
from torch import Tensor

COLOURS = {"green": 125.0, "blue": 225.0, "purple": 280.0}
SAID = frozenset({
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "colored", "rainbow", "flag",
})  # fmt: skip
KEPT = frozenset(("apple", "banana"))
PURE, STRONG = 0.85, 0.2
"""Of one colour is what keeps so much of its chroma in the mean, and has so much of it for its opacity."""
APART = 40.0
"""Degrees by which a new colour differs from the old at least."""


def chroma(pixels: Tensor) -> Tensor:
    """RGB [..., 3, h, w] as the complex number whose angle is the hue [..., h, w]."""
    red, green, blue = pixels.float().unbind(-3)
    return torch.complex(red - (green + blue) / 2, (green - blue) * math.sqrt(3) / 2)


def turn(pixels: Tensor, degrees: Tensor) -> Tensor:
    """Premultiplied RGBA in 0 … 255 [n, 4, h, w], each with its hues turned by as many degrees [n].

    >>> red = torch.tensor([200.0, 0, 0, 255]).reshape(1, 4, 1, 1)
    >>> turn(red, torch.tensor([240.0])).flatten().tolist()
    [0, 0, 200, 255]
    """
    rgb, alpha = pixels[:, :3].float(), pixels[:, 3:]
    turned = chroma(rgb) * torch.polar(torch.ones(len(pixels)), degrees.float().deg2rad())[:, None, None]
    grey, third, tilt = rgb.mean(1), turned.real / 3, turned.imag / math.sqrt(3)
    rgb = torch.stack((grey + 2 * third, grey - third + tilt, grey - third - tilt), 1)
    return torch.cat((torch.minimum(rgb.clamp(min=0), alpha.float()).round().to(torch.uint8), alpha.to(torch.uint8)), 1)


def hue(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The mean hue of premultiplied RGBA [n, 4, h, w] in degrees [n], and whether it is strong and shared by all, boolean [n]."""
    colours = chroma(pixels[:, :3]).flatten(1)
    mean, size, drawn = colours.mean(1), colours.abs().mean(1), pixels[:, 3].float().flatten(1).mean(1)
    return mean.angle().rad2deg() % 360, (mean.abs() > PURE * size) & (size > STRONG * drawn)


def recoloured(drawings: Drawings, count: int) -> Drawings:
    """The drawings and, of each that can be turned, `count` more in other colours, named "blue house"."""
    own, pure = (torch.cat(parts) for parts in zip(*map(hue, drawings.pixels.split(256)), strict=True))
    plain = [not (SAID | KEPT) & set(re.findall("[a-z]+", name.lower())) for name in drawings.names]
    able = (pure & drawings.base & torch.tensor(plain)).nonzero()[:, 0].tolist()
    chosen: list[tuple[int, str]] = []
    for number, i in enumerate(able):
        others = [name for name, at in COLOURS.items() if min((own[i] - at) % 360, (at - own[i]) % 360) > APART]
        chosen += [(i, others[(number + k) % len(others)]) for k in range(min(count, len(others)))]
    at = torch.tensor([i for i, _ in chosen], dtype=torch.long)
    names = tuple(f"{colour} {drawings.names[i]}" for i, colour in chosen)
    by = torch.tensor([COLOURS[colour] for _, colour in chosen]) - own[at]
    return replace(
        drawings,
        pixels=torch.cat((drawings.pixels, turn(drawings.pixels[at], by))),
        names=drawings.names + names,
        words=drawings.words + tuple(frozenset([name]) for name in names),
        base=torch.cat((drawings.base, torch.zeros(len(at), dtype=torch.bool))),
        held_out=torch.cat((drawings.held_out, drawings.held_out[at])),
        vendors=drawings.vendors + tuple(drawings.vendors[i] for i in at.tolist()),
        mirrored=torch.cat((drawings.mirrored, drawings.mirrored[at])),
    )
