"""A small log, grids of it, and one grid run for all tests that only look at results."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from cvr_plugins.grid import plan, run_grid

ROWS = 400


@pytest.fixture(scope="session")
def log_file(tmp_path_factory):
    """A funnel log as CSV, its counterfactual conversion included."""
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 20, ROWS), rng.integers(0, 15, ROWS)
    click = (rng.random(ROWS) < 0.3 + 0.4 * (user % 2)).astype(int)
    would = (rng.random(ROWS) < 0.2 + 0.6 * (item % 2)).astype(int)
    columns = {"user_id": user, "item_id": item, "click": click, "conversion": click * would, "truth": would}
    frame = pd.DataFrame(columns)
    path = tmp_path_factory.mktemp("log") / "small.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def source(log_file):
    """A maker of grids of the small log; keywords replace or add keys."""

    def make(**changes) -> dict:
        base = {
            "dataset": str(log_file),
            "COUNTERFACTUAL_FIELD": "truth",
            "dims": [4],
            "embedding_size": 4,
            "train_batch_size": 64,
            "epochs": 2,
            "learning_rate": 0.02,
            "metrics": ["auc", "log_loss", "calibration"],
            "grid": {"model": ["Naive", "ESMM"], "seed": [1, 2]},
        }
        return {key: value for key, value in {**base, **changes}.items() if value is not None}

    return make


@pytest.fixture(scope="session")
def finished_grid(source, tmp_path_factory):
    """The folder of a grid that ran in one process; to be read, not changed."""
    out = tmp_path_factory.mktemp("grid") / "out"
    run_grid(plan(source()), out)
    return out


@pytest.fixture
def finished_copy(finished_grid, tmp_path):
    """A copy of the finished grid's folder, to be changed."""
    return shutil.copytree(finished_grid, tmp_path / "copy")


def rows_of(path, ignore=("seconds",)) -> dict[str, dict[str, str]]:
    """Cell -> row of a grid's table, without what a clock says; each cell must be there once."""
    with (path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["cell"] for row in rows}) == len(rows)
    return {row["cell"]: {key: value for key, value in row.items() if key not in ignore} for row in rows}


@pytest.fixture
def results_of():
    """The reader of a grid's table."""
    return rows_of


@pytest.fixture
def folder(tmp_path):
    """A maker of a grid's folder: cells as (dimensions, values, None for a failed one); `planned` ones did not run."""

    def make(cells, planned=(), source=None):
        cells = [*cells, *((chosen, ...) for (chosen,) in planned)]
        named = {"-".join(map(str, chosen.values())): (chosen, values) for chosen, values in cells}
        rows = []
        for name, (chosen, values) in named.items():
            empty = dict.fromkeys(["error", "collapsed", "valid_value", "mechanism", "acted", "idle"], "")
            row = {"cell": name, **chosen, "status": "done", **empty}
            if values is None:
                rows.append(row | {"status": "failed", "error": "ValueError: it_broke & <b>burnt</b> 100 %"})
            elif values is not ...:
                evaluated = {f"{key.rpartition('/')[0]}/mean_predicted": 0.1 for key in values if "/" in key}
                rows.append(row | evaluated | values)
        pd.DataFrame(rows).to_csv(tmp_path / "results.csv", index=False)
        content = {
            "format": 1,
            "dimensions": list(cells[0][0]),
            "cells": {name: chosen for name, (chosen, _) in named.items()},
            "source": source or {},
        }
        (tmp_path / "grid.json").write_text(json.dumps(content))
        return tmp_path

    return make
