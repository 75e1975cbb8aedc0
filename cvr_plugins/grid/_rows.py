"""Rows of the results table: what a finished or failed cell says, column by column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cvr_plugins.grid._cells import Cell, text_of
from cvr_plugins.metrics import DEFAULT_METRICS, METRIC_NAMES, TARGETS, parse_key
from cvr_plugins.plugins import registry
from cvr_plugins.training.run_folder import RunFolder

DONE, FAILED = "done", "failed"

CELL_FILE = "cell.json"
"""File in a run folder that says which cell of which grid it is."""

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
    "fingerprint",
)
SUPPORT = ("mean_predicted", "mean_observed")
"""Columns of each task and space besides the metrics."""

_LEAST_RESOLUTION = 1e-9

Row = Mapping[str, str]


def metric_columns(cells: Iterable[Cell]) -> list[str]:
    """Return `task/space/metric` for every metric any cell asks for, on every task and space there is."""
    find = registry().metric
    asked = {find(name).name for cell in cells for name in (cell.config["metrics"] or DEFAULT_METRICS)}
    asked |= {parse_key(cell.config["valid_metric"], find=find).metric for cell in cells}
    names = [*(name for name in METRIC_NAMES if name in asked), *sorted(asked.difference(METRIC_NAMES))]
    return [f"{target.name}/{name}" for target in TARGETS for name in (*SUPPORT, *names)]


def columns_of(dimensions: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Return the header of a results table."""
    first, *rest = FIXED_COLUMNS
    return [first, *dimensions, *rest, *metrics]


def finished_row(folder: RunFolder, dimensions: Mapping[str, Any], fingerprint: str) -> dict[str, str]:
    """Return the row of a finished run, read from its folder. Raises RunFolderError if a file is missing or broken."""
    run, history, metrics = (folder.read_json(f"{name}.json") for name in ("run", "history", "metrics"))
    curves = folder.read_json("calibration.json")["curves"]
    row = {
        "cell": folder.path.name,
        **{name: text_of(value) for name, value in dimensions.items()},
        "status": DONE,
        "error": "",
        "stopped": history["stopped"],
        "best_epoch": _text(history["best_epoch"]),
        "epochs_run": _text(len(history["epochs"])),
        "seconds": _text(folder.read_json(CELL_FILE)["seconds"]),
        "parameters": _text(run["parameters"]),
        "collapsed": " ".join(_collapsed(metrics["support"], curves)),
        "valid_value": _text(history["best_value"]),
        "fingerprint": fingerprint,
    }
    for target, support in metrics["support"].items():
        row.update({f"{target}/{name}": _text(support[name]) for name in SUPPORT})
    row.update({key: _text(value) for key, value in metrics["values"].items()})
    return row


def failed_row(cell: Cell, kind: str, message: str, seconds: float) -> dict[str, str]:
    """Return the row of a cell that failed: the error's kind and message, on one line."""
    return {
        "cell": cell.name,
        **{name: text_of(value) for name, value in cell.dimensions.items()},
        "status": FAILED,
        "error": " ".join(f"{kind}: {message}".split()),
        "seconds": _text(round(seconds, 3)),
        "fingerprint": cell.fingerprint,
    }


def to_line(row: Row, columns: Sequence[str]) -> str:
    """Return a row as one line of CSV with its line end; columns it lacks are empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([row.get(column, "") for column in columns])
    return text.getvalue()


def read_rows(text: str) -> tuple[list[str], list[dict[str, str]]]:
    """Return header and whole rows of a results table; a last line cut short is left out."""
    whole = text[: text.rfind("\n") + 1]
    lines = list(csv.reader(io.StringIO(whole)))
    if not lines:
        return [], []
    header, *rest = lines
    return header, [dict(zip(header, line, strict=True)) for line in rest if len(line) == len(header)]


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


def _text(value: object) -> str:
    """An undefined value is an empty field; a float is written so that reading it gives the same float."""
    return "" if value is None else str(value)
