"""Rows of the results table: what a finished or failed cell says, column by column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cvr_plugins.grid._cells import Cell, text_of
from cvr_plugins.training.run_folder import RunFolder
from cvr_plugins.wording import flat

DONE, FAILED = "done", "failed"

CELL_FILE = "cell.json"
"""File in a run folder that says which cell of which grid it is."""

RUN = "run"
"""The run folder within the folder that a cell works in."""

FIXED_COLUMNS = (
    "cell",
    "status",
    "error",
    "stopped",
    "best_epoch",
    "epochs_run",
    "seconds",
    "parameters",
    "collapsed",
    "valid_value",
    "mechanism",
    "acted",
    "idle",
    "fingerprint",
)
SUPPORT = ("mean_predicted", "mean_observed")
"""Columns of each task and space besides the metrics."""

_LEAST_RESOLUTION = 1e-9

Row = Mapping[str, str]


def finished_row(folder: RunFolder, fingerprint: str) -> dict[str, str]:
    """Return the row of a finished run.

    Parameters
    ----------
    folder : RunFolder
        The run's, with a `CELL_FILE`.
    fingerprint : str
        Of its cell.

    Returns
    -------
    dict
        Column -> text; an undefined value is empty, a float is written so that reading it gives the same float.

    Raises
    ------
    RunFolderError
        If a file is missing or broken.
    """
    run, history, metrics, cell = (folder.read_json(f) for f in ("run.json", "history.json", "metrics.json", CELL_FILE))
    curves = folder.read_json("calibration.json")["curves"]
    row = {
        "cell": folder.path.name,
        **{name: text_of(value) for name, value in cell["dimensions"].items()},
        "status": DONE,
        "stopped": history["stopped"],
        "best_epoch": history["best_epoch"],
        "epochs_run": len(history["epochs"]),
        "seconds": cell["seconds"],
        "parameters": run["parameters"],
        "collapsed": " ".join(_collapsed(metrics["support"], curves)),
        "valid_value": history["best_value"],
        "fingerprint": fingerprint,
    }
    mechanism = metrics["mechanism"]
    if mechanism is not None:
        idle = "yes" if mechanism["idle"] else ""
        row |= {"mechanism": mechanism["says"], "acted": mechanism["value"], "idle": idle}
    for target, support in metrics["support"].items():
        row |= {f"{target}/{name}": support[name] for name in SUPPORT}
        row |= {key: value for key, value in metrics["values"].items() if key.startswith(f"{target}/")}
    return {column: "" if value is None else str(value) for column, value in row.items()}


def failed_row(cell: Cell, kind: str, message: str, seconds: float) -> dict[str, str]:
    """Return the row of a cell that failed: the error's kind and message, on one line."""
    return {
        "cell": cell.name,
        **{name: text_of(value) for name, value in cell.dimensions.items()},
        "status": FAILED,
        "error": flat(f"{kind}: {message}"),
        "seconds": str(round(seconds, 3)),
        "fingerprint": cell.fingerprint,
    }


def _collapsed(support: Mapping[str, Any], curves: Mapping[str, Any]) -> list[str]:
    """Tasks whose predictions over all exposures are as good as constant.

    Constant means that they would explain less than a billionth of the label's variance even if they were calibrated:
    their variance is below that share of m (1 - m), the variance of a label with the mean prediction m.
    """
    found = []
    for target, curve in curves.items():
        task, space = target.split("/")
        mean = support[target]["mean_predicted"]
        if space != "entire" or mean is None:
            continue
        if curve["spread"] ** 2 <= _LEAST_RESOLUTION * mean * (1 - mean):
            found.append(task)
    return found
