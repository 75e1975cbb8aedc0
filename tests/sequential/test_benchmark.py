"""The benchmark of a training step runs and prints its table; what it measures is not asserted on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "pars_step.py"


@pytest.mark.slow
def test_the_benchmark_prints_one_table(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("pars_step", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pars_step", script)
    spec.loader.exec_module(script)
    child = script.child

    def mostly_here(task, threads):
        # Its three measurements of memory have a process each there, which does what the one for the times does.
        return script.peak(script.Size(**task["size"]), task["way"], 1) if "way" in task else child(task, threads)

    monkeypatch.setattr(script, "child", mostly_here)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--quick", "--threads", "1"])
    script.main()
    shown = capsys.readouterr().out
    for text in ("quick: 600 x 300", "bucketed, in chunks", "shuffled, in chunks", "bucketed, all at once", "CPU time"):
        assert shown.count(text) == 1
