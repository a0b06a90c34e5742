"""Picture preprocessing as public checkpoints describe it, to and from our `ImageSpec`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tectum.errors import CheckpointError, ConfigError
from tectum.hub.files import read_processor
from tectum.media.image import Filter, ImageSpec

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
_FILTERS: dict[int, Filter] = {2: "bilinear", 3: "bicubic"}
# What transformers' classes do where their file is silent.
_CLIP = {
    "size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 224, "resample": 3,
    "image_mean": OPENAI_MEAN, "image_std": OPENAI_STD,
}  # fmt: skip
_HALF = {"size": {"height": 224, "width": 224}, "image_mean": (0.5,) * 3, "image_std": (0.5,) * 3}
_CLASSES: dict[str, Mapping[str, Any]] = {"CLIP": _CLIP, "Siglip": {**_HALF, "resample": 3}, "ViT": {**_HALF, "resample": 2}}


def openai_pictures(size: int) -> ImageSpec:
    """As OpenAI's CLIP wants its pictures, and open_clip where a configuration does not say otherwise."""
    return ImageSpec(size=size, fit="shortest", mean=OPENAI_MEAN, std=OPENAI_STD)


def read_pictures(folder: Path, family: str) -> ImageSpec:
    """From preprocessor_config.json, or the "image_processor" of processor_config.json.

    What the file leaves out is what its class does in transformers; a file without a class is of the model's `family`.

    Raises:
        CheckpointError: if neither file is there, or what it asks for is not known here.
    """
    path, said = read_processor(folder, "image_processor", "size, filter, mean and std of the pictures")
    name = str(said.get("image_processor_type") or said.get("feature_extractor_type") or f"{family}ImageProcessor")
    defaults = _CLASSES.get(name.removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor"))
    if defaults is None:
        raise CheckpointError(f"{path} is of a {name}, which is not known here: save it with the model's own image processor")
    try:
        return _spec({**defaults, **{key: value for key, value in said.items() if value is not None}})
    except (AttributeError, ConfigError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} asks for pictures that are not known here: {error}") from error


def _spec(values: Mapping[str, Any]) -> ImageSpec:
    size = values["size"] if isinstance(values["size"], dict) else {"shortest_edge": values["size"]}
    crop = values.get("crop_size", 0)
    crop = crop if isinstance(crop, dict) else {"height": crop, "width": crop}
    cuts = bool(values.get("do_center_crop", False))
    if not values.get("do_resize", True):
        raise ValueError("do_resize is false, but pictures come in any size: set it to true")
    if values["resample"] not in _FILTERS:
        raise ValueError(f"resample is {values['resample']!r}, neither 2 (bilinear) nor 3 (bicubic)")
    if cuts and crop["height"] != crop["width"]:
        raise ValueError(f"crop_size is {crop}, not square")
    # Ours divides by 255 first, so another factor goes into mean and std.
    factor = 255 * values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 255.0
    factor = 1.0 if abs(factor - 1) < 1e-9 else factor
    normalises = values.get("do_normalize", True)
    mean = tuple(float(x) / factor for x in (values["image_mean"] if normalises else (0.0, 0.0, 0.0)))
    std = tuple(float(x) / factor for x in (values["image_std"] if normalises else (1.0, 1.0, 1.0)))
    common: dict[str, Any] = {"filter": _FILTERS[values["resample"]], "mean": mean, "std": std}
    if set(size) == {"shortest_edge"} and cuts:
        edge = int(size["shortest_edge"])
        if edge < crop["height"]:
            raise ValueError(f"the shortest side becomes {edge}, less than the {crop['height']} that are cut out of it")
        wider = edge if edge != crop["height"] else None
        return ImageSpec(size=int(crop["height"]), fit="shortest", edge=wider, margin="down", **common)
    if set(size) == {"height", "width"} and size["height"] == size["width"] and (not cuts or crop["height"] == size["height"]):
        return ImageSpec(size=int(size["height"]), fit="squash", **common)
    raise ValueError(f"size {dict(size)} with do_center_crop {cuts} gives no square that is scaled or cut from the centre")


def write_pictures(spec: ImageSpec, processor: str) -> dict[str, Any]:
    """The contents of preprocessor_config.json.

    Raises:
        CheckpointError: if transformers has no words for it.
    """
    if spec.fit == "pad" or not spec.antialias:
        raise CheckpointError(f"pictures with fit={spec.fit!r}, antialias={spec.antialias} have no name in transformers' layout")
    square = {"height": spec.size, "width": spec.size}
    cut = {"size": {"shortest_edge": spec.edge or spec.size}, "do_center_crop": True, "crop_size": square}
    return {
        "image_processor_type": processor,
        "do_convert_rgb": True,
        "do_resize": True,
        **(cut if spec.fit == "shortest" else {"size": square, "do_center_crop": False}),
        "resample": {name: number for number, name in _FILTERS.items()}[spec.filter],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }
