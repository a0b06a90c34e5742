"""Recipes are found, their options read by type, and wrong ones named."""

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tectum.errors import ConfigError
from tectum.train.recipe import load_recipe, options, override, remember, remembered


@dataclass(frozen=True, kw_only=True)
class Recipe:
    steps: int = field(default=100, metadata={"help": "optimizer steps"})
    lr: float = 1e-3
    flip: bool = True
    name: str = "small"
    data: Path = Path("data")
    sizes: tuple[int, ...] = (64, 128)
    betas: tuple[float, float] = (0.9, 0.98)
    vendor: str | None = None
    seconds: Optional[float] = None  # noqa: UP045
    precision: Literal["bf16", "fp32"] = "bf16"
    layers: Literal[2, 4] = 2
    table: dict = field(default_factory=dict)


@given(
    steps=st.integers(),
    lr=st.floats(allow_nan=False),
    flip=st.booleans(),
    name=st.text(st.characters(codec="utf-8")).map(str.strip),
    sizes=st.lists(st.integers()).map(tuple),
    betas=st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    seconds=st.none() | st.floats(allow_nan=False),
)
def test_every_value_comes_back_from_its_text(**values):
    texts = {name: ",".join(map(str, value)) if isinstance(value, tuple) else str(value) for name, value in values.items()}
    changed = override(Recipe(), [f"{name}={text}" for name, text in texts.items()])
    for name, value in values.items():
        assert getattr(changed, name) == value
        assert type(getattr(changed, name)) is type(value)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [("data=~/a=b c", Path("~/a=b c")), ("sizes=32,", (32,)), ("sizes=", ()), ("sizes=(1, 2)", (1, 2)), ("vendor=none", None),
     ("vendor=noto", "noto"), ("precision=fp32", "fp32"), ("layers=4", 4), ("flip=off", False), (" lr = 3e-4 ", 3e-4)],
)  # fmt: skip
def test_how_values_may_be_written(assignment, value):
    assert getattr(override(Recipe(), [assignment]), assignment.split("=")[0].strip()) == value


@pytest.mark.parametrize(
    ("assignment", "words"),
    [("stps=5", "there is no option 'stps': did you mean 'steps'"), ("zzz=5", "there is no option 'zzz'$"),
     ("steps", "write name=value, for example steps=100"), ("steps=1.5", "steps must be a whole number, got '1.5'"),
     ("steps=", "steps must be a whole number, got ''"), ("lr=fast", "lr must be a number, got 'fast'"),
     ("lr=nan", "lr must be a number"), ("flip=maybe", "flip must be true or false"),
     ("sizes=1,x", "sizes must be a whole number, got '1,x'"), ("betas=1", "betas must be 2 values between commas"),
     ("seconds=soon", "seconds must be a number or none"), ("precision=fp16", "precision must be 'bf16' or 'fp32'"),
     ("layers=3", "layers must be 2 or 4"), ("table={}", "table must be set in the recipe's file")],
)  # fmt: skip
def test_what_does_not_fit_is_named(assignment, words):
    with pytest.raises(ConfigError, match=words):
        override(Recipe(), [assignment])


def test_options_describe_themselves():
    listed = {option.name: option for option in options(override(Recipe(), ["steps=7"]))}
    assert listed["steps"] == ("steps", "a whole number", 7, "optimizer steps")
    assert listed["vendor"].type == "text or none"


WORKING = """
from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path

from tiny_one_data import STEPS

@dataclass(frozen=True)
class Recipe:
    steps: int = STEPS
    data: Path | None = None

def run(recipe: Recipe, out: Path) -> None:
    (out / "ran").write_text(str(recipe.steps))
"""


def test_a_recipe_is_found_by_name_or_path(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/tiny_one.py").write_text(WORKING)
    (tmp_path / "other.py").write_text("Recipe = 3")
    (tmp_path / "recipes/tiny_one_data.py").write_text("STEPS = 3")
    path = list(sys.path)
    monkeypatch.chdir(tmp_path)
    for name in ("tiny_one", "recipes/tiny_one.py", tmp_path / "recipes/tiny_one.py"):
        module = load_recipe(name)
        module.run(override(module.Recipe(), ["steps=5", "data=x"]), tmp_path)
        assert (tmp_path / "ran").read_text() == "5"
    assert sys.path == path
    with pytest.raises(ConfigError, match=r"there are (.*, )?tiny_one(, .*)?;"):
        load_recipe("zzz")
    with pytest.raises(ConfigError, match="no recipe 'tiny_won': did you mean 'tiny_one'"):
        load_recipe("tiny_won")
    with pytest.raises(ConfigError, match="no recipe file"):
        load_recipe("missing.py")
    with pytest.raises(ConfigError, match="needs a dataclass named Recipe and a function run"):
        load_recipe("other.py")


def test_a_folder_remembers_its_options(tmp_path):
    remember(Recipe(), tmp_path / "run")
    remember(Recipe(), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"sizes=\[64, 128\], now sizes=\[32\]"):
        remember(override(Recipe(), ["sizes=32"]), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"data='data', now data='elsewhere'"):
        remember(override(Recipe(), ["data=elsewhere"]), tmp_path / "run")
    remember(override(Recipe(), [f"lr={math.pi}"]), tmp_path / "other")
    remember(override(Recipe(), [f"lr={math.pi}"]), tmp_path / "other")


def test_what_is_remembered_comes_back(tmp_path):
    changed = override(Recipe(), ["sizes=32,48", "data=elsewhere", f"lr={math.pi}"])
    remember(changed, tmp_path)
    found = remembered(Recipe(), tmp_path)
    assert (found.sizes, found.data, found.lr) == (changed.sizes, changed.data, changed.lr)
    (tmp_path / "recipe.json").write_text('{"surprise": 1}')
    with pytest.raises(ConfigError, match="'surprise'"):
        remembered(Recipe(), tmp_path)
    for text in ("[1]", "{", '"x"'):
        (tmp_path / "recipe.json").write_text(text)
        with pytest.raises(ConfigError, match="cannot be read"):
            remembered(Recipe(), tmp_path)
    with pytest.raises(ConfigError, match="folder of a run"):
        remembered(Recipe(), tmp_path / "nowhere")
