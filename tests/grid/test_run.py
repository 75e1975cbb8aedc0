"""Running grids: the same results however many at once, failures as rows, and nothing lost by an interruption."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time

import pytest

from cvr_plugins.cli import main  # noqa: F401  the command line imports without the grid's processes
from cvr_plugins.files import TargetError
from cvr_plugins.grid import GridError, GridFolder, plan, run_grid
from cvr_plugins.grid._rows import failed_row

METHODS = """
import os, signal, sys
from cvr_plugins import Method, hookimpl
from cvr_plugins.objectives import Naive

class Dies(Naive):
    def loss(self, out, y):
        os.kill(os.getpid(), signal.SIGKILL)

class Leaves(Naive):
    def loss(self, out, y):
        sys.exit("leaving")

class Raises(Naive):
    def loss(self, out, y):
        raise RuntimeError("first line\\nsecond line")

class Warns(Naive):
    def loss(self, out, y):
        import warnings
        warnings.warn("mind the gap")
        return super().loss(out, y)

@hookimpl
def cvr_register_methods():
    return [Method(cls.__name__, cls) for cls in (Dies, Leaves, Raises, Warns)]
"""


def test_a_run_of_a_grid_is_the_run_of_its_configuration(finished_grid, results_of, tmp_path):
    from cvr_plugins.config import load_yaml, resolve
    from cvr_plugins.rechub.runner import run

    cell = finished_grid / "runs" / "ESMM-2"
    values = load_yaml(cell / "config.yaml")
    result = run(resolve({k: v for k, v in values.items() if v is not None}), folder=tmp_path / "run")
    assert result.report.get("cvr/oracle/auc") == float(results_of(finished_grid)["ESMM-2"]["cvr/oracle/auc"])


def test_what_goes_wrong_in_a_cell_is_its_row_and_the_rest_goes_on(source, results_of, plugin, tmp_path):
    plugin("grid_test", METHODS)
    log, out = tmp_path / "absent.csv", tmp_path / "out"
    models = ["Raises", "Dies", "Leaves", "ESMM", "NISE", "Warns"]
    overrides = [
        {"when": {"model": "ESMM"}, "set": {"dataset": str(log)}},
        {"when": {"model": "NISE"}, "set": {"weighting": "fixed", "train_ctr": False}},
    ]
    seen, notes = [], []
    grid = plan(source(grid={"model": models}, overrides=overrides))
    outcome = run_grid(grid, out, on_row=seen.append, on_note=notes.append)
    assert (outcome.ran, outcome.failed) == (6, 5)
    rows = results_of(out)
    assert {row["cell"] for row in seen} == set(rows) == set(models)
    assert {model for model, row in rows.items() if row["status"] == "done"} == {"Warns"}
    assert rows["Raises"]["error"].endswith("raised RuntimeError: first line second line.")
    assert rows["Leaves"]["error"].endswith("raised SystemExit: leaving.")
    assert rows["Dies"]["error"].startswith("WorkerDied: The process that ran this cell was killed by SIGKILL")
    assert rows["NISE"]["error"].startswith("OptionError: NISE, weighting 'fixed'"), "a combination without sense"
    assert log.name in rows["ESMM"]["error"]
    assert "Traceback" in (out / "errors" / "Raises.txt").read_text()
    assert notes.count("mind the gap") == 1


@pytest.mark.slow
def test_one_process_goes_on_where_two_were_interrupted(finished_grid, source, results_of, tmp_path):
    def interrupt(row) -> None:
        raise KeyboardInterrupt

    grid, out = plan(source()), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_grid(grid, out, jobs=2, on_row=interrupt)
    assert multiprocessing.active_children() == []
    kept = results_of(out)
    assert len(kept) == 1
    failed = grid.cells[-1]
    GridFolder(out, grid.dimensions, kept).add(failed_row(failed, "ValueError", "no", 0.0))
    trace = out / "errors" / f"{failed.name}.txt"
    trace.parent.mkdir()
    trace.touch()
    outcome = run_grid(grid, out, resume=True, retry_failed=True)
    assert (outcome.ran, outcome.failed, outcome.before) == (3, 0, 1)
    assert results_of(out) == results_of(finished_grid)
    assert not trace.exists()


def test_a_worker_that_cannot_start_ends_the_grid(source, tmp_path, monkeypatch):
    from cvr_plugins.grid import _pool

    monkeypatch.setattr(_pool, "work", os._exit)
    with pytest.raises(GridError, match=r"could not start \(ended with exit code 1\)"):
        run_grid(plan(source()), tmp_path / "out")
    assert GridFolder(tmp_path / "out").read() == []


@pytest.mark.slow
def test_workers_do_not_outlive_a_parent_that_is_killed(source, tmp_path):
    """A child process runs a grid of long runs and is killed; its workers must go, too."""
    context = multiprocessing.get_context("spawn")
    out = tmp_path / "out"
    parent = context.Process(target=run_grid, args=(plan(source(epochs=100_000, stopping_step=100_000)), out))
    parent.start()
    import psutil

    workers = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list((out / "unfinished").glob("*")) and len(workers) < 1:
        workers = [p for p in psutil.Process(parent.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        time.sleep(0.1)
    assert workers
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


def test_jobs_must_be_positive(source, tmp_path):
    with pytest.raises(GridError, match="jobs must be a whole number of at least 1"):
        run_grid(plan(source()), tmp_path / "out", jobs=0)
    assert not (tmp_path / "out").exists()


def test_a_data_set_is_not_taken_for_the_table_of_results(source, log_file, tmp_path):
    log = shutil.copyfile(log_file, tmp_path / "results.csv")
    with pytest.raises(TargetError, match="is read"):
        run_grid(plan(source(dataset=str(log))), tmp_path, resume=True)
