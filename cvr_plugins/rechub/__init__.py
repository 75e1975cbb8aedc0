"""The torch-rechub side: models, trainer, and whole runs.

`from cvr_plugins.rechub import ESMM, CVRTrainer`: every registered method is a class here. `run` does from a
configuration what `cvr-plugins run` does; `TrainedRun`, `predict` and `evaluate_run` apply its folder to new logs.
"""

from __future__ import annotations

from typing import Any

from cvr_plugins.rechub.batches import TensorLoader
from cvr_plugins.rechub.models import CLASSES, RechubModel, model_class
from cvr_plugins.rechub.runner import run
from cvr_plugins.rechub.scoring import Scoring, evaluate_run, predict
from cvr_plugins.rechub.trained import TrainedRun
from cvr_plugins.rechub.trainer import CVRTrainer
from cvr_plugins.training.results import RunResult
from cvr_plugins.training.step import TrainingError

__all__ = [
    "CVRTrainer",
    "RechubModel",
    "RunResult",
    "Scoring",
    "TensorLoader",
    "TrainedRun",
    "TrainingError",
    "evaluate_run",
    "model_class",
    "predict",
    "run",
]


def __getattr__(name: str) -> Any:
    return model_class(CLASSES.attribute(name).qualified)


def __dir__() -> list[str]:
    from cvr_plugins.plugins import registry

    return sorted([*__all__, *(entry.key for entry in registry().entries("method") if entry.key == entry.name)])
