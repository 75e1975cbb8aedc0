"""Our runner on the installed packages comes to the figures of stock RecBole on the older ones, to every digit.

STOCK is what `TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 python tests/recbole/stock/figures.py stock` printed on NumPy 1.26,
SciPy 1.12, pandas 2.3 and torch 2.13 (x86-64, one thread): SHA-256 of the interactions and of the initial weights, and
the metrics of the test part with six decimals. Metrics are sums of many floats, in another order on another processor,
so that they are compared to a hundredth of a percent there, data and weights exactly.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("recbole")

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "stock" / "figures.py"
RANKED = """
metric               BPR  LightGCN    SASRec  BERT4Rec
recall@10       0.014685  0.136120  0.020134  0.006711
mrr@10          0.049167  0.278984  0.008669  0.001342
ndcg@10         0.019908  0.152088  0.011219  0.002596
hit@10          0.147402  0.603393  0.020134  0.006711
recall@100      0.111197  0.476843  0.228188  0.087248
mrr@100         0.061926  0.292924  0.014966  0.002813
ndcg@100        0.051688  0.257641  0.051008  0.016318
hit@100         0.520679  0.925769  0.228188  0.087248
precision@10    0.017497  0.106257  0.002013  0.000671
precision@100   0.012725  0.045186  0.002282  0.000872
"""
_heads, *_lines = (line.split() for line in RANKED.strip().splitlines())
_metrics = {model: {line[0]: float(line[at]) for line in _lines} for at, model in enumerate(_heads[1:], 1)}
STOCK = {
    "BPR": ("dda600a94330c1f4", "facb8b4067bfc9f0", _metrics["BPR"]),
    "LightGCN": ("dda600a94330c1f4", "6c8e3f66b9757b71", _metrics["LightGCN"]),
    "SASRec": ("4f7dccbe83e1e4d0", "8339692e87e5eb8b", _metrics["SASRec"]),
    "BERT4Rec": ("4f7dccbe83e1e4d0", "a53b84e670a06d41", _metrics["BERT4Rec"]),
    "DeepFM": ("8d4052a30ab48c06", "eb9bb31ce4333503", {"auc": 0.763121, "logloss": 0.576937}),
}


@pytest.fixture(scope="module")
def ours() -> dict:
    """The figures of our runner here, from a process of their own."""
    return figures("ours")


def figures(which: str, python: str = sys.executable, **environment: str) -> dict:
    done = subprocess.run(
        [python, "-W", "ignore", str(SCRIPT), which],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("model", STOCK)
def test_data_initial_weights_and_metrics_are_stock_recboles(model, ours):
    data, weights, metrics = STOCK[model]
    assert (ours[model]["data"], ours[model]["weights"]) == (data, weights)
    assert ours[model]["test"] == pytest.approx(metrics, rel=1e-4, abs=1e-6)
