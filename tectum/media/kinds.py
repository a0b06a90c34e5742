"""Which kind of media a file holds: told by its first bytes, checked against its extension."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from tectum.errors import MediaError
from tectum.media.source import display, open_source

Kind = Literal["image", "audio", "text"]

EXTENSIONS: Mapping[str, Kind] = MappingProxyType({
    ".jpg": "image", ".jpeg": "image", ".png": "image", ".webp": "image", ".gif": "image", ".bmp": "image",
    ".wav": "audio", ".flac": "audio", ".mp3": "audio", ".ogg": "audio",
    ".txt": "text", ".md": "text",
})  # fmt: skip

_NOUN: Mapping[Kind, str] = MappingProxyType({"image": "a picture", "audio": "a sound", "text": "text"})
_UTF_16_32 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_TEXT_CONTROLS = frozenset(b"\t\n\v\f\r\x1a\x1b\b")


def image_format(head: bytes) -> str | None:
    """The picture format that starts with `head` (≥ 18 bytes for BMP): "JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF" or None."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    # "BM" also starts the text "BMW": ask as well for the reserved zeros and a known header size.
    header = int.from_bytes(head[14:18], "little")
    if head.startswith(b"BM") and head[6:10] == bytes(4) and header in (12, 40, 52, 56, 64, 108, 124):
        return "BMP"
    if head.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    return None


def audio_format(head: bytes) -> str | None:
    """The sound format that starts with `head`: "WAV", "FLAC", "OGG", "MP3" or None."""
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE":
        return "WAV"
    if head.startswith(b"fLaC"):
        return "FLAC"
    if head.startswith(b"OggS"):
        return "OGG"
    if head.startswith(b"ID3") and len(head) > 3 and head[3] < 0x10:
        return "MP3"
    # An MPEG frame header: 11 sync bits, layer III, a bitrate and a sampling rate that exist.
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[2] & 0xF0 != 0xF0 and head[2] & 0x0C != 0x0C:
        return "MP3"
    return None


def is_text(head: bytes) -> bool:
    """True when `head` reads as text: a UTF-16/32 byte-order mark, or no control characters other than white space."""
    return head.startswith(_UTF_16_32) or all(byte >= 0x20 or byte in _TEXT_CONTROLS for byte in head)


def sniff(path: str | Path) -> Kind:
    """The kind of media in a file, from its first 4 kB and its extension. Opens regular files only.

    A known extension must agree with the content. Without one (`photo`, `scan.tiff`) a picture or a sound is known by its
    first bytes; anything else is unsupported. Damage behind the first bytes is found later, on decoding.

    Raises MediaError: "unreadable", "empty", "mislabelled", "unsupported".
    """
    with open_source(path) as file:
        head = file.read(4096)
    extension = os.path.splitext(os.fsdecode(path))[1].lower()
    named = EXTENSIONS.get(extension)
    if named == "text" and is_text(head):
        return "text"
    found: Kind | None = "image" if image_format(head) else "audio" if audio_format(head) else None
    if named is None:
        if found is None:
            raise MediaError(
                f"{display(path)} is neither a picture nor a sound known here: tectum reads "
                f"{' '.join(name[1:] for name in EXTENSIONS)}",
                "unsupported",
            )
        return found
    if found is None and is_text(head):
        found = "text"
    if found is None and named == "text":
        raise MediaError(f"{display(path)} holds binary data, not text: give it the extension of its format", "mislabelled")
    if found not in (None, named):
        mend = "rename it to .txt" if found == "text" else f"rename it to .{_extension(head)}"
        raise MediaError(f"{display(path)} holds {_NOUN[found]}, not {_NOUN[named]}: {mend}", "mislabelled")
    return named


def _extension(head: bytes) -> str:
    return {"JPEG": "jpg"}.get(name := image_format(head) or audio_format(head) or "", name.lower())
