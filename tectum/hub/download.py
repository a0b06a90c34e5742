"""Checkpoints by their name on the Hugging Face hub, through the optional package huggingface_hub."""

import re
from pathlib import Path
from typing import Any

from tectum.errors import CheckpointError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SMALL = ["*.json", "merges.txt"]


def is_hub_name(name: str) -> bool:
    """Whether a name has the form of a hub's: owner/model.

    >>> is_hub_name("openai/clip-vit-base-patch32"), is_hub_name("space-mini"), is_hub_name("../x")
    (True, False, False)
    """
    return _NAME.fullmatch(name) is not None


def download(name: str) -> Path:
    """The folder of a hub's model, fetched into huggingface_hub's own cache unless it is there already.

    Configuration and tokenizer come first, then only those safetensors that will be read. `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`
    and `HF_HUB_OFFLINE` mean what they always mean. Nothing that could run code is fetched.

    Raises:
        CheckpointError: if huggingface_hub is missing, the network or the model is, or the model has no safetensors.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise CheckpointError(
            f"{name!r} is no folder here, and fetching it needs the package huggingface_hub: install tectum[hub], or download "
            "the model elsewhere and give its folder"
        ) from error
    folder = Path(_fetch(huggingface_hub, name, _SMALL))
    transformers = (folder / "config.json").exists() and '"model_type"' in (folder / "config.json").read_text("utf-8", "replace")
    stems = ("model", "open_clip_model") if transformers else ("open_clip_model", "model")
    for stem in stems:
        folder = Path(_fetch(huggingface_hub, name, [*_SMALL, f"{stem}.safetensors", f"{stem}-*.safetensors"]))
        if list(folder.glob(f"{stem}*.safetensors")):
            return folder
    raise CheckpointError(
        f"{name!r} has no weights in safetensors on the hub: convert its pickle where you trust it and give the folder"
    )


def _fetch(hub: Any, name: str, patterns: list[str]) -> str:
    try:
        return str(hub.snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except Exception as error:  # HTTP, cache and file errors of several libraries
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(f"{name!r} is no model at hand and could not be fetched from the hub ({first})") from error
