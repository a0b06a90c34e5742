"""Keep the catalog and the stores of a library in step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from tectum.search.catalog import Catalog
from tectum.search.store import In, Store

_MANY = 500


def heal(catalog: Catalog, stores: Mapping[str, Store]) -> None:
    """Make the stores and the catalog agree again after a run was killed, or the machine lost power, between two writes."""
    expected = catalog.rows()
    for kind, store in stores.items():
        if store.count() == expected.get(kind, 0):
            continue
        stored = Counter(str(row.fields["content"]) for row in store.get(vectors=False))
        known = {content: rows for (of, content), rows in catalog.contents().items() if of == kind}
        wrong = [content for content in stored.keys() | known.keys() if stored[content] != known.get(content, 0)]
        catalog.forget(kind, [content for content in wrong if content in known])
        delete_contents(store, wrong)


def delete_contents(store: Store, contents: list[str]) -> None:
    """Delete the rows of contents, some hundreds at a time."""
    for at in range(0, len(contents), _MANY):
        store.delete(In("content", frozenset(contents[at : at + _MANY])))


def clear_unused(catalog: Catalog, store: Callable[[str], Store]) -> set[str]:
    """Delete the rows that no file needs any more; returns the kinds they were of."""
    unused = catalog.drop_unused()
    for kind, contents in unused.items():
        delete_contents(store(kind), contents)
    return set(unused)
