"""`resize` and `ImageSpec` against Pillow, which is the reference, and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from tectum.errors import ConfigError
from tectum.media.image import ImageSpec, resize

PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
side = st.integers(1, 90)
filters = st.sampled_from(["bicubic", "bilinear"])


def noise(h: int, w: int, seed: int, harsh: bool) -> np.ndarray:
    """Black-and-white noise makes bicubic overshoot most, so that rounding and clipping between the passes show."""
    rng = np.random.default_rng(seed)
    return rng.choice([0, 255], (h, w, 3)).astype(np.uint8) if harsh else rng.integers(0, 256, (h, w, 3), dtype=np.uint8)


def chw(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).permute(2, 0, 1)


@settings(max_examples=150, deadline=None)
@given(h=side, w=side, height=side, width=side, seed=st.integers(0, 9), harsh=st.booleans(), filter=filters)
@example(h=80, w=80, height=39, width=60, seed=0, harsh=True, filter="bicubic")  # Pillow takes the height first
@example(h=80, w=80, height=40, width=60, seed=0, harsh=True, filter="bicubic")  # … but not at exactly twice the loss
@example(h=80, w=40, height=81, width=90, seed=0, harsh=True, filter="bicubic")
@example(h=2, w=1, height=3, width=1, seed=0, harsh=True, filter="bicubic")  # where torch's own interpolate fails
def test_equals_pillow_to_one_grey_level(h: int, w: int, height: int, width: int, seed: int, harsh: bool, filter: str) -> None:
    x = noise(h, w, seed, harsh)
    expected = np.asarray(Image.fromarray(x).resize((width, height), PILLOW[filter])).astype(int)
    got = resize(chw(x), (height, width), filter).permute(1, 2, 0).numpy()  # type: ignore[arg-type]
    assert got.dtype == np.uint8
    assert np.abs(got - expected).max() <= 1


@settings(max_examples=50, deadline=None)
@given(h=side, w=side, height=side, width=side, filter=filters)
def test_floats_equal_pillows_float_mode(h: int, w: int, height: int, width: int, filter: str) -> None:
    x = np.random.default_rng(1).standard_normal((h, w)).astype(np.float32)
    expected = np.asarray(Image.fromarray(x).resize((width, height), PILLOW[filter]))
    got = resize(torch.from_numpy(x)[None], (height, width), filter)[0].numpy()  # type: ignore[arg-type]
    assert np.abs(got - expected).max() < 2e-4


def test_large_pictures_and_mixed_scales() -> None:
    x = noise(1200, 1700, 3, harsh=True)
    for size in ((64, 64), (2000, 40), (224, 298)):
        expected = np.asarray(Image.fromarray(x).resize(size[::-1], PILLOW["bicubic"])).astype(int)
        assert np.abs(resize(chw(x), size).permute(1, 2, 0).numpy() - expected).max() <= 1


def test_gradients_and_double_precision() -> None:
    x = torch.randn(1, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: resize(y, (3, 6)), x)


def test_constants_stay_batches_equal_singles_and_same_size_is_identity() -> None:
    assert (resize(torch.full((3, 17, 5), 77, dtype=torch.uint8), (40, 3)) == 77).all()
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 4, 3, 20, 30), dtype=np.uint8))
    y = resize(x, (9, 50))
    assert y.shape == (2, 4, 3, 9, 50)
    assert torch.equal(y[1, 2], resize(x[1, 2], (9, 50)))
    assert torch.equal(resize(x, (20, 30)), x)
    with pytest.raises(ConfigError):
        resize(x, (0, 5))


@pytest.mark.parametrize(("w", "h"), [(100, 64), (64, 100), (640, 427), (427, 640), (33, 500), (224, 224), (10, 7), (255, 256)])
@pytest.mark.parametrize("size", [64, 65])
def test_shortest_equals_resizing_and_then_cutting(w: int, h: int, size: int) -> None:
    x = noise(h, w, 0, harsh=False)
    short = min(w, h)
    width, height = size if w == short else int(size * w / h), size if h == short else int(size * h / w)
    full = Image.fromarray(x).resize((width, h), PILLOW["bicubic"]).resize((width, height), PILLOW["bicubic"])
    left, top = round((full.width - size) / 2), round((full.height - size) / 2)
    expected = np.asarray(full.crop((left, top, left + size, top + size))).astype(int)
    got = ImageSpec(size=size, fit="shortest").pixels(x).permute(1, 2, 0).numpy()
    assert np.abs(got - expected).max() <= 1


def test_squash_is_pillows_resize_and_pad_frames_it() -> None:
    x = noise(50, 100, 0, harsh=False)
    expected = np.asarray(Image.fromarray(x).resize((64, 64), PILLOW["bicubic"]))
    assert np.array_equal(ImageSpec(size=64).pixels(x).permute(1, 2, 0).numpy(), expected)
    padded = ImageSpec(size=64, fit="pad", background=(1, 2, 3)).pixels(x).permute(1, 2, 0).numpy()
    assert np.array_equal(padded[16:48], np.asarray(Image.fromarray(x).resize((64, 32), PILLOW["bicubic"])))
    assert (padded[:16] == (1, 2, 3)).all() and (padded[48:] == (1, 2, 3)).all()


@pytest.mark.parametrize("shape", [(1, 40_000), (40_000, 1), (2, 30_000)])
@pytest.mark.parametrize("fit", ["squash", "shortest", "pad"])
def test_strips_never_grow(shape: tuple[int, int], fit: str) -> None:
    strip = np.zeros((*shape, 3), np.uint8)  # shortest by the book would make 64 x 2,560,000
    assert ImageSpec(fit=fit).pixels(strip).shape == (3, 64, 64)  # type: ignore[arg-type]


def test_without_antialias_it_is_tensorflows_bilinear() -> None:
    x = noise(101, 75, 0, harsh=False)
    spec = ImageSpec(size=32, filter="bilinear", antialias=False)
    expected = F.interpolate(chw(x)[None].float(), (32, 32), mode="bilinear", align_corners=False)[0]
    assert (spec.pixels(x).float() - expected).abs().max() <= 0.5 + 1e-3
    with pytest.raises(ConfigError, match="bilinear"):
        ImageSpec(antialias=False)


def test_normalise_is_the_textbook_formula_for_bytes_and_floats() -> None:
    spec = ImageSpec(size=8, mean=(0.48, 0.45, 0.40), std=(0.26, 0.27, 0.28))
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8))
    expected = (x.double() / 255 - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)
    assert spec.normalise(x).dtype == torch.float32
    assert torch.allclose(spec.normalise(x).double(), expected, atol=1e-6)
    assert torch.allclose(spec.normalise(x / 255), spec.normalise(x), atol=1e-6)
    assert torch.equal(spec.tensor(np.zeros((8, 8, 3), np.uint8)), spec.normalise(torch.zeros(3, 8, 8, dtype=torch.uint8)))


def test_specs_travel_as_json_and_refuse_what_they_do_not_know() -> None:
    import json

    spec = ImageSpec(size=96, fit="shortest", mean=(0.1, 0.2, 0.3), background=(9, 8, 7), draft=True)
    again = ImageSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec and hash(again) == hash(spec)
    for wrong in ({"sise": 3}, {"size": 0}, {"fit": "stretch"}, {"filter": "lanczos"}, {"std": [1, 0, 1]}, {"mean": [0.5]}):
        with pytest.raises(ConfigError):
            ImageSpec.from_dict(wrong)
