"""The command as a program: exit codes, Ctrl-C, closed pipes, poor terminals."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from running import Run

from tectum import __version__

Process = Callable[..., "subprocess.Popen[bytes]"]
COMMANDS = ["demo", "index", "search", "similar", "classify", "embed", "models", "info", "train"]


def test_help_lists_every_command(tectum: Run) -> None:
    for arguments in ((), ("--help",), ("-h",)):
        done = tectum(*arguments)
        assert (done.status, done.err) == (0, "")
        assert all(f"│ {command} " in done.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(tectum: Run, command: str) -> None:
    done = tectum(command, "--help")
    assert done.status == 0
    assert f"\n tectum {command}" in done.out


def test_version(tectum: Run) -> None:
    assert tectum("--version").out == f"tectum {__version__}\n"


@pytest.mark.parametrize("arguments", [("--nonsense",), ("classify",), ("classify", "x"), ("embed", "x"), ("index", "--model")])
def test_usage_mistakes_name_the_help(tectum: Run, arguments: tuple[str, ...]) -> None:
    done = tectum(*arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1 and "--help')" in done.err


def test_the_traceback_is_there_for_who_asks(tectum: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TECTUM_DEBUG", "1")
    done = tectum("search", "x")
    assert done.status == 2
    assert "Traceback" in done.err and done.err.splitlines()[-1].startswith("tectum: there is no library")


def test_system_errors_are_one_line_too(tectum: Run, media: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    done = tectum("embed", media / "a.png", "-o", "taken/v.npz")
    assert done.status == 2 and done.err.count("\n") == 1


def test_ctrl_c_is_one_sentence_and_the_next_run_goes_on(process: Process, media: Path, tmp_path: Path) -> None:
    from PIL import Image

    for number in range(400):
        Image.new("RGB", (300, 300), (number % 256, number // 256, 7)).save(tmp_path / f"{number}.png")
    running = process("index", tmp_path)
    vectors = tmp_path / "my.tectum" / "vectors"
    until = time.monotonic() + 300
    while not vectors.exists() and running.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=300)
    assert running.returncode == 130, err.decode()
    assert out == b"" and err.decode().strip().count("\n") == 0
    assert "goes on from there" in err.decode()
    again = process("index", tmp_path, "--json")
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err.decode()
    (report,) = json.loads(out)
    assert (report["added"] + report["unchanged"], report["skipped"]) == (400, [])


def test_a_closed_pipe_ends_quietly(process: Process) -> None:
    running = process("--help")
    assert running.stdout
    running.stdout.close()
    assert running.wait(timeout=300) == 1
    assert running.stderr and running.stderr.read() == b""


def test_a_poor_terminal(tectum: Run, process: Process, media: Path) -> None:
    """Emoji in names, box drawings and bars: nothing raises, and names can still be told apart."""
    tectum("index", media)
    for arguments, expected in ((("search", "rain", "--threshold", 0), ("\\U0001f415.png", "#")), (("--help",), ("Usage",))):
        running = process(*arguments, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
        out, err = running.communicate(timeout=300)
        assert (running.returncode, err) == (0, b"")
        assert all(word in out.decode("ascii") for word in expected)


def test_a_process_says_its_mistake_with_2(process: Process) -> None:
    running = process("search", "x")
    out, err = running.communicate(timeout=300)
    assert (running.returncode, out, err.count(b"\n")) == (2, b"", 1)
