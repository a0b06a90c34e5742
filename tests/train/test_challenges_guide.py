"""The examples of the guide run."""

import doctest
from pathlib import Path


def test_the_examples_of_the_guide_run() -> None:
    guide = Path(__file__).parents[2] / "docs" / "training-challenges.md"
    results = doctest.testfile(str(guide), module_relative=False)
    assert results.attempted > 30 and results.failed == 0
