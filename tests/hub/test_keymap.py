"""Key maps: any table is exact in both directions, and nothing is dropped in silence."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tectum.errors import CheckpointError
from tectum.hub.keymap import Rule, both, fused, to_ours, to_theirs
from tectum.hub.layouts import clip_hf, openai, siglip_hf

RULES = (
    *fused("block.{}", ("q", "k", "v"), "layer.{}.qkv_weight", "layer.{}.qkv_bias"),
    *both("block.{}.out", "layer.{}.o"),
    Rule("head", "proj", transposed=True),
    Rule("positions", "pos"),
    Rule("scale", "logit_scale"),
)


def random_model(depth: int, widths: tuple[int, int, int]) -> dict[str, torch.Tensor]:
    model = {"head": torch.randn(3, 5), "positions": torch.randn(4, 5), "scale": torch.randn(()), "extra": torch.randn(2)}
    for i in range(depth):
        for part, width in zip("qkv", widths, strict=True):
            model |= {f"block.{i}.{part}.weight": torch.randn(width, 5), f"block.{i}.{part}.bias": torch.randn(width)}
        model |= {f"block.{i}.out.weight": torch.randn(5, 5), f"block.{i}.out.bias": torch.randn(5)}
    return model


@given(depth=st.integers(0, 12), widths=st.tuples(*[st.integers(1, 4)] * 3))
def test_there_and_back_is_the_identity(depth: int, widths: tuple[int, int, int]) -> None:
    ours = random_model(depth, widths)
    theirs = to_theirs(RULES, ours)
    assert len(theirs) == 3 + 4 * depth
    shapes = {key: tensor.shape for key, tensor in ours.items()}
    back = to_ours(RULES, shapes, theirs, where="x")
    assert back.keys() == ours.keys() - {"extra"}
    assert all(torch.equal(back[key], ours[key]) for key in back)
    with_an_axis = to_ours(RULES, shapes, theirs | {"logit_scale": theirs["logit_scale"][None]}, where="x")
    assert all(torch.equal(with_an_axis[key], ours[key]) for key in back)
    assert all(tensor.is_contiguous() and tensor.data_ptr() % 64 == 0 for tensor in back.values())


def test_what_is_missing_left_over_or_misshapen_is_counted_and_named() -> None:
    ours = random_model(2, (1, 1, 1))
    shapes, theirs = {key: tensor.shape for key, tensor in ours.items()}, to_theirs(RULES, ours)
    with pytest.raises(CheckpointError, match=r"x lacks 4 tensors \(layer\.1\.o\.bias, .*, …\)"):
        to_ours(RULES, shapes, {key: tensor for key, tensor in theirs.items() if "layer.1" not in key}, where="x")
    with pytest.raises(CheckpointError, match=r"x holds, .* 1 tensor \(layer\.2\.o\.bias\)"):
        to_ours(RULES, shapes, theirs | {"layer.2.o.bias": torch.zeros(5)}, where="x")
    with pytest.raises(CheckpointError, match=r"proj is \[4, 3\] where the configuration gives \[3, 5\]"):
        to_ours(RULES, shapes, theirs | {"proj": torch.zeros(4, 3)}, where="x")
    to_ours(RULES, shapes, theirs | {"buffer": torch.zeros(1)}, where="x", unused="buffer")


@pytest.mark.parametrize("rules", [clip_hf.RULES, siglip_hf.RULES, openai.rules(), openai.rules("text.")])
def test_no_table_names_a_tensor_twice(rules: tuple[Rule, ...]) -> None:
    ours = [part for rule in rules for part in rule.parts]
    theirs = [rule.theirs for rule in rules]
    assert len(set(ours)) == len(ours) and len(set(theirs)) == len(theirs)
