"""Vectors on the disk, as `tectum embed` writes them: what a model has computed once and need not compute again."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tectum.errors import DataError
from tectum.media.source import display

_COLUMNS = ("vectors", "scales", "groups", "paths", "kinds")


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors [n, d], and for each an id, the group it belongs to, and its kind of media where the file says so."""

    vectors: np.ndarray
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    kinds: tuple[str, ...]

    def of_kind(self, kind: str) -> Vectors:
        """Those of one kind of media."""
        rows = [row for row, found in enumerate(self.kinds) if found == kind]
        ids, groups = (tuple(names[row] for row in rows) for names in (self.ids, self.groups))
        return Vectors(self.vectors[rows], ids, groups, (kind,) * len(rows))


def read_vectors(path: Path) -> Vectors:
    """The vectors of an .npz file, or of a Parquet file with columns of the same names.

    It holds vectors [n, d], and groups [n] or paths [n]; perhaps kinds [n]; and scales [n] where the vectors are int8. What
    belongs together has the same group; without groups, the same file name up to its ending.

    Raises:
        DataError: if it is not that.
    """
    kind = "Parquet" if path.suffix.lower() == ".parquet" else ".npz"
    try:
        held = _parquet(path) if kind == "Parquet" else _npz(path)
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError(f"{display(path)} is no {kind} file of vectors ({error}): write one with `tectum embed`") from None
    vectors, names = held.get("vectors"), held.get("groups", held.get("paths"))
    if vectors is None or names is None or vectors.ndim != 2 or names.shape != (len(vectors),):
        raise DataError(f"{display(path)} needs vectors [n, d], and groups [n] or paths [n]: write it with `tectum embed`")
    groups = tuple(str(name) if "groups" in held else Path(str(name)).stem for name in names)
    kinds = tuple(map(str, held.get("kinds", ())))
    if kinds and len(kinds) != len(vectors):
        raise DataError(f"{display(path)} has {len(vectors)} vectors of {len(kinds)} kinds: write it with `tectum embed`")
    if "scales" in held:
        if held["scales"].shape != (len(vectors),):
            raise DataError(f"{display(path)} has {len(vectors)} vectors and other scales: write it with `tectum embed`")
        vectors = vectors * held["scales"][:, None]
    return Vectors(vectors, tuple(f"{row:09d}" for row in range(len(vectors))), groups, kinds)


def _npz(path: Path) -> Mapping[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in _COLUMNS if name in file.files}


def _parquet(path: Path) -> Mapping[str, np.ndarray]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table: Any = pq.read_table(path, columns=[name for name in pq.read_schema(path).names if name in _COLUMNS])
        held = {name: table.column(name).combine_chunks() for name in table.column_names}
        if "vectors" in held:
            lengths = pc.unique(pc.list_value_length(held["vectors"])).to_pylist()
            if len(lengths) != 1 or not lengths[0]:
                raise ValueError(f"its vectors have the lengths {lengths[:3]}")
            held["vectors"] = held["vectors"].flatten()
    except pa.ArrowException as error:
        raise ValueError(str(error).splitlines()[0]) from None
    arrays = {name: column.to_numpy(zero_copy_only=False) for name, column in held.items()}
    if "vectors" in arrays:
        arrays["vectors"] = arrays["vectors"].reshape(-1, lengths[0])
    return arrays
