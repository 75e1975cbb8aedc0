"""The walk to the first batch is measured and ends there; how long it is is not asserted on."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "walk.py"


def test_the_script_prints_a_table_of_the_walks_asked_for(monkeypatch, capsys):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.chdir(SCRIPT.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", "of the script's own")
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, "--only", "log.csv"])
    runpy.run_path(str(SCRIPT))["main"]()
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "log.csv`" in line and line.startswith("|")]
    files, changes, calls, opened, schemas = (int(each.replace(",", "")) for each in re.findall(r" ([\d,]+) ", row))
    assert 0 < files <= changes < calls
    assert (opened > 0, schemas) == (True, 1)
