"""Rows of the results table: what they say of a run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cvr_plugins.grid import plan
from cvr_plugins.grid._rows import failed_row, finished_row
from cvr_plugins.training.manifest import seal
from cvr_plugins.training.run_folder import RunFolder


def test_a_failed_row_keeps_the_error_on_one_line(source):
    cell = plan(source()).cells[0]
    row = failed_row(cell, "DataError", "first\n  second", 1.23456)
    assert row["error"] == "DataError: first second"
    expected = {"cell": "Naive-1", "model": "Naive", "seed": "1", "status": "failed", "seconds": "1.235"}
    assert {key: row[key] for key in expected} == expected


def test_a_finished_row_says_what_the_run_folder_says(finished_grid):
    folder = RunFolder.open(finished_grid / "runs" / "ESMM-2")
    row = finished_row(folder, "abc")
    metrics, history = folder.read_json("metrics.json"), folder.read_json("history.json")
    for key, value in metrics["values"].items():
        assert row[key] == ("" if value is None else str(value))
    assert float(row["cvr/oracle/mean_predicted"]) == metrics["support"]["cvr/oracle"]["mean_predicted"]
    assert (row["stopped"], row["epochs_run"]) == (history["stopped"], str(len(history["epochs"])))
    assert float(row["valid_value"]) == history["best_value"]
    assert int(row["parameters"]) == folder.read_json("run.json")["parameters"] > 100
    assert float(row["seconds"]) > 0
    assert row["collapsed"] == ""


@pytest.mark.parametrize(
    ("predictions", "collapsed"),
    [
        ([0.3] * 400, True),
        (np.linspace(0.3, 0.30001, 400), True),
        (1e-12 * np.arange(400), True),
        (np.linspace(0.3, 0.3001, 400), False),
        (1e-4 * np.linspace(0.5, 1.5, 400), False),
    ],
)
def test_predictions_as_good_as_constant_are_called_collapsed(finished_copy, predictions, collapsed):
    from cvr_plugins.metrics import reliability_curve

    folder = RunFolder.open(finished_copy / "runs" / "ESMM-2")
    metrics, curves = folder.read_json("metrics.json"), folder.read_json("calibration.json")
    curves["curves"]["cvr/entire"] = reliability_curve([0, 1] * 200, predictions).to_dict()
    metrics["support"]["cvr/entire"]["mean_predicted"] = float(np.mean(predictions))
    for name, value in (("metrics", metrics), ("calibration", curves)):
        (folder.path / f"{name}.json").write_text(json.dumps(value))
    seal(folder.path)
    assert finished_row(folder, "")["collapsed"] == ("cvr" if collapsed else "")


def test_the_table_is_plain_csv_with_a_row_per_run(finished_grid, results_of):
    rows = results_of(finished_grid)
    assert sorted(rows) == ["ESMM-1", "ESMM-2", "Naive-1", "Naive-2"]
    for name, row in rows.items():
        assert list(row)[:4] == ["cell", "model", "seed", "status"]
        assert (f"{row['model']}-{row['seed']}", row["status"], row["error"]) == (name, "done", "")
        assert 0 <= float(row["cvr/oracle/auc"]) <= 1
