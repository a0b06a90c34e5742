"""Projectors: where they start, what they refuse, and that they come back from the disk as they went."""

import pytest
import torch
from torch.nn import functional as F

from tectum.contrastive.binding import Edge
from tectum.errors import CheckpointError, ConfigError
from tectum.models.projector import Projector, ProjectorConfig, Projectors, load_projectors, save_projectors

EDGES = (Edge(a="image", b="text", frozen="image", weight=0.5), Edge(a="image", b="audio", loss="sigmoid"))


def unit(n: int, d: int) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(n + d)), dim=-1)


def projectors() -> Projectors:
    torch.manual_seed(0)
    configs = {"text": ProjectorConfig(inputs=10), "audio": ProjectorConfig(inputs=6, hidden=20, dropout=0.1)}
    return Projectors(8, configs, EDGES, bias=-3.0)


@pytest.mark.parametrize("hidden", [0, 64])
def test_it_starts_as_a_turn_and_at_any_length_of_the_vectors(hidden) -> None:
    x = unit(9, 12)
    projector = Projector(ProjectorConfig(inputs=12, hidden=hidden), 30)
    torch.testing.assert_close(projector(x) @ projector(x).T, x @ x.T)
    torch.testing.assert_close(projector(100 * x), projector(x))


def test_every_parameter_learns() -> None:
    module = projectors()
    for _ in range(2):  # The last layer of a branch is zero at first and lets nothing through.
        views = module({"image": unit(5, 8), "text": unit(5, 10), "audio": unit(5, 6)})
        assert all(torch.allclose(rows.norm(dim=1), torch.ones(5)) for rows in views.values())
        total = sum((views[edge.a] * views[edge.b].roll(1, 0)).sum() * module.scales()[edge] for edge in EDGES)
        module.zero_grad()
        (total + sum(module.biases().values())).backward()
        for parameter in module.parameters():
            assert parameter.grad is not None
            parameter.data -= 0.1 * parameter.grad
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_they_come_back_as_they_went(tmp_path) -> None:
    module = projectors().eval()
    save_projectors(module, tmp_path / "new")
    again = load_projectors(tmp_path / "new")
    assert again.edges == EDGES and again.configs == module.configs and not again.training
    views = {"image": unit(5, 8), "text": unit(4, 10), "audio": unit(3, 6)}
    for name, rows in module(views).items():
        assert torch.equal(rows, again(views)[name])
    assert {edge: x.item() for edge, x in again.scales().items()} == {edge: x.item() for edge, x in module.scales().items()}
    assert again.biases()[EDGES[1]].item() == -3.0


def test_mistakes_are_told(tmp_path) -> None:
    with pytest.raises(ConfigError, match="text vectors have 9 numbers, and 10 are expected"):
        projectors()({"text": unit(2, 9)})
    with pytest.raises(ConfigError, match="image vectors have 9 numbers, and 8 are expected"):
        projectors()({"image": unit(2, 9)})
    with pytest.raises(ConfigError, match="no projector has 0 inputs"):
        ProjectorConfig(inputs=0)
    with pytest.raises(CheckpointError, match="holds no whole projectors"):
        load_projectors(tmp_path)
    save_projectors(projectors(), tmp_path)
    for damage in ("{}", '{"dim": 9, "projectors": {"text": {"inputs": 10}}, "edges": []}', "[", '{"dim": 8, "projectors": 3}'):
        (tmp_path / "projectors.json").write_text(damage)
        with pytest.raises(CheckpointError, match="holds no whole projectors"):
            load_projectors(tmp_path)
