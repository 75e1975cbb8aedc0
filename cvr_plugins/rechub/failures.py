"""Runs that cannot go on: whose method it was, and a run folder that says why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cvr_plugins.config import Config
from cvr_plugins.rechub.models import RechubModel
from cvr_plugins.training import run_folder
from cvr_plugins.training.history import History, TrainingError

BUILTIN = "builtin"


@contextmanager
def blamed(model: type[RechubModel]) -> Iterator[None]:
    """Say of an error in training a plugin's method which plugin that is; our own errors pass as they are."""
    try:
        yield
    except Exception as error:
        ours = type(error).__module__.startswith("cvr_plugins.")
        if ours or model.plugin == BUILTIN:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".:")
        raise TrainingError(f"{model.__name__} (plugin {model.plugin}): training raised {reason}.") from error


def write_failed(
    folder: Path, config: Config, model: RechubModel, history: History, error: TrainingError
) -> Path | None:
    """Write a run folder of what was done before `error`; return where, None if it cannot be written."""
    about = {"framework": "torch-rechub", "method": model.method.name, "plugin": model.plugin}
    epochs = history.to_dict(config["valid_metric"])
    return run_folder.write_failed(folder, about, config.to_dict(), epochs, error)
