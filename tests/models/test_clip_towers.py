"""The towers of public checkpoints: what must hold for any weights."""

from typing import Any

import pytest
import torch

from tectum.errors import ConfigError
from tectum.models.clip_text import ClipText, ClipTextConfig
from tectum.models.vit import ViT, ViTConfig


def text(pool: Any, eos: int = 7) -> ClipText:
    torch.manual_seed(0)
    sizes = {"vocab_size": 12, "context": 9, "width": 8, "blocks": 2, "heads": 2, "hidden": 12}
    return ClipText(ClipTextConfig(**sizes, activation="quick_gelu", pool=pool), 6, eos).double().eval()


def vit(pool: Any, **options: Any) -> ViT:
    torch.manual_seed(0)
    sizes = {"size": 24, "patch": 6, "width": 8, "blocks": 2, "heads": 2, "hidden": 12}
    return ViT(ViTConfig(**sizes | options, activation="gelu", pool=pool), 8).double().eval()


def test_what_stands_after_the_end_changes_nothing_and_the_first_end_counts() -> None:
    ids = torch.tensor([[1, 2, 7, 3, 9, 7], [5, 7, 7, 7, 7, 7], [4, 3, 2, 1, 11, 7]])
    changed = ids.clone()
    changed[0, 3:], changed[1, 2:] = torch.tensor([11, 0, 0]), 0
    encoder = text("eos")
    torch.testing.assert_close(encoder(ids), encoder(changed))
    assert not torch.allclose(encoder(ids)[0], text("highest")(ids)[0])
    torch.testing.assert_close(encoder(ids)[1], text("highest")(ids)[1])


def test_many_texts_equal_each_alone() -> None:
    ids = torch.randint(0, 7, (150, 9))
    ids[torch.arange(150), torch.randint(0, 9, (150,))] = 7
    for pool in ("eos", "highest", "last"):
        encoder = text(pool)
        torch.testing.assert_close(encoder(ids)[::9], torch.cat([encoder(row[None]) for row in ids[::9]]))


@pytest.mark.parametrize("pool", ["eos", "highest", "last"])
def test_many_texts_look_into_the_table_once(pool: str) -> None:
    encoder, looks = text(pool), []
    encoder.tokens.register_forward_hook(lambda *_: looks.append(1))
    encoder(torch.full((150, 9), 7)).sum().backward()
    assert len(looks) == 1


def test_siglips_padding_is_seen() -> None:
    encoder, ids = text("last"), torch.tensor([[1, 2, 7]])
    assert not torch.allclose(encoder(ids), encoder(torch.nn.functional.pad(ids, (0, 2))))


def test_a_text_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no end token"):
        text("eos")(torch.tensor([[1, 2, 3]]))


@pytest.mark.parametrize("pool", ["class", "attention"])
def test_pictures_of_any_size_alone_or_together(pool: str) -> None:
    encoder = vit(pool)
    for size in ((24, 24), (30, 18), (25, 48)):
        pixels = torch.randn(3, 3, *size, dtype=torch.float64)
        together = encoder(pixels)
        assert together.shape == (3, 8)
        torch.testing.assert_close(together[1:2], encoder(pixels[1:2]))


@pytest.mark.parametrize("pool", ["class", "attention"])
def test_every_parameter_gets_a_gradient(pool: str) -> None:
    pooled: Any = "last" if pool == "attention" else "eos"
    pixels, ids = torch.randn(2, 3, 24, 24).double(), torch.tensor([[1, 2, 7], [4, 7, 0]])
    for encoder, inputs in ((vit(pool), pixels), (text(pooled), ids)):
        encoder(inputs).square().sum().backward()
        assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


def test_contradictory_configurations_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 heads do not divide a width of 8"):
        vit("class", heads=3)
    with pytest.raises(ConfigError, match="pools by 'class' or 'attention'"):
        vit("mean")
    with pytest.raises(ConfigError, match="no vision Transformer has such sizes"):
        vit("class", patch=25)
    with pytest.raises(ConfigError, match="vectors of its width, 8, not 9"):
        ViT(vit("attention").config, 9)
    with pytest.raises(ConfigError, match="pools by 'eos', 'highest' or 'last'"):
        text("mean")
