"""References and predictions: read from JSON, and paired by id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from tectum.errors import EvaluationError

R = TypeVar("R")
P = TypeVar("P")


def pair_by_id(metric: str, references: Mapping[str, R], predictions: Mapping[str, P]) -> list[tuple[str, R, P]]:
    """(id, reference, prediction) of every item.

    Raises:
        EvaluationError: if the two have not the same ids.

    >>> pair_by_id("accuracy", {"a": 1, "b": 2}, {"b": 2, "a": 3})
    [('a', 1, 3), ('b', 2, 2)]
    """
    missing = [key for key in references if key not in predictions]
    if missing:
        raise EvaluationError(
            f"{metric}: {len(missing)} of {len(references)} items have no prediction, first {missing[0]!r}: "
            "predict every item, with an empty text if there is no answer"
        )
    extra = [key for key in predictions if key not in references]
    if extra:
        raise EvaluationError(f"{metric}: {len(extra)} predictions have no reference, first {extra[0]!r}: remove them")
    return [(str(key), reference, predictions[key]) for key, reference in references.items()]


def read_json(path: str | Path) -> Any:
    """What a JSON file holds; of a file of JSON lines, the list of what its lines hold.

    Raises:
        EvaluationError: if it cannot be read or is neither.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise EvaluationError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path} is not JSON in UTF-8 ({error.reason}): write it anew") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    except RecursionError:
        raise EvaluationError(f"{path} is not JSON that can be read, it is nested too deep: write it anew") from None
    found = []
    # Not splitlines: JSON strings may hold other line separators.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise EvaluationError(f"{path} is not JSON, nor JSON lines: line {number} has {error.msg}, mend it") from None
    return found


def read_records(path: str | Path, *needed: str) -> list[dict[str, Any]]:
    """The objects of a JSON array or of JSON lines, each of which has the fields `needed`.

    Raises:
        EvaluationError: if the file is no such list.
    """
    found = read_json(path)
    records = [found] if isinstance(found, dict) else found
    if not isinstance(records, list) or not records:
        raise EvaluationError(f"{path} holds no list of objects: give a JSON array or JSON lines")
    for number, record in enumerate(records, 1):
        lacking = [name for name in needed if not isinstance(record, dict) or name not in record]
        if lacking:
            raise EvaluationError(f"{path}: record {number} has no field {lacking[0]!r}: add it to every record")
    return records


def read_by_id(path: str | Path, key: str, field: str) -> dict[str, Any]:
    """What each record of a JSON array or of JSON lines has in `field`, by its `key` as text.

    Raises:
        EvaluationError: if the file is no such list, or a key is there twice.
    """
    found: dict[str, Any] = {}
    for record in read_records(path, key, field):
        if str(record[key]) in found:
            raise EvaluationError(f"{path}: the {key} {record[key]!r} is there twice: keep one")
        found[str(record[key])] = record[field]
    return found
