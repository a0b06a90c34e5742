"""The shipped painter: small enough, one picture whatever the batch, and a picture of the thing that was named."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import tectum
from tectum.hub.generators import load_text_to_image
from tectum.hub.names import available
from tectum.models.encoders import parameter_count
from tectum.models.sampling import Edit, Sampling
from tectum.models.text_to_image import TextToImage

THINGS = (
    "red apple", "pizza", "dog face", "rose", "crab", "rocket", "red heart", "hamburger", "Christmas tree", "banana",
    "sunflower", "soccer ball", "crown", "octopus", "house", "strawberry",
)  # fmt: skip
OTHERS = (
    "airplane", "alarm clock", "anchor", "ant", "avocado", "axe", "baby", "balloon", "barn", "bicycle", "bread", "broccoli",
    "butterfly", "cactus", "camel", "candle", "carrot", "castle", "cheese wedge", "cloud", "cow", "desert", "door", "elephant",
    "envelope", "fish", "fork and knife", "full moon", "ghost", "giraffe", "glasses", "guitar", "hammer", "horse", "key", "kite",
    "ladder", "lion", "lobster", "map", "mouse", "mushroom", "necktie", "ocean", "owl", "pencil", "penguin", "rainbow", "robot",
    "sailboat", "shoe", "snake", "snowflake", "spoon", "teapot", "telephone", "tiger", "train", "trumpet", "umbrella", "violin",
    "volcano", "whale", "zebra",
)  # fmt: skip


@pytest.fixture(scope="module")
def painter() -> TextToImage:
    return load_text_to_image("paint-mini")


def test_it_is_under_forty_megabytes_and_in_half_precision(painter: TextToImage) -> None:
    folder: Path = {info.name: info.path for info in available()}["paint-mini"]
    size = (folder / "model.safetensors").stat().st_size
    assert 2 * parameter_count(painter) <= size + 1000 < 40e6


def test_a_picture_is_the_same_alone_and_in_a_batch(painter: TextToImage) -> None:
    sampling = Sampling(steps=6, seed=3)
    together = painter.generate(["a rose", "a dog", "a pizza"], sampling)
    alone = painter.generate(["a pizza"], sampling, numbers=[2])
    assert (together[2].int() - alone[0].int()).abs().max() <= 1


@torch.no_grad()
def cosines(painter: TextToImage, sampling: Sampling) -> Tensor:
    """Of what is painted of each thing, with the names of all, [16, 80]."""
    space = tectum.load("space-mini")
    pictures = painter.generate(THINGS, sampling).float() / 255
    return space({"image": pictures})["image"] @ space.label_vectors([*THINGS, *OTHERS]).T


def test_most_things_are_known_by_their_names(painter: TextToImage) -> None:
    """Among eighty names, where a guess is right once in eighty."""
    found = cosines(painter, Sampling(steps=15, seed=1)).argmax(1)
    assert (found == torch.arange(len(THINGS))).float().mean() >= 0.5


def test_guidance_makes_pictures_follow_the_text(painter: TextToImage) -> None:
    plain, guided = (cosines(painter, Sampling(steps=10, guidance=w)).diagonal().mean() for w in (1.0, 5.0))
    assert guided > plain


def test_a_colour_is_known_apart_from_what_has_it(painter: TextToImage) -> None:
    """No blue apple and no purple banana was ever shown."""
    for text, more, less in (("a blue apple", 2, 0), ("a red apple", 0, 2), ("a green apple", 1, 0), ("a purple banana", 2, 1)):
        pictures = painter.generate([text] * 4, Sampling(steps=15, seed=1)).float()
        assert (pictures[:, more] - pictures[:, less]).mean((1, 2)).gt(0).sum() >= 3, text


def test_a_mask_leaves_the_rest_to_the_pixel(painter: TextToImage) -> None:
    begin = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    hole = torch.zeros(64, 64, dtype=torch.bool)
    hole[:32] = True
    made = painter.generate(["a hat"], Sampling(steps=3), edit=Edit(picture=begin, strength=1.0, hole=hole))[0]
    before = ((begin + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(made[:, 32:], before[:, 32:])
    assert not torch.equal(made[:, :32], before[:, :32])
