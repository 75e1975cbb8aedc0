"""What a run found, on either side, and the one place where the metrics that were asked for are computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cvr_plugins.metrics import ReliabilityCurve, Report, Scored, evaluate
from cvr_plugins.plugins import registry
from cvr_plugins.training.history import History

if TYPE_CHECKING:
    from cvr_plugins.contracts import Mechanism


def report_of(scored: Scored, asked: Iterable[str]) -> Report:
    """Compute the metrics that were asked for, built-in ones and plugins'.

    Parameters
    ----------
    scored
        Predictions of one part of a log beside its labels.
    asked
        Names of metrics (`"auc"`), each for every task and space, and keys (`"cvr/click/auc"`) for their own alone.

    Returns
    -------
    Report
        As `cvr_plugins.metrics.evaluate` makes it.
    """
    return evaluate(scored, asked, find=registry().metric)


def acted(mechanism: Mechanism | None, history: History) -> dict[str, Any] | None:
    """Return what a method's mechanism did in the kept epoch.

    Parameters
    ----------
    mechanism
        What the method's objective says of it.
    history
        Of the training.

    Returns
    -------
    dict or None
        figure, says: the mechanism's; value: the figure in that epoch, None if it has none; idle: whether the mechanism
        did nothing. None for a method that declares no mechanism.
    """
    kept = history.best or next(reversed(history.records), None)
    if mechanism is None or kept is None:
        return None
    factors = {f"factor/{task}": value for task, value in kept.factors.items()}
    value = {**kept.diagnostics, **factors}.get(mechanism.figure)
    idle = mechanism.idle is not None and value in (None, mechanism.idle)
    return {"figure": mechanism.figure, "says": mechanism.says, "value": value, "idle": idle}


@dataclass(frozen=True, eq=False)
class RunResult(Mapping[str, Any]):
    """What a run found and where it is kept.

    As a mapping it has the four keys of what RecBole's `run_recbole` returns.

    Parameters
    ----------
    report
        Metrics on the test part, of the best epoch's weights: `result.report["cvr/click/auc"]`. Of a RecBole model that
        is no CVR method its own metrics, under names that tell the protocol (`full/ndcg@10`).
    valid
        The best epoch's metrics on the validation part, by the same names.
    history
        A record of each epoch, and how training ended.
    config
        The configuration with every key.
    best_valid_score, valid_score_bigger, best_valid_result, test_result
        RecBole's keys: the watched value of the best epoch, whether more of it is better, and the metrics on the
        validation and test part. Of RecBole's runs in its own names and digits.
    folder
        The run folder, None if there is none.
    checkpoint
        The file of the best epoch's weights, None if nothing was saved.
    reliability
        "task/space" -> reliability curve on the test part; empty for other models than CVR methods.
    log, parts
        Summaries of the whole log and, by name, of its train, valid and test part.
    notes
        What the checks of the data found.
    mechanism
        What the method's mechanism did in the kept epoch, as `acted` returns it.
    """

    report: Report
    valid: Mapping[str, Any]
    history: History
    config: Any
    best_valid_score: float | None
    valid_score_bigger: bool
    best_valid_result: Mapping[str, Any] | None
    test_result: Mapping[str, Any] | None
    folder: Path | None = None
    checkpoint: Path | None = None
    reliability: Mapping[str, ReliabilityCurve] = field(default_factory=dict)
    log: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    mechanism: Mapping[str, Any] | None = None

    _KEYS: ClassVar = ("best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")

    @property
    def stopped(self) -> str:
        """How training ended: "all epochs", "early" or "interrupted"."""
        return self.history.stopped

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights were kept, None if none was validated."""
        return self.history.best_epoch

    def __getitem__(self, key: str) -> Any:
        """Return the value of one of RecBole's four keys."""
        if key not in self._KEYS:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        """Iterate over RecBole's four keys."""
        return iter(self._KEYS)

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self._KEYS)

    def metrics(self) -> dict[str, Any]:
        """Return what a run folder's metrics.json holds.

        Returns
        -------
        dict
            part: "test"; values, support: the report; valid: metrics on the validation part; protocol: how the log was
            split and is evaluated (`eval_args`); data: summaries of log, train, valid and test; notes; mechanism.
        """
        return {
            "part": "test",
            **self.report.to_dict(),
            "valid": dict(self.valid),
            "protocol": self.config["eval_args"],
            "data": {"log": dict(self.log), **self.parts},
            "notes": list(self.notes),
            "mechanism": self.mechanism,
        }
