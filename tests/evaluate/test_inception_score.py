"""The Inception score against its formula, and the network block by block."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tectum.errors import EvaluationError
from tectum.evaluate.features import Features, extract, merge
from tectum.evaluate.inception_score import Inception, InceptionExtractor, _Block, inception_score, load_inception
from tectum.media.image import ImageSpec


def drawn(n: int, c: int, seed: int = 0, sharpness: float = 2.0) -> np.ndarray:
    logits = sharpness * np.random.default_rng(seed).normal(size=(n, c))
    weights = np.exp(logits)
    return weights / weights.sum(1, keepdims=True)


def by_definition(p: np.ndarray) -> float:
    return float(np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()))


def test_certain_and_varied_pictures_score_the_number_of_classes_and_equal_ones_1() -> None:
    for classes in (2, 5, 10):
        certain = Features.of(np.tile(np.eye(classes), (4, 1)))
        assert inception_score(certain, splits=1).value == pytest.approx(classes, rel=1e-12)
        same = inception_score(Features.of(np.tile(drawn(1, classes), (20, 1))))
        assert same.value == pytest.approx(1, rel=1e-12)
        assert same.interval == pytest.approx((1, 1))


@settings(max_examples=20)
@given(st.integers(2, 60), st.integers(2, 8), st.integers(1, 6), st.integers(0, 10**6))
def test_it_is_the_mean_over_splits_dealt_in_turn(n: int, c: int, splits: int, seed: int) -> None:
    p, splits = drawn(n, c, seed), min(splits, n // 2)
    expected = np.mean([by_definition(p[first::splits]) for first in range(splits)])
    assert inception_score(Features.of(p), splits=splits).value == pytest.approx(expected, rel=1e-10)
    assert 1 <= expected <= c


def test_torchmetrics_agrees() -> None:
    theirs = pytest.importorskip("torchmetrics.image.inception")

    class Flat(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    p = drawn(50, 6)
    metric = theirs.InceptionScore(feature=Flat(), splits=1)
    metric.update(torch.from_numpy(np.log(p)))
    assert inception_score(Features.of(p), splits=1).value == pytest.approx(float(metric.compute()[0]), rel=1e-6)


def test_order_and_shards_change_nothing() -> None:
    p = drawn(40, 5)
    ids = [f"{i}.png" for i in range(40)]
    order = np.random.default_rng(1).permutation(40)
    whole = inception_score(Features.of(p, ids=ids), splits=4)
    assert inception_score(Features.of(p[order], ids=[ids[i] for i in order]), splits=4) == whole
    shards = [Features.of(p[i::3], ids=ids[i::3]) for i in (1, 2, 0)]
    assert inception_score(merge(shards), splits=4) == whole
    reordered = drawn(40, 5)[:, np.random.default_rng(2).permutation(5)]
    assert inception_score(Features.of(reordered, ids=ids), splits=4).value == pytest.approx(whole.value, rel=1e-12)


def test_pictures_sorted_by_class_do_no_harm() -> None:
    sorted_by_class = Features.of(np.repeat(np.eye(5), 20, 0))
    assert inception_score(sorted_by_class, splits=10).value == pytest.approx(5, rel=1e-12)


@pytest.mark.parametrize(("n", "splits"), [(100, 1), (300, 10), (300, 1)])
def test_the_interval_holds_the_expectation_at_this_count(n: int, splits: int) -> None:
    scores = [inception_score(Features.of(drawn(n, 6, seed)), splits=splits) for seed in range(200)]
    values = np.array([score.value for score in scores])
    held = np.mean([score.interval[0] <= values.mean() <= score.interval[1] for score in scores])  # type: ignore[index]
    assert held >= 0.9
    width = np.mean([math.log(score.interval[1] / score.value) / 1.96 for score in scores])  # type: ignore[index]
    assert width == pytest.approx(values.std() / values.mean(), rel=0.2)


def test_the_passport_holds_classes_splits_and_count() -> None:
    score = inception_score(Features.of(drawn(40, 5), settings={"extractor": "x"}))
    assert str(score.passport) == "inception-score|classes=5|extractor=x|generated=40|splits=10"


def test_what_is_no_distribution_is_told_in_a_sentence() -> None:
    with pytest.raises(EvaluationError, match="item '000000001' are no probabilities"):
        inception_score(Features.of([[0.5, 0.5], [2.0, 3.0]]), splits=1)
    with pytest.raises(EvaluationError, match="item '000000000' are no probabilities"):
        inception_score(Features.of([[1.5, -0.5], [0.5, 0.5]]), splits=1)
    with pytest.raises(EvaluationError, match="3 items cannot make 10 splits"):
        inception_score(Features.of(drawn(3, 4)))
    with pytest.raises(EvaluationError, match="1 items cannot make 1 splits"):
        inception_score(Features.of(drawn(1, 4)), splits=1)


# The network. By hand it was compared with torchvision's module, patched as pytorch-fid does, at random weights: equal bits.


@pytest.fixture(scope="module")
def network() -> Inception:
    torch.manual_seed(0)
    weights = Inception().state_dict()
    for name, tensor in weights.items():
        if name.endswith(("bn.weight", "running_var")):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("bn.bias", "running_mean")):
            tensor.normal_(0, 0.1)
    return load_inception({name: tensor for name, tensor in weights.items() if "num_batches" not in name})  # as in old files


def test_names_and_sizes_are_those_of_the_published_weights(network: Inception) -> None:
    state = network.state_dict()
    assert len(state) == 94 * 6 + 2  # 94 convolutions, each with its batch norm, and the classifier
    assert sum(parameter.numel() for parameter in network.parameters()) == 23_850_960
    assert {name: tuple(state[name].shape) for name in (
        "Conv2d_1a_3x3.conv.weight", "Mixed_5b.branch_pool.conv.weight", "Mixed_6a.branch3x3.conv.weight",
        "Mixed_6d.branch7x7dbl_4.conv.weight", "Mixed_7a.branch7x7x3_3.conv.weight", "Mixed_7b.branch3x3dbl_3b.conv.weight",
        "Mixed_7c.branch3x3_2a.bn.running_var", "fc.weight",
    )} == {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3), "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3), "Mixed_6d.branch7x7dbl_4.conv.weight": (160, 160, 7, 1),
        "Mixed_7a.branch7x7x3_3.conv.weight": (192, 192, 7, 1), "Mixed_7b.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch3x3_2a.bn.running_var": (384,), "fc.weight": (1008, 2048),
    }  # fmt: skip


def test_grids_shrink_as_published(network: Inception) -> None:
    sizes = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: sizes.update({name: tuple(output.shape[1:])}))
        for name, module in network.named_children()
    ]
    with torch.inference_mode():
        features = network(torch.zeros(1, 3, 299, 299))
    for hook in hooks:
        hook.remove()
    assert features.shape == (1, 2048)
    assert sizes == {
        "Conv2d_1a_3x3": (32, 149, 149), "Conv2d_2a_3x3": (32, 147, 147), "Conv2d_2b_3x3": (64, 147, 147),
        "Conv2d_3b_1x1": (80, 73, 73), "Conv2d_4a_3x3": (192, 71, 71), "Mixed_5b": (256, 35, 35), "Mixed_5c": (288, 35, 35),
        "Mixed_5d": (288, 35, 35), "Mixed_6a": (768, 17, 17), "Mixed_6b": (768, 17, 17), "Mixed_6c": (768, 17, 17),
        "Mixed_6d": (768, 17, 17), "Mixed_6e": (768, 17, 17), "Mixed_7a": (1280, 8, 8), "Mixed_7b": (2048, 8, 8),
        "Mixed_7c": (2048, 8, 8),
    }  # fmt: skip


def layer(block: _Block, name: str, x: torch.Tensor, stride: int = 1, padding: tuple[int, int] = (0, 0)) -> torch.Tensor:
    """Convolution, batch norm at rest and rectifier from a block's numbers alone."""
    state = {key.removeprefix(f"{name}."): value for key, value in block.state_dict().items() if key.startswith(f"{name}.")}
    x = F.conv2d(x, state["conv.weight"], stride=stride, padding=padding)
    shape = (1, -1, 1, 1)
    x = (x - state["bn.running_mean"].view(shape)) / (state["bn.running_var"].view(shape) + 1e-3).sqrt()
    return (x * state["bn.weight"].view(shape) + state["bn.bias"].view(shape)).clamp(min=0)


@pytest.mark.parametrize(("name", "inputs", "pool"), [("Mixed_7b", 1280, "average"), ("Mixed_7c", 2048, "max")])
def test_the_last_blocks_fork_and_pool_as_the_fid_network_does(network: Inception, name: str, inputs: int, pool: str) -> None:
    block = network.get_submodule(name)
    assert isinstance(block, _Block)
    x = torch.randn(1, inputs, 5, 5)
    row, column = (0, 1), (1, 0)
    a, b = layer(block, "branch3x3_1", x), layer(block, "branch3x3dbl_1", x)
    b = layer(block, "branch3x3dbl_2", b, padding=(1, 1))
    if pool == "max":
        pooled = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-math.inf), 3, 1)
    else:  # the sum over the window by the number of its cells inside the picture
        inside = F.avg_pool2d(F.pad(torch.ones_like(x), (1, 1, 1, 1)), 3, 1)
        pooled = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1) / inside
    parts = [
        layer(block, "branch1x1", x),
        layer(block, "branch3x3_2a", a, padding=row), layer(block, "branch3x3_2b", a, padding=column),
        layer(block, "branch3x3dbl_3a", b, padding=row), layer(block, "branch3x3dbl_3b", b, padding=column),
        layer(block, "branch_pool", pooled),
    ]  # fmt: skip
    with torch.inference_mode():
        torch.testing.assert_close(block(x), torch.cat(parts, 1), rtol=1e-4, atol=1e-4)


def test_the_halving_block(network: Inception) -> None:
    block = network.get_submodule("Mixed_7a")
    assert isinstance(block, _Block)
    x = torch.randn(1, 768, 7, 7)
    a, b = layer(block, "branch3x3_1", x), layer(block, "branch7x7x3_1", x)
    b = layer(block, "branch7x7x3_3", layer(block, "branch7x7x3_2", b, padding=(0, 3)), padding=(3, 0))
    parts = [layer(block, "branch3x3_2", a, stride=2), layer(block, "branch7x7x3_4", b, stride=2), F.max_pool2d(x, 3, 2)]
    with torch.inference_mode():
        torch.testing.assert_close(block(x), torch.cat(parts, 1), rtol=1e-4, atol=1e-4)


def test_features_and_probabilities_of_pictures(network: Inception) -> None:
    pictures = [np.random.default_rng(i).integers(0, 255, (40, 30, 3), dtype=np.uint8) for i in range(2)]
    features = extract(InceptionExtractor(network), pictures)
    assert features.vectors.shape == (2, 2048)
    assert (features.settings["extractor"], features.settings["size"]) == ("inception-2015-12-05/features", 299)
    probabilities = extract(InceptionExtractor(network, "probabilities"), pictures)
    logits = features.vectors @ network.fc.weight.T  # without the bias
    torch.testing.assert_close(probabilities.vectors, logits.softmax(1), rtol=1e-4, atol=1e-6)
    assert inception_score(probabilities, splits=1).value >= 1
    older = InceptionExtractor(network, image=ImageSpec(size=299, filter="bilinear", antialias=False))
    assert older.settings != InceptionExtractor(network).settings


def test_other_weights_are_refused(network: Inception) -> None:
    state = network.state_dict()
    wrong = {name: tensor for name, tensor in state.items() if not name.startswith("fc")}
    with pytest.raises(EvaluationError, match=r"not the weights of the FID's Inception network .*fc\.weight") as caught:
        load_inception(wrong)
    assert "\n" not in str(caught.value)
