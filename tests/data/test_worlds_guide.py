"""The examples of the guide run, and the picture beside them is there."""

import doctest
import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_guides_examples_run() -> None:
    results = doctest.testfile(str(DOCS / "worlds.md"), module_relative=False)
    assert results.attempted > 15 and results.failed == 0


def test_the_guides_pictures_are_there() -> None:
    names = re.findall(r"\]\((pictures/[^)]+)\)", (DOCS / "worlds.md").read_text(encoding="utf-8"))
    assert names and all((DOCS / name).is_file() for name in names)
