"""Metrics of sessions chosen in a YAML file by RecBole's own keys, through our runner, and of a run taken up again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

pytest.importorskip("recbole")

from cvr_plugins.metrics import SESSION_BASELINES
from cvr_plugins.recbole import load_data_and_model, run
from cvr_plugins.recbole.evaluation import as_table
from cvr_plugins.recbole.running.training import trainer_class

METRICS = ["NDCG", "NDCGWithoutHistory", "SessionAUC", "SessionNDCG", "auc_padded"]


@pytest.fixture
def settings(recbole_keys, shop_folder, tmp_path, monkeypatch) -> Path:
    """A YAML file as a user writes one."""
    monkeypatch.chdir(tmp_path)
    keys = {
        **recbole_keys,
        "data_path": str(shop_folder),
        "dataset": "shop",
        "checkpoint_dir": str(tmp_path / "saved"),
        "metrics": METRICS,
        "valid_metric": "SessionNDCG@3",
    }
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(keys))
    return file


def test_a_yaml_file_chooses_metrics_and_a_loaded_checkpoint_is_evaluated_alike(settings, tmp_path) -> None:
    found = run("BERT4Rec", config_file_list=[settings], out=tmp_path / "run")
    assert found.best_valid_score == found.best_valid_result["sessionndcg@3"]
    table = as_table(found.test_result)
    assert list(table) == ["model", *SESSION_BASELINES]
    assert {"sessionauc", "sessionndcg@1", "ndcg@3", "ndcgwithouthistory@3", "auc_padded"} <= set(table["model"])
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())["values"]
    for key, value in found.test_result.items():
        if "session" in key or "auc_padded" in key:
            assert written[key] == value, key
    config, model, _, train, _, test = load_data_and_model(tmp_path / "run")
    trainer = trainer_class(config)(config, model)
    trainer.eval_collector.data_collect(train)
    again = trainer.evaluate(test, load_best_model=False)
    assert again == pytest.approx(dict(found.test_result), abs=1e-6)
