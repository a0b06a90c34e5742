"""Pictures: any file to 8-bit RGB, and RGB to the tensor a model wants. Decoding and fitting are Pillow's."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from torch import Tensor

from tectum.errors import ConfigError, MediaError
from tectum.files import tupled
from tectum.media.kinds import audio_format, image_format, is_text
from tectum.media.resize import Filter, resize
from tectum.media.source import display, open_source

__all__ = ["Filter", "ImageSpec", "Source", "read_image", "resize"]

Source = str | Path | bytes | Image.Image | np.ndarray

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def read_image(
    source: Source,
    *,
    max_pixels: int = 178_956_970 // 2,
    max_bytes: int = 256 * 2**20,
    background: tuple[int, int, int] = (255, 255, 255),
    near: int | None = None,
) -> Image.Image:
    """A new 8-bit RGB picture, upright, from a file, bytes, a Pillow image or an array.

    EXIF orientation is applied; palettes and transparency are laid on `background`; CMYK is converted as Pillow does; 16-bit
    grey is divided by 257; an animation gives its first frame. Arrays are [h, w], [h, w, 1|3|4]. Values that are neither uint8
    nor uint16 have no known white, so: floats within [0, 1] are multiplied by 255; any within [0, 255] are kept; integers
    within [0, 65535] are divided by 257; any other range is stretched to [0, 255]; NaN and infinities become black.

    The size is checked against `max_pixels` in the header, before anything is decoded. `near=S` lets JPEG decode at 1/2, 1/4
    or 1/8 size while both sides stay ≥ 2·S: several times faster, and on photographs about a grey level off on average.

    Raises MediaError: "huge", "broken", "empty", "mislabelled", "unsupported", "unreadable".

    >>> read_image(np.full((2, 3), 65535, np.uint16)).getpixel((0, 0))
    (255, 255, 255)
    """
    if isinstance(source, np.ndarray):
        return _flatten(_from_array(source, max_pixels), background)
    if isinstance(source, Image.Image):
        _check_size(source, source.size, max_pixels)
        return _decode(source, source, background)
    with open_source(source, max_bytes=max_bytes) as file:
        head = file.read(4096)
        file.seek(0)
        image = _open(file, head, source)
        _check_size(source, image.size, max_pixels)
        if near is None or not isinstance(image, JpegImagePlugin.JpegImageFile):
            return _decode(image, source, background)
        drafted = image.draft(None, (2 * near, 2 * near))
        return _decode(image, source, background, drafted[1] if drafted else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSpec:
    """How a model wants its pictures: travels with its weights.

    fit: "squash" ignores the aspect ratio; "shortest" scales the shortest side to `edge` (`size` if left out) and cuts the
    centre, its margin rounded to "even" (torchvision) or "down" (transformers); "pad" scales the longest side to `size` and
    fills with `background`. `antialias=False` (bilinear only) is TensorFlow's plain resize.
    `draft=True` permits JPEG's fast reduced decode down to twice the size (see `read_image`).

    >>> ImageSpec(size=32).tensor(np.zeros((10, 20, 3), np.uint8)).shape
    torch.Size([3, 32, 32])
    """

    size: int = 64
    fit: Literal["squash", "shortest", "pad"] = "squash"
    filter: Filter = "bicubic"
    antialias: bool = True
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    background: tuple[int, int, int] = (255, 255, 255)
    draft: bool = False
    edge: int | None = None
    margin: Literal["even", "down"] = "even"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"image size is {self.size}: give at least 1 pixel")
        if self.fit not in ("squash", "shortest", "pad"):
            raise ConfigError(f"image fit is {self.fit!r}: choose squash, shortest or pad")
        if self.filter not in _RESAMPLING:
            raise ConfigError(f"image filter is {self.filter!r}: choose bicubic or bilinear")
        if not self.antialias and self.filter != "bilinear":
            raise ConfigError("antialias=False is defined for the bilinear filter only: set filter='bilinear'")
        if len(self.mean) != 3 or len(self.std) != 3 or len(self.background) != 3 or min(self.std) <= 0:
            raise ConfigError("mean, std and background need three numbers each, and std must be positive")
        if self.edge is not None and (self.fit != "shortest" or self.edge < self.size):
            raise ConfigError(f"edge is {self.edge}: it is for fit='shortest' and at least the size of {self.size}")
        if self.margin not in ("even", "down"):
            raise ConfigError(f"image margin is {self.margin!r}: choose even or down")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ImageSpec:
        """The inverse of `to_dict`. Raises ConfigError on an unknown field."""
        if unknown := set(values) - {field.name for field in fields(cls)}:
            raise ConfigError(f"an image specification has no field {sorted(unknown)[0]!r}: remove it or update tectum")
        return cls(**tupled(values))

    def pixels(self, source: Source) -> Tensor:
        """Decodes and fits one picture to uint8 [3, size, size]. Raises MediaError as `read_image`."""
        image = read_image(source, background=self.background, near=self.size if self.draft else None)
        return torch.from_numpy(np.array(self._fit(image))).permute(2, 0, 1).contiguous()

    def normalise(self, pixels: Tensor) -> Tensor:
        """(x - mean) / std in float32, [..., 3, h, w]; uint8 is first divided by 255, floats are taken to be in [0, 1]."""
        x = pixels.float() if pixels.is_floating_point() else pixels.float().div_(255)
        mean, std = (x.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (x - mean).div_(std)

    def tensor(self, source: Source) -> Tensor:
        """`normalise(pixels(source))`, float32 [3, size, size]."""
        return self.normalise(self.pixels(source))

    def _fit(self, image: Image.Image) -> Image.Image:
        size, (width, height) = self.size, image.size
        if self.fit == "squash":
            return self._resize(image, (size, size), (0, 0, width, height))
        if self.fit == "shortest":
            return self._cut(image)
        scale = size / max(image.size)
        w, h = max(1, round(width * scale)), max(1, round(height * scale))
        canvas = Image.new("RGB", (size, size), self.background)
        canvas.paste(self._resize(image, (w, h), (0, 0, width, height)), ((size - w) // 2, (size - h) // 2))
        return canvas

    def _cut(self, image: Image.Image) -> Image.Image:
        """Scales the shortest side to `edge` and cuts the centre; the scaled long side is truncated to whole pixels.

        In one piece and then cut, as torchvision and transformers do it; a strip whose scaled picture would be enormous is cut
        first, which now and then leaves a pixel a grey level off.
        """
        size, short = self.size, min(image.size)
        if self.antialias and max(image.size) <= 32 * short:
            width, height = (self._scaled(side, short) for side in image.size)
            left, top = self._margin(width), self._margin(height)
            return image.resize((width, height), _RESAMPLING[self.filter]).crop((left, top, left + size, top + size))
        (left, right, *columns), (top, bottom, *rows) = (self._window(side, short) for side in image.size)
        part = image.crop((left, top, right, bottom))
        # The width comes first, as it always did in Pillow < 13.
        strip = self._resize(part, (size, part.height), (columns[0], 0, columns[1], part.height))
        return self._resize(strip, (size, size), (0, rows[0], size, rows[1]))

    def _scaled(self, side: int, short: int) -> int:
        return (self.edge or self.size) * side // short

    def _margin(self, scaled: int) -> int:
        return (scaled - self.size) // 2 if self.margin == "down" else round((scaled - self.size) / 2)

    def _window(self, side: int, short: int) -> tuple[int, int, float, float]:
        """Of one side: the pixels [first, last) that the cut is made from, and where among them it begins and ends."""
        scaled = self._scaled(side, short)
        margin = self._margin(scaled)
        low, high = margin * side / scaled, min(side, (margin + self.size) * side / scaled)
        reach = 2 * max(1.0, side / scaled) + 2  # of the widest filter, in source pixels
        first, last = max(0, int(low - reach)), min(side, math.ceil(high + reach))
        return first, last, low - first, min(high, last) - first

    def _resize(self, image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
        if self.antialias:
            return image.resize(size, _RESAMPLING[self.filter], box=box)
        # Two taps per axis at the half-pixel centres: a gather, whatever the scale.
        x = np.asarray(image, np.float32)
        for axis, (low, high, count) in enumerate(((box[1], box[3], size[1]), (box[0], box[2], size[0]))):
            centre = low + (np.arange(count) + 0.5) * (high - low) / count - 0.5
            left = np.floor(centre).astype(int)
            weight = (centre - left).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
            edge = x.shape[axis] - 1
            x = x.take(left.clip(0, edge), axis) * (1 - weight) + x.take((left + 1).clip(0, edge), axis) * weight
        return Image.fromarray(np.floor(x + 0.5).astype(np.uint8))


def _open(file: Any, head: bytes, source: object) -> Image.Image:
    """The plug-in for these bytes, called directly: `Image.open` would warn or refuse by its own global pixel limit, and would
    try dozens of formats, some of which start other programs. (GIF, WebP and TIFF keep that limit, 179 million pixels.)"""
    readers = {
        "JPEG": JpegImagePlugin.jpeg_factory, "PNG": PngImagePlugin.PngImageFile, "GIF": GifImagePlugin.GifImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile, "BMP": BmpImagePlugin.BmpImageFile, "TIFF": TiffImagePlugin.TiffImageFile,
    }  # fmt: skip
    name = image_format(head)
    if name is None:
        if is_text(head):
            raise MediaError(f"{display(source)} holds text, not a picture: rename it to .txt", "mislabelled")
        if sound := audio_format(head):
            raise MediaError(f"{display(source)} holds a sound, not a picture: rename it to .{sound.lower()}", "mislabelled")
        raise MediaError(f"{display(source)} is no JPEG, PNG, WebP, GIF, BMP or TIFF picture: it is damaged or of another format")
    try:
        return readers[name](file, "")
    except Image.DecompressionBombError as error:
        raise MediaError(f"{display(source)} has too many pixels ({_first_line(error)}): shrink it", "huge") from error
    except Exception as error:  # hostile headers raise anything: SyntaxError, struct.error, KeyError, …
        raise _damaged(source, error) from error


def _check_size(source: object, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise MediaError(f"{display(source)} is {width} x {height} pixels: a picture needs at least one", "empty")
    if width * height > max_pixels:
        raise MediaError(
            f"{display(source)} is {width:,} x {height:,} pixels, more than the limit of {max_pixels:,}: shrink it "
            "or raise max_pixels",
            "huge",
        )


def _decode(
    image: Image.Image, source: object, background: tuple[int, int, int], box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    try:
        image.load()
        flat = _flatten(image, background)
    except MemoryError as error:
        raise MediaError(
            f"{display(source)} does not fit in memory ({image.width} x {image.height} pixels): shrink it", "huge"
        ) from error
    except MediaError:
        raise
    except Exception as error:  # a decoder on hostile bytes raises anything: OSError, SyntaxError, zlib.error, …
        raise _damaged(source, error) from error
    if box is not None:
        # A reduced side is rounded up and its last pixel padded (601 / 8 gives 76): keep the nearest whole number.
        flat = flat.crop((0, 0, max(1, round(box[2])), max(1, round(box[3]))))
    turn = _UPRIGHT.get(_orientation(image))
    flat = flat if turn is None else flat.transpose(turn)
    flat.info = {}  # an orientation left here would turn the picture again in the next hands
    return flat


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a garbled EXIF block does not spoil the picture
        return 1


def _flatten(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Any Pillow mode to a new RGB picture on `background`."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_grey_levels(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        while image.mode not in ("RGBA", "P", "L", "RGB", "1"):
            image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, "RGBA"))
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, background)
        canvas.paste(image, mask=image.getchannel("A"))
        return canvas
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _grey_levels(x: np.ndarray) -> np.ndarray:
    """Any number type to uint8, by the rules told in `read_image`."""
    if x.dtype == np.uint8:
        return x
    if x.dtype == bool:
        return x.astype(np.uint8) * 255
    if x.dtype.kind == "u" and x.dtype.itemsize == 2:
        return ((x.astype(np.uint32) + 128) // 257).astype(np.uint8)
    scales = ((1.0, 255.0), (255.0, 1.0)) if x.dtype.kind == "f" else ((255.0, 1.0), (65535.0, 1 / 257))
    y: Any = x.astype(np.float32 if x.dtype.itemsize <= 4 else np.float64)
    finite = np.isfinite(y)
    if not finite.any():
        raise MediaError("the picture holds no finite value: every pixel is NaN or infinite")
    low, high = float(y.min(where=finite, initial=np.inf)), float(y.max(where=finite, initial=-np.inf))
    factors = [factor for white, factor in scales if low >= 0 and high <= white]
    shift, factor = (0.0, factors[0]) if factors else (low, 255 / max(high - low, 1e-30))
    y[~finite] = shift
    # In place: the largest picture allowed is a third of a gigabyte in float32.
    y -= shift
    y *= factor
    y += 0.5
    return y.clip(0, 255, out=y).astype(np.uint8)


def _from_array(x: np.ndarray, max_pixels: int) -> Image.Image:
    if x.ndim == 3 and x.shape[2] == 1:
        x = x[..., 0]
    if not (x.ndim == 2 or (x.ndim == 3 and x.shape[2] in (3, 4))) or x.dtype.kind not in "buif":
        raise MediaError(
            f"an array of shape {x.shape} and type {x.dtype} is no picture: give numbers [h, w] or [h, w, 1|3|4]", "unsupported"
        )
    _check_size(x, (x.shape[1], x.shape[0]), max_pixels)
    return Image.fromarray(np.ascontiguousarray(_grey_levels(x)))


def _damaged(source: object, error: Exception) -> MediaError:
    return MediaError(f"{display(source)} is damaged and cannot be decoded ({_first_line(error)}): restore it from a copy")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120] or type(error).__name__
