"""A score that says how it was made, and how sure it is.

A passport names the metric and every setting that can move its value (tokeniser, resize filter, dtype, weights, scale, …). Scores
with different passports refuse to be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tectum.errors import PassportError

Setting = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Passport:
    """A metric and the settings it was computed with.

    >>> str(Passport("bleu-4", {"tokenizer": "ptb", "smoothing": "none"}))
    'bleu-4|smoothing=none|tokenizer=ptb'
    """

    metric: str
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def __str__(self) -> str:
        return "|".join([self.metric, *(f"{key}={value}" for key, value in sorted(self.settings.items()))])

    def check_same(self, other: Passport) -> None:
        """Raise if the other passport differs.

        Raises:
            PassportError: naming every difference.

        >>> Passport("fid", {"resize": "bicubic"}).check_same(Passport("fid", {"resize": "bicubic"}))
        """
        if self.metric != other.metric:
            raise PassportError(f"{self.metric} and {other.metric} are different metrics: compare scores of one metric")
        keys = sorted(self.settings.keys() | other.settings.keys())
        mine, theirs = ([passport.settings.get(key, "nothing") for key in keys] for passport in (self, other))
        differing = [f"{key} is {a} in one and {b} in the other" for key, a, b in zip(keys, mine, theirs, strict=True) if a != b]
        if differing:
            how = "; ".join(differing)
            raise PassportError(f"these two scores of {self.metric} were made differently: {how}; score both alike")


@dataclass(frozen=True, slots=True)
class Score:
    """A value, its confidence interval, the number of items it is from, and its passport.

    A score of nothing has the value nan. The interval is None where fewer than two items leave it undefined.

    >>> print(Score(0.5, (0.4, 0.6), 100, Passport("accuracy")))
    accuracy 0.5000 [0.4000, 0.6000] n=100
    """

    value: float
    interval: tuple[float, float] | None
    n: int
    passport: Passport

    def __str__(self) -> str:
        between = f" [{self.interval[0]:.4f}, {self.interval[1]:.4f}]" if self.interval else ""
        return f"{self.passport.metric} {self.value:.4f}{between} n={self.n}"

    def __sub__(self, other: Score) -> float:
        """The difference of two scores of one passport; `measurement.compare` also says how sure it is.

        Raises:
            PassportError: if they were made differently.
        """
        self.passport.check_same(other.passport)
        return self.value - other.value

    def as_json(self) -> dict[str, Any]:
        """A dict for `json.dumps`; nan becomes None."""
        return {
            "metric": self.passport.metric,
            "value": None if math.isnan(self.value) else self.value,
            "interval": list(self.interval) if self.interval else None,
            "n": self.n,
            "settings": dict(self.passport.settings),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Score:
        """The score that `as_json` told."""
        value, interval = saved["value"], saved["interval"]
        return cls(
            value=math.nan if value is None else float(value),
            interval=(float(interval[0]), float(interval[1])) if interval else None,
            n=int(saved["n"]),
            passport=Passport(saved["metric"], saved["settings"]),
        )
