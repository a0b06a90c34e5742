"""Folders of media with sidecar texts, and what must not count as media."""

import os
import pickle

import pytest

from tectum.data.readers import FolderReader
from tectum.errors import DataError


def fill(root, files):
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)


def test_files_of_one_stem_are_one_sample(tmp_path):
    fill(
        tmp_path,
        {
            "b.JPG": b"1",
            "b.txt": "\ufeffa dog\n",
            "a/cat.png": b"2",
            "a/cat.wav": b"3",
            "a/cat.json": '{"text": "a cat", "id": 5}',
            "c.flac": b"4",
            "c.txt": "from the text",
            "c.json": '{"text": "from the object"}',
            "README.txt": "no medium of this name",
            ".hidden.jpg": b"5",
            "weird\nname 🐱.gif": b"6",
        },
    )
    reader = pickle.loads(pickle.dumps(FolderReader(tmp_path)))
    assert [reader[i] for i in range(len(reader))] == [
        {"key": "a/cat", "image": tmp_path / "a/cat.png", "audio": tmp_path / "a/cat.wav", "text": "a cat",
         "json": {"text": "a cat", "id": 5}},
        {"key": "b", "image": tmp_path / "b.JPG", "text": "a dog"},
        {"key": "c", "audio": tmp_path / "c.flac", "text": "from the text", "json": {"text": "from the object"}},
        {"key": "weird\nname 🐱", "image": tmp_path / "weird\nname 🐱.gif"},
    ]  # fmt: skip
    with pytest.raises(IndexError):
        reader[4]


def test_links_in_a_circle_and_pipes_are_no_trap(tmp_path):
    fill(tmp_path, {"a.jpg": b"1", "sub/b.jpg": b"2"})
    (tmp_path / "sub/loop").symlink_to(tmp_path)
    (tmp_path / "sub/c.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    reader = FolderReader(tmp_path)
    assert [reader[i]["key"] for i in range(len(reader))] == ["a", "sub/b", "sub/c"]


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match="is no folder"):
        FolderReader(tmp_path / "missing")
    with pytest.raises(DataError, match="no pictures or sounds"):
        FolderReader(tmp_path)
    fill(tmp_path, {"a.jpg": b"1", "a.txt": b"\xff\xff", "b.jpg": b"1", "b.json": "[1,", "c.jpg": b"1", "c.json": "[" * 100_000})
    reader = FolderReader(tmp_path)
    for index, words in enumerate(("a.txt is not UTF-8", "b.json is not JSON", "c.json is not JSON")):
        with pytest.raises(DataError, match=words):
            reader[index]
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match="cannot read"):
        reader[0]
    fill(tmp_path, {"a.png": b"2"})
    with pytest.raises(DataError, match="for one sample: rename"):
        FolderReader(tmp_path)
