"""What a training run leaves behind: a record per epoch, how it ended, and the error when it cannot go on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from cvr_plugins.training.step import TrainingError as TrainingError


@dataclass
class EpochRecord:
    """One epoch.

    losses: term -> mean over its batches, before any weighting; metrics: `task/space/metric` -> value on the
    validation data, None where undefined; learning_rate: of its last step; improved: whether the watched metric is the
    best so far; factors: "ctr", "cvr" -> mean over its batches of the weighting's factor, empty without a weighting;
    diagnostics: what the objective says of its state after the last batch, such as the fill of a memory.
    """

    epoch: int
    losses: dict[str, float]
    metrics: dict[str, float | None]
    learning_rate: float
    improved: bool
    factors: dict[str, float] = field(default_factory=dict)
    diagnostics: dict[str, float] = field(default_factory=dict)


@dataclass
class History:
    """What `fit` did: a record per finished epoch, the best epoch, and how training ended.

    stopped: "all epochs", "early" (no improvement for `earlystop_patience` epochs), "interrupted" (Ctrl-C) or "error"
    (`fit` raised; the history so far is the trainer's attribute `history`).
    """

    records: list[EpochRecord] = field(default_factory=list)
    best_epoch: int | None = None
    best_value: float | None = None
    stopped: str = "all epochs"

    def to_dict(self, valid_metric: str) -> dict[str, Any]:
        """Return the history of a run folder; valid_metric: what was watched."""
        return {
            "stopped": self.stopped,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "valid_metric": valid_metric,
            "epochs": [asdict(record) for record in self.records],
        }
