"""Runs that are killed, started at once, damaged, and that meet a full disk, a few of each kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "faults.py"
FEW = {"kills": ["--kills=5"], "full": ["--full=2"], "starts": ["--starts=2", "--rounds=1"], "flips": ["--flips=20"]}


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="of Linux: forks of a process that has threads, full disks")
def test_nothing_is_lost_silently_wrong_or_untold():
    arguments = [argument for kind, few in FEW.items() for argument in (f"--only={kind}", *few)]
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for row in ("kill -9", "2 starts at once, no --out", "flip of a bit"):
        assert f"| {row} | `" in done.stdout
    sides = {"torch-rechub": "training.pt", "RecBole, BPR": "checkpoint.last.pth"}
    assert all(f"`{file}` of `run`, {side}, cut off" in done.stdout for side, file in sides.items())
