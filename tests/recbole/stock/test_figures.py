"""Stock RecBole and our runner side by side in one environment: equal data, initial weights and metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.stock_recbole, pytest.mark.slow]


def python(*arguments: object, folder: Path) -> list[str]:
    """Return the lines that a process prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_they_agree_to_the_last_digit(tmp_path):
    script = Path(__file__).with_name("figures.py")
    ours, stock = (json.loads("".join(python(script, which, folder=tmp_path))) for which in ("ours", "stock"))
    assert set(stock) == {"BPR", "LightGCN", "SASRec", "BERT4Rec", "DeepFM"}
    assert ours == stock


OURS = """
import sys, json
from cvr_plugins.recbole import run
from cvr_plugins.cli._group import run as command
keys = {"epochs": 1, "show_progress": False, "embedding_size": 8, "user_inter_num_interval": "[300,inf)"}
for model in ("BPR", "LightGCN"):
    result = run(model, "ml-100k", config_dict=keys, out=model)
    assert command(["weights", model, f"{model}.pt"]) == 0
    print(json.dumps({key: float(value) for key, value in result.test_result.items()}))
"""
STOCK = """
import sys, json, torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
keys = {"embedding_size": 8, "show_progress": False, "user_inter_num_interval": "[300,inf)"}
for name in ("BPR", "LightGCN"):
    config = Config(name, "ml-100k", config_dict=keys)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    model = get_model(name)(config, train._dataset).to(config["device"])
    model.load_state_dict(torch.load(f"{name}.pt", weights_only=True))
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    trainer.eval_collector.data_collect(train)
    found = trainer.evaluate(test, load_best_model=False)
    print(json.dumps({key: float(value) for key, value in found.items()}))
assert "cvr_plugins" not in sys.modules
"""


def test_the_weights_of_a_run_of_ours_fit_recboles_model_and_predict_the_same(tmp_path):
    expected = [line for line in python("-c", OURS, folder=tmp_path) if line.startswith("{")]
    assert len(expected) == 2
    assert python("-c", STOCK, folder=tmp_path) == expected
