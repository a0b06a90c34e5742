"""COCO's JSON in: both layouts, splits, and every way a file can be wrong in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tectum.errors import EvaluationError
from tectum.evaluate.captions.coco import read_coco
from tectum.evaluate.captions.report import evaluate_captions

RESULTS: list[Any] = [{"image_id": 42, "caption": "a cat"}, {"image_id": "x", "caption": "ein Hündchen 🐕"}]
ANNOTATIONS: dict[str, Any] = {
    "images": [{"id": 42}, {"id": "x"}],
    "annotations": [
        {"image_id": 42, "id": 1, "caption": "a cat sits"},
        {"image_id": "x", "id": 2, "caption": "ein Hund"},
        {"image_id": 42, "id": 3, "caption": "the cat"},
    ],
}


def written(folder: Path, results: Any = RESULTS, annotations: Any = ANNOTATIONS) -> tuple[Path, Path]:
    paths = folder / "results.json", folder / "annotations.json"
    for path, content in zip(paths, (results, annotations), strict=True):
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return paths


def test_ids_become_texts_and_references_keep_their_order(tmp_path: Path) -> None:
    candidates, references = read_coco(*written(tmp_path))
    assert candidates == {"42": "a cat", "x": "ein Hündchen 🐕"}
    assert references == {"42": ["a cat sits", "the cat"], "x": ["ein Hund"]}
    assert evaluate_captions(candidates, references)["bleu-1"].score(resamples=0).n == 2


def test_a_split_is_scored_only_when_asked_for(tmp_path: Path) -> None:
    paths = written(tmp_path, RESULTS[:1])
    with pytest.raises(EvaluationError, match="lacks the image 'x', and 1 of 2 annotated images in all"):
        read_coco(*paths)
    assert read_coco(*paths, images="results") == ({"42": "a cat"}, {"42": ["a cat sits", "the cat"]})
    with pytest.raises(EvaluationError, match="choose annotated or results"):
        read_coco(*paths, images="all")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([*RESULTS, RESULTS[0]], "two results for the image '42'"),
        ([*RESULTS, {"image_id": 7, "caption": "x"}], "has the image '7', which .* lacks, as it does 1 in all"),
        ({"a": "b"}, "not a list of results"),
        ("[", "not JSON"),
        ("", "lacks the image"),
        ("[" * 100_000, "not JSON"),
        ([{"image_id": 42}], "entry 0 .* no \"caption\""),
        ([{"image_id": 42, "caption": ["a"]}], "no \"caption\""),
        ([{"image_id": True, "caption": "a"}], "no \"image_id\""),
        ([{"image_id": 4.2, "caption": "a"}], "no \"image_id\""),
        ([{"caption": "a"}], "no \"image_id\""),
        (["a cat"], "entry 0"),
    ],
)  # fmt: skip
def test_wrong_results(tmp_path: Path, results: Any, said: str) -> None:
    with pytest.raises(EvaluationError, match=said) as caught:
        read_coco(*written(tmp_path, results))
    assert "\n" not in str(caught.value) and "results.json" in str(caught.value)


@pytest.mark.parametrize("annotations", [[], {}, {"annotations": {}}, {"annotations": [{"image_id": 1, "caption": None}]}])
def test_wrong_annotations(tmp_path: Path, annotations: Any) -> None:
    with pytest.raises(EvaluationError, match=r"annotations\.json"):
        read_coco(*written(tmp_path, annotations=annotations))


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"cannot read .*: No such file"):
        read_coco(tmp_path / "none.json", tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EvaluationError, match="not JSON in UTF-8"):
        read_coco(tmp_path / "b.json", tmp_path / "b.json")
