"""The examples of the guide run."""

import doctest
from pathlib import Path


def test_the_guide_runs() -> None:
    guide = Path(__file__).parents[2] / "docs" / "contrastive.md"
    assert doctest.testfile(str(guide), module_relative=False).failed == 0
