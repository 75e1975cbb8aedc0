"""Stock RecBole and our runner side by side in one environment: equal data, initial weights and metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.stock_recbole, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("figures.py")


@pytest.fixture(scope="module")
def both() -> dict:
    """The figures of `stock` and `ours`, each from a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    running = {
        which: subprocess.Popen(
            [sys.executable, "-W", "ignore", str(SCRIPT), which],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for which in ("stock", "ours")
    }
    found = {}
    for which, process in running.items():
        out, error = process.communicate()
        assert process.returncode == 0, error
        found[which] = json.loads(out)
    return found


def test_they_agree_to_the_last_digit(both):
    assert set(both["stock"]) == {"BPR", "LightGCN", "SASRec", "BERT4Rec", "DeepFM"}
    assert both["ours"] == both["stock"]


def test_the_weights_of_a_run_of_ours_fit_recboles_model_and_predict_the_same(tmp_path):
    ours = (
        "import sys, json\n"
        "from cvr_plugins.recbole import run\n"
        "from cvr_plugins.cli._group import run as command\n"
        "keys = {'epochs': 1, 'show_progress': False, 'embedding_size': 8}\n"
        "result = run(sys.argv[1], 'ml-100k', config_dict=keys, out=sys.argv[1])\n"
        "assert command(['weights', sys.argv[1], sys.argv[1] + '.pt']) == 0\n"
        "print(json.dumps({k: float(v) for k, v in result.test_result.items()}))\n"
    )
    stock = (
        "import sys, json, torch\n"
        "name, sys.argv = sys.argv[1], sys.argv[:1]\n"
        "from recbole.config import Config\n"
        "from recbole.data import create_dataset, data_preparation\n"
        "from recbole.utils import get_model, get_trainer, init_seed\n"
        "config = Config(name, 'ml-100k', config_dict={'embedding_size': 8, 'show_progress': False})\n"
        "init_seed(config['seed'], config['reproducibility'])\n"
        "train, valid, test = data_preparation(config, create_dataset(config))\n"
        "model = get_model(name)(config, train._dataset).to(config['device'])\n"
        "model.load_state_dict(torch.load(name + '.pt', weights_only=True))\n"
        "trainer = get_trainer(config['MODEL_TYPE'], name)(config, model)\n"
        "trainer.eval_collector.data_collect(train)\n"
        "found = trainer.evaluate(test, load_best_model=False)\n"
        "print('cvr_plugins' in sys.modules, json.dumps({k: float(v) for k, v in found.items()}), sep='|')\n"
    )
    options = {"capture_output": True, "text": True, "check": True, "cwd": tmp_path}
    for model in ("BPR", "LightGCN"):
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", ours, model], **options)
        expected = json.loads(done.stdout.splitlines()[-1])
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", stock, model], **options)
        imported, _, found = done.stdout.splitlines()[-1].partition("|")
        assert imported == "False"
        assert json.loads(found) == expected
