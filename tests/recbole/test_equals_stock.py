"""Our runner on the installed packages comes to the figures of stock RecBole on the older ones, to every digit.

STOCK is what `TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 python tests/recbole/stock/figures.py stock` printed on NumPy 1.26,
SciPy 1.12, pandas 2.3 and torch 2.13 (x86-64, one thread): SHA-256 of the interactions and of the initial weights, and
the metrics of the test part with six decimals. Metrics are sums of many floats, in another order on another processor,
so that they are compared to a hundredth of a percent or two of the last digit there, data and weights exactly.
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
metric                BPR  LightGCN    SASRec  BERT4Rec
recall@10        0.010577  0.044161  0.018519  0.000000
mrr@10           0.112596  0.370855  0.002646  0.000000
ndcg@10          0.040551  0.174954  0.006173  0.000000
hit@10           0.351852  0.759259  0.018519  0.000000
precision@10     0.040741  0.168519  0.001852  0.000000
recall@500       0.409323  0.800346  0.537037  0.444444
mrr@500          0.135726  0.383488  0.007209  0.001535
ndcg@500         0.208882  0.475501  0.078106  0.053879
hit@500          1.000000  1.000000  0.537037  0.444444
precision@500    0.032148  0.061556  0.001074  0.000889
"""
_heads, *_lines = (line.split() for line in RANKED.strip().splitlines())
_metrics = {model: {line[0]: float(line[at]) for line in _lines} for at, model in enumerate(_heads[1:], 1)}
STOCK = {
    "BPR": ("4be3e5fa5e97fb8a", "223a8c0719096fdf", _metrics["BPR"]),
    "LightGCN": ("4be3e5fa5e97fb8a", "6533472b5d844d02", _metrics["LightGCN"]),
    "SASRec": ("4be3e5fa5e97fb8a", "56250e51f2f187df", _metrics["SASRec"]),
    "BERT4Rec": ("4be3e5fa5e97fb8a", "9b3bb94683b867c1", _metrics["BERT4Rec"]),
    "DeepFM": ("2633225c8a84d5db", "7bcf2c49d466b1cb", {"auc": 0.642046, "logloss": 0.669103}),
}


@pytest.fixture(scope="module")
def ours() -> dict:
    """The figures of our runner here, from a process of their own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), "ours"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("model", STOCK)
def test_data_initial_weights_and_metrics_are_stock_recboles(model, ours):
    data, weights, metrics = STOCK[model]
    assert (ours[model]["data"], ours[model]["weights"]) == (data, weights)
    assert ours[model]["test"] == pytest.approx(metrics, rel=1e-4, abs=2e-6)
