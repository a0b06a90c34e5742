"""What an approximate index must find: queries, and the exact scores of their tenth neighbours, with bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np

QUERIES = 256


def held_out_queries(table: Any, dim: int) -> np.ndarray:
    """Up to 256 stored rows, each moved by a random vector half as long and renormalised: near rows, but none of them."""
    random = np.random.default_rng(0)
    rows = table.count_rows()
    picked = np.sort(random.choice(rows, min(QUERIES, rows), replace=False)).tolist()
    vectors = matrix_of(table.take_offsets(picked).select(["vector"]).to_arrow(), dim)
    noise = random.standard_normal(vectors.shape)
    moved = vectors + 0.5 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def tenth_best(table: Any, queries: np.ndarray, dim: int) -> np.ndarray:
    """The exact score [n] of each query's tenth nearest row, in one pass over the table with bounded memory."""
    best = np.full((len(queries), 10), -np.inf, np.float32)
    for batch in table.search().select(["vector"]).to_batches(8192):
        scores = np.concatenate([best, queries @ matrix_of(batch, dim).T], axis=1)
        best = np.partition(scores, -10, axis=1)[:, -10:]
    return best.min(axis=1)


def matrix_of(found: Any, dim: int) -> np.ndarray:
    """The `vector` column of an Arrow table or batch as [n, dim] float32."""
    vectors = found["vector"]
    chunks = vectors.chunks if hasattr(vectors, "chunks") else [vectors]
    parts = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim) for chunk in chunks]
    return np.concatenate([np.zeros((0, dim), np.float32), *parts]) if len(parts) != 1 else parts[0]
