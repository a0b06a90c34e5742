"""How fast a library indexes and searches, beside what the same machine can do at best.

    python benchmarks/index.py [--pictures 2000] [--rows 10000,100000] [--model space-mini]

Indexing is set against decoding the same JPEG files and nothing else, on as many threads; searching against the bare product of
the matrix of vectors with the query; starting against an empty Python. All in one run, so that the ratios mean something whatever
else the machine is doing. The pictures are made: clouds of 1/f noise, edges and grain, as heavy to decode as photographs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from measuring import peak_memory, print_table, seconds
from PIL import Image, ImageDraw

import tectum
from tectum.errors import CheckpointError
from tectum.search.catalog import Catalog, Content, File
from tectum.search.indexing import FIELDS, IndexConfig
from tectum.search.library import Library
from tectum.search.progress import progress_bar
from tectum.search.store import Row
from tectum.search.stores import open_store

WIDTH, HEIGHT = 640, 480
QUERIES = 100
STARTS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000, help="pictures to index")
    parser.add_argument("--rows", default="10000,100000", help="sizes of the libraries to search, separated by commas")
    parser.add_argument("--model", default="space-mini", help="a model's name or folder")
    options = parser.parse_args()
    try:
        space = tectum.load(options.model)
    except CheckpointError as error:
        sys.exit(f"this benchmark needs a model: {error}")

    rows: list[tuple[str, str, str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows += bench_start()
        rows += bench_indexing(folder, space, options.pictures)
        for count in map(int, options.rows.split(",")):
            rows += bench_search(folder / f"{count}.tectum", space, count)
    print_table(("what", "tectum", "bare", "ratio"), rows)


def bench_start() -> list[tuple[str, str, str, str]]:
    """Seconds until `tectum --help` and an empty Python have ended."""

    def run(*arguments: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True))

    pairs = [(run("-m", "tectum", "--help"), run("-c", "pass")) for _ in range(STARTS)]
    ours, bare = (statistics.median(times) for times in zip(*pairs, strict=True))
    return [("start: --help / python -c pass", f"{1e3 * ours:.0f} ms", f"{1e3 * bare:.0f} ms", f"{ours / bare:.1f} ×")]


def bench_indexing(folder: Path, space: tectum.Space, count: int) -> list[tuple[str, str, str, str]]:
    """Files a second of `Library.add`, and of decoding alone."""
    paths = make_pictures(folder / "pictures", count)
    workers = IndexConfig().workers
    before = peak_memory()
    # Warm the page cache and the decoder for both sides.
    for path in paths:
        path.read_bytes()
    with ThreadPoolExecutor(workers) as pool:
        bare = seconds(lambda: list(pool.map(decode, paths)))
    library = Library(folder / "pictures.tectum", space)
    with progress_bar("indexing") as progress:
        report = library.add(folder / "pictures", progress=progress)
    if report.added != count:
        sys.exit(f"{count - report.added} of {count} pictures were not indexed: {report.reasons}")
    peak = peak_memory()
    again = library.add(folder / "pictures").seconds
    name = f"index {count:,} pictures"
    return [
        (f"{name} / decode, {workers} threads", f"{count / report.seconds:.0f} files/s", f"{count / bare:.0f} files/s",
         f"{bare / report.seconds:.2f}"),
        (f"{name} again, unchanged", f"{count / again:,.0f} files/s", "", ""),
        (f"{name}: peak memory / before", f"{peak:.0f} MiB", f"{before:.0f} MiB", ""),
    ]  # fmt: skip


def bench_search(path: Path, space: tectum.Space, count: int) -> list[tuple[str, str, str, str]]:
    """Median milliseconds of a search by vector and by words, and of the matrix product alone, taken in turns."""
    vectors = fill(path, space, count)
    library = Library(path, space)
    random = np.random.default_rng(1)
    queries = unit(vectors[random.integers(0, count, QUERIES)] + 0.5 * unit(random.standard_normal((QUERIES, space.dim))))
    library.search_vector(queries[0], ("image",), threshold=0)
    ours, bare, words = [], [], []
    for query in queries:
        bare.append(seconds(partial(np.matmul, vectors, query)))
        ours.append(seconds(partial(library.search_vector, query, ("image",), threshold=0)))
        words.append(seconds(lambda: library.search(text="a dog on a beach", threshold=0)))
    store = open_store(str(path / "vectors" / "image"))
    truth = [set(np.argpartition(-(vectors @ query), 10)[:10].tolist()) for query in queries]
    found = [{int(hit.fields["part"]) for hit in store.search(query, 10)} for query in queries]
    recall = sum(len(a & b) for a, b in zip(truth, found, strict=True)) / (10 * QUERIES)
    p50, product = 1e3 * statistics.median(ours), 1e3 * statistics.median(bare)
    return [
        (f"search {count:,} rows / matrix product", f"{p50:.2f} ms", f"{product:.2f} ms", f"{p50 / product:.2f} ×"),
        (f"search {count:,} rows by words", f"{1e3 * statistics.median(words):.2f} ms", "", f"recall {recall:.3f}"),
    ]


def fill(path: Path, space: tectum.Space, count: int) -> np.ndarray:
    """A library of clustered unit vectors [count, dim], as if it had been indexed; row i is part i."""
    random = np.random.default_rng(0)
    centres = unit(random.standard_normal((500, space.dim)))
    vectors = unit(centres[random.integers(0, 500, count)] + 0.7 * unit(random.standard_normal((count, space.dim))))
    (path.parent / "one.txt").write_text("one", encoding="utf-8")
    Library(path, space).add(path.parent / "one.txt")
    store = open_store(str(path / "vectors" / "image"))
    store.create(space.dim, FIELDS)
    names = [random.bytes(20).hex() for _ in range(count)]
    rows = [
        Row(f"{name}-000", vector, {"content": name, "part": i, "start": 0, "end": 0, "excerpt": ""})
        for i, (name, vector) in enumerate(zip(names, vectors, strict=True))
    ]
    for at in range(0, count, 20_000):
        store.upsert(rows[at : at + 20_000])
    files = [File(f"/pictures/{name}.jpg", 1, 1, "image", name) for name in names]
    Catalog(path / "catalog.sqlite").write(files=files, contents=[Content("image", name, 1) for name in names])
    print(store.optimize(), flush=True)
    return vectors


def make_pictures(folder: Path, count: int) -> list[Path]:
    """JPEG files with the spectrum of photographs."""
    folder.mkdir()
    random = np.random.default_rng(0)
    side = 1024
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    frequency[0, 0] = 1.0
    clouds = []
    for _ in range(8):
        spectrum = np.fft.rfft2(random.standard_normal((side, side))) / frequency**1.1
        spectrum[0, 0] = 0
        cloud = np.fft.irfft2(spectrum)
        clouds.append(cloud / cloud.std())
    mixed = [np.stack([cloud, np.roll(cloud, 17, 0), np.roll(cloud, 31, 1)], -1).astype(np.float32) for cloud in clouds]
    paths = []
    for number in range(count):
        top, left = random.integers(0, side - HEIGHT), random.integers(0, side - WIDTH)
        part = mixed[random.integers(len(mixed))][top : top + HEIGHT, left : left + WIDTH]
        pixels = (
            128
            + 40 * part * random.uniform(0.6, 1.2, 3)
            + random.uniform(-40, 40, 3)
            + 3 * random.standard_normal((HEIGHT, WIDTH, 1))
        )
        picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(picture)
        for _ in range(4):
            x, y = int(random.integers(0, WIDTH)), int(random.integers(0, HEIGHT))
            width, height = random.integers(20, 200, 2).tolist()
            draw.ellipse((x, y, x + width, y + height), fill=tuple(random.integers(0, 256, 3).tolist()))
        path = folder / f"{number:06d}.jpg"
        picture.save(path, quality=90)
        paths.append(path)
    return paths


def decode(path: Path) -> None:
    with Image.open(path) as picture:
        picture.convert("RGB")


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    main()
