"""What a PARS run takes in memory at YooChoose's size, from the file to a training step, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads the peak of the resident set from /proc"
)

SESSIONS, ITEMS, EVENTS = 417_370, 39_299, 15
# What grows with the sessions is measured on a part of them.
PART = 10

STEP = """
import json, sys
import torch
torch.set_num_threads(1)
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_trainer
from cvr_plugins.recbole.running.config import Config

def mib(name="VmHWM"):
    # Not ru_maxrss: that one remembers the process that this one was forked from.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024

peaks = {"imported": mib()}
config = Config("PARS", "big", config_dict={
    "data_path": sys.argv[1], "checkpoint_dir": sys.argv[1], "USER_ID_FIELD": "session_id", "use_gpu": False,
    "load_col": {"inter": ["session_id", "item_id", "timestamp", "purchase"]},
})
assert (config["hidden_size"], config["train_batch_size"]) == (256, 256)
dataset = create_dataset(config)
peaks["read"] = mib()
train, valid, test = data_preparation(config, dataset)
peaks["split"] = mib()
parts = [len(part._dataset) for part in (train, valid, test)]
model = config.model_class(config, train._dataset)
peaks["model"] = mib()
trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
batch = next(iter(train))
loss = sum(model.calculate_loss(batch))
loss.backward()
torch.nn.utils.clip_grad_norm_(model.parameters(), **config["clip_grad_norm"])
trainer.optimizer.step()
peaks["step"] = mib()
assert torch.isfinite(loss)
print(json.dumps(dict(peaks=peaks, parts=parts, items=model.n_items, store=model.core.labels.nbytes / 2**20)))
"""


def write(path: Path, sessions: int) -> None:
    random = np.random.default_rng(0)
    item = random.integers(1, ITEMS + 1, sessions * EVENTS)
    item[:ITEMS] = np.arange(1, ITEMS + 1)
    columns = {
        "session_id:token": np.arange(sessions).repeat(EVENTS),
        "item_id:token": item,
        "timestamp:float": 1_400_000_000 + np.arange(sessions * EVENTS),
        "purchase:float": (random.random(sessions * EVENTS) < 0.05).astype(np.int8),
    }
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False)


@pytest.mark.slow
def test_yoochoose_is_read_and_trained_a_step_within_four_gigabytes(tmp_path):
    (tmp_path / "big").mkdir()
    write(tmp_path / "big" / "big.inter", SESSIONS // PART)
    command = [sys.executable, "-W", "ignore", "-c", STEP, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert sum(found["parts"]) == SESSIONS // PART
    assert found["items"] == ITEMS + 1
    assert PART * found["store"] * 2**20 < 100e6
    peaks = found["peaks"]
    grows, stays = peaks["model"] - peaks["imported"], peaks["step"] - peaks["model"]
    assert (peaks["imported"] + PART * grows + stays) * 2**20 < 4e9, peaks
