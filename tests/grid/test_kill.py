"""A grid that is killed at any moment loses nothing and repeats nothing when it is resumed."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import pytest
import yaml

COMMAND = [sys.executable, "-c", "from cvr_plugins.cli import main; main()", "grid"]


def made(path) -> dict[str, int]:
    """When each finished run was written."""
    return {run.name: (run / "run.json").stat().st_mtime_ns for run in (path / "runs").glob("*")}


@pytest.mark.slow
def test_kills_at_random_moments(finished_grid, source, results_of, tmp_path):
    file, out = tmp_path / "grid.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(source()))
    rng = random.Random(7)
    kept: dict[str, int] = {}
    for attempt in range(3):
        last = attempt == 2
        running = subprocess.Popen(
            [*COMMAND, "-c", str(file), "-o", str(out), "--resume", "--jobs", "2"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        # Every other kill comes soon after a run was finished, the others at any moment.
        deadline = time.monotonic() + 60
        while (
            not attempt % 2 and running.poll() is None and time.monotonic() < deadline and len(made(out)) == len(kept)
        ):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 5) if attempt % 2 else rng.uniform(0, 0.1))
        if not last:
            running.kill()
        _, errors = running.communicate()
        done = made(out)
        assert {name: done[name] for name in kept} == kept
        kept = done
        assert running.returncode == 0 if last else running.returncode in (0, -9), errors.decode()
    assert results_of(out) == results_of(finished_grid)
    assert list((out / "unfinished").iterdir()) == []
