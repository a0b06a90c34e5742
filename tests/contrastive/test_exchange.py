"""The whole loss and its gradients come out of any number of processes, in every way of exchange and under every wrapper.

`exchange_grid.py` does the work, in processes of its own; that one process is right is shown by the other tests.
"""

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

EXCHANGES = ("gather", "ring", "streamed")
CASES = ("matched softmax", "matched sigmoid", "rich softmax", "rich sigmoid")
KEYS = [
    *(f"{case} {exchange} {way}" for case, exchange, way in product(CASES, EXCHANGES, ("sum", "ddp", "fsdp"))),
    *(f"matched {loss} ring {way}" for loss, way in product(("softmax", "sigmoid"), ("cached-ddp", "cached-fsdp"))),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all processes found."""
    folder = tmp_path_factory.mktemp("grid")
    program = Path(__file__).with_name("exchange_grid.py")
    done = subprocess.run([sys.executable, str(program), str(folder)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


def found(folder: Path, world: int, rank: int, key: str) -> dict[str, torch.Tensor]:
    """By parameter."""
    tensors = load_file(folder / f"{world}-{rank}.safetensors")
    return {name.split("/")[1]: tensor for name, tensor in tensors.items() if name.startswith(f"{key}/")}


def check(folder: Path, world: int, key: str) -> None:
    """Every process has what one process alone has."""
    expected = found(folder, 1, 0, " ".join(key.split()[:2]))
    assert expected.keys() >= {
        "loss",
        "accuracy",
        "scale",
        "towers.a.weight",
        "towers.a.bias",
        "towers.b.weight",
        "towers.b.bias",
    }
    for rank in range(world):
        values = found(folder, world, rank, key)
        values.pop("reductions", None)
        assert values.keys() == expected.keys()
        for name, value in values.items():
            torch.testing.assert_close(
                value, expected[name], rtol=1e-10, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_processes_find_the_gradients_of_one(folder: Path, world: int, key: str) -> None:
    check(folder, world, key)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_two_groups_of_processes_do_not_hear_each_other(folder: Path, exchange: str) -> None:
    check(folder, 4, f"rich softmax {exchange} group")


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_chunks_are_reduced_once(folder: Path, world: int) -> None:
    """The towers' parameters fit in one message of DDP, so one message is one reduction. Processes have one to seven chunks."""
    for rank, loss in product(range(world), ("softmax", "sigmoid")):
        assert found(folder, world, rank, f"matched {loss} ring cached-ddp")["reductions"] == 1
