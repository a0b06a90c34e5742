"""Cached vectors: the same from .npz and Parquet, and a sentence for what is something else."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tectum.data.embeddings import read_vectors
from tectum.errors import DataError
from tectum.models.compact import to_int8

ROWS = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
PATHS = ["x/1.jpg", "y/1.wav", "2.jpg", "2.txt"]
KINDS = ["image", "audio", "image", "text"]


def save(path, columns) -> None:
    if path.suffix == ".npz":
        np.savez(path, **{name: np.array(column) for name, column in columns.items()})
    else:
        pq.write_table(
            pa.table({name: column.tolist() if name == "vectors" else column for name, column in columns.items()}), path
        )


@pytest.mark.parametrize("name", ["v.npz", "v.parquet"])
def test_vectors_with_their_groups_and_kinds(tmp_path, name) -> None:
    save(tmp_path / name, {"vectors": ROWS, "paths": PATHS, "kinds": KINDS})
    found = read_vectors(tmp_path / name)
    np.testing.assert_array_equal(found.vectors, ROWS)
    assert (found.groups, found.kinds, len(set(found.ids))) == (("1", "1", "2", "2"), tuple(KINDS), 4)
    images = found.of_kind("image")
    np.testing.assert_array_equal(images.vectors, ROWS[[0, 2]])
    assert images.groups == ("1", "2") and images.ids == (found.ids[0], found.ids[2])
    save(tmp_path / name, {"vectors": ROWS, "groups": list("abab"), "paths": PATHS})
    assert read_vectors(tmp_path / name).groups == tuple("abab")


def test_eight_bits_are_decoded(tmp_path) -> None:
    stored = to_int8(torch.from_numpy(ROWS))
    np.savez(tmp_path / "v.npz", vectors=stored.codes, scales=stored.scales[:, 0], paths=PATHS)
    np.testing.assert_array_equal(read_vectors(tmp_path / "v.npz").vectors, stored.decode().numpy())


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"vectors": ROWS}, r"needs vectors \[n, d\], and groups"),
        ({"paths": PATHS}, r"needs vectors \[n, d\], and groups"),
        ({"vectors": ROWS, "paths": PATHS[:3]}, r"needs vectors \[n, d\], and groups"),
        ({"vectors": ROWS, "paths": PATHS, "kinds": KINDS[:2]}, "has 4 vectors of 2 kinds"),
        ({"vectors": ROWS, "paths": PATHS, "scales": [1.0]}, "has 4 vectors and other scales"),
    ],
)
def test_what_is_missing_is_told(tmp_path, columns, words) -> None:
    save(tmp_path / "v.npz", columns)
    with pytest.raises(DataError, match=words):
        read_vectors(tmp_path / "v.npz")


def test_files_that_are_something_else(tmp_path) -> None:
    for name, kind in (("v.npz", ".npz"), ("v.parquet", "Parquet")):
        (tmp_path / name).write_text("no vectors")
        with pytest.raises(DataError, match=f"is no {kind} file of vectors"):
            read_vectors(tmp_path / name)
    for column in ([[1.0, 2.0], [1.0]], [[], []], [1.0, 2.0], [None, [1.0]]):
        pq.write_table(pa.table({"vectors": column, "paths": ["a", "b"]}), tmp_path / "v.parquet")
        with pytest.raises(DataError, match="is no Parquet file of vectors"):
            read_vectors(tmp_path / "v.parquet")
    with pytest.raises(DataError):
        read_vectors(tmp_path / "nowhere.npz")
