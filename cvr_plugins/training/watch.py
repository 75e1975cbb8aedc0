"""The validation metric that early stopping watches, in every framework."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cvr_plugins.config import ConfigError
from cvr_plugins.metrics import Report, direction, is_defined, parse_key
from cvr_plugins.plugins import RegistryError, registry
from cvr_plugins.training.step import TrainingError


class Watch:
    """A `task/space/metric` and its better direction.

    Parameters
    ----------
    key
        The key, kept as `key` and, part by part, as `task`, `space` and `metric`.
    tasks
        What the model predicts.

    Raises
    ------
    ConfigError
        For a key that is unknown, of a task that is not predicted, or of a metric without a better direction.

    Notes
    -----
    `direction` is "max" or "min".
    """

    def __init__(self, key: str, tasks: Sequence[str]) -> None:
        self.key = key
        find = registry().metric
        try:
            self.task, self.space, self.metric = parse_key(key, find=find)
            self.direction = direction(key, find=find)
        except (ValueError, RegistryError) as error:
            raise ConfigError(f"valid_metric: {error}") from error
        if self.task not in tasks:
            raise ConfigError(
                f"valid_metric {key!r} is of a task this model does not predict; it predicts {', '.join(tasks)}."
            )

    def better(self, value: float, best: float | None) -> bool:
        """Whether `value` is better than `best`, None for no value yet."""
        if best is None:
            return True
        return value > best if self.direction == "max" else value < best

    def value(self, report: Report) -> float:
        """Return the watched value of a report on the validation data; raises TrainingError if it is undefined."""
        value = report.get(self.key)
        if value is None or not math.isfinite(value):
            support = report.support[f"{self.task}/{self.space}"]
            raise undefined(self.key, f" ({support.positives} positives in {support.rows} rows)")
        return value

    def check(self, columns: Iterable[str], *, groups: Any, labels: Mapping[str, Any] | None = None) -> None:
        """Refuse validation data on which there will be no value, as far as can be told before training.

        Parameters
        ----------
        columns
            Names of the labels there are.
        groups
            The user of each row, None where they are not known.
        labels
            Name -> column `[N]`, None where they are only known batch by batch.

        Raises
        ------
        TrainingError
            If a label, the users, or one of the two kinds of labels is missing.
        """
        columns = list(columns)
        for wanted, column in ((self.space == "oracle", "counterfactual"), (self.task == "ctavr", "action")):
            if wanted and column not in columns:
                raise TrainingError(
                    f"The validation metric {self.key} needs the label column {column!r}; the validation data have "
                    f"{', '.join(columns)}. Add it to label_columns (CVRTrainer) or set {column.upper()}_FIELD "
                    "(a configuration), or watch another with valid_metric."
                )
        if groups is None and registry().metric(self.metric).needs_groups:
            raise TrainingError(
                f"The validation metric {self.key} needs the user of each row: give a TensorLoader with groups, or "
                "watch another with valid_metric."
            )
        if labels is not None and not is_defined(self.key, groups=groups, find=registry().metric, **labels):
            raise undefined(self.key, f" of {len(labels['click'])} rows")


def undefined(key: str, counted: str = "") -> TrainingError:
    """Return the error to raise where a watched metric has no value; counted: of how many rows."""
    return TrainingError(
        f"The validation metric {key} is undefined on the validation data{counted}: it needs labels of both kinds "
        "there. Give a larger validation split, or watch another with valid_metric, such as ctcvr/entire/log_loss."
    )
