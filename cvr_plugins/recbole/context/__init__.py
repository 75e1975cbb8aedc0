"""The CVR methods as RecBole's context-aware models: fields, data set, trainer, metrics."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvr_plugins.recbole.context.dataset import MethodDataset
    from cvr_plugins.recbole.context.metrics import metric_class
    from cvr_plugins.recbole.context.model import MethodRecommender
    from cvr_plugins.recbole.context.trainer import MethodTrainer

_HOMES = {
    "MethodDataset": "dataset",
    "MethodRecommender": "model",
    "MethodTrainer": "trainer",
    "metric_class": "metrics",
}

__all__ = [
    "MethodDataset",
    "MethodRecommender",
    "MethodTrainer",
    "metric_class",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
