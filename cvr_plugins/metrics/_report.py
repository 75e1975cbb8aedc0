"""Evaluate predictions of a log: which task is scored on which space against which label, and the report of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cvr_plugins.metrics._checks import Bools, as_column, as_labels, as_probabilities, same_length
from cvr_plugins.metrics._grouped import group_codes
from cvr_plugins.metrics._table import DEFAULT_METRICS, Metric, MetricFinder, Sample, find_metric
from cvr_plugins.nearest import unknown


class Target(NamedTuple):
    """A task on a space: the rows it is evaluated on and the label it is evaluated against.

    label: columns of `Scored` whose product is the label; rows: column that selects the rows, None for all of them.
    """

    task: str
    space: str
    label: tuple[str, ...]
    rows: str | None = None

    @property
    def name(self) -> str:
        """The first two parts of a report's keys, "task/space"."""
        return f"{self.task}/{self.space}"


TARGETS: tuple[Target, ...] = (
    Target("ctr", "entire", label=("click",)),
    Target("cvr", "click", label=("conversion",), rows="click"),
    Target("cvr", "entire", label=("click", "conversion")),
    Target("cvr", "oracle", label=("counterfactual",)),
    Target("ctcvr", "entire", label=("click", "conversion")),
    Target("ctavr", "entire", label=("click", "action")),
)
"""Every task on every space it can be evaluated on, in a report's order."""

TASKS: tuple[str, ...] = tuple(dict.fromkeys(target.task for target in TARGETS))
"""The tasks that can be evaluated."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Predictions and labels of the same exposures, in one order.

    predictions: task ("ctr", "cvr", "ctcvr", "ctavr") -> probability, [N]. click, conversion, action: 0/1, [N],
    kept as booleans; conversion and action count only where click is 1. counterfactual: the conversion had every
    exposure been clicked, 0/1, [N]; known for simulated and randomised data only. groups: id of each row's user, [N],
    integers, strings or other hashable values; GAUC needs it.
    Raises ValueError, naming column and row, on an unknown task, unequal lengths, non-binary labels and predictions
    outside [0, 1].
    """

    predictions: Mapping[str, NDArray[Any]]
    click: NDArray[Any]
    conversion: NDArray[Any]
    action: NDArray[Any] | None = None
    counterfactual: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if not self.predictions:
            raise ValueError(f"predictions must hold at least one task of {', '.join(TASKS)}; got none.")
        checked = {}
        for task, probabilities in self.predictions.items():
            if task not in TASKS:
                raise ValueError(unknown(f"Unknown task {task!r}.", task, TASKS))
            checked[task] = as_probabilities(probabilities, f"predictions[{task!r}]")
        columns: dict[str, NDArray[Any]] = {"click": as_labels(self.click, "click")}
        for name in ("conversion", "action", "counterfactual"):
            if getattr(self, name) is not None:
                columns[name] = as_labels(getattr(self, name), name)
        if self.groups is not None:
            columns["groups"] = as_column(self.groups, "groups")
        same_length(**columns, **{f"predictions[{task!r}]": column for task, column in checked.items()})
        for name, column in (*columns.items(), ("predictions", checked)):
            object.__setattr__(self, name, column)

    def select(self, target: Target) -> tuple[Bools | None, Bools] | None:
        """Return the rows of `target` (None: all) and their labels; None where a column it needs is absent."""
        label: Bools | None = None
        for name in target.label:
            column = getattr(self, name)
            if column is None:
                return None
            label = column if label is None else label & column
        assert label is not None, "a target has at least one label column"
        if target.rows is None:
            return None, label
        rows = getattr(self, target.rows)
        return rows, label[rows]


@dataclass(frozen=True)
class Support:
    """What the metrics of one task on one space rest on.

    rows, positives: counts; mean_predicted, mean_observed: means of prediction and label, None without rows;
    groups, groups_counted: all groups and those with a defined AUC, None unless a GAUC was asked for and groups given.
    """

    rows: int
    positives: int
    mean_predicted: float | None
    mean_observed: float | None
    groups: int | None = None
    groups_counted: int | None = None


@dataclass(frozen=True)
class Report:
    """Metrics of predictions, by task and space; `report["cvr/click/auc"]` is one, `print(report)` shows all.

    Parameters
    ----------
    values
        "task/space/metric" -> value, None where it is undefined (too few labels of one kind, or no groups); in the
        order of `TARGETS`.
    support
        "task/space" -> what its metrics rest on, in the same order.
    """

    values: Mapping[str, float | None]
    support: Mapping[str, Support]

    def __getitem__(self, key: str) -> float | None:
        """Return the value of a key, as `get` does."""
        return self.get(key)

    def __contains__(self, key: object) -> bool:
        """Whether a key is reported, be its value defined or not."""
        return key in self.values

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter(self.values)

    def __len__(self) -> int:
        """Return how many values are reported."""
        return len(self.values)

    def __str__(self) -> str:
        """Return a line for each metric, the tasks and spaces side by side."""
        metrics = list(dict.fromkeys(key.rpartition("/")[2] for key in self.values))
        places = list(dict.fromkeys(key.rpartition("/")[0] for key in self.values))
        rows = [["", *places]]
        for metric in metrics:
            found = [self.values.get(f"{place}/{metric}" if place else metric) for place in places]
            rows.append([metric, *("" if value is None else f"{value:.4f}" for value in found)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        first, *others = widths
        return "\n".join(
            "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, others, strict=True))])
            for name, *cells in rows
        )

    def get(self, key: str) -> float | None:
        """Return the value of a key.

        Parameters
        ----------
        key
            Such as "cvr/click/auc".

        Returns
        -------
        float or None
            None where the metric is undefined.

        Raises
        ------
        ValueError
            If the report does not hold the key, with the nearest that it holds.
        """
        if key not in self.values:
            lists = (
                "evaluate() was not asked for this metric, or the task's predictions or labels were absent. "
                f"It holds {', '.join(self.values) or 'nothing'}."
            )
            raise ValueError(unknown(f"The report holds no {key!r}.", key, self.values, lists))
        return self.values[key]

    def to_dict(self) -> dict[str, Any]:
        """Return {"values": ..., "support": ...} of plain Python numbers and None, ready for JSON."""
        return {"values": dict(self.values), "support": {name: asdict(each) for name, each in self.support.items()}}


class Key(NamedTuple):
    """The parts of a report's key."""

    task: str
    space: str
    metric: str


def evaluate(
    scored: Scored, metrics: Iterable[str | Metric] = DEFAULT_METRICS, *, find: MetricFinder = find_metric
) -> Report:
    """Compute metrics for each predicted task on each space it can be evaluated on (`TARGETS`).

    CVR is scored on the clicked rows ("click"), on all rows with unclicked ones negative ("entire") and, where the
    counterfactual conversion is known, on all rows against that ("oracle"); CTR, CTCVR and, where actions are known,
    CTAVR on all rows.

    Parameters
    ----------
    scored
        Predictions beside labels.
    metrics
        Names (`"auc"`) and metrics, each for every task and space, and keys (`"cvr/click/auc"`) for their own alone.
    find
        Makes a metric of a name.

    Returns
    -------
    Report
        A task and space whose predictions or label column are absent is left out, as is one for which nothing was
        asked; a GAUC without groups is None.

    Raises
    ------
    ValueError
        For an unknown metric, task or space, for a metric that gives neither a finite number nor None and, where a
        GAUC is asked for, for a row whose group is None or NaN.
    """
    asked = _asked([metrics] if isinstance(metrics, (str, Metric)) else metrics, find)
    grouped = any(metric.needs_groups for chosen in asked.values() for metric in chosen.values())
    groups = group_codes(scored.groups) if grouped and scored.groups is not None else None
    values: dict[str, float | None] = {}
    support: dict[str, Support] = {}
    for target in TARGETS:
        chosen = asked[target.name].values()
        selected = scored.select(target) if chosen and target.task in scored.predictions else None
        if selected is None:
            continue
        rows, labels = selected
        predicted = scored.predictions[target.task]
        if rows is None:
            sample = Sample(labels, predicted, groups)
        else:
            sample = Sample(labels, predicted[rows], None if groups is None else groups[rows])
        support[target.name] = _support(sample)
        values |= {f"{target.name}/{metric.name}": _value(metric, sample, target) for metric in chosen}
    return Report(values, support)


def _asked(metrics: Iterable[str | Metric], find: MetricFinder) -> dict[str, dict[str, Metric]]:
    """Return "task/space" -> name -> metric, in the order asked."""
    asked: dict[str, dict[str, Metric]] = {target.name: {} for target in TARGETS}
    for each in metrics:
        targets: Iterable[str] = asked
        if isinstance(each, str) and "/" in each:
            task, space, each = parse_key(each, find=find)
            targets = [f"{task}/{space}"]
        metric = each if isinstance(each, Metric) else find(each)
        for target in targets:
            asked[target][metric.name] = metric
    return asked


def _value(metric: Metric, sample: Sample, target: Target) -> float | None:
    value: Any = metric.compute(sample)
    if value is None:
        return None
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not np.isfinite(value):
        shown = value if number else f"a {type(value).__name__}"
        raise ValueError(
            f"Metric {metric.name!r} gave {shown} for {target.name}; it must give a finite number, or None where it is "
            "undefined."
        )
    return float(value)


def _support(sample: Sample) -> Support:
    rows, positives = len(sample.labels), int(sample.labels.sum())
    return Support(
        rows=rows,
        positives=positives,
        mean_predicted=float(sample.probabilities.mean(dtype=np.float64)) if rows else None,
        mean_observed=positives / rows if rows else None,
        groups=sample.grouped.total if sample.grouped else None,
        groups_counted=sample.grouped.counted if sample.grouped else None,
    )


def parse_key(key: str, *, find: MetricFinder = find_metric) -> Key:
    """Split a report's key, "cvr/click/auc" -> ("cvr", "click", "auc").

    Raises ValueError, with the nearest name, unless all of task, space and metric (to `find`) are known.
    """
    parts = str(key).split("/")
    if len(parts) != 3:
        raise ValueError(f"Key {key!r} must have the form task/space/metric, such as 'cvr/click/auc'.")
    task, space, metric = parts
    if task not in TASKS:
        raise ValueError(unknown(f"Unknown task {task!r}.", task, TASKS))
    spaces = [target.space for target in TARGETS if target.task == task]
    if space not in spaces:
        raise ValueError(unknown(f"Unknown space of task {task!r} {space!r}.", space, spaces))
    return Key(task, space, find(metric).name)


def direction(name: str, *, find: MetricFinder = find_metric) -> Literal["max", "min"]:
    """Return whether larger ("max") or smaller ("min") is better, for a metric "auc" or a key "cvr/click/auc".

    Raises ValueError for a name unknown to `find` and for "calibration", which is best at 1 and so has no direction.
    """
    metric = find(parse_key(name, find=find).metric if "/" in str(name) else name)
    if metric.best == "one":
        raise ValueError(
            f"{name!r} is best at 1, neither at its largest nor at its smallest; "
            "choose a metric with a direction, such as log_loss or ece."
        )
    return metric.best


def is_defined(
    key: str,
    *,
    click: ArrayLike,
    conversion: ArrayLike,
    action: ArrayLike | None = None,
    counterfactual: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    find: MetricFinder = find_metric,
) -> bool:
    """Return whether `key` ("task/space/metric") will have a value on these labels, whatever the predictions.

    click, conversion, action, counterfactual, groups: as in `Scored`; find: as in `evaluate`. Raises ValueError as
    `parse_key` and `Scored` do.
    """
    task = parse_key(key, find=find).task
    clicks = as_labels(click, "click")
    # Not all the same, for the sake of plugins' metrics that need some spread.
    predicted = np.linspace(0.25, 0.75, len(clicks), dtype=np.float32)
    scored = Scored({task: predicted}, clicks, conversion, action, counterfactual, groups)  # type: ignore[arg-type]
    return evaluate(scored, (key,), find=find).values.get(key) is not None
