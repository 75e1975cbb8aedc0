"""`cvr-plugins grid` and `report` on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from cvr_plugins.cli._group import run


@pytest.fixture
def grid_file(tmp_path):
    """A grid of two cells on a small log; the maker's keywords replace or add keys."""
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 9, 200), rng.integers(0, 9, 200)
    click = rng.integers(0, 2, 200)
    frame = {"user_id": user, "item_id": item, "click": click, "conversion": click * (item % 2)}
    pd.DataFrame(frame).to_csv(tmp_path / "log.csv", index=False)

    def make(**changes):
        cells = {"model": ["ESMM", "Naive"], "seed": [1]}
        base = {"dataset": str(tmp_path / "log.csv"), "dims": [4], "epochs": 1, "grid": cells}
        file = tmp_path / "grid.yaml"
        file.write_text(yaml.safe_dump({**base, **changes}))
        return str(file)

    return make


def test_a_grid_runs_resumes_and_is_reported(grid_file, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert run(["grid", "-c", grid_file(), "-o", out]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 cells: 2 model x 1 seed"
    history = json.loads((tmp_path / "out" / "runs" / "ESMM-1" / "history.json").read_text())
    metrics = json.loads((tmp_path / "out" / "runs" / "ESMM-1" / "metrics.json").read_text())
    assert lines[1].startswith(f"ESMM-1: cvr/click/auc {history['best_value']:.4f} (validation), 1 epochs, ")
    assert history["best_value"] != metrics["values"]["cvr/click/auc"]
    assert lines[-1] == f"Ran 2 cells: {out}/results.csv"

    assert run(["grid", "-c", grid_file(), "-o", out]) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(["grid", "-c", grid_file(), "-o", out, "--resume"]) == 0
    assert "Ran 0 cells, 2 had a result before" in capsys.readouterr().out
    assert run(["grid", "-c", grid_file(), "-o", out, "--resume", "dims=[8]"]) == 2
    assert "dims: [4] -> [8]" in capsys.readouterr().err

    assert run(["report", out, "--metric", "cvr/entire/auc", "--baseline", "Naive", "--digits", "2"]) == 0
    said = capsys.readouterr()
    assert "| model | cvr/entire/auc ↑ | runs |" in said.out
    assert "Difference to Naive" in said.out
    assert said.err == f"Wrote {out}/report.md\n"
    assert run(["report", out, "--choose", "seed", "--metric", "cvr/entire/auc", "-o", str(tmp_path / "chosen")]) == 0
    assert "seed: chosen by each run's value of the watched metric" in capsys.readouterr().out
    assert run(["report", out, "--choose", "model"]) == 2
    assert "Nothing is left to compare: model is chosen for each run." in capsys.readouterr().err
    assert run(["report", out, "--format", "all", "-o", str(tmp_path / "files")]) == 0
    assert sorted(os.listdir(tmp_path / "files")) == ["report.html", "report.md", "report.tex"]


def test_a_dry_run_lists_the_cells_and_writes_nothing(grid_file, tmp_path, capsys):
    file = grid_file(exclude=[{"model": "Naive"}])
    assert run(["grid", "-c", file, "-o", str(tmp_path / "out"), "--dry-run"]) == 0
    assert capsys.readouterr().out == "1 cell: 2 model x 1 seed less 1 excluded\nmodel=ESMM, seed=1\n"
    assert not (tmp_path / "out").exists()


def test_a_failed_cell_is_an_exit_code_and_a_line(grid_file, tmp_path, capsys):
    file = grid_file(dataset=str(tmp_path / "absent.csv"), grid={"model": ["ESMM"]})
    assert run(["grid", "-c", file, "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert "ESMM: FAILED, " in said
    assert f"Ran 1 cell, 1 of them failed (tracebacks in {tmp_path}/out/errors)" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grid", "-c", "nowhere.yaml", "-o", "out"], "no configuration file 'nowhere.yaml'"),
        (["grid", "-o", "out"], "Missing option '-c'"),
        (["grid", "-c", "{file}", "-o", "out", "--retry-failed"], "--retry-failed goes with --resume"),
        (["grid", "-c", "{file}", "-o", "out", "--jobs", "0"], "--jobs"),
        (["grid", "-c", "{file}", "-o", "out", "epocs=3"], "Unknown key 'epocs'. Did you mean epochs?"),
        (["run", "-c", "{file}"], "is a grid of many runs: 'cvr-plugins grid -c "),
        (["report", "nowhere"], "not the folder of a grid"),
        (["report", "nowhere", "--format", "pdf"], "--format"),
    ],
)
def test_wrong_commands_are_one_line_and_code_two(grid_file, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    file = grid_file()
    assert run([each.format(file=file) for each in arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_its_workers_keeps_what_is_finished_and_says_how_to_go_on(number, grid_file, tmp_path):
    import psutil

    endless = {"when": {"model": "Naive"}, "set": {"stopping_step": 1_000_000}}
    file, out = grid_file(epochs=1_000_000, overrides=[endless]), tmp_path / "out"
    running = subprocess.Popen(
        [sys.executable, "-c", "from cvr_plugins.cli import main; main()", "grid", "-c", file, "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert any(line.startswith("ESMM-1: ") for line in running.stdout), "the other run never ends"
    workers = psutil.Process(running.pid).children(recursive=True)
    os.killpg(running.pid, number)  # as a terminal does, and what ends a batch job: to every process
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 1
    assert f"Go on with: cvr-plugins grid -c {file} -o {out} --resume" in errors
    assert "Traceback" not in errors
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert [run.name for run in (out / "runs").iterdir()] == ["ESMM-1"]
    assert [row.split(",")[0] for row in (out / "results.csv").read_text().splitlines()] == ["cell", "ESMM-1"]
