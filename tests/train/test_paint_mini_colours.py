"""Drawings in other colours: turning is a rotation, and only what has one colour and no name of one is turned."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

RECIPES = str(Path(__file__).parents[2] / "recipes")


@pytest.fixture(scope="module")
def colours():
    sys.path.insert(0, RECIPES)
    try:
        import paint_mini_colours

        yield paint_mini_colours
    finally:
        sys.path.remove(RECIPES)


def drawing(rgb: tuple[float, float, float], alpha: float = 255.0) -> Tensor:
    """Premultiplied RGBA, a square on nothing."""
    pixels = torch.zeros(4, 8, 8)
    pixels[:, 2:6, 2:6] = torch.tensor([*(value * alpha / 255 for value in rgb), alpha])[:, None, None]
    return pixels.round().to(torch.uint8)


def test_a_third_of_a_turn_changes_the_places_of_the_channels(colours) -> None:
    pixels = torch.stack([drawing((90, 40, 60)), drawing((90, 40, 60), alpha=128)])
    turned = colours.turn(pixels, torch.tensor([120.0, 240.0]))
    assert (turned[0].int() - pixels[0, [2, 0, 1, 3]].int()).abs().max() <= 1
    assert (turned[1].int() - pixels[1, [1, 2, 0, 3]].int()).abs().max() <= 1


def test_grey_stays_and_a_whole_turn_changes_nothing(colours) -> None:
    grey, any_ = drawing((80, 80, 80)), drawing((90, 40, 60))
    assert torch.equal(colours.turn(grey[None], torch.tensor([77.0]))[0], grey)
    assert torch.equal(colours.turn(any_[None], torch.tensor([360.0]))[0], any_)


def test_turning_adds_to_the_hue_and_no_colour_exceeds_its_alpha(colours) -> None:
    pixels = torch.stack([drawing((120, 60, 40)), drawing((30, 90, 120))])
    by = torch.tensor([35.0, 200.0])
    before, after = colours.hue(pixels), colours.hue(colours.turn(pixels, by))
    assert before[1].all() and after[1].all()
    assert ((after[0] - before[0] - by + 180) % 360 - 180).abs().max() < 1
    bright = colours.turn(drawing((255, 200, 0))[None], torch.tensor([225.0]))
    assert (bright[:, :3] <= bright[:, 3:]).all()


def test_only_what_has_one_colour_and_no_name_of_one_is_turned(colours) -> None:
    from space_mini_data import Drawings

    both = drawing((200, 20, 20))
    both[:3, 2:6, 4:6] = torch.tensor([20, 20, 200])[:, None, None]
    named = {
        "house": drawing((150, 70, 70)),
        "red car": drawing((200, 20, 20)),
        "green apple": drawing((20, 200, 20)),
        "flag: Peru": drawing((200, 20, 20)),
        "cloud": drawing((150, 150, 150)),
        "two things": both,
        "frog": drawing((70, 150, 70)),
    }
    n = len(named)
    drawings = Drawings(
        pixels=torch.stack(list(named.values())), names=tuple(named), words=tuple(frozenset([name]) for name in named),
        base=torch.ones(n, dtype=torch.bool), held_out=torch.zeros(n, dtype=torch.bool), vendors=("noto",) * n,
        mirrored=torch.zeros(n, dtype=torch.bool),
    )  # fmt: skip
    more = colours.recoloured(drawings, 3)
    assert more.names[:n] == drawings.names and torch.equal(more.pixels[:n], drawings.pixels)
    assert sorted(more.names[n:]) == ["blue frog", "blue house", "green house", "purple frog", "purple house"]
    for name, pixels in zip(more.names[n:], more.pixels[n:], strict=True):
        at = colours.COLOURS[name.split()[0]]
        assert abs(float(colours.hue(pixels[None])[0]) - at) < 1
    assert colours.recoloured(drawings, 0).names == drawings.names
