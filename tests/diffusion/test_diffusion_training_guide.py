"""The examples of docs/diffusion-training.md do what the page says."""

import doctest
from pathlib import Path


def test_the_examples_of_the_guide() -> None:
    guide = Path(__file__).parents[2] / "docs" / "diffusion-training.md"
    failed, tried = doctest.testfile(
        str(guide), module_relative=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert (failed, tried > 20) == (0, True)
