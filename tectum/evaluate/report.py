"""Reports: scores on disk, with what a later comparison needs.

A report keeps, beside each score, the value of every item and the bootstrap replicates. The same seed draws the same items
wherever the items are the same, so two reports are compared pair by pair without the data they were made from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tectum.errors import EvaluationError
from tectum.evaluate.measurement import Comparison, Measurement, between, paired
from tectum.evaluate.score import Score
from tectum.files import write_text

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A score, its items' own values, and the replicates [resamples] of its bootstrap (empty where it has none)."""

    score: Score
    items: Mapping[str, float] = field(default_factory=dict)
    replicates: tuple[float, ...] = ()

    @classmethod
    def of(cls, measured: Measurement | Score) -> Entry:
        """The entry of a measurement, or of a score that does not come from items."""
        if isinstance(measured, Score):
            return cls(measured)
        score, several = measured.score(resamples=0), len(set(measured.groups or measured.ids)) > 1
        replicates = measured.replicates() if several and not math.isnan(score.value) else np.zeros(0)
        return cls(replace(score, interval=between(replicates)), measured.values(), tuple(replicates.tolist()))


@dataclass(frozen=True, slots=True)
class Report:
    """Scores by name, in the order they are shown.

    Attributes:
        title: what was evaluated.
        entries: name to entry.
        beside: blind baselines by the name of the score they stand beside: what a system that cannot see would get.
    """

    title: str
    entries: Mapping[str, Entry]
    beside: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        title: str,
        measured: Mapping[str, Measurement | Score],
        beside: Mapping[str, Mapping[str, Measurement]] | None = None,
    ) -> Report:
        """The report of measurements and scores.

        >>> from tectum.evaluate.score import Passport
        >>> right = Measurement.mean(Passport("accuracy"), "abcd", [1, 0, 1, 1])
        >>> Report.of("a test", {"accuracy": right}).entries["accuracy"].score.value
        0.75
        """
        blind = {name: {kind: one.score() for kind, one in kinds.items()} for name, kinds in (beside or {}).items()}
        return cls(title, {name: Entry.of(one) for name, one in measured.items()}, blind)

    def as_json(self) -> dict[str, Any]:
        """A dict for `json.dumps`; nan becomes None."""
        return {
            "format": FORMAT,
            "title": self.title,
            "scores": {
                name: {
                    **entry.score.as_json(),
                    "beside": {kind: score.as_json() for kind, score in self.beside.get(name, {}).items()},
                    "items": {key: _known(value) for key, value in entry.items.items()},
                    "replicates": [_known(value) for value in entry.replicates],
                }
                for name, entry in self.entries.items()
            },
        }


def write_report(path: str | Path, report: Report) -> None:
    """Write a report as JSON, beside the path and renamed there."""
    write_text(path, json.dumps(report.as_json(), ensure_ascii=False, indent=1) + "\n")


def read_report(path: str | Path) -> Report:
    """The report that `write_report` wrote.

    Raises:
        EvaluationError: if the file is not there or is no report.
    """
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
        if saved["format"] != FORMAT:
            raise EvaluationError(f"{path} has format {saved['format']}, and this tectum reads {FORMAT}: write it again")
        entries, beside = {}, {}
        for name, one in saved["scores"].items():
            items = {key: _number(value) for key, value in one["items"].items()}
            entries[name] = Entry(Score.from_json(one), items, tuple(_number(value) for value in one["replicates"]))
            if one["beside"]:
                beside[name] = {kind: Score.from_json(score) for kind, score in one["beside"].items()}
        return Report(saved["title"], entries, beside)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(f"{path} is no report ({error}): write one with `tectum eval … -o {Path(path).name}`") from error


def compare_reports(a: Report, b: Report, names: Iterable[str] = ()) -> dict[str, Comparison]:
    """The paired comparison of every score that both reports have, a − b; or of those named.

    Raises:
        PassportError: if a score was made differently in the two.
        EvaluationError: if they share no score, a named one is missing, or the items differ.

    >>> from tectum.evaluate.score import Passport
    >>> old, new = (Measurement.mean(Passport("accuracy"), "abc", right) for right in ([1, 0, 0], [1, 1, 0]))
    >>> found = compare_reports(Report.of("new", {"accuracy": new}), Report.of("old", {"accuracy": old}))
    >>> round(found["accuracy"].difference, 3)
    0.333
    """
    shared = list(names) or [name for name in a.entries if name in b.entries]
    if not shared:
        raise EvaluationError(f"{a.title} has {_list(a)}, and {b.title} has {_list(b)}: compare reports of one kind")
    for name in shared:
        for report in (a, b):
            if name not in report.entries:
                raise EvaluationError(f"{report.title} has no score {name!r}, only {_list(report)}")
    return {name: _compare(name, a.entries[name], b.entries[name]) for name in shared}


def _compare(name: str, a: Entry, b: Entry) -> Comparison:
    a.score.passport.check_same(b.score.passport)
    odd = a.items.keys() ^ b.items.keys()
    if odd:
        key = min(odd)
        where = "first" if key in a.items else "second"
        raise EvaluationError(f"{name}: the item {key!r} is only in the {where} report: compare results on the same items")
    differences = np.asarray(a.replicates) - np.asarray(b.replicates) if len(a.replicates) == len(b.replicates) else np.zeros(0)
    return paired(a.score, b.score, differences)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _list(report: Report) -> str:
    return ", ".join(report.entries) or "no score"
