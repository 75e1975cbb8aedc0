"""A grid's folder: what is done is done, the table follows the folders, and what does not fit is refused."""

from __future__ import annotations

import json
import os
import shutil

import pandas as pd
import pytest
from filelock import FileLock

from cvr_plugins.grid import GridError, GridFolder, plan
from cvr_plugins.training.manifest import seal
from cvr_plugins.training.run_folder import RunFolderError


def start(path, grid, *, retry_failed=False):
    folder = GridFolder(path)
    with folder.locked(resume=True):
        todo, notes = folder.start(grid, retry_failed=retry_failed)
    return [cell.name for cell in todo], notes, {row["cell"]: row for row in folder.read()}


def fail(path, name, fingerprint):
    """Replace the row of a finished cell by that of a failed one, and remove its run."""
    shutil.rmtree(path / "runs" / name)
    rows = pd.read_csv(path / "results.csv", dtype=str, keep_default_na=False).set_index("cell", drop=False)
    rows.loc[name, ["status", "error", "fingerprint"]] = ["failed", "ValueError: no", fingerprint]
    rows.to_csv(path / "results.csv", index=False)


@pytest.fixture
def grid(source):
    return plan(source())


def test_a_finished_grid_has_nothing_left_to_run_and_its_table_is_made_anew_from_the_run_folders(finished_copy, grid):
    before = (finished_copy / "results.csv").read_bytes()
    todo, notes, rows = start(finished_copy, grid)
    assert (todo, notes) == ([], [])
    assert (finished_copy / "results.csv").read_bytes() == before
    (finished_copy / "results.csv").unlink()
    todo, _, after = start(finished_copy, grid)
    assert (todo, after) == ([], rows)


def test_a_row_without_its_run_folder_is_run_again(finished_copy, grid):
    shutil.rmtree(finished_copy / "runs" / "Naive-2")
    todo, _, rows = start(finished_copy, grid)
    assert todo == ["Naive-2"]
    assert "Naive-2" not in rows


def test_what_a_kill_left_is_cleared_away(finished_copy, grid):
    for name in ("Naive-1", "Naive-3"):
        (finished_copy / "unfinished" / name).mkdir()
    (finished_copy / "unfinished" / "Naive-1" / "cell.json").touch()
    files = [finished_copy / f".abc.{name}" for name in ("results.csv", "grid.json")]
    for file in files:
        file.touch()
    start(finished_copy, grid)
    assert list((finished_copy / "unfinished").iterdir()) == []
    assert not any(file.exists() for file in files)


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.mark.parametrize(("moment", "left"), [("add", []), ("finished", []), (None, ["ESMM-1"])])
def test_a_kill_while_a_run_is_put_away_loses_and_repeats_nothing(finished_copy, grid, monkeypatch, moment, left):
    def kill(*_):
        raise Killed

    _, _, before = start(finished_copy, grid)
    cell, aside = grid.cells[2], finished_copy / "unfinished" / "ESMM-1"
    aside.mkdir()
    os.rename(finished_copy / "runs" / "ESMM-1", aside / "run")
    with monkeypatch.context() as patch:
        patch.setattr(*((GridFolder, moment) if moment else (os, "rename")), kill)
        with pytest.raises(Killed):
            GridFolder(finished_copy).publish(cell, aside)
    todo, _, after = start(finished_copy, grid)
    assert todo == left
    assert after == {name: row for name, row in before.items() if name not in left}


def test_added_cells_are_to_run_and_results_of_cells_taken_out_stay_and_are_counted(finished_copy, source):
    grid = plan(source(grid={"model": ["ESMM", "DCMT"], "seed": [1, 2]}))
    todo, notes, rows = start(finished_copy, grid)
    assert todo == ["DCMT-1", "DCMT-2"]
    assert "2 results" in notes[0]
    assert set(rows) == {"ESMM-1", "ESMM-2", "Naive-1", "Naive-2"}


def test_a_changed_configuration_of_a_finished_cell_is_refused_with_the_difference(finished_copy, source):
    before = (finished_copy / "results.csv").read_bytes()
    with pytest.raises(GridError, match=r"Naive, seed=1 \(and 3 more\): learning_rate: 0.02 -> 0.5\. Name another"):
        start(finished_copy, plan(source(learning_rate=0.5)))
    with pytest.raises(GridError, match=r"ESMM, seed=1 \(and 1 more\): dropout: 0.0 -> 0.1"):
        start(finished_copy, plan(source(overrides=[{"when": {"model": "ESMM"}, "set": {"dropout": 0.1}}])))
    assert (finished_copy / "results.csv").read_bytes() == before


def test_the_same_configuration_said_otherwise_is_the_same(finished_copy, source):
    for same in ({"architecture": "towers"}, {"backbone": "MLP"}, {"show_progress": False}, {"threads": 1}):
        assert start(finished_copy, plan(source(**same)))[0] == []


def test_other_dimensions_are_refused(finished_copy, source):
    grid = plan(source(grid={"model": ["ESMM"], "architecture": ["towers"], "seed": [1]}))
    with pytest.raises(GridError, match="has the dimensions model, seed, this one model, architecture, seed"):
        start(finished_copy, grid)


def test_a_failed_cell_stays_failed_until_it_is_retried_or_its_configuration_changed(finished_copy, grid):
    fail(finished_copy, "ESMM-1", grid.cells[2].fingerprint)
    todo, _, rows = start(finished_copy, grid)
    assert todo == []
    assert rows["ESMM-1"]["error"] == "ValueError: no"
    todo, _, rows = start(finished_copy, grid, retry_failed=True)
    assert todo == ["ESMM-1"]
    assert "ESMM-1" not in rows
    fail(finished_copy, "ESMM-2", "of another configuration")
    assert start(finished_copy, grid)[0] == ["ESMM-1", "ESMM-2"]


def test_a_damaged_run_folder_is_named(finished_copy, grid):
    (finished_copy / "runs" / "ESMM-1" / "metrics.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"ESMM-1.*metrics\.json"):
        start(finished_copy, grid)


def test_runs_may_have_metrics_of_their_own(finished_copy, grid):
    path = finished_copy / "runs" / "ESMM-1" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["values"]["cvr/click/ks"] = 0.25
    path.write_text(json.dumps(metrics))
    seal(path.parent)
    rows = start(finished_copy, grid)[2]
    assert {name: row["cvr/click/ks"] for name, row in rows.items()} == {**dict.fromkeys(rows, ""), "ESMM-1": "0.25"}


def test_a_folder_with_anything_in_it_needs_resume(finished_copy, tmp_path):
    with pytest.raises(GridError, match="is not empty; give --resume"), GridFolder(finished_copy).locked(resume=False):
        pass
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(GridError, match=r"holds no grid but thesis\.tex"), GridFolder(other).locked(resume=True):
        pass
    assert not (other / ".lock").exists()


def test_a_folder_that_cannot_be_made_or_is_in_use_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GridError, match="Cannot use the"), GridFolder(tmp_path / "file" / "x").locked(resume=False):
        pass
    (tmp_path / "out").mkdir()
    used = GridFolder(tmp_path / "out").locked(resume=False)
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(GridError, match="Another grid is at work"), used:
        pass


def test_a_folder_of_another_format_or_of_no_grid_is_refused(finished_copy, tmp_path):
    with pytest.raises(GridError, match="not the folder of a grid"):
        GridFolder(tmp_path).grid()
    content = json.loads((finished_copy / "grid.json").read_text())
    (finished_copy / "grid.json").write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(GridError, match="grid format 99"):
        GridFolder(finished_copy).grid()
    table = GridFolder(finished_copy).table
    table.write_bytes(table.read_bytes() + "Läufe".encode("cp1252"))
    with pytest.raises(GridError, match=r"is not utf-8 text: .*Läufe'. Save it as UTF-8"):
        GridFolder(finished_copy).read()
