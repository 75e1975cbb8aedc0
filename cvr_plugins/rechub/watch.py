"""The validation metric that early stopping watches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cvr_plugins.metrics import Report, direction, is_defined, parse_key
from cvr_plugins.plugins import registry
from cvr_plugins.rechub.batches import TensorLoader
from cvr_plugins.rechub.labels import NOT_EVALUATED
from cvr_plugins.training.history import TrainingError

DEFAULT = "cvr/click/auc"


class Watch:
    """A `task/space/metric` and its better direction.

    tasks: that the model predicts; key: None for `DEFAULT`, or for the AUC of the column `taskid` (torch-rechub's
    earlystop_taskid) in the space its label is observed in; mode: torch-rechub's earlystop_mode.
    Raises ValueError for both key and taskid, an unknown key, one of a task the model does not predict, a metric
    without a better direction, and a mode that contradicts it.
    """

    def __init__(self, tasks: Sequence[str], key: str | None, taskid: int | None, mode: str | None) -> None:
        if taskid is not None:
            if key is not None:
                raise ValueError("Give either valid_metric or earlystop_taskid, not both.")
            if type(taskid) is not int or not 0 <= taskid < len(tasks):
                raise ValueError(f"earlystop_taskid must be the index of one of {list(tasks)}; got {taskid!r}.")
            key = f"{tasks[taskid]}/{'click' if tasks[taskid] == 'cvr' else 'entire'}/auc"
        self.key = DEFAULT if key is None else key
        self.task, self.space, self.metric = parse_key(self.key, find=registry().metric)
        if self.task not in tasks:
            raise ValueError(
                f"valid_metric {self.key!r} is of a task this model does not predict; it predicts {', '.join(tasks)}."
            )
        self.direction = direction(self.key, find=registry().metric)
        if mode is not None and mode != self.direction:
            raise ValueError(
                f"earlystop_mode={mode!r} contradicts {self.key!r}, whose better direction is {self.direction!r}."
            )

    def better(self, value: float, best: float | None) -> bool:
        """Whether `value` is better than `best`, None for no value yet."""
        if best is None:
            return True
        return value > best if self.direction == "max" else value < best

    def value(self, report: Report) -> float:
        """Return the watched value; raises TrainingError if it is undefined."""
        value = report.get(self.key)
        if value is None or not math.isfinite(value):
            support = report.support[f"{self.task}/{self.space}"]
            raise self._undefined(f" ({support.positives} positives in {support.rows} rows)")
        return value

    def check(self, loader: Any, columns: Sequence[str]) -> None:
        """Raise TrainingError if there will be no value on `loader`, as far as can be told before training.

        columns: names of the loader's label columns.
        """
        for wanted, column in ((self.space == "oracle", "counterfactual"), (self.task == "ctavr", "action")):
            if wanted and column not in columns:
                raise TrainingError(
                    f"The validation metric {self.key} needs the label column {column!r}; the validation loader has "
                    f"{', '.join(columns)}. Add it, or watch another with valid_metric."
                )
        groups = getattr(loader, "groups", None)
        if groups is None and registry().metric(self.metric).needs_groups:
            raise TrainingError(
                f"The validation metric {self.key} needs the user of each row: give a TensorLoader with groups, or "
                "watch another with valid_metric."
            )
        if isinstance(loader, TensorLoader):
            labels = {name: column for name, column in loader.labels().items() if name not in NOT_EVALUATED}
            if not is_defined(self.key, groups=groups, find=registry().metric, **labels):
                raise self._undefined(f" of {len(labels['click'])} rows")

    def _undefined(self, counted: str) -> TrainingError:
        return TrainingError(
            f"The validation metric {self.key} is undefined on the validation data{counted}: it needs labels of both "
            "kinds there. Give a larger validation split, or watch another with valid_metric, such as "
            "ctcvr/entire/log_loss."
        )
