"""The Triton kernels, where Triton is installed: PyTorch's CUDA builds bring it, and it runs without a graphics card here."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tectum.contrastive.denominators import kernels


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
def test_kernels_compute_what_plain_operations_do() -> None:
    """In a process of its own: the interpreter is chosen when Triton is imported."""
    program = Path(__file__).with_name("triton_checks.py")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_the_processor_does_without_them() -> None:
    assert kernels(torch.zeros(2, 2)) is None
