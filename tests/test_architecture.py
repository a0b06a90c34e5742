"""The house rules, read from the source: floors, documentation, size, types, style, and a light start."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tectum

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tectum"
FLOORS = {
    "errors": -1,
    "files": -1,
    "page": -1,
    "nn": 0,
    "media": 0,
    "contrastive": 1,
    "diffusion": 1,
    "models": 2,
    "hub": 2,
    "data": 3,
    "train": 3,
    "evaluate": 3,
    "search": 3,
    "cli": 4,
    "__main__": 5,
    "__init__": 5,
}
SIDEWAYS = {("hub", "models"), ("train", "data")}
SOURCES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = ("tectum", "tests", "recipes", "benchmarks", "docs")
ALL_PYTHON = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def home(module: str) -> str | None:
    """The room of the house that a dotted name lives in; None for what is outside or the bare package."""
    parts = module.split(".")
    if parts[0] != "tectum" or len(parts) == 1:
        return None
    # `from tectum import load` reaches through the lazy attributes of the package.
    lazy = tectum._HOMES.get(parts[1])
    return lazy.split(".")[1] if lazy else parts[1]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything a file imports, wherever the import stands."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            module = (base + (node.module or "")).rstrip(".")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def broken_floors(path: Path) -> list[str]:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    found = []
    for line, name in imports(path):
        other = home(name)
        if other is None or other == room or other.startswith("__"):
            continue
        if other not in FLOORS:
            found.append(f"{path}:{line} imports {name}, which has no floor")
        elif FLOORS[other] >= FLOORS[room] and (room, other) not in SIDEWAYS:
            found.append(f"{path}:{line} floor {FLOORS[room]} ({room}) imports {name} of floor {FLOORS[other]}")
    return found


def test_every_room_has_a_floor() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in SOURCES}
    assert rooms <= FLOORS.keys()


def test_lower_floors_never_import_higher_ones() -> None:
    assert [line for path in SOURCES for line in broken_floors(path)] == []


@pytest.mark.parametrize(
    ("room", "source", "allowed"),
    [
        ("nn", "from tectum.errors import TectumError", True),
        ("nn", "from tectum import models", False),
        ("media", "import tectum.nn.attention", False),
        ("models", "from tectum.contrastive import loss", True),
        ("models", "from tectum.hub import load", False),
        ("hub", "from tectum.models.space import Space", True),
        ("search", "from ..train import trainer", False),
        ("train", "def f():\n    from tectum.data.order import permutation", True),
        ("data", "from tectum.train import config", False),
        ("search", "from tectum import Library", True),
        ("evaluate", "from tectum import Library", False),
        ("search", "from tectum import __version__", True),
        ("nn", "from tectum import nowhere", False),
    ],
)
def test_the_floor_check_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: str, source: str, allowed: bool) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path / "tectum")
    path = tmp_path / "tectum" / room / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert (broken_floors(path) == []) is allowed


def undocumented(path: Path) -> Iterator[str]:
    """Public modules, classes and functions without a docstring."""
    module = parsed(path)
    if module.body and ast.get_docstring(module) is None:
        yield str(path)
    for node in module.body:
        named = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
        if named and ast.get_docstring(node) is None:
            yield f"{path}:{node.lineno} {node.name}"


def test_everything_public_is_documented() -> None:
    assert [line for path in SOURCES for line in undocumented(path)] == []


def test_every_module_fits_in_one_sitting() -> None:
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in ALL_PYTHON}
    assert {path: lines for path, lines in lengths.items() if lines > 400} == {}


def test_no_pickle_anywhere() -> None:
    """Weights are safetensors: nothing imports pickle or calls torch.load and torch.save."""
    for path in SOURCES:
        assert not [name for _, name in imports(path) if name.split(".")[0] in {"pickle", "dill", "joblib", "shelve"}], path
        calls = [ast.unparse(node.func) for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
        assert not {"torch.load", "torch.save"} & set(calls), path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("statement", ["import tectum, tectum.errors", "import tectum.cli.main", "import tectum.search"])
def test_a_light_import(statement: str) -> None:
    heavy = {"torch", "numpy", "lancedb", "pyarrow", "soundfile", "PIL", "rich", "tokenizers", "scipy"}
    code = f"import sys; {statement}; print(sorted({heavy!r} & sys.modules.keys()))"
    done = run("-c", code)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_lazy_attributes_are_real_and_others_are_not() -> None:
    assert set(tectum.__all__) <= set(dir(tectum))
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = tectum.lod  # type: ignore[attr-defined]


def test_help_is_quick() -> None:
    """Processor seconds, the least of several, so that a busy machine does not fail it."""
    spent = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("-m", "tectum", "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.4


def test_ruff() -> None:
    done = run("-m", "ruff", "check", "--output-format=concise", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_types() -> None:
    done = run("-m", "mypy")
    assert done.returncode == 0, done.stdout + done.stderr
