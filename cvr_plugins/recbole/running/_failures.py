"""A model that fails: whose it is, and a run folder that says why and keeps what training can be taken up from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cvr_plugins.recbole import names
from cvr_plugins.recbole.running import _folder
from cvr_plugins.training import run_folder
from cvr_plugins.training.step import TrainingError


@contextmanager
def blamed(config: Any, doing: str = "training", kind: type[Exception] = TrainingError) -> Iterator[None]:
    """Say of an error in a plugin's model which plugin that is; RecBole's and our own pass as they are.

    doing: what raised, for the message; kind: of the error that is raised in its place.
    """
    try:
        yield
    except Exception as error:
        plugin = owner(config)
        if plugin in (None, "builtin", names.RECBOLE) or type(error).__module__.startswith("cvr_plugins."):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".:")
        raise kind(f"{config['model']} (plugin {plugin}): {doing} raised {reason}.") from error


def owner(config: Any) -> str | None:
    """Return the plugin that the configured model is of, None if it is of none."""
    return next((each.owner for each in names.available() if each.key == config["model"]), None)


def write_failed(
    out: Path, config: Any, trained: Sequence[Mapping[str, Any]], error: TrainingError, checkpoints: Iterable[Path]
) -> Path | None:
    """Write a run folder of what was done before `error`; return where, None if it cannot be written.

    checkpoints: files from which training can be taken up, which are copied into it.
    """
    about = {"framework": _folder.FRAMEWORK, "method": config["model"], "plugin": owner(config)}
    epochs = {
        "stopped": "error",
        "valid_metric": config["valid_metric"],
        "best_value": None,
        "epochs": [dict(record) for record in trained],
    }
    return run_folder.write_failed(run_folder.unused(out), about, _folder.written(config), epochs, error, checkpoints)


def resumable(folder: Path) -> str:
    """Return the sentence that says how training is taken up from what is in a folder."""
    return f"{folder} holds what was trained before that: 'cvr-plugins run --resume {folder}' goes on from there."
