"""Small maps from the vectors of frozen encoders into one space: a modality is bound in minutes, without its encoder.

LiT (arXiv:2111.07991) locks a tower; SigLiT (SigLIP, arXiv:2303.15343, §4.2) computes the locked tower's vectors once; EBind
(arXiv:2511.14229) binds five modalities by projectors over such vectors alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.contrastive.binding import Edge
from tectum.contrastive.temperature import Temperatures, key
from tectum.errors import CheckpointError, ConfigError
from tectum.files import write_text, written_beside


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectorConfig:
    """The length of the vectors that come in, and the width of a hidden layer; 0 for a linear map."""

    inputs: int
    hidden: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.inputs < 1 or self.hidden < 0 or not 0 <= self.dropout < 1:
            raise ConfigError(f"no projector has {self.inputs} inputs, {self.hidden} hidden and dropout {self.dropout}")


class Projector(nn.Module):
    """W x + b, and beside it a layer of GELUs whose share starts at zero.

    W starts orthogonal, so what is alike before is alike after, and where a modality's own geometry is good training starts
    from it. Numbers of unit vectors are about 1/√d; the hidden layer sees them times √d.

    >>> x = F.normalize(torch.randn(5, 8), dim=-1)
    >>> y = Projector(ProjectorConfig(inputs=8, hidden=32), 12)(x)
    >>> torch.allclose(y @ y.T, x @ x.T, atol=1e-5)
    True
    """

    def __init__(self, config: ProjectorConfig, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(config.inputs, dim)
        nn.init.orthogonal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.branch: nn.Sequential | None = None
        if config.hidden:
            last = nn.Linear(config.hidden, dim, bias=False)
            nn.init.zeros_(last.weight)
            self.branch = nn.Sequential(nn.Linear(config.inputs, config.hidden), nn.GELU(), nn.Dropout(config.dropout), last)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors [n, inputs] of any length to [n, dim]."""
        x = F.normalize(x, dim=-1)
        y = self.linear(x)
        return y if self.branch is None else y + self.branch(x * x.shape[-1] ** 0.5)


class Projectors(nn.Module):
    """Vectors of any modalities to unit vectors of one space, with a temperature (and a bias) for each edge of a graph.

    Args:
        dim: of the space.
        projectors: by modality; a modality without one lies in the space as it is: the anchor.
        edges: what is bound to what.
        bias: what the edges by sigmoid start from, see `tectum.contrastive.loss.initial_bias`.

    >>> projectors = Projectors(4, {"audio": ProjectorConfig(inputs=6)}, [Edge(a="audio", b="image")])
    >>> {name: tuple(x.shape) for name, x in projectors({"audio": torch.ones(2, 6), "image": torch.ones(3, 4)}).items()}
    {'audio': (2, 4), 'image': (3, 4)}
    """

    def __init__(
        self, dim: int, projectors: Mapping[str, ProjectorConfig], edges: Sequence[Edge], *, bias: float = -10.0
    ) -> None:
        super().__init__()
        self.dim, self.configs, self.edges = dim, dict(projectors), tuple(edges)
        self.projectors = nn.ModuleDict({name: Projector(config, dim) for name, config in projectors.items()})
        softmax = [(edge.a, edge.b) for edge in self.edges if edge.loss == "softmax"]
        sigmoid = [(edge.a, edge.b) for edge in self.edges if edge.loss == "sigmoid"]
        self.log_scale = Temperatures(softmax)
        # What SigLIP starts from, and it knows no limit.
        self.log_scale_sigmoid = Temperatures(sigmoid, start=10.0, limit=torch.inf)
        self.bias = nn.ParameterDict({key(a, b): nn.Parameter(torch.tensor(bias)) for a, b in sigmoid})

    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Vectors [n, inputs] by modality to unit vectors [n, dim].

        Raises:
            ConfigError: if vectors are not as long as they should be.
        """
        found = {}
        for name, vectors in views.items():
            wanted = self.configs[name].inputs if name in self.configs else self.dim
            if vectors.shape[-1] != wanted:
                raise ConfigError(
                    f"{name} vectors have {vectors.shape[-1]} numbers, and {wanted} are expected: embed with its model"
                )
            found[name] = F.normalize((self.projectors[name](vectors) if name in self.configs else vectors).float(), dim=-1)
        return found

    def scales(self) -> dict[Edge, Tensor]:
        """The inverse temperature of each edge."""
        kinds = {"softmax": self.log_scale, "sigmoid": self.log_scale_sigmoid}
        return {edge: kinds[edge.loss].scale(edge.a, edge.b) for edge in self.edges}

    def biases(self) -> dict[Edge, Tensor]:
        """The bias of each edge by sigmoid."""
        return {edge: self.bias[key(edge.a, edge.b)] for edge in self.edges if edge.loss == "sigmoid"}


def save_projectors(projectors: Projectors, folder: Path) -> None:
    """Write `projectors.json` and `projectors.safetensors` into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in projectors.state_dict().items()}
    with written_beside(folder / "projectors.safetensors") as file:
        file.write(save(tensors))
    described = {
        "dim": projectors.dim,
        "projectors": {name: asdict(config) for name, config in projectors.configs.items()},
        "edges": [asdict(edge) for edge in projectors.edges],
    }
    write_text(folder / "projectors.json", json.dumps(described, indent=1))


def load_projectors(folder: Path) -> Projectors:
    """Read what `save_projectors` wrote, in evaluation mode.

    Raises:
        CheckpointError: if a file is missing or damaged, or they do not belong together.
    """
    try:
        described = json.loads((folder / "projectors.json").read_text(encoding="utf-8"))
        configs = {name: ProjectorConfig(**config) for name, config in described["projectors"].items()}
        projectors = Projectors(described["dim"], configs, [Edge(**edge) for edge in described["edges"]])
        projectors.load_state_dict(load_file(folder / "projectors.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{folder} holds no whole projectors ({reason}): train them again, or copy both files") from None
    return projectors.eval()
