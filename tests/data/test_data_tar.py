"""WebDataset archives: random access equals what tarfile extracts; hostile and damaged archives never get through."""

import io
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tectum.data.readers import TarReader
from tectum.errors import DataError


def write_tar(path, files, format=tarfile.PAX_FORMAT, extra=()):
    with tarfile.open(path, "w", format=format) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, kind in extra:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    return path


FILES = [
    ("0001.jpg", b"\xff\xd8 picture"),
    ("0001.txt", "ein Hündchen\n".encode()),
    ("0002.wav", b"RIFF sound"),
    ("0002.json", b'{"caption": "rain", "n": 2}'),
    ("./deep/er/0003.png", b"\x89PNG"),
    ("deep/er/0003.seg.png", b"mask"),
    ("deep/er/0003.cls", b"7"),
]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_are_grouped_by_key(tmp_path, format):
    reader = TarReader(write_tar(tmp_path / "a.tar", FILES, format))
    assert [reader[i] for i in range(len(reader))] == [
        {"key": "0001", "image": b"\xff\xd8 picture", "text": "ein Hündchen"},
        {"key": "0002", "audio": b"RIFF sound", "json": {"caption": "rain", "n": 2}, "text": "rain"},
        {"key": "deep/er/0003", "image": b"\x89PNG", "seg.png": b"mask", "cls": b"7"},
    ]
    assert not reader.skipped
    assert reader[-1]["key"] == "deep/er/0003"
    with pytest.raises(IndexError):
        reader[3]


names = st.text(st.characters(codec="utf-8", exclude_characters="/.\\\0"), min_size=1, max_size=120)
contents = st.dictionaries(names, st.binary(max_size=1500), min_size=1, max_size=6)


@settings(deadline=None, max_examples=40)
@given(first=contents, second=contents)
def test_random_access_gives_every_byte_back(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("tar")
    paths = [
        write_tar(folder / f"{number}.tar", [(f"{key}.bin", data) for key, data in files.items()])
        for number, files in enumerate((first, second))
    ]
    reader = pickle.loads(pickle.dumps(TarReader(paths)))
    expected = [{"key": key, "bin": data} for files in (first, second) for key, data in files.items()]
    assert len(reader) == len(expected)
    with ThreadPoolExecutor(4) as pool:
        backwards = list(pool.map(reader.__getitem__, reversed(range(len(reader)))))
    assert backwards[::-1] == expected


def test_hostile_members_are_left_out_and_counted(tmp_path):
    hostile = [("/etc/0.txt", b"x"), ("../up.txt", b"x"), ("a/../../b.txt", b"x"), ("a\\..\\b.txt", b"x"), (".hidden.txt", b"x")]
    kinds = [
        ("l.txt", tarfile.SYMTYPE),
        ("h.txt", tarfile.LNKTYPE),
        ("c.txt", tarfile.CHRTYPE),
        ("b.txt", tarfile.BLKTYPE),
        ("p.txt", tarfile.FIFOTYPE),
        ("folder", tarfile.DIRTYPE),
    ]
    reader = TarReader(write_tar(tmp_path / "a.tar", [*hostile, *FILES], extra=kinds))
    assert reader.skipped == {"path": 4, "hidden": 1, "link": 2, "device": 3}
    assert [reader[i]["key"] for i in range(len(reader))] == ["0001", "0002", "deep/er/0003"]


def test_an_archive_cut_anywhere_is_refused(tmp_path):
    whole = write_tar(tmp_path / "a.tar", FILES[:4]).read_bytes()
    end = 4 * 1024  # Four members of two blocks; then come empty blocks.
    cut = tmp_path / "cut.tar"
    for length in range(end):
        cut.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.tar"):
            TarReader(cut)
    cut.write_bytes(whole[: end + 512])
    assert len(TarReader(cut)) == 2


@settings(deadline=None, max_examples=300)
@given(position=st.integers(0, 4 * 1024 - 1), value=st.integers(0, 255))
def test_a_damaged_archive_is_read_or_refused_with_a_sentence(tmp_path_factory, position, value):
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(write_tar(folder / "whole.tar", FILES[:4]).read_bytes())
    data[position] = value
    (folder / "damaged.tar").write_bytes(data)
    try:
        reader = TarReader(folder / "damaged.tar")
        for i in range(len(reader)):
            reader[i]
    except DataError:
        pass


def test_what_is_no_archive(tmp_path):
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "text.tar").write_text("hello " * 1000)
    with tarfile.open(tmp_path / "zipped.tar", "w:gz") as archive:
        archive.add(tmp_path / "text.tar", "a.txt")
    write_tar(tmp_path / "none.tar", [])
    for name in ("empty.tar", "text.tar", "zipped.tar", "none.tar", "missing.tar", "."):
        with pytest.raises(DataError):
            TarReader(tmp_path / name)
    with pytest.raises(DataError, match="holds no samples"):
        TarReader([])


def test_fields_that_contradict(tmp_path):
    with pytest.raises(DataError, match="twice"):
        TarReader(write_tar(tmp_path / "a.tar", [("a.txt", b"x"), ("b.txt", b"y"), ("a.txt", b"z")]))
    files = [("a.jpg", b"x"), ("a.png", b"y"), ("b.txt", b"\xff\xfe"), ("c.json", b"{")]
    reader = TarReader(write_tar(tmp_path / "b.tar", files))
    for index, words in enumerate(("two files of kind image", "not UTF-8", "is not JSON")):
        with pytest.raises(DataError, match=words):
            reader[index]


def test_an_archive_that_shrinks_later(tmp_path):
    path = write_tar(tmp_path / "a.tar", FILES)
    reader = TarReader(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match="shorter"):
        reader[1]
