"""A grid that is killed loses nothing and repeats nothing when it is resumed."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import yaml

from cvr_plugins.grid import plan, run_grid

COMMAND = [sys.executable, "-c", "from cvr_plugins.cli import main; main()", "grid"]


def made(path) -> dict[str, int]:
    """When each finished run was written."""
    return {run.name: (run / "run.json").stat().st_mtime_ns for run in (path / "runs").glob("*")}


@pytest.mark.slow
def test_a_kill_as_soon_as_a_run_is_finished(finished_grid, source, results_of, tmp_path):
    file, out = tmp_path / "grid.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(source()))
    running = subprocess.Popen([*COMMAND, "-c", str(file), "-o", str(out), "--jobs", "2"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not made(out) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    running.kill()
    assert running.wait() == -9
    kept = made(out)
    assert kept
    assert run_grid(plan(source()), out, resume=True).failed == 0
    done = made(out)
    assert {name: done[name] for name in kept} == kept
    assert results_of(out) == results_of(finished_grid)
    assert list((out / "unfinished").iterdir()) == []
