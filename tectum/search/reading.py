"""Read, check, hash and prepare files in threads, ahead of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeVar

from tectum.errors import MediaError
from tectum.media.kinds import Kind, sniff
from tectum.media.source import display
from tectum.search.passages import passages
from tectum.search.scan import Entry, Skip, hash_file

T = TypeVar("T")
R = TypeVar("R")

_MAX_BYTES: Mapping[str, int] = {"image": 256 << 20, "audio": 4 << 30, "text": 10 << 20}


class Encoder(Protocol):
    """What a library asks of a model; `tectum.Space` is one."""

    background: Any
    calibration: Any

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def dim(self) -> int:
        """Length of the vectors."""

    @property
    def precision(self) -> str:
        """ "bf16" if it may multiply in bfloat16 where the hardware can, else "fp32"."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The kinds of media it knows."""

    @property
    def fingerprint(self) -> str:
        """Changes with the vectors it makes."""

    def prepare(self, modality: str, source: Any) -> Any:
        """Decode and preprocess one item; called in threads."""

    def encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        """Prepared items to unit vectors [n, dim]."""

    def embed(self, **sources: Any) -> dict[str, Any]:
        """Items to unit vectors [n, dim] by modality."""


@dataclass(slots=True)
class Part:
    """One row to be: an item ready for the model, and of a text the passage [start, end) it is."""

    prepared: Any
    start: int = 0
    end: int = 0
    excerpt: str = ""


@dataclass(slots=True)
class Loaded:
    """A file that was read.

    Attributes:
        entry: the file.
        kind: of media.
        content: hash of its bytes.
        parts: what the model must encode; nothing if the content is known.
        skip: why it cannot be used, if so.
        lasting: whether a skip stays true as long as the file does not change.
    """

    entry: Entry
    kind: str = ""
    content: str = ""
    parts: list[Part] = field(default_factory=list)
    skip: Skip | None = None
    lasting: bool = True


def ahead(items: Iterable[T], work: Callable[[T], R], *, workers: int, window: int) -> Generator[R, None, None]:
    """`work` on each item in threads, at most `window` at once; the results come in order.

    The items are made where the results are asked for. An exception in the making of one comes after the results of those before.
    """
    remaining = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="tectum-ahead")
    pending: deque[Future[R]] = deque()
    failure: BaseException | None = None
    try:
        while True:
            try:
                for item in islice(remaining, window - len(pending)):
                    pending.append(pool.submit(work, item))
            except BaseException as error:
                failure, remaining = error, iter(())
            if not pending:
                break
            yield pending.popleft().result()
        if failure:
            raise failure
    finally:
        pool.shutdown(cancel_futures=True)


def load_file(space: Encoder, entry: Entry, known: Callable[[str, str], bool], old_skip: tuple[str, Skip] | None) -> Loaded:
    """Read one file. Whatever is wrong with it becomes a skip.

    Args:
        space: prepares the items.
        entry: the file.
        known: tells whether a (kind, content) needs no encoding.
        old_skip: the hash of the file and why it was skipped when it was last read, if it was.
    """
    loaded = Loaded(entry)
    try:
        kind = sniff(entry.path)
        _check(kind, entry, space)
        loaded.kind, loaded.content = kind, hash_file(entry.path)
        if old_skip and old_skip[0] == loaded.content:
            loaded.skip = old_skip[1]
        elif not known(kind, loaded.content):
            loaded.parts = list(read_parts(space, kind, entry.path))
    except MediaError as error:
        # Permissions change without the file changing, so what could not be opened is tried again.
        loaded.skip, loaded.lasting = Skip(entry.path, error.reason, str(error)), error.reason != "unreadable"
    except OSError as error:
        message = f"{display(entry.path)} cannot be read ({error.strerror}): check its permissions"
        loaded.skip, loaded.lasting = Skip(entry.path, "unreadable", message), False
    except Exception as error:
        # Decoders fail in many ways; one file must not stop the others, and none of this is remembered.
        message = f"{display(entry.path)} cannot be used ({type(error).__name__}: {error}): open it elsewhere and save it anew"
        loaded.skip, loaded.lasting = Skip(entry.path, "broken", " ".join(message.split())), False
    return loaded


def read_parts(space: Encoder, kind: Kind, path: str) -> Iterator[Part]:
    """A file as items for the model: one for a picture or sound, one for each passage of a text.

    Raises:
        MediaError: if it cannot be read.
    """
    if kind != "text":
        yield Part(space.prepare(kind, path))
        return
    from tectum.media.text import read_text

    context = int(space.prepare("text", "a").shape[-1])
    found = passages(read_text(path), context)
    if not found:
        raise MediaError(f"{display(path)} holds nothing but white space: write something in it", "empty")
    for passage in found:
        # A lone surrogate in a text could not be stored.
        excerpt = passage.text.encode("utf-8", "replace").decode("utf-8")
        yield Part(space.prepare("text", passage.text), passage.start, passage.end, excerpt)


def _check(kind: str, entry: Entry, space: Encoder) -> None:
    name, limit = display(entry.path), _MAX_BYTES[kind]
    if kind not in space.modalities:
        known = ", ".join(space.modalities)
        raise MediaError(f"{name} holds {kind}, and {space.name} knows {known}: use another model", "unsupported")
    if entry.size > limit:
        raise MediaError(f"{name} has {entry.size:,} bytes, more than the {limit:,} allowed for {kind}: make it smaller", "huge")
