"""Both protocols on ml-100k cut into sessions, through PARS: figures as measured elsewhere."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

recbole_package = pytest.importorskip("recbole")

SPLIT = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "full"}
METRICS = ["SessionAUC", "SessionGAUC", "SessionHR", "NDCGWithoutHistory", "auc_padded"]


@pytest.fixture(scope="module")
def ml_sessions(tmp_path_factory) -> Path:
    """The folder of the data set 'ml-sessions': ratings of a user in runs of 15, 5 stars standing for a purchase."""
    source = Path(recbole_package.__file__).parent / "dataset_example" / "ml-100k" / "ml-100k.inter"
    log = pd.read_csv(source, sep="\t")
    log.columns = [name.partition(":")[0] for name in log]
    log = log.sort_values(["user_id", "timestamp"], kind="stable")
    # Events of one second stay in the order of the file.
    log["timestamp"] = log["timestamp"] - log["timestamp"].min()
    log["purchase"] = (log["rating"] == 5).astype(int)
    log["session"] = log.groupby(["user_id", log.groupby("user_id").cumcount() // 15]).ngroup()
    folder = tmp_path_factory.mktemp("ml")
    (folder / "ml-sessions").mkdir()
    written = log[["session", "item_id", "timestamp", "purchase"]]
    written.columns = ["session_id:token", "item_id:token", "timestamp:float", "purchase:float"]
    written.to_csv(folder / "ml-sessions" / "ml-sessions.inter", sep="\t", index=False)
    return folder


@pytest.mark.slow
def test_figures_on_ml_100k_sessions(recbole, ml_sessions) -> None:
    from cvr_plugins.recbole.sequential import PARS, SessionDataset

    run = recbole(
        PARS,
        dataset_class=SessionDataset,
        dataset="ml-sessions",
        data_path=str(ml_sessions),
        eval_args=SPLIT,
        metrics=METRICS,
        valid_metric="SessionAUC",
        topk=[1, 3, 5],
        MAX_ITEM_LIST_LENGTH=50,
        hidden_size=32,
        inner_size=64,
        n_layers=2,
        n_heads=2,
        train_batch_size=256,
        eval_batch_size=1024,
        learning_rate=1e-3,
        epochs=2,
        metric_decimal_place=4,
    )
    run.trainer.fit(run.train, run.valid, saved=False)
    result = run.trainer.evaluate(run.test, load_best_model=False)
    assert 690 <= result["sessions/total"] <= 720
    assert result["random/sessionhr@1"] == pytest.approx(0.313, abs=0.02)
    assert result["random/auc_padded"] == pytest.approx(0.884, abs=0.01)
    assert result["popularity/sessionauc"] == pytest.approx(0.62, abs=0.03)
    assert result["popularity/sessiongauc"] == pytest.approx(0.583, abs=0.02)
    assert 0.5 < result["sessionauc"] < 0.7
    assert result["auc_padded"] > 0.88
    assert result["without_history/left_out"] == 0
