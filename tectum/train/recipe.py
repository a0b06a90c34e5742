"""Recipes: Python files that say how a model is trained, with options that the command line can change.

A recipe is a file with a frozen dataclass `Recipe`, whose fields are the options (every field has a default, and a sentence of
help in `metadata={"help": …}`), and a function `run(recipe: Recipe, out: Path) -> None`.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import math
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, Union

from tectum.errors import ConfigError
from tectum.files import tupled, write_text
from tectum.train.config import check_same, jsonable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


class Option(NamedTuple):
    """One option of a recipe, for a help text."""

    name: str
    type: str
    value: Any
    help: str


def load_recipe(name_or_path: str | Path) -> types.ModuleType:
    """Import a recipe: a path to a Python file, or the name of a file in `recipes/` of the current folder or of the repository.

    The file may import other files of its folder.

    Raises ConfigError if there is none, or if the file lacks `Recipe` or `run`.

    >>> load_recipe("space_mini").Recipe().steps  # doctest: +SKIP
    2000
    """
    path = _find(name_or_path)
    spec = importlib.util.spec_from_file_location(f"tectum_recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"the recipe {path} is no Python file: give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Type hints of the dataclass are looked up there.
    sys.path.insert(0, str(path.parent))  # As when the file is run: it may import files beside it.
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    if not is_dataclass(getattr(module, "Recipe", None)) or not callable(getattr(module, "run", None)):
        raise ConfigError(f"the recipe {path} needs a dataclass named Recipe and a function run(recipe, out)")
    return module


def override(recipe: R, assignments: Sequence[str]) -> R:
    """The recipe with options replaced by "name=value" strings, read according to the fields' type hints.

    Known are int, float, bool, str, Path, Literal, tuples of them (values between commas) and any of these or None ("none").

    Raises ConfigError for a string that is no assignment, for an unknown name (naming the nearest) and for a value that does
    not fit.

    >>> from tectum.train.config import TrainConfig
    >>> override(TrainConfig(steps=10), ["lr=3e-4", "betas=0.9,0.95"]).betas
    (0.9, 0.95)
    """
    hints = typing.get_type_hints(type(recipe))
    names = [option.name for option in fields(recipe) if option.init]
    changes = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals:
            example = f"{names[0]}={getattr(recipe, names[0])}"
            raise ConfigError(f"{assignment!r} is no option: write name=value, for example {example}")
        if name not in names:
            raise ConfigError(f"there is no option {name!r}{_nearest(name, names)}")
        try:
            changes[name] = _parse(text.strip(), hints[name])
        except ValueError as error:
            raise ConfigError(f"{name} must be {error}, got {text.strip()!r}") from error
    return replace(recipe, **changes)


def options(recipe: DataclassInstance) -> list[Option]:
    """The options of a recipe with their current values, for a help text."""
    hints = typing.get_type_hints(type(recipe))
    return [
        Option(option.name, _describe(hints[option.name]), getattr(recipe, option.name), option.metadata.get("help", ""))
        for option in fields(recipe)
        if option.init
    ]


def remember(recipe: DataclassInstance, out: Path) -> None:
    """Note the options in `out/recipe.json`; if it is there already, raise ConfigError unless the options are the same.

    Call it first in `run`: the trainer checks its own configuration on a resume, but not the batch size or the data.
    """
    path = out / "recipe.json"
    if path.exists():
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path} is damaged ({error}): remove it, or train into another folder") from error
        check_same(saved, recipe, str(out))
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({option.name: jsonable(option.value) for option in options(recipe)}, indent=1) + "\n")


def remembered(recipe: R, out: Path) -> R:
    """The recipe with the options that `remember` noted in `out/recipe.json`, if they are of the types that `override` knows.

    Raises ConfigError if there is no such file, or it is damaged or another recipe's.
    """
    path = out / "recipe.json"
    try:
        saved = tupled(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): give the folder of a run") from error
    hints = typing.get_type_hints(type(recipe))
    if unknown := sorted(saved.keys() - hints.keys()):
        raise ConfigError(f"{path} has an option {unknown[0]!r} that this recipe lacks: it is another recipe's run")
    paths = {name for name, hint in hints.items() if Path in (hint, *typing.get_args(hint))}
    return replace(recipe, **{key: Path(value) if key in paths and value else value for key, value in saved.items()})


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix == ".py" or len(path.parts) != 1:
        if not path.is_file():
            raise ConfigError(f"there is no recipe file {path}")
        return path.resolve()
    # Beside the package in a checkout, inside it where it was installed from a wheel.
    folders = [Path.cwd() / "recipes", Path(__file__).parents[2] / "recipes", Path(__file__).parents[1] / "recipes"]
    for folder in folders:
        if (folder / f"{path.name}.py").is_file():
            return folder / f"{path.name}.py"
    files = [file for folder in folders if folder.is_dir() for file in folder.glob("*.py")]
    known = sorted({file.stem for file in files if "class Recipe" in file.read_text(encoding="utf-8")})
    listed = f"; there are {', '.join(known)}" if known else ""
    raise ConfigError(f"there is no recipe {path.name!r}{_nearest(path.name, known)}{listed}; or give the path of a file")


def _nearest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else ""


def _parse(text: str, hint: Any) -> Any:
    """Read a value of the type `hint`; a ValueError's message says what would fit."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if type(None) in arguments and text.lower() == "none":
            return None
        return _first_that_fits(text, [kind for kind in arguments if kind is not type(None)], _describe(hint))
    if origin is Literal:
        return _first_that_fits(text, arguments, _describe(hint))
    if origin is tuple:
        parts = [part.strip() for part in text.strip("()").rstrip(",").split(",")] if text.strip("()") else []
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(parts)
        if len(parts) != len(arguments):
            raise ValueError(_describe(hint))
        return tuple(_parse(part, kind) for part, kind in zip(parts, arguments, strict=True))
    if hint is bool:
        words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
        if text.lower() not in words:
            raise ValueError("true or false")
        return words[text.lower()]
    if hint in (int, float):
        try:
            number = hint(text)
        except ValueError:
            raise ValueError(_describe(hint)) from None
        if math.isnan(number):
            raise ValueError(_describe(hint))
        return number
    if hint in (str, Path):
        return hint(text)
    if not isinstance(hint, type):  # A value of a Literal.
        if text == str(hint):
            return hint
        raise ValueError(repr(hint))
    raise ValueError(f"set in the recipe's file (its type {hint.__name__} cannot be given as text)")


def _first_that_fits(text: str, kinds: Sequence[Any], description: str) -> Any:
    for kind in kinds:
        try:
            return _parse(text, kind)
        except ValueError:
            continue
    raise ValueError(description)


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if kind is type(None) else _describe(kind) for kind in arguments)
    if origin is Literal:
        return " or ".join(repr(value) for value in arguments)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"values between commas ({_describe(arguments[0])})"
        return f"{len(arguments)} values between commas ({', '.join(_describe(kind) for kind in arguments)})"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))
