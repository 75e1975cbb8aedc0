"""ESCM2-DR, which its papers report as unstable, stays finite over a whole training run on every backbone."""

import math

import pytest

from cvr_plugins.plugins import registry
from cvr_plugins.rechub import run

pytest.importorskip("recbole", reason="the MovieLens files come with recbole, which Python 3.12 and later lack")

BACKBONES = [entry.name for entry in registry().entries("backbone") if entry.plugin == "builtin"]

EPOCHS = 6
"""Some three after the one that an early stop would have kept."""


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_losses_and_predictions_stay_finite_without_early_stopping(backbone, tmp_path):
    result = run(
        {
            "model": "ESCM2_DR",
            "dataset": "ml-100k-funnel",
            "backbone": backbone,
            # Two embeddings are what NCF takes.
            **({"inputs": ["user_id", "item_id"]} if backbone == "ncf" else {}),
            "dims": [64, 32],
            "epochs": EPOCHS,
            "stopping_step": EPOCHS,
            "metrics": ["auc", "log_loss"],
            "valid_metric": "ctcvr/entire/log_loss",
            "show_progress": False,
        },
        folder=tmp_path / "run",
    )
    records = result.history.records
    assert len(records) == EPOCHS
    assert all(math.isfinite(value) for record in records for value in record.losses.values())
    # A loss may be finite and the model ruined: what it learnt in the first epochs must not be lost by the last.
    assert result.report.get("cvr/oracle/auc") > 0.65
    assert records[-1].metrics["ctr/entire/auc"] > 0.55
