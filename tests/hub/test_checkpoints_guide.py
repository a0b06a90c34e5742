"""The example of the guide runs."""

import doctest
from pathlib import Path


def test_the_guides_example_runs() -> None:
    guide = Path(__file__).parents[2] / "docs" / "checkpoints.md"
    results = doctest.testfile(str(guide), module_relative=False)
    assert results.attempted > 10 and results.failed == 0
