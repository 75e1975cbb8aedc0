"""A mixin that makes any RecBole trainer evaluate sessions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from cvr_plugins.config import ConfigError, refuse_processes
from cvr_plugins.recbole.evaluation.collector import SessionCollector
from cvr_plugins.recbole.evaluation.names import check, sort_key


class SessionEvaluation:
    """Mixin in front of a RecBole trainer: `class MyTrainer(SessionEvaluation, Trainer)`.

    Where `metrics` names one of this package's, `evaluate` runs two passes: RecBole's own over the loader, left out if
    no metric needs it, and one over the whole sessions of the part. RecBole's Evaluator computes everything; results
    are its flat dictionary, with the model's values first, then those of the baselines, `random/...`, then counts. A
    value is None where it is undefined. Without such a metric nothing differs from the trainer behind.

    Training itself never meets a purchase through this class; a metric of sessions as valid_metric, however, chooses
    the epoch by the purchases of the validation part.

    Raises
    ------
    ConfigError
        When made, for metrics that do not go with the configuration.
    """

    config: Any
    valid_metric: str

    def __init__(self, config: Any, model: Any) -> None:
        metrics = check(config)
        if metrics:
            refuse_processes(config.final_config_dict)
        super().__init__(config, model)  # type: ignore[call-arg]
        self._evaluates_sessions = bool(metrics)
        if metrics:
            self.eval_collector = SessionCollector(config)

    def evaluate(
        self, eval_data: Any, load_best_model: bool = True, model_file: str | None = None, show_progress: bool = False
    ) -> Any:
        """Evaluate as RecBole's trainer does. Raises ConfigError if a metric needs what the data set does not have."""
        options = {"load_best_model": load_best_model, "model_file": model_file, "show_progress": show_progress}
        if not eval_data or not self._evaluates_sessions:
            return super().evaluate(eval_data, **options)  # type: ignore[misc]
        self.eval_collector.begin(eval_data)
        read = eval_data if self.eval_collector.reads_batches else _NoBatches(eval_data)
        result = super().evaluate(read, **options)  # type: ignore[misc]
        return OrderedDict(sorted(result.items(), key=lambda pair: sort_key(pair[0])))

    def _valid_epoch(self, *args: Any, **options: Any) -> Any:
        score, result = super()._valid_epoch(*args, **options)  # type: ignore[misc]
        if score is None:
            raise ConfigError(
                f"valid_metric {self.valid_metric!r} is undefined on the validation part: in none of its sessions was "
                "anything bought (for SessionGAUC: something, but not everything), or every target is in its own "
                "history; make the part larger in eval_args, or choose another valid_metric."
            )
        return score, result


class _NoBatches:
    """Stands for a loader none of whose batches is needed."""

    def __init__(self, eval_data: Any) -> None:
        self._dataset = eval_data._dataset

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())
