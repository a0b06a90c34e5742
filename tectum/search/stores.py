"""A store is chosen by its URI: `memory:` is exact and lives in RAM, anything else is the place of a LanceDB table."""

from tectum.errors import StoreError
from tectum.search.lance import LanceStore
from tectum.search.memory import MemoryStore
from tectum.search.store import Store


def open_store(uri: str) -> Store:
    """The store at a URI; nothing is made before `create`.

    Raises:
        StoreError: if the URI's kind of store is not known.

    >>> import numpy as np
    >>> from tectum.search.store import Equal, Row
    >>> store = open_store("memory:")
    >>> store.create(dim=2, fields={"kind": str})
    >>> store.upsert([Row("a", np.array([1.0, 0.0]), {"kind": "image"}), Row("b", np.array([0.0, 1.0]), {"kind": "text"})])
    >>> [(hit.id, hit.score) for hit in store.search(np.array([0.6, 0.8]), k=1)]
    [('b', 0.8...)]
    >>> [hit.id for hit in store.search(np.array([0.6, 0.8]), where=Equal("kind", "image"))]
    ['a']
    """
    if uri == "memory:":
        return MemoryStore()
    scheme, separator, _ = uri.partition("://")
    if separator and scheme != "s3":
        raise StoreError(f"{uri!r} names no store: use 'memory:', a folder such as './vectors', or 's3://bucket/folder'")
    return LanceStore(uri)
