"""The readers of datasets: each has `len(reader)` and `reader[i]`, a sample, in any order and from any thread."""

from tectum.data.folder import FolderReader
from tectum.data.parquet import ParquetReader
from tectum.data.sample import Reader, Sample
from tectum.data.tar import TarReader

__all__ = ["FolderReader", "ParquetReader", "Reader", "Sample", "TarReader"]
