"""tectum train: options reach the recipe, and an earlier run is never lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import Run

RECIPE = '''
from dataclasses import dataclass, field
from pathlib import Path

@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe that only writes down its options."""

    steps: int = field(default=10, metadata={"help": "how long"})
    lr: float = field(default=0.1, metadata={"help": "how fast"})

def run(recipe: Recipe, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with (out / "ran.txt").open("a") as file:
        file.write(f"{recipe.steps} {recipe.lr}\\n")
'''


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.py"
    path.write_text(RECIPE)
    return path


def test_options_reach_the_recipe(tectum: Run, recipe: Path) -> None:
    assert tectum("train", recipe, "steps=3", "lr=5e-4", "--out", "here").status == 0
    assert Path("here/ran.txt").read_text() == "3 0.0005\n"
    assert tectum("train", recipe).status == 0
    assert Path("runs/small/ran.txt").read_text() == "10 0.1\n"


def test_started_again_it_goes_on_and_fresh_keeps_the_earlier_run(tectum: Run, recipe: Path) -> None:
    for _ in range(2):
        tectum("train", recipe, "--out", "here")
    assert Path("here/ran.txt").read_text() == "10 0.1\n" * 2
    for number in (1, 2):
        assert f"here.{number}" in tectum("train", recipe, "--out", "here", "--fresh").out
    assert Path("here/ran.txt").read_text() == Path("here.2/ran.txt").read_text() == "10 0.1\n"
    assert Path("here.1/ran.txt").read_text() == "10 0.1\n" * 2


def test_options_are_listed_with_what_was_chosen(tectum: Run, recipe: Path) -> None:
    done = tectum("train", recipe, "--options", "steps=7")
    assert done.status == 0 and not Path("runs").exists()
    rows = {line.split()[0]: line for line in done.out.splitlines()[1:]}
    assert rows["steps"].split()[1] == "7" and "how long" in rows["steps"] and "how fast" in rows["lr"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("stepz=3",), "steps"), (("steps=many",), "steps"), (("steps",), "name=value"), (("--out", "small.py"), "is a file")],
)
def test_mistakes(tectum: Run, recipe: Path, arguments: tuple[str, ...], words: str) -> None:
    done = tectum("train", recipe, *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1 and words in done.err


def test_an_unknown_recipe(tectum: Run) -> None:
    done = tectum("train", "nowhere")
    assert done.status == 2 and "nowhere" in done.err


def test_an_interrupt_is_one_sentence(tectum: Run, recipe: Path) -> None:
    recipe.write_text(RECIPE + "    raise KeyboardInterrupt\n")
    done = tectum("train", recipe)
    assert (done.status, done.err.count("\n")) == (130, 1)
