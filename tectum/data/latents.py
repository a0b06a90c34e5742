"""Latents on the disk: a data set goes through a finished autoencoder once, not at every step of a denoiser's training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tectum.errors import DataError
from tectum.files import written_beside
from tectum.media.source import display

FORMAT = "latents 1"


def fingerprint(module: nn.Module) -> str:
    """sha256 of the weights of a module with their names and shapes, and of its configuration, shortened to 16 hex digits.

    >>> fingerprint(nn.Identity()) == fingerprint(nn.Identity()), fingerprint(nn.Identity()) == fingerprint(nn.ReLU())
    (True, False)
    """
    digest = hashlib.sha256(f"{module!r} {getattr(module, 'config', None)!r}".encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def cached_latents(
    path: Path,
    autoencoder: nn.Module,
    encode: Callable[[Tensor], Tensor],
    batches: Callable[[], Iterable[Tensor]],
    source: str,
) -> Tensor:
    """The latents [n, c, …] of a data set: those in the file, or encoded now and written there, whole or not at all.

    Args:
        path: a safetensors file.
        autoencoder: what the latents depend on; in evaluation mode while it works.
        encode: a batch [b, …] to latents [b, c, …], such as `autoencoder.latents`.
        batches: the data, made anew when called, which it is not if the file is there.
        source: what the data are and how they were prepared: the file serves no other, so tell in it all that may change.

    Raises:
        DataError: if the file is of another autoencoder or other data, or broken; or if there are no data.

    >>> import tempfile
    >>> path, codec = Path(tempfile.mkdtemp()) / "a.safetensors", nn.Conv2d(3, 4, 2, stride=2)
    >>> first = cached_latents(path, codec, codec, lambda: [torch.zeros(5, 3, 8, 8)] * 2, "zeros")
    >>> again = cached_latents(path, codec, codec, lambda: [], "zeros")
    >>> first.shape, torch.equal(first, again)
    (torch.Size([10, 4, 4, 4]), True)
    """
    made = {"format": FORMAT, "autoencoder": fingerprint(autoencoder), "source": source}
    if path.exists():
        return _read(path, made)
    training = autoencoder.training
    autoencoder.eval()
    try:
        parts = [encode(batch).cpu() for batch in batches()]
    finally:
        autoencoder.train(training)
    if not parts:
        raise DataError(f"there are no data of {source!r} to encode: give at least one batch")
    latents = torch.cat(parts).contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as file:
        file.write(save({"latents": latents}, metadata=made))
    return latents


def _read(path: Path, made: dict[str, str]) -> Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            found = file.metadata() or {}
            for name, value in made.items():
                if found.get(name) != value:
                    raise DataError(
                        f"{display(path)} has latents of {name} {found.get(name)!r}, and {value!r} is asked for: "
                        "remove it, or choose another file"
                    )
            latents: Tensor = file.get_tensor("latents")
            return latents
    except (OSError, SafetensorError) as error:
        raise DataError(f"{display(path)} has no latents that can be read ({error}): remove it to encode again") from None
