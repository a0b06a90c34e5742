"""What a file is, told by content and name, and what is refused without being opened."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from tectum.errors import MediaError
from tectum.media.kinds import EXTENSIONS, sniff
from tectum.media.source import display, open_source


def picture(format: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 200, 30)).save(out, format)
    return out.getvalue()


def sound(format: str) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(4000) / 9), 16000, format=format)
    return out.getvalue()


CONTENT = {
    ".jpg": picture("JPEG"), ".jpeg": picture("JPEG"), ".png": picture("PNG"), ".webp": picture("WEBP"), ".gif": picture("GIF"),
    ".bmp": picture("BMP"), ".wav": sound("WAV"), ".flac": sound("FLAC"), ".mp3": sound("MP3"), ".ogg": sound("OGG"),
    ".txt": b"a red fox", ".md": "# Füchse\n".encode(),
}  # fmt: skip


def refused(path: Path | str) -> str:
    with pytest.raises(MediaError) as caught:
        sniff(path)
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_each_extension_with_its_own_content(tmp_path: Path, extension: str) -> None:
    for name in (f"a{extension}", f"B{extension.upper()}", f"a\nb 🦊{extension}"):
        path = tmp_path / name
        path.write_bytes(CONTENT[extension])
        assert sniff(path) == EXTENSIONS[extension]
        assert sniff(str(path)) == EXTENSIONS[extension]


@pytest.mark.parametrize("named", EXTENSIONS)
@pytest.mark.parametrize("held", EXTENSIONS)
def test_content_of_another_kind_is_mislabelled_and_of_the_same_kind_is_fine(tmp_path: Path, named: str, held: str) -> None:
    path = tmp_path / f"x{named}"
    path.write_bytes(CONTENT[held])
    if EXTENSIONS[named] == EXTENSIONS[held]:
        assert sniff(path) == EXTENSIONS[held]
    else:
        assert refused(path) == "mislabelled"


def test_the_message_names_file_content_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("shopping list")
    with pytest.raises(MediaError, match=r"notes\.jpg holds text, not a picture: rename it to \.txt$"):
        sniff(path)


@pytest.mark.parametrize("text", [b"BM is a car maker's mark, they say", b"GIF89a is a format", b"ID3 tags", b"RIFF is a word",
                                  b"fLaC", "señor".encode("latin-1"), "狐".encode("utf-16"), b"\xef\xbb\xbfhello"])  # fmt: skip
def test_text_that_begins_like_a_picture_or_a_sound_is_text(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text)
    assert sniff(path) == "text"


def test_unknown_extensions_go_by_content_alone(tmp_path: Path) -> None:
    known = (("photo", picture("PNG"), "image"), ("b.dat", sound("FLAC"), "audio"), ("s.tiff", picture("TIFF"), "image"))
    for name, content, kind in known:
        (tmp_path / name).write_bytes(content)
        assert sniff(tmp_path / name) == kind
    for name, content in (("a.py", b"print()"), ("b.bin", bytes(range(256))), ("c.mp4", b"\0\0\0\x18ftypmp42")):
        (tmp_path / name).write_bytes(content)
        assert refused(tmp_path / name) == "unsupported"


def test_binary_rubbish_is_left_to_the_decoder_but_is_no_text(tmp_path: Path) -> None:
    rubbish = np.random.default_rng(0).bytes(5000)
    for extension, kind in EXTENSIONS.items():
        path = tmp_path / f"x{extension}"
        path.write_bytes(rubbish)
        if kind == "text":
            assert refused(path) == "mislabelled"
        else:
            assert sniff(path) == kind


def test_nothing_but_regular_files_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    for name in ("pipe.jpg", "folder.jpg", "loop.jpg", "dangling.jpg", "missing.jpg", "a\0b"):
        assert refused(tmp_path / name) == "unreadable"
    assert refused("/dev/zero") == "unreadable"
    (tmp_path / "empty.jpg").touch()
    assert refused(tmp_path / "empty.jpg") == "empty"
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    (tmp_path / "real.png").write_bytes(picture("PNG"))
    assert sniff(tmp_path / "link.png") == "image"


def test_names_are_shown_on_one_line_and_undecodable_names_work(tmp_path: Path) -> None:
    assert display("a\nb\t🦊.jpg") == "a\\nb\\t🦊.jpg"
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png")
    with open(path, "wb") as file:
        file.write(picture("PNG"))
    assert sniff(path) == "image"
    display(path).encode("utf-8")


def test_open_source_limits_bytes_and_refuses_other_types() -> None:
    assert open_source(b"abc", max_bytes=3).read() == b"abc"
    for source, reason in ((b"abcd", "huge"), (b"", "empty"), (3, "unsupported"), (None, "unsupported")):
        with pytest.raises(MediaError) as caught:
            open_source(source, max_bytes=3)  # type: ignore[arg-type]
        assert caught.value.reason == reason


def test_extensions_are_immutable_and_sniffing_needs_no_torch() -> None:
    with pytest.raises(TypeError):
        EXTENSIONS[".xyz"] = "image"  # type: ignore[index]
    code = "import sys, tectum.media.kinds; sys.exit(bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
