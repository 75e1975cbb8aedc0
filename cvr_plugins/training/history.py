"""What training did, epoch by epoch, the same for every trainer and in every run folder's history.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class EpochRecord:
    """One epoch of training.

    Parameters
    ----------
    epoch
        Its number, from 0.
    losses
        Loss term -> mean over the epoch's batches, before any weighting. Of RecBole's own models "loss" alone, which
        RecBole sums over the batches; empty where a model has none.
    metrics
        Metric -> value on the validation part, None where it is undefined: `task/space/metric` of a CVR method,
        RecBole's own names (`mrr@10`) of any other model. Empty where the epoch was not validated.
    value
        What the watched metric was, in the digits in which it was compared; None where the epoch was not validated.
    improved
        Whether these were the best weights so far, and so were kept.
    learning_rate
        Of the last step.
    factors
        "ctr", "cvr" -> mean over the batches of the weighting's factor; empty without a weighting.
    diagnostics
        What the objective measured over the batches (`Objective.measure`), such as the share of unclicked rows that
        were relabelled, and what it says of its state after the last one, such as the fill of a memory.
    unmoved
        Names of the phases that changed none of their parameters, for want of a clicked row, say.
    """

    epoch: int
    losses: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    value: float | None = None
    improved: bool = False
    learning_rate: float | None = None
    factors: dict[str, float] = field(default_factory=dict)
    diagnostics: dict[str, float] = field(default_factory=dict)
    unmoved: list[str] = field(default_factory=list)


@dataclass
class History:
    """A record of each finished epoch, and how training ended.

    Parameters
    ----------
    valid_metric
        Name of the metric that was watched on the validation part.
    records
        One for each epoch, in order.
    stopped
        "all epochs", "early" (the watched metric had not improved for as long as was allowed), "interrupted" (Ctrl-C)
        or "error" (training raised; the history until then is the trainer's attribute `history`).
    """

    valid_metric: str | None = None
    records: list[EpochRecord] = field(default_factory=list)
    stopped: str = "all epochs"

    @property
    def best(self) -> EpochRecord | None:
        """The epoch whose weights were kept, None if no epoch was judged."""
        return next((record for record in reversed(self.records) if record.improved), None)

    @property
    def best_epoch(self) -> int | None:
        """Number of the epoch whose weights were kept."""
        return None if self.best is None else self.best.epoch

    @property
    def best_value(self) -> float | None:
        """The watched value of that epoch, None without a validation part."""
        return None if self.best is None else self.best.value

    def to_dict(self) -> dict[str, Any]:
        """Return what a run folder's history.json holds.

        Returns
        -------
        dict
            stopped, best_epoch, best_value and valid_metric; epochs: a mapping of `EpochRecord`'s attributes for each.
        """
        return {
            "stopped": self.stopped,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "valid_metric": self.valid_metric,
            "epochs": [asdict(record) for record in self.records],
        }
