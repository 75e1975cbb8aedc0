"""The benchmark of MaskedRec beside BERT4Rec runs and prints its table; what it measures is not asserted on."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path

import pytest

pytest.importorskip("recbole")

SCRIPT = Path(__file__).parents[3] / "examples" / "benchmarks" / "masked_rec.py"


@pytest.mark.slow
def test_the_benchmark_prints_one_table(elsewhere, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("masked_rec", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    options = "--epochs 1 --seeds 1 --users 8 --every 1 --hidden 8 --length 10"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options.split()])
    with warnings.catch_warnings():
        spec.loader.exec_module(script)
        script.main()
    shown = capsys.readouterr().out
    for text in ("│ BERT4Rec ", "│ MaskedRec ", "│ MaskedRec, one row per user", "s / epoch", "seed 0, epoch 1"):
        assert shown.count(text) == 1
