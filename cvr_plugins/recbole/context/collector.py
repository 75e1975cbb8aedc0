"""What an evaluation collects: the predictions of all tasks beside the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from recbole.evaluator.collector import Collector, DataStruct
from torch import Tensor

from cvr_plugins.metrics import TARGETS, Report, Scored
from cvr_plugins.recbole.context.metrics import REPORT, is_key
from cvr_plugins.training.results import report_of
from cvr_plugins.training.rows import RowBuffer


class Rows:
    """The predictions, labels and users of the batches of an evaluation."""

    def __init__(self) -> None:
        self._columns: dict[str, RowBuffer] = {}

    def add(self, predictions: Mapping[str, Tensor], labels: Mapping[str, Tensor], users: Tensor) -> None:
        """Add a batch: task -> probability `[B]`, label -> 0/1 `[B]`, user ids `[B]`."""
        columns = {f"p/{task}": values for task, values in predictions.items()}
        columns |= {f"y/{label}": values > 0 for label, values in labels.items()}
        columns["users"] = users.to(torch.int32)
        for name, column in columns.items():
            self._columns.setdefault(name, RowBuffer()).append(column)

    def scored(self) -> Scored:
        """Return all rows, and forget them. Raises ValueError if there is none."""
        if not self._columns:
            raise ValueError("The loader gave no batch; there is nothing to evaluate.")
        # One column after the other, so that only one of them is held twice.
        columns: dict[str, Any] = {name: self._columns.pop(name).array() for name in list(self._columns)}
        return Scored(
            predictions={name[2:]: column for name, column in columns.items() if name.startswith("p/")},
            groups=columns["users"],
            **{name[2:]: column for name, column in columns.items() if name.startswith("y/")},
        )


class MethodCollector(Collector):
    """RecBole's Collector for models that predict several tasks.

    RecBole's own metrics (AUC, LogLoss, ...) are given the task `score` against its label on all rows; those of a
    report are read from `report`, which is computed once.

    Parameters
    ----------
    config
        RecBole's; `metrics` says what is asked for.
    score
        The task that RecBole's own metrics are of.

    Attributes
    ----------
    scored
        Predictions and labels of the last part that was evaluated, None before.
    report
        The metrics that were asked for of it, in full digits.
    """

    def __init__(self, config: Any, score: str) -> None:
        super().__init__(config)
        self._asked = [name for name in config["metrics"] if is_key(name)]
        self._score = score
        self._rows = Rows()
        self.scored: Scored | None = None
        self.report = Report({}, {})

    def begin(self) -> None:
        """Forget what an evaluation that did not end has left."""
        self._rows = Rows()

    def eval_batch_collect(self, scores_tensor: Any, interaction: Any, positive_u: Any, positive_i: Any) -> None:
        """Collect a batch. scores_tensor: (predictions by task, labels by name, users)."""
        self._rows.add(*scores_tensor)

    def get_data_struct(self) -> DataStruct:
        """Return what RecBole's metrics and ours are computed from."""
        struct = DataStruct()
        for name, value in self.data_struct._data_dict.items():
            struct.set(name, value)
        self.scored = scored = self._rows.scored()
        self.report = report_of(scored, self._asked)
        struct.set(REPORT, self.report)
        if self.register.need("rec.score") or self.register.need("data.label"):
            target = next(each for each in TARGETS if each.task == self._score and each.rows is None)
            selected = scored.select(target)
            assert selected is not None, "a predicted task's label is among those a method needs"
            struct.set("rec.score", torch.from_numpy(scored.predictions[self._score]))
            struct.set("data.label", torch.from_numpy(selected[1].astype(np.float32)))
        return struct
