"""The `tectum` command: one function per sub-command, and one place where mistakes become one line."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from tectum import __version__
from tectum.cli import demo, evaluate, generate, info, library, spaces, train
from tectum.cli.output import complain, forgive_streams
from tectum.errors import TectumError

USER_MISTAKE, INTERRUPTED, BROKEN_PIPE = 2, 130, 1


def build() -> typer.Typer:
    """The command line as a Typer application."""
    app = typer.Typer(name="tectum", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback(context_settings={"help_option_names": ["-h", "--help"]})(_tectum)
    for panel, commands in (
        ("Start here", (demo.demo,)),
        ("Search your media", (library.index, library.search, library.similar)),
        ("Use a model", (spaces.classify, spaces.embed, generate.generate, spaces.models, info.info)),
        ("Make and measure a model", (train.train,)),
    ):
        for command in commands:
            app.command(rich_help_panel=panel)(command)
    app.add_typer(evaluate.build(), name="eval", rich_help_panel="Make and measure a model")
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    A user's mistake prints one line on stderr and gives 2 (with TECTUM_DEBUG=1 the traceback too), Ctrl-C one sentence and
    130; a reader that closed the pipe ends the command quietly.

    >>> main(["--version"])
    tectum 0.1.0
    0
    """
    forgive_streams()
    try:
        status = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt as stop:
        # The call that was cut off may leave coroutines of LanceDB's behind, which would complain as they are collected.
        warnings.simplefilter("ignore")
        complain(str(stop) or "stopped")
        return INTERRUPTED
    except (TectumError, typer.TyperException, OSError) as mistake:
        if os.environ.get("TECTUM_DEBUG"):
            traceback.print_exc()
        complain(_sentence(mistake))
        return USER_MISTAKE


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(build())
    try:
        with command.make_context("tectum", arguments or ["--help"]) as context:
            command.invoke(context)
    except typer.Exit as leave:
        return leave.exit_code
    return 0


def _sentence(mistake: Exception) -> str:
    if isinstance(mistake, typer.TyperException):
        context = getattr(mistake, "ctx", None)
        command = context.command_path if context else "tectum"
        return f"{mistake.format_message().replace('Value error, ', '')} (see '{command} --help')"
    if isinstance(mistake, OSError) and mistake.strerror:
        return f"{mistake.filename}: {mistake.strerror}" if mistake.filename else mistake.strerror
    return str(mistake)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"tectum {__version__}")
        raise typer.Exit


def _tectum(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Pictures, words and sounds in one space: index, search, classify, train. Works offline.

    \b
    tectum demo                                        see it work
    tectum index ~/Pictures --library my.tectum        then your own files
    tectum search "a dog barking" --library my.tectum
    """
