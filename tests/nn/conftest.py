"""What tests of networks share."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same random numbers in every test, whichever run before."""
    torch.manual_seed(0)


def as_trained(module: nn.Module) -> nn.Module:
    """In float64 and evaluation mode, and as after training: nothing in it is 0 or 1."""
    for parameter in module.parameters():
        parameter.data += torch.randn(parameter.shape) * (0.2 if parameter.ndim < 2 else parameter[0].numel() ** -0.5)
    return module.double().eval()


def normal(*shape: int) -> Tensor:
    """Unit normal numbers in float64."""
    return torch.randn(shape, dtype=torch.float64)


@pytest.fixture(scope="session")
def trained() -> Callable[[nn.Module], nn.Module]:
    """`as_trained`."""
    return as_trained


@pytest.fixture(scope="session")
def random() -> Callable[..., Tensor]:
    """`normal`."""
    return normal


@pytest.fixture(scope="session")
def extended() -> Callable[[nn.Module, nn.Module], nn.Module]:
    """Makes of a network of one more dimension one that does to every slice of a grid what the given one does."""

    def extend(flat: nn.Module, deep: nn.Module) -> nn.Module:
        state = deep.state_dict()
        for name, value in flat.state_dict().items():
            if state[name].shape == value.shape:
                state[name].copy_(value)
            else:
                state[name].zero_().select(2, state[name].shape[2] // 2).copy_(value)
        return deep

    return extend
