"""tectum train: run a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tectum.cli.output import print_table
from tectum.errors import ConfigError
from tectum.media.source import display


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name or Python file.")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="key=value...", help="Options of the recipe to change.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the run lives. Default: runs/RECIPE.")] = None,
    options: Annotated[bool, typer.Option("--options", help="List the recipe's options and stop.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew; an earlier run there is renamed, not lost.")] = False,
) -> None:
    """Train a model by a recipe.

    Stopped at any moment and started again, it goes on where it stopped, bit for bit.

    \b
    tectum train space_mini --options
    tectum train space_mini steps=2000 lr=5e-4 --out runs/try
    """
    from tectum.train.recipe import load_recipe, override
    from tectum.train.recipe import options as options_of

    module = load_recipe(recipe)
    chosen = override(module.Recipe(), settings or [])
    if options:
        rows = [(option.name, str(option.value), option.type, option.help) for option in options_of(chosen)]
        print_table(("option", "value", "takes", "what it does"), rows)
        return
    folder = out or Path("runs") / Path(recipe).stem
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: give a folder with --out")
    if fresh and folder.exists():
        print(f"the earlier run is kept in {display(_set_aside(folder))}")
    module.run(chosen, folder)
    print(f"done: the run is in {display(folder)}")


def _set_aside(folder: Path) -> Path:
    """Rename a folder to the first free name.1, name.2, …"""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    os.replace(folder, aside)
    return aside
