"""The metrics of a report as RecBole metrics, each under its key: `metrics: [cvr/click/auc, cvr/entire/log_loss]`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.register import metrics_dict
from recbole.utils import EvaluatorType

from cvr_plugins.config import ConfigError
from cvr_plugins.metrics import DEFAULT_METRICS, METRICS, TARGETS, Metric, find_metric, parse_key
from cvr_plugins.plugins import RegistryError, registry

REPORT = "cvr.report"
"""Under this name a metric finds the report in what RecBole's collector returns."""


class ReportMetric(AbstractMetric):
    """Base of the RecBole metrics of a report; `key` says which one a subclass is.

    The value is rounded to RecBole's `metric_decimal_place`; None is reported where the metric is undefined.
    """

    metric_type = EvaluatorType.VALUE
    metric_need = [REPORT]
    key: str

    def calculate_metric(self, dataobject: Any) -> dict[str, float | None]:
        """Return {key: value}. Raises ConfigError if another trainer than the methods' collected the predictions."""
        if REPORT not in dataobject:
            raise ConfigError(
                f"{self.key} is computed from the predictions that cvr_plugins.recbole.context.MethodTrainer collects; "
                "evaluate CVR methods with it (recbole.utils.get_trainer returns it), other models with other metrics."
            )
        value = dataobject.get(REPORT).values.get(self.key)
        return {self.key.lower(): None if value is None else round(value, self.decimal_place)}


def is_key(name: object) -> bool:
    """Whether a metric's name is meant to be the key of a report, "task/space/metric"."""
    return isinstance(name, str) and "/" in name


def expanded(names: Iterable[str], tasks: Iterable[str], *, oracle: bool) -> list[str]:
    """Replace the bare name of a metric, `log_loss`, by its keys for each of `tasks` on each space, as `evaluate` does.

    RecBole's own metrics are those spelt as it spells them (`AUC`, `LogLoss`); oracle: whether that space is known.
    """
    own = {each.__name__ for each in metrics_dict.values() if each.__module__.startswith("recbole.")}
    found: list[str] = []
    for name in names:
        targets = [target for target in TARGETS if target.task in tasks and (oracle or target.space != "oracle")]
        if is_key(name) or name in own or not _is_metric(name):
            found.append(name)
        else:
            found += [f"{target.name}/{name}" for target in targets]
    return list(dict.fromkeys(found))


def _is_metric(name: str) -> bool:
    try:
        registry().metric(name)
    except (ValueError, RegistryError):
        return False
    return True


def metric_class(key: str) -> type[ReportMetric]:
    """Return the RecBole metric of a report's key; its name is the key in lower case, as RecBole looks it up.

    Raises ConfigError, with the nearest name, for an unknown task, space or metric.
    """
    try:
        metric = registry().metric(parse_key(key, find=registry().metric).metric)
    except (ValueError, RegistryError) as error:
        raise ConfigError(f"metrics: {error}") from error
    return _made(key, metric)


def _made(key: str, metric: Metric) -> type[ReportMetric]:
    if key not in _classes:
        attributes = {"key": key, "smaller": metric.best == "min", "__module__": __name__, "__doc__": metric.summary}
        _classes[key] = type(key.lower(), (ReportMetric,), attributes)
    return _classes[key]


def metric_classes(names: Iterable[str]) -> tuple[type[ReportMetric], ...]:
    """Return the RecBole metrics of those names that are keys of a report."""
    return tuple(metric_class(name) for name in names if is_key(name))


_classes: dict[str, type[ReportMetric]] = {}

# Without the registry: importing this loads no plugin.
METRIC_CLASSES: tuple[type[ReportMetric], ...] = tuple(
    _made(f"{target.name}/{name}", find_metric(name))
    for target in TARGETS
    for name in dict.fromkeys([*METRICS, *DEFAULT_METRICS])
)
"""Our own metrics; those with another number in them, and plugins', are made when a configuration names them."""
