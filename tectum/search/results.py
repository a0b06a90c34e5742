"""What indexing and searching a library answer with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tectum.search.scan import Skip
from tectum.search.store import IndexBuild


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexReport:
    """What `Library.add` did.

    Attributes:
        added, changed, removed, unchanged: numbers of files; a file that moved is one removed and one added.
        reused: files whose content was known already, so that nothing was encoded.
        ignored: files of other kinds, hidden ones, and links to files found elsewhere.
        skipped: files and folders left out, and why.
        builds: by kind, how well the vectors are found, measured after this change.
        seconds: time taken.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    reused: int = 0
    ignored: int = 0
    skipped: list[Skip] = field(default_factory=list)
    builds: Mapping[str, IndexBuild] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def reasons(self) -> dict[str, int]:
        """How many were skipped for each reason."""
        return dict(sorted(Counter(skip.reason for skip in self.skipped).items()))


@dataclass(frozen=True, kw_only=True, slots=True)
class LibraryInfo:
    """What a library holds: indexed files and stored vectors by kind, skipped files by reason, what was added, and its size."""

    path: str
    model: str
    fingerprint: str
    dim: int
    files: Mapping[str, int]
    vectors: Mapping[str, int]
    skipped: Mapping[str, int]
    roots: list[str]
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LibraryHit:
    """One file that was found.

    Attributes:
        path: absolute; undecodable bytes are surrogates (PEP 383), so it opens, and printing it may need escaping.
        kind: "image", "audio" or "text".
        relevance: probability in [0, 1] that it is what was asked for.
        cosine: similarity to the query in the shared space.
        excerpt: of a text, the passage that fits best, characters [start, end) of it.
        copies: other paths with the same content.
    """

    path: str
    kind: str
    relevance: float
    cosine: float
    excerpt: str = ""
    start: int = 0
    end: int = 0
    copies: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """The hits, best first, and what was not shown.

    Attributes:
        hits: empty if nothing was found.
        considered: number of files that were compared.
        best_below: relevance of the best file below the threshold, None if none was looked at.
        queries: modalities the query was made of.
        threshold: least relevance of a hit.
        seconds: time taken, without embedding the query.

    >>> len(Results(hits=(), considered=20, best_below=0.1, queries=("text",), threshold=0.5, seconds=0.01))
    0
    """

    hits: tuple[LibraryHit, ...]
    considered: int
    best_below: float | None
    queries: tuple[str, ...]
    threshold: float
    seconds: float

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[LibraryHit]:
        return iter(self.hits)
