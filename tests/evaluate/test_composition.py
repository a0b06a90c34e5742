"""Composition: counted by hand, ties, the files of the field, any space, and what chance gives."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tectum.errors import EvaluationError
from tectum.evaluate.composition import (
    KINDS,
    Pair,
    Picture,
    Quad,
    composition,
    pair_similarities,
    pairs_from,
    quad_similarities,
    read_aro,
    read_pairs,
    read_sugarcrepe,
    read_winoground,
    space_similarity,
    winoground,
)
from tectum.evaluate.measurement import compare, merge


def pair(number: int, kind: str = "add", picture: str | None = None) -> Pair:
    return Pair(f"{number:03}", Picture(picture or f"{number}.png"), f"true {number}", f"false {number}", kind)


def test_the_accuracy_of_each_kind_of_all_and_their_mean() -> None:
    pairs = [pair(0, "add"), pair(1, "add"), pair(2, "add"), pair(3, "swap-object")]
    scores = composition(pairs, [[1, 0], [1, 0], [0, 1], [0, 1]])
    found = {name: measured.score().value for name, measured in scores.items()}
    assert found == pytest.approx({"add": 2 / 3, "swap-object": 0, "all": 0.5, "macro": 1 / 3})
    assert str(scores["add"].passport) == "composition|kind=add|suite=pairs|ties=wrong"
    with pytest.raises(EvaluationError, match="kind is add in one"):
        compare(scores["add"], scores["all"])


def test_ties_are_wrong_and_the_order_of_pairs_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    pairs, similarities = [pair(i, KINDS[i % 7]) for i in range(70)], generator.integers(0, 3, (70, 2))
    whole = composition(pairs, similarities)
    assert whole["all"].score().value == (similarities[:, 0] > similarities[:, 1]).mean()
    order = generator.permutation(70)
    mixed = composition([pairs[i] for i in order], similarities[order])
    shards = [composition(pairs[at], similarities[at]) for at in (slice(40, 70), slice(40))]
    for name, measured in whole.items():
        assert mixed[name].score() == measured.score()
        assert merge([shard[name] for shard in shards]).score() == measured.score()


def test_nothing_and_one() -> None:
    assert math.isnan(composition([], np.zeros((0, 2)))["all"].score().value)
    assert math.isnan(composition([], np.zeros((0, 2)))["macro"].score().value)
    one = composition([pair(0)], [[1, 0]])["all"].score()
    assert (one.value, one.interval, one.n) == (1, None, 1)


def test_pairs_of_one_picture_are_resampled_together() -> None:
    together = composition([pair(i, picture="same.png") for i in range(8)], np.eye(2)[[0, 1] * 4])
    assert together["all"].score().interval is None


@pytest.mark.parametrize("similarities", [np.zeros((2, 2)), np.zeros(2), [[math.nan, 0]], [[1, 0, 0]]])
def test_similarities_that_do_not_fit(similarities: object) -> None:
    with pytest.raises(EvaluationError, match=r"must be finite and of shape \(1, 2\)"):
        composition([pair(0)], similarities)


def brute_winoground(s: np.ndarray) -> tuple[bool, bool]:
    text = all(s[i, i] > s[i, 1 - i] for i in range(2))
    image = all(s[i, i] > s[1 - i, i] for i in range(2))
    return text, image


def test_winoground_by_definition_and_by_chance() -> None:
    generator = np.random.default_rng(1)
    quads = [Quad(f"{i:05}", (Picture("a"), Picture("b")), ("x", "y"), "") for i in range(20_000)]
    similarities = generator.normal(size=(20_000, 2, 2))
    found = winoground(quads, similarities)
    both = np.array([brute_winoground(s) for s in similarities])
    values = [measured.score(resamples=0).value for measured in found.values()]
    assert values == pytest.approx([both[:, 0].mean(), both[:, 1].mean(), both.all(1).mean()])
    assert values == pytest.approx([1 / 4, 1 / 4, 1 / 6], abs=0.015)
    blind = np.repeat(generator.normal(size=(20_000, 1, 2)), 2, 1)  # the same for both pictures
    assert [measured.score(resamples=0).value for measured in winoground(quads, blind).values()] == [0, 0, 0]
    assert winoground(quads[:1], [[[1, 0], [0, 1]]])["winoground-group"].score().value == 1


def test_a_generated_world(tmp_path: Path) -> None:
    records = [{"image": f"{i}.png", "positive": "p", "negative": "n", "kind": kind} for i, kind in enumerate(KINDS)]
    path = tmp_path / "world.json"
    path.write_text(json.dumps(records))
    assert read_pairs(path) == pairs_from(records)
    assert [one.kind for one in pairs_from(records)] == list(KINDS)
    assert pairs_from([records[0] | {"id": "x"}])[0].id == "x"
    with pytest.raises(EvaluationError, match="pair 0 has the kind 'shuffle'"):
        pairs_from([records[0] | {"kind": "shuffle"}])
    with pytest.raises(EvaluationError, match="pair 0 has no field 'negative'"):
        pairs_from([{k: v for k, v in records[0].items() if k != "negative"}])
    path.write_text('[{"image": "1.png"}]')
    with pytest.raises(EvaluationError, match="record 1 has no field 'positive'"):
        read_pairs(path)


def test_sugarcrepe(tmp_path: Path) -> None:
    entry = {"filename": "000000544519.jpg", "caption": "A girl in a green shirt", "negative_caption": "A girl in a blue shirt"}
    for stem, kind in [("swap_att", "swap-attribute"), ("replace_rel", "replace-relation"), ("add_obj", "add-object"),
                       ("swap_ent", "swap-object"), ("mine", "mine")]:  # fmt: skip
        path = tmp_path / f"{stem}.json"
        path.write_text(json.dumps({"0": entry, "7": entry}))
        found = read_sugarcrepe(path)
        assert [one.id for one in found] == [f"{stem}/0", f"{stem}/7"]
        assert found[0] == Pair(f"{stem}/0", Picture(entry["filename"]), entry["caption"], entry["negative_caption"], kind)
    for text in ("[]", '{"0": {"filename": "a.jpg"}}', '{"0": 3}'):
        path.write_text(text)
        with pytest.raises(EvaluationError, match="is not of SugarCrepe"):
            read_sugarcrepe(path)


def test_aro(tmp_path: Path) -> None:
    path = tmp_path / "visual_genome_relation.json"
    shared = {"image_path": "1.jpg", "true_caption": "the horse eats grass", "false_caption": "the grass eats horse",
              "bbox_x": 10, "bbox_y": 20, "bbox_w": 30, "bbox_h": 40}  # fmt: skip
    path.write_text(json.dumps([shared | {"relation_name": "eating"}, shared | {"attributes": ["green", "tall"]}]))
    first, second = read_aro(path)
    assert (first.kind, second.kind) == ("eating", "green_tall")
    assert first.picture == Picture("1.jpg", (10, 20, 40, 60))
    path.write_text(json.dumps([shared]))
    with pytest.raises(EvaluationError, match="pair 0 needs relation_name or attributes"):
        read_aro(path)


def test_winoground_file(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    example = {"id": 0, "image_0": "ex_0", "image_1": "ex_1.jpg", "caption_0": "a", "caption_1": "b", "collapsed_tag": "Object"}
    path.write_text(json.dumps(example))
    assert read_winoground(path) == [Quad("0", (Picture("ex_0.png"), Picture("ex_1.jpg")), ("a", "b"), "Object")]


class Colours:
    """A space in which a picture is its mean colour and a caption the colour it names."""

    def __init__(self) -> None:
        self.asked: dict[str, list[object]] = {}

    def embed(self, *, batch_size: int = 64, **sources: list[object]) -> dict[str, torch.Tensor]:
        self.asked = sources
        named = {"red": [1.0, 0, 0], "green": [0, 1.0, 0], "blue": [0, 0, 1.0]}
        pictures = [Image.open(item) if isinstance(item, str) else item for item in sources["image"]]
        colours = torch.tensor(np.stack([np.asarray(picture, np.float32).mean((0, 1)) for picture in pictures]))
        words = torch.tensor([named[str(text).split()[1]] for text in sources["text"]])
        return {"image": torch.nn.functional.normalize(colours, dim=-1), "text": words}


def test_any_space_scores_pairs_and_boxes_are_cut_out(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 10), (250, 0, 0))
    image.paste((0, 0, 250), (10, 0, 20, 10))
    image.save(tmp_path / "two.png")
    left, right = Picture("two.png", (0, 0, 10, 10)), Picture("two.png", (10, 0, 20, 10))
    pairs = [Pair("l", left, "a red one", "a blue one", "replace"), Pair("r", right, "a blue one", "a red one", "replace"),
             Pair("w", Picture("two.png"), "a red one", "a green one", "replace")]  # fmt: skip
    space = Colours()
    similarities = pair_similarities(pairs, space_similarity(space, tmp_path))
    np.testing.assert_allclose(similarities, [[1, 0], [1, 0], [0.5**0.5, 0]], atol=1e-6)
    assert len(space.asked["image"]) == len(space.asked["text"]) == 3  # each once
    assert composition(pairs, similarities)["all"].score().value == 1
    quad = Quad("0", (left, right), ("a red one", "a blue one"), "")
    table = quad_similarities([quad], space_similarity(space, tmp_path))
    np.testing.assert_allclose(table, [[[1, 0], [0, 1]]], atol=1e-6)


def test_a_similarity_that_gives_a_matrix_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"of shape \(4,\), not \(4, 4\)"):
        pair_similarities([pair(0), pair(1)], lambda pictures, captions: np.zeros((len(pictures), len(captions))))
