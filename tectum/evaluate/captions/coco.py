"""Results and annotations in the JSON of the COCO caption challenge.

Results: `[{"image_id": 42, "caption": "a cat"}, …]`, one for each image. Annotations: `{"annotations": [{"image_id": 42,
"caption": "a cat sits"}, …], …}`, several for each. Ids may be numbers or texts; here they become texts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tectum.errors import EvaluationError
from tectum.evaluate.records import read_json


def read_coco(
    results: Path | str, annotations: Path | str, *, images: Literal["annotated", "results"] = "annotated"
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The candidates and the references of the same images.

    Args:
        results: a JSON file.
        annotations: a JSON file.
        images: which must be there: all that are annotated, or those of the results, a split of them.

    Raises:
        EvaluationError: if a file cannot be read or has another layout, an image has two results, none, or no annotation, or a
            caption is not a text.
    """
    if images not in ("annotated", "results"):
        raise EvaluationError(f"images is {images!r}: choose annotated or results")
    candidates = _candidates(Path(results))
    references = _references(Path(annotations))
    unknown = [key for key in candidates if key not in references]
    if unknown:
        raise EvaluationError(
            f"{results} has the image {unknown[0]!r}, which {annotations} lacks, as it does {len(unknown)} in all: "
            "give the annotations that belong to these results"
        )
    missing = [key for key in references if key not in candidates]
    if missing and images == "annotated":
        raise EvaluationError(
            f"{results} lacks the image {missing[0]!r}, and {len(missing)} of {len(references)} annotated images in all: "
            "add them, or score only those that are there (images = results)"
        )
    return candidates, {key: references[key] for key in candidates}


def _candidates(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    entries = read_json(path)
    if not isinstance(entries, list):
        raise EvaluationError(f'{path} is not a list of results: write [{{"image_id": 42, "caption": "a cat"}}, …]')
    for number, entry in enumerate(entries):
        key, caption = _entry(path, number, entry)
        if key in found:
            raise EvaluationError(f"{path} has two results for the image {key!r}: keep one")
        found[key] = caption
    return found


def _references(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    content = read_json(path)
    entries = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise EvaluationError(f'{path} has no list "annotations": give the captions file of COCO or one like it')
    for number, entry in enumerate(entries):
        key, caption = _entry(path, number, entry)
        found.setdefault(key, []).append(caption)
    return found


def _entry(path: Path, number: int, entry: Any) -> tuple[str, str]:
    key, caption = (entry.get("image_id"), entry.get("caption")) if isinstance(entry, dict) else (None, None)
    if isinstance(key, bool) or not isinstance(key, int | str):
        raise EvaluationError(f'entry {number} of {path} has no "image_id" that is a whole number or a text: give it one')
    if not isinstance(caption, str):
        raise EvaluationError(f'entry {number} of {path}, image {key!r}, has no "caption" that is a text: give it one')
    return str(key), caption
