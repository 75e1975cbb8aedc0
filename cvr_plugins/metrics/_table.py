"""The table of metrics by name: how each is computed, what it needs, and which way is better."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal

from cvr_plugins.metrics._checks import Bools, Floats, Ints
from cvr_plugins.metrics._grouped import GroupedAuc, group_by_codes
from cvr_plugins.metrics._per_user import UserRanking, rank_users, user_ndcg_of, user_recall_of
from cvr_plugins.metrics._probability import calibration, expected_calibration_error, log_loss
from cvr_plugins.metrics._ranking import RankedScores, order_codes
from cvr_plugins.nearest import unknown


class Sample:
    """What a metric is computed from: labels and predictions of one task on one space.

    labels: booleans `[N]`; probabilities: `[N]`, float32 or float64, in [0, 1]; groups: code of each row's user `[N]`,
    whole numbers from 0 on, None where no metric of the report needs them or the log has none. What several metrics
    share is computed once, when needed.
    """

    def __init__(self, labels: Bools, probabilities: Floats, groups: Ints | None) -> None:
        self.labels, self.probabilities, self.groups = labels, probabilities, groups

    @cached_property
    def _codes(self) -> Ints:
        return order_codes(self.probabilities)

    @cached_property
    def ranked(self) -> RankedScores:
        """The one sort behind AUC, KS and the top of the ranking."""
        return RankedScores(self.labels, self._codes)

    @cached_property
    def grouped(self) -> GroupedAuc | None:
        """The one sort behind both kinds of GAUC; None without groups."""
        return None if self.groups is None else group_by_codes(self.labels, self._codes, self.groups)

    def per_user(self, k: int) -> UserRanking | None:
        """Each user's ranking up to k; None without groups."""
        return None if self.groups is None else rank_users(self.labels, self._codes, self.groups, k)

    def gauc(self, weighting: str) -> float | None:
        """See `cvr_plugins.metrics.gauc`; None without groups."""
        return None if self.grouped is None else self.grouped.weighted(weighting)

    def ece(self, strategy: str) -> float | None:
        """See `cvr_plugins.metrics.expected_calibration_error`; 10 bins."""
        return expected_calibration_error(self.labels, self.probabilities, bins=10, strategy=strategy)


@dataclass(frozen=True)
class Metric:
    """A metric of a report.

    name: as in a report's keys; best: where the best value lies, "max", "min" or "one"; compute: Sample -> value, None
    where undefined (it may get no rows at all, or labels of one kind only); needs_groups: whether it is undefined
    without groups; summary: one line. Raises ValueError for a name that cannot stand in a key, and another `best`.
    """

    name: str
    best: Literal["max", "min", "one"]
    compute: Callable[[Sample], float | None]
    summary: str
    needs_groups: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or "/" in self.name or self.name != self.name.strip():
            raise ValueError(f"A metric's name is text without '/', which parts a report's keys; got {self.name!r}.")
        if self.best not in ("max", "min", "one"):
            raise ValueError(f"Metric {self.name}: 'best' must be 'max', 'min' or 'one'; got {self.best!r}.")
        if not callable(self.compute):
            raise ValueError(f"Metric {self.name}: 'compute' must be callable; got {self.compute!r}.")


MetricFinder = Callable[[str], Metric]
"""Name -> Metric, raising ValueError for an unknown one: `find_metric`, or `registry().metric` for plugins' too."""


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("auc", "max", lambda s: s.ranked.auc(), "area under the ROC curve, ties averaged"),
        Metric("ks", "max", lambda s: s.ranked.ks(), "Kolmogorov-Smirnov statistic, max |TPR - FPR|"),
        Metric("gauc", "max", lambda s: s.gauc("mean"), "mean AUC of the groups", needs_groups=True),
        Metric(
            "gauc_impression",
            "max",
            lambda s: s.gauc("impression"),
            "mean AUC of the groups, weighted by their rows",
            needs_groups=True,
        ),
        Metric("log_loss", "min", lambda s: log_loss(s.labels, s.probabilities), "mean binary cross-entropy, nats"),
        Metric("calibration", "one", lambda s: calibration(s.labels, s.probabilities), "mean prediction over label"),
        Metric("ece", "min", lambda s: s.ece("uniform"), "expected calibration error, 10 bins of equal width"),
        Metric("ece_quantile", "min", lambda s: s.ece("quantile"), "expected calibration error, 10 bins of equal size"),
    )
}
"""The metrics without a parameter, by name."""

_AT_TOP: Mapping[str, Callable[[RankedScores, Fraction], float | None]] = {
    "precision@P%": RankedScores.precision_at_top,
    "recall@P%": RankedScores.recall_at_top,
    "f1@P%": RankedScores.f1_at_top,
}
USER_METRICS: Mapping[str, tuple[Callable[[UserRanking, int, str], float | None], str]] = {
    "user_ndcg@K": (user_ndcg_of, "min"),
    "user_recall@K": (user_recall_of, "min"),
    "user_ndcg_positives@K": (user_ndcg_of, "positives"),
    "user_recall_positives@K": (user_recall_of, "positives"),
}
"""Metrics of each user's K highest rows, averaged over users with a positive, with their denominators."""

# One spelling per number, so that a report's keys compare as text: no sign, exponent, or idle zero.
_WHOLE = re.compile(r"[1-9][0-9]{0,8}")
_PERCENT = re.compile(r"((?:0|[1-9][0-9]{0,2})(?:\.[0-9]{0,15}[1-9])?)%")

METRIC_NAMES: tuple[str, ...] = (*METRICS, *_AT_TOP)
"""All metric names; P stands for a number above 0 and at most 100, such as 10 or 0.5."""

DEFAULT_METRICS: tuple[str, ...] = ("auc", "ks", "gauc", "log_loss", "calibration", "ece", "ece_quantile", "f1@10%")
"""What `evaluate` computes unless told otherwise."""


def find_metric(name: str) -> Metric:
    """Return the metric named `name`, such as "auc" or "f1@0.5%"; raise ValueError with the nearest name if none is."""
    measure, at, text = str(name).partition("@")
    if not at and measure in METRICS:
        return METRICS[measure]
    if f"{measure}@K" in USER_METRICS:
        return _user_metric(name, measure, text)
    family = f"{measure}@P%"
    if family not in _AT_TOP:
        raise ValueError(unknown(f"Unknown metric {name!r}.", name, (*METRIC_NAMES, *USER_METRICS)))
    match = _PERCENT.fullmatch(text)
    percent = Fraction(match[1]) if match else Fraction(0)
    if not 0 < percent <= 100:
        raise ValueError(
            f"Metric {name!r} must end in a percentage above 0 and at most 100 in plain form, "
            f"such as {measure}@10% or {measure}@0.5%."
        )
    at_top = _AT_TOP[family]
    return Metric(
        name,
        "max",
        lambda sample: at_top(sample.ranked, percent),
        f"{measure} when the {text} of rows predicted highest are called positive",
    )


def _user_metric(name: str, measure: str, text: str) -> Metric:
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"Metric {name!r} must end in a whole number of rows per user, such as {measure}@5.")
    compute, denominator = USER_METRICS[f"{measure}@K"]
    k = int(text)

    def value(sample: Sample) -> float | None:
        ranking = sample.per_user(k)
        return None if ranking is None else compute(ranking, k, denominator)

    over = f"min({k}, positives)" if denominator == "min" else "all positives"
    return Metric(
        name,
        "max",
        value,
        f"{measure.split('_')[1]} of each user's {k} highest rows over {over}, mean over users with a positive",
        needs_groups=True,
    )
