"""`read_image` on every mode and format, and on hostile files."""

from __future__ import annotations

import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFile, ImageFilter, ImageOps

from tectum.errors import MediaError
from tectum.media.image import ImageSpec, read_image

RNG = np.random.default_rng(0)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def array(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def scene(w: int = 320, h: int = 200) -> Image.Image:
    """Smooth shades and soft edges, something like a photograph."""
    y, x = np.mgrid[:h, :w]
    image = Image.fromarray(np.stack([x * 255 // w, y * 255 // h, 128 + 120 * np.sin((x / w + y / h) * 9)], -1).astype(np.uint8))
    ImageDraw.Draw(image).ellipse((w // 5, h // 5, w // 2, h * 4 // 5), fill=(200, 180, 60), outline=(90, 90, 90))
    return image.filter(ImageFilter.GaussianBlur(2))


def reason(source: object, **options: object) -> str:
    with pytest.raises(MediaError) as caught:
        read_image(source, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_exif_orientation_stands_upright_once(orientation: int, format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {"lossless": True} if format == "WEBP" else {}
    data = encoded(scene(40, 24), format, exif=exif, **options)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    got = read_image(data)
    assert np.array_equal(array(got), array(expected))
    assert got.size == ((24, 40) if orientation >= 5 else (40, 24))
    assert ImageOps.exif_transpose(got).tobytes() == got.tobytes()


def test_garbled_exif_does_not_spoil_the_picture() -> None:
    data = encoded(scene(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffrubbish")
    assert np.array_equal(array(read_image(data)), array(Image.open(io.BytesIO(data))))


def test_transparency_is_laid_on_the_background() -> None:
    rgba = np.zeros((1, 4, 4), np.uint8)
    rgba[0, :, 0], rgba[0, :, 3] = 255, (0, 85, 170, 255)
    expected = [[255 * s, 100 * (1 - s), 200 * (1 - s)] for s in (0, 1 / 3, 2 / 3, 1)]
    for source in (
        encoded(Image.fromarray(rgba), "PNG"),
        encoded(Image.fromarray(rgba), "WEBP", lossless=True, exact=True),
        rgba,
        Image.fromarray(rgba),
    ):
        assert np.abs(array(read_image(source, background=(0, 100, 200)))[0] - expected).max() <= 1
    for mode, premultiplied in (("LA", "La"), ("RGBA", "RGBa")):
        image = Image.fromarray(rgba).convert(mode)
        assert np.abs(array(read_image(image)) - array(read_image(image.convert(premultiplied)))).max() <= 2


def test_palettes_and_colour_keys() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255] + [0] * 759)
    image.putdata([0, 1, 2])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]])
    assert np.array_equal(array(read_image(encoded(image, "PNG")))[0], colours)
    for format, transparency, clear in (("GIF", 1, [1]), ("PNG", 1, [1]), ("PNG", bytes([0, 255, 0]), [0, 2])):
        got = array(read_image(encoded(image, format, transparency=transparency), background=(7, 7, 7)))[0]
        for i in range(3):
            assert (got[i] == (7 if i in clear else colours[i])).all()
    grey = Image.fromarray(np.array([[0, 128, 255]], np.uint8))
    assert array(read_image(encoded(grey, "PNG", transparency=128)))[0, :, 0].tolist() == [0, 255, 255]
    key = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert array(read_image(encoded(key, "PNG", transparency=(1, 2, 3))))[0].tolist() == [[255, 255, 255], [4, 5, 6]]
    assert array(read_image(Image.new("1", (2, 2), 1))).min() == 255


def test_cmyk_as_pillow_with_adobes_inversion() -> None:
    inks = [(0, 0, 0, 0), (0, 0, 0, 255), (255, 0, 0, 0), (0, 255, 255, 0)]
    for ink, colour in zip(inks, [(255, 255, 255), (0, 0, 0), (0, 255, 255), (255, 0, 0)], strict=True):
        image = Image.new("CMYK", (16, 16), ink)
        for data in (encoded(image, "JPEG", quality=100), encoded(image, "TIFF")):  # Pillow's JPEG is Adobe's inverted kind
            assert np.abs(array(read_image(data)) - colour).max() <= 3
    data = encoded(scene().convert("CMYK"), "JPEG")
    assert b"Adobe" in data
    assert np.array_equal(array(read_image(data)), array(Image.open(io.BytesIO(data)).convert("RGB")))


def test_sixteen_bits_are_divided_by_257_not_clipped() -> None:
    level = np.arange(256, dtype=np.uint16).reshape(16, 16)
    x = level * 257
    for source in (
        encoded(Image.fromarray(x), "PNG"),
        encoded(Image.fromarray(x), "TIFF"),
        Image.fromarray(x),
        x,
        x[..., None],
        Image.fromarray(x.astype(np.int32)),
    ):
        assert np.array_equal(array(read_image(source))[..., 0], level)
    big_endian = encoded(Image.fromarray(x), "TIFF")
    assert Image.open(io.BytesIO(big_endian)).mode.startswith("I;16")
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.abs(array(read_image(every))[..., 0] - every / 257).max() <= 0.5


def test_numbers_without_a_known_white() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    level = np.arange(256).reshape(16, 16)
    for x in (
        ramp,
        ramp.astype(np.float64),
        ramp * 255,
        ramp * 1000 - 500,
        level.astype(np.int64),
        level * 257,
        level * 100_000 - 7,
        level.astype(np.float16),
    ):
        assert np.array_equal(array(read_image(x))[..., 1], level), x.dtype
    assert np.array_equal(array(read_image(encoded(Image.fromarray(ramp), "TIFF")))[..., 2], level)
    ramp[0, :3] = np.nan, np.inf, -np.inf
    got = array(read_image(ramp))[..., 0]
    assert got[0, :3].tolist() == [0, 0, 0] and np.array_equal(got[1:], level[1:])
    assert reason(np.full((2, 2), np.nan)) == "broken"
    assert array(read_image(np.full((2, 2), True))).min() == 255
    assert array(read_image(np.full((2, 2), -3.0))).max() == 0


def test_arrays_that_are_no_pictures() -> None:
    for x in (np.zeros(3), np.zeros((2, 2, 2)), np.zeros((1, 2, 2, 3)), np.zeros((2, 2), complex), np.array([["a"]])):
        assert reason(x) == "unsupported"
    assert reason(np.zeros((0, 4))) == "empty"
    assert reason(np.zeros((40, 40)), max_pixels=1000) == "huge"


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert array(read_image(data))[5, 5].tolist() == [255, 0, 0]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bombs() -> dict[str, bytes]:
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0))
    tiff = encoded(Image.new("L", (4, 4)), "TIFF")
    for tag in (256, 257):
        at = tiff.index(struct.pack("<HHI", tag, 4, 1)) + 8
        tiff = tiff[:at] + struct.pack("<I", 50_000) + tiff[at + 4 :]
    jpeg = encoded(Image.new("RGB", (8, 8)), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    gif_frame = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\2\0;"
    return {
        "png": png + chunk(b"IDAT", zlib.compress(bytes(6251 * 200))) + chunk(b"IEND", b""),
        "gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + gif_frame,
        "bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 0, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
        "tiff": tiff,
        "jpeg": jpeg[:at] + struct.pack(">HH", 50_000, 50_000) + jpeg[at + 4 :],
    }


@pytest.mark.parametrize("format", bombs())
def test_a_decompression_bomb_is_refused_from_its_header(format: str) -> None:
    data = bombs()[format]
    begin = time.perf_counter()
    assert reason(data) == "huge"
    assert time.perf_counter() - begin < 0.5
    with pytest.raises(MediaError) as caught:
        ImageSpec().pixels(data)
    assert caught.value.reason == "huge"


def test_the_limits_are_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(scene(100, 50), "PNG")
    assert read_image(data, max_pixels=5000).size == (100, 50)
    assert reason(data, max_pixels=4999) == "huge"
    assert reason(data, max_bytes=len(data) - 1) == "huge"
    assert reason(scene(100, 50), max_pixels=4999) == "huge"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own limit, a global, must not matter
    for format in ("PNG", "JPEG", "BMP"):
        assert read_image(encoded(scene(100, 50), format)).size == (100, 50)


FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]


@pytest.mark.parametrize("format", FORMATS)
def test_truncated_pictures_are_broken(format: str) -> None:
    data = encoded(scene(), format)
    for share in (0.02, 0.3, 0.6, 0.9):
        cut = data[: max(24, int(len(data) * share))]
        assert reason(cut) in ("broken", "empty"), share


@pytest.mark.parametrize("format", FORMATS)
def test_any_damage_gives_a_picture_or_a_media_error(format: str) -> None:
    good = encoded(scene(60, 40), format)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        data = bytearray(good)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(0, len(data) if seed % 2 else min(len(data), 100))] = rng.integers(0, 256)
        try:
            assert read_image(bytes(data), max_pixels=10**7).mode == "RGB"
        except MediaError as error:
            assert error.reason in ("broken", "huge", "empty", "unsupported", "mislabelled")


def test_hostile_files(tmp_path: Path) -> None:
    cases = {
        "text.jpg": (b"not a picture", "mislabelled"), "empty.png": (b"", "empty"), "nul.png": (bytes(100), "broken"),
        "sound.jpg": (b"fLaC" + bytes(50), "mislabelled"), "random.gif": (RNG.bytes(3000), "broken"),
        "eps.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "mislabelled"),
        "head.png": (b"\x89PNG\r\n\x1a\n", "broken"),
    }  # fmt: skip
    for name, (content, expected) in cases.items():
        (tmp_path / name).write_bytes(content)
        assert reason(tmp_path / name) == expected, name
    assert reason(tmp_path) == "unreadable"
    assert reason(tmp_path / "missing.png") == "unreadable"
    assert reason("/dev/zero") == "unreadable"
    assert reason(12) == "unsupported"
    strange = tmp_path / "line\nbreak 🦊\t.png"
    strange.write_bytes(encoded(scene(), "PNG")[:500])
    with pytest.raises(MediaError, match=r"line\\nbreak 🦊\\t\.png is damaged"):
        read_image(strange)
    strange.write_bytes(encoded(scene(), "PNG"))
    assert read_image(strange).size == (320, 200)


def test_nothing_of_pillow_or_of_the_caller_is_changed() -> None:
    settings = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    image = Image.new("P", (4, 4))
    image.info["transparency"] = 0
    before = image.tobytes(), dict(image.info), image.mode, image.getpalette()
    read_image(image)
    assert (image.tobytes(), dict(image.info), image.mode, image.getpalette()) == before
    own = scene()
    copy = read_image(own)
    copy.putpixel((0, 0), (1, 2, 3))
    assert own.getpixel((0, 0)) != (1, 2, 3)
    x = np.zeros((4, 4, 3), np.uint8)
    read_image(x).putpixel((0, 0), (1, 2, 3))
    assert not x.any()
    x = np.zeros((4, 4), np.float32)
    x[0, 0] = np.nan
    read_image(x)
    assert np.isnan(x[0, 0])
    assert settings == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


@pytest.mark.parametrize("size", [(900, 600), (601, 1803), (255, 256), (130, 4000)])
@pytest.mark.parametrize("near", [16, 32, 64, 224])
def test_draft_decoding_keeps_both_sides_twice_as_large_and_the_picture_alike(size: tuple[int, int], near: int) -> None:
    data = encoded(scene(*size), "JPEG", quality=95)
    small = read_image(data, near=near)
    assert min(small.size) >= min(2 * near, *size)
    spec, quick = ImageSpec(size=near), ImageSpec(size=near, draft=True)
    difference = (spec.pixels(data).float() - quick.pixels(data).float()).abs()
    assert difference.mean() < 3  # a reduced side is rounded: up to a quarter of a pixel of the result at the far edge
    png = encoded(scene(), "PNG")
    assert np.array_equal(array(read_image(png, near=16)), array(read_image(png)))


def test_decoding_in_threads_gives_the_same_pixels() -> None:
    data = [encoded(scene(80 + i, 60), format) for i in range(4) for format in FORMATS]
    alone = [array(read_image(d)) for d in data]
    with ThreadPoolExecutor(8) as pool:
        together = [array(x) for x in pool.map(read_image, data * 4)]
    assert all(np.array_equal(a, b) for a, b in zip(alone * 4, together, strict=True))
