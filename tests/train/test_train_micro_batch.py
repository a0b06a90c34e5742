"""A batch embedded in parts trains the same model as the whole batch at once."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from tectum.contrastive.caching import cached_backward
from tectum.contrastive.loss import LossOutput, info_nce
from tectum.train.config import TrainConfig
from tectum.train.trainer import train

CONFIG = TrainConfig(steps=8, lr=0.01, warmup=2, clip=0.5, precision="fp32", log_every=4, save_every=8, tensorboard=False)


class Whole:
    """Two linear towers that learn to match the two halves of a vector."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.ModuleDict({"a": nn.Linear(5, 4), "b": nn.Linear(5, 4)}).double()
        self.module.register_parameter("log_scale", nn.Parameter(torch.tensor(1.0, dtype=torch.float64)))

    def batch(self, step):
        x = torch.randn(13, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        return {"a": x, "b": x.flip(1)}

    def embed(self, views):
        return {name: F.normalize(self.module[name](x), dim=-1) for name, x in views.items()}

    def compare(self, views) -> LossOutput:
        return info_nce(views["a"], views["b"], self.module.log_scale.exp())

    def loss(self, batch, step):
        output = self.compare(self.embed(batch))
        return output.loss, {"accuracy": output.accuracy}

    def evaluate(self, module, step):
        return {}

    def after_step(self, step):
        pass


class InParts(Whole):
    """The same by gradient caching."""

    def __init__(self, micro_batch: int) -> None:
        super().__init__()
        self.micro_batch = micro_batch

    def backward(self, batch, step):
        output = cached_backward(self.embed, batch, self.compare, micro_batch=self.micro_batch)
        return output.loss, {"accuracy": output.accuracy}


@pytest.mark.parametrize("micro_batch", [1, 4, 13])
def test_micro_batches_train_the_same_model(tmp_path, micro_batch: int) -> None:
    whole = train(Whole(), CONFIG, tmp_path / "whole", progress=False)
    parts = train(InParts(micro_batch), CONFIG, tmp_path / "parts", progress=False)
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-9)
    expected, found = (load_file(tmp_path / name / "module.safetensors") for name in ("whole", "parts"))
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-6, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}")
