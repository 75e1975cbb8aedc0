"""A run on ml-100k-funnel, cut after four epochs: figures in the bands that torch-rechub's whole runs fall in."""

from __future__ import annotations

import pytest
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_trainer, init_seed

from cvr_plugins.recbole.running.config import Config
from cvr_plugins.recbole.running.datasets import atomic_folder

pytestmark = pytest.mark.slow

SETTINGS = {"epochs": 4, "dims": [64, 32], "dropout": 0.2, "use_gpu": False, "show_progress": False}
METRICS = [f"{space}/auc" for space in ("cvr/click", "cvr/entire", "cvr/oracle", "ctr/entire", "ctcvr/entire")]
METRICS.append("cvr/oracle/calibration")
# Lowest and highest AUC on the test part; those of torch-rechub at seed 2020 lie within.
BANDS = {
    "cvr/click": (0.66, 0.71),
    "cvr/oracle": (0.69, 0.77),
    "ctr/entire": (0.62, 0.68),
    "ctcvr/entire": (0.70, 0.76),
}


def test_a_run_ends_where_torch_rechubs_does(tmp_path):
    keys = atomic_folder("ml-100k-funnel", tmp_path).keys
    given = {**keys, **SETTINGS, "metrics": METRICS, "checkpoint_dir": str(tmp_path / "saved")}
    config = Config("ESMM", config_dict=given)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, config.model_class(config, train.dataset))
    score, _ = trainer.fit(train, valid)
    found = trainer.evaluate(test)
    for space, (low, high) in BANDS.items():
        assert low <= found[f"{space}/auc"] <= high, (space, found)
    assert score > 0.66
    # Trained where users click what they like, it predicts too much for all exposures.
    assert 1.1 < found["cvr/oracle/calibration"] < 2.5
