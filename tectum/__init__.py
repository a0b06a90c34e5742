"""tectum: pictures, words and sounds in one space, to index, search, classify and train.

Importing this package is cheap: torch is loaded when `load`, `Library` or `Space` is first touched.

>>> import tectum
>>> space = tectum.load("space-mini")                       # doctest: +SKIP
>>> library = tectum.Library("my.tectum", space)            # doctest: +SKIP
>>> library.add("holiday/")                                 # doctest: +SKIP
>>> library.search(text="a dog barking", k=5)               # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tectum import errors

if TYPE_CHECKING:
    from tectum.hub import load
    from tectum.models.space import Space
    from tectum.search.library import Library

__version__ = "0.1.0"
__all__ = ["Library", "Space", "__version__", "errors", "load"]

_HOMES = {"load": "tectum.hub", "Space": "tectum.models.space", "Library": "tectum.search.library"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'tectum' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
