"""Parquet: random access equals the table, row groups are read once while they are kept, wrong files are named."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tectum.data.readers import ParquetReader
from tectum.errors import DataError


def write(path, rows, group=3, **columns):
    pq.write_table(pa.table({"caption": [f"text {i}" for i in rows], "n": list(rows), **columns}), path, row_group_size=group)
    return path


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(sum), group=st.integers(1, 5), kept=st.integers(0, 3))
def test_rows_come_in_the_order_of_the_files(tmp_path_factory, sizes, group, kept):
    folder, start = tmp_path_factory.mktemp("parquet"), 0
    for number, size in enumerate(sizes):
        write(folder / f"{number}.parquet", range(start, start + size), group)
        start += size
    reader = ParquetReader(folder, {"text": "caption", "number": "n"}, cached_groups=kept)
    assert len(reader) == sum(sizes)
    order = sorted(range(len(reader)), key=lambda i: (i * 7) % 5)
    assert [reader[i] for i in order] == [{"key": str(i), "text": f"text {i}", "number": i} for i in order]
    assert reader[-1]["number"] == len(reader) - 1
    with pytest.raises(IndexError):
        reader[len(reader)]


def test_media_structs_and_nulls(tmp_path):
    images = [{"bytes": b"one", "path": "a.jpg"}, None, {"bytes": None, "path": "c.jpg"}]
    path = write(tmp_path / "a.parquet", range(3), photo=images, sound=[b"x", b"y", None])
    reader = ParquetReader(path, {"image": "photo", "audio": "sound"})
    assert reader[0] == {"key": "0", "image": b"one", "audio": b"x"}
    assert reader[1] == {"key": "1", "audio": b"y"}
    with pytest.raises(DataError, match="holds no bytes"):
        reader[2]
    assert ParquetReader(path)[1] == {"key": "1", "caption": "text 1", "n": 1, "sound": b"y"}


def test_row_groups_are_read_once_while_they_are_kept(tmp_path, monkeypatch):
    reader = ParquetReader(write(tmp_path / "a.parquet", range(12)), cached_groups=2)
    read, original = [], pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda self, i, **more: read.append(i) or original(self, i, **more))
    for index in (0, 1, 3, 2, 5, 4):
        reader[index]
    assert read == [0, 1]
    for index in (0, 6, 1, 3):  # Group 2 drives out group 1, which was used longer ago than group 0.
        reader[index]
    assert read == [0, 1, 2, 1]


def test_pickled_and_shared_by_threads(tmp_path):
    reader = ParquetReader(write(tmp_path / "a.parquet", range(40)), {"text": "caption"})
    reader[0]
    again = pickle.loads(pickle.dumps(reader))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: again[i]["text"], range(40))) == [f"text {i}" for i in range(40)]


def test_wrong_files_are_named(tmp_path):
    whole = write(tmp_path / "a.parquet", range(5))
    with pytest.raises(DataError, match="did you mean 'caption'"):
        ParquetReader(whole, {"text": "captions"})
    with pytest.raises(DataError, match="it has caption, n"):
        ParquetReader(whole, {"image": "photo"})
    (tmp_path / "b").mkdir()
    for data in (b"", b"hello", whole.read_bytes()[:-20]):
        (tmp_path / "b/x.parquet").write_bytes(data)
        with pytest.raises(DataError, match=r"x\.parquet is no whole Parquet file"):
            ParquetReader(tmp_path / "b")
    damaged = bytearray(whole.read_bytes())
    damaged[4:60] = bytes(56)
    (tmp_path / "b/x.parquet").write_bytes(damaged)
    with pytest.raises(DataError, match="row group 0"):
        ParquetReader(tmp_path / "b")[0]
    with pytest.raises(DataError, match="neither"):
        ParquetReader(tmp_path / "missing")
    with pytest.raises(DataError, match="holds no rows"):
        ParquetReader(write(tmp_path / "none.parquet", range(0)))
