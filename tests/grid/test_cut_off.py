"""A cell that was cut off goes on where it was, or says why it begins anew; what comes of it is the same."""

from __future__ import annotations

import os
import shutil
import time

import pandas as pd
import pytest

from cvr_plugins.grid import GridFolder, _pool, _run, plan, run_grid
from cvr_plugins.training.loop import EpochSums

BATCHES = 5
"""Of an epoch of the small log."""

OTHER = ("seconds", "fingerprint")
"""What a clock and the path of the log say."""


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.fixture
def batches(monkeypatch):
    """Cells run in this process, which is killed in the batch of that number (None: never); count the batches."""

    def answers(tasks, _):
        for task in tasks:
            remarks = []
            _pool._run(task, {}, remarks, time.perf_counter())
            yield task, _pool.Reply(0.0, tuple(remarks))

    monkeypatch.setattr(_run, "answers", answers)
    seen = {"killed": None, "count": 0}
    add = EpochSums.add

    def counted(*arguments):
        if seen["count"] == seen["killed"]:
            raise Killed
        seen["count"] += 1
        return add(*arguments)

    monkeypatch.setattr(EpochSums, "add", counted)
    return seen


@pytest.fixture
def cut_off(batches, source, log_file, tmp_path):
    """A grid of one cell in `out`, killed in the middle of its second epoch: its source, with a log of its own."""
    given = source(dataset=str(shutil.copy(log_file, tmp_path / "log.csv")), grid={"model": ["ESMM"], "seed": [2]})
    batches["killed"] = BATCHES + 2
    with pytest.raises(Killed):
        run_grid(plan(given), tmp_path / "out")
    batches.update(killed=None, count=0)
    return given


def gone_on(given, out):
    """Resume the grid in `out`; return its row and the notes."""
    notes = []
    run_grid(plan(given), out, resume=True, on_note=notes.append)
    assert list((out / "unfinished").iterdir()) == []
    (row,) = GridFolder(out).read()
    return row, notes


def test_it_goes_on_from_its_last_epoch_and_its_seconds_add_up(cut_off, batches, finished_grid, results_of, tmp_path):
    kept = tmp_path / "out" / "unfinished" / "ESMM-2" / "run.unfinished" / "training.pt"
    os.utime(kept, (kept.stat().st_mtime + 1000,) * 2)
    row, notes = gone_on(cut_off, tmp_path / "out")
    assert (batches["count"], notes) == (BATCHES, [])
    assert results_of(tmp_path / "out", OTHER)["ESMM-2"] == results_of(finished_grid, OTHER)["ESMM-2"]
    assert 1000 < float(row["seconds"]) < 1100


def test_one_that_was_finished_and_not_yet_put_away_is_not_trained_again(cut_off, batches, tmp_path, monkeypatch):
    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(GridFolder, "publish", kill)
        with pytest.raises(Killed):
            run_grid(plan(cut_off), tmp_path / "out", resume=True)
    batches["count"] = 0
    row, notes = gone_on(cut_off, tmp_path / "out")
    assert (batches["count"], row["status"], notes) == (0, "done", [])


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("checkpoint", "training.pt is not a checkpoint"),
        ("data", "of a training with another data"),
        ("configuration", "Its configuration changed: learning_rate: 0.02 -> 0.05."),
        ("what it is", "cell.json cannot be read"),
    ],
)
def test_where_it_cannot_go_on_it_begins_anew_and_says_so(what, why, cut_off, batches, results_of, tmp_path):
    place = tmp_path / "out" / "unfinished" / "ESMM-2"
    if what == "data":
        pd.read_csv(cut_off["dataset"]).iloc[:-40].to_csv(cut_off["dataset"], index=False)
    elif what == "configuration":
        cut_off["learning_rate"] = 0.05
    else:
        (place / ("cell.json" if what == "what it is" else "run.unfinished/training.pt")).write_text("{")
    _, (note,) = gone_on(cut_off, tmp_path / "out")
    assert note.startswith("ESMM-2 was cut off and begins anew: ")
    assert why in note
    assert batches["count"] > BATCHES
    run_grid(plan(cut_off), tmp_path / "fresh")
    assert results_of(tmp_path / "out", OTHER) == results_of(tmp_path / "fresh", OTHER)
