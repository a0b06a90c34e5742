"""Samples from Parquet files, read a row group at a time."""

from __future__ import annotations

import bisect
import difflib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tectum.data.sample import Sample
from tectum.errors import DataError


class ParquetReader:
    """Rows of a Parquet file, or of all `*.parquet` below a folder in the order of their paths.

    `columns` maps modality names to columns, {"image": "photo", "text": "caption"}; without it every column keeps its own name.
    A struct with a field "bytes" (how the Hugging Face libraries store media) gives these bytes. A null is left out of the
    sample. "key" is the row's number.

    Parquet can only be read by row groups: the last `cached_groups` are kept in memory, and a random order over large groups
    reads a whole group for every row. Write groups of some hundred rows (`row_group_size`) for training. Safe to use from
    several threads.

    Raises DataError if there is no such file, if it is no Parquet file, if it lacks a column, or if a struct holds no bytes.

    >>> reader = ParquetReader("pets.parquet", {"image": "photo", "text": "caption"})  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, columns: Mapping[str, str] | None = None, *, cached_groups: int = 4) -> None:
        self.paths = _parquet_files(Path(path))
        self._groups: list[tuple[int, int]] = []  # (number of the file, number of the row group in it)
        rows = []
        for number, file in enumerate(self.paths):
            with _open(file) as opened:
                names = opened.schema_arrow.names
                if number == 0:
                    self.columns = dict(columns) if columns is not None else {name: name for name in names}
                for column in self.columns.values():
                    if column not in names:
                        near = difflib.get_close_matches(column, names, n=1)
                        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
                        raise DataError(f"{file} has no column {column!r}: {hint}")
                for group in range(opened.num_row_groups):
                    self._groups.append((number, group))
                    rows.append(opened.metadata.row_group(group).num_rows)
        self._ends = list(accumulate(rows))
        if len(self) == 0:
            raise DataError(f"{path} holds no rows")
        self._cached_groups = max(cached_groups, 1)
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        group = bisect.bisect_right(self._ends, index)
        table = self._table(group)
        row = index - (self._ends[group] - table.num_rows)
        sample: Sample = {"key": str(index)}
        for modality, column in self.columns.items():
            value = table.column(column)[row].as_py()
            if isinstance(value, dict) and "bytes" in value:
                value = value["bytes"]
                if value is None:
                    raise DataError(f"row {index} of {self.paths[0].parent} names a file in {column!r} but holds no bytes of it")
            if value is not None:
                sample[modality] = value
        return sample

    def _table(self, group: int) -> pa.Table:
        with self._lock:
            if group in self._cache:
                self._cache.move_to_end(group)
                return self._cache[group]
            file, number = self._groups[group]
            with _open(self.paths[file]) as opened:
                try:
                    table = opened.read_row_group(number, columns=list(dict.fromkeys(self.columns.values())))
                except (pa.ArrowException, OSError) as error:
                    raise DataError(f"{self.paths[file]} is damaged in row group {number}: {error}") from error
            self._cache[group] = table
            while len(self._cache) > self._cached_groups:
                self._cache.popitem(last=False)
            return table

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_cache", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _cache=OrderedDict(), _lock=threading.Lock())


def _parquet_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else []
    if not files:
        raise DataError(f"{path} is neither a Parquet file nor a folder with *.parquet files")
    return files


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no whole Parquet file: {str(error).splitlines()[0]}") from error
