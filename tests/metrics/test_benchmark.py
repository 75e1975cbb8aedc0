"""The benchmark runs and prints its table; what it measures is not asserted on."""

from __future__ import annotations

import runpy
from pathlib import Path

from click.testing import CliRunner

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "metrics.py"


def test_the_benchmark_prints_one_table() -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    done = CliRunner().invoke(main, ["--rows", "2000", "--sample", "500", "--repeats", "1"], catch_exceptions=False)
    for text in ("auc, scikit-learn", "ks, scikit-learn", "gauc, pandas groupby", "2,000", "500", "1 thread", "ratio"):
        assert text in done.output
