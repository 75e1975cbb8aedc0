"""The walk to the first batch is measured and ends there; how long it is is not asserted on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "walk.py"


def test_the_script_prints_a_table_of_the_walks_asked_for():
    command = [sys.executable, str(SCRIPT), "--only", "log.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    (row,) = [line for line in done.stdout.splitlines() if "log.csv`" in line and line.startswith("|")]
    files, changes, calls, opened, schemas = (int(each.replace(",", "")) for each in re.findall(r" ([\d,]+) ", row))
    assert 0 < files <= changes < calls
    assert (opened > 0, schemas) == (True, 1)
