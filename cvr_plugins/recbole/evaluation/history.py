"""RecBole's next-item metrics with the items of the input left out of the ranking, beside those with them left in."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.metrics import MAP, MRR, NDCG, Hit, Precision, Recall
from torch import Tensor

from cvr_plugins.config import ConfigError

WITHOUT_HISTORY = "rec.topk_without_history"
"""What the metrics find their rows under: as RecBole's `rec.topk`, of the rows that have a target left."""

LEFT_OUT = "rec.rows_without_target"
"""Where the number of rows whose target is in their own history is."""

ROWS, LEFT_OUT_ROWS = "without_history/rows", "without_history/left_out"
"""The keys of a result that count rows."""


class WithoutHistory(TopkMetric):
    """One of RecBole's metrics at k over the items that are not in the row's own history.

    RecBole ranks the whole catalogue for sequential models, what the session has already viewed included; a model that
    ranks its own input high looks different without it. Both come from one pass: `ndcg@10` is RecBole's,
    `ndcgwithouthistory@10` this one. Rows whose target is in their own history have no target left: they are left out
    here and counted (`without_history/left_out`; `without_history/rows` are the others). None without rows.

    The history is all that the session viewed before the target; with RecBole's own data set, which keeps no more, the
    last MAX_ITEM_LIST_LENGTH events of it.
    """

    metric_need = ["rec.topk", WITHOUT_HISTORY]
    of: ClassVar[type[TopkMetric]]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._metric = self.of(config)

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float | int | None]:
        """Return key -> value with and without history, and the counts of rows."""
        name = type(self).__name__
        if WITHOUT_HISTORY not in dataobject:
            raise ConfigError(
                f"{name} needs a trainer that leaves history out: run the model with cvr_plugins.recbole.run (or "
                "'cvr-plugins run'), or put cvr_plugins.recbole.evaluation.SessionEvaluation in front of its trainer."
            )
        rows = dataobject.get(WITHOUT_HISTORY)
        with_history = self._metric.calculate_metric(dataobject)
        without: dict[str, float | None] = dict.fromkeys(with_history)
        if len(rows):
            left = DataStruct()
            left.set("rec.topk", rows)
            without = self._metric.calculate_metric(left)
        renamed = {f"{name.lower()}@{key.partition('@')[2]}": value for key, value in without.items()}
        count = {ROWS: len(rows), LEFT_OUT_ROWS: int(dataobject.get(LEFT_OUT))}
        return {**with_history, **renamed, **count}


HISTORY_METRICS: tuple[type[WithoutHistory], ...] = tuple(
    type(
        f"{metric.__name__}WithoutHistory",
        (WithoutHistory,),
        {"of": metric, "__module__": __name__, "__doc__": f"{metric.__name__} without history."},
    )
    for metric in (Hit, NDCG, MRR, MAP, Recall, Precision)
)


def leave_out(scores: Tensor, row: Tensor, item: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores and targets of the rows whose target is not in their own history, with the history at -inf.

    Parameters
    ----------
    scores
        `[B, n_items]`, not changed.
    row, item
        The history, as pairs of a row and an item id.
    targets
        Ids `[B]`.
    """
    rest = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    rest[row[item == targets[row]]] = False
    left = scores[rest]
    kept = rest[row]
    left[(rest.cumsum(0) - 1)[row[kept]], item[kept]] = -torch.inf
    return left, targets[rest]


def top_k(scores: Tensor, targets: Tensor, k: int) -> Tensor:
    """Return what RecBole has as `rec.topk`: whether each of the k highest is the target, then a 1, `[B, k + 1]`."""
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices
    hit = torch.zeros(len(scores), k + 1, dtype=torch.int, device=scores.device)
    hit[:, : best.shape[1]] = best == targets[:, None]
    hit[:, -1] = 1
    return hit
