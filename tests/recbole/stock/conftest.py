"""RecBole's own quick_start with our names in it, where that can run at all: each script in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

# A third party's model with everything a class may carry, in a module that does not know this package.
WHIM = """
import torch
from recbole.data.dataset import Dataset
from recbole.evaluator.base_metric import TopkMetric
from recbole.model.general_recommender import BPR
from recbole.trainer import Trainer

class ItsDataset(Dataset):
    pass

class ItsTrainer(Trainer):
    def fit(self, *args, **kwargs):
        self.model.trained_by.fill_(1)
        return super().fit(*args, **kwargs)

class Oddness(TopkMetric):
    def calculate_metric(self, dataobject):
        places, _ = self.used_info(dataobject)
        return self.topk_result("oddness", places.cumsum(axis=1))

class Whim(BPR):
    recbole_trainer, recbole_dataset, recbole_metrics = ItsTrainer, ItsDataset, (Oddness,)
    recbole_defaults = {
        "embedding_size": 6, "topk": [2, 5], "metrics": ["Oddness", "Hit"], "valid_metric": "Hit@5",
        "learning_rate": 0.01,
    }

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        assert isinstance(dataset, ItsDataset)
        self.register_buffer("trained_by", torch.zeros(1))
"""

PLUGIN = """
from cvr_plugins import hookimpl

@hookimpl
def cvr_register_recbole_models():
    from whim_models import Whim
    return [Whim]
"""

BRIEF = {
    "epochs": 2,
    "train_batch_size": 256,
    "eval_batch_size": 4096,
    "show_progress": False,
    "state": "ERROR",
    "use_gpu": False,
    "checkpoint_dir": "saved",
}


@pytest.fixture(autouse=True, scope="session")
def _where_stock_recbole_runs():
    pytest.importorskip("recbole")
    from cvr_plugins.recbole.compat import messages

    reasons = messages._reasons()
    if reasons:
        pytest.skip(
            f"RecBole's own quick_start does not run on {', '.join(reasons)}; these tests are for an environment with "
            "'cvr-plugins[stock-recbole]', as .ci/run makes one."
        )


class Place:
    """A folder with data sets, configurations and a third party's plugin, where scripts run."""

    def __init__(self, folder: Path, plugins) -> None:
        self.folder = folder
        plugins(folder).add("acme", PLUGIN)
        folder.joinpath("whim_models.py").write_text(WHIM)
        self._write_shop()

    def _write_shop(self, users: int = 60, items: int = 20, rows: int = 1200) -> None:
        rng = np.random.default_rng(0)
        user, item = rng.integers(0, users, rows), rng.integers(0, items, rows)
        click = (rng.random(rows) < 0.3 + 0.4 * (user % 2)).astype(int)
        conversion = click * (rng.random(rows) < 0.2 + 0.6 * (item % 2))
        cart = np.maximum(conversion, click * (rng.random(rows) < 0.3))
        lines = ["user_id:token\titem_id:token\tclick:float\tconversion:float\tcart:float\ttimestamp:float"]
        lines += [
            f"u{u}\ti{i}\t{c}\t{v}\t{a}\t{t}"
            for t, (u, i, c, v, a) in enumerate(zip(user, item, click, conversion, cart, strict=True))
        ]
        folder = self.folder / "data" / "shop"
        folder.mkdir(parents=True)
        folder.joinpath("shop.inter").write_text("\n".join(lines) + "\n")

    def config(self, name: str, **keys) -> None:
        """Write a configuration file with these keys."""
        self.folder.joinpath(f"{name}.yaml").write_text(yaml.safe_dump({**BRIEF, **keys}))

    def python(self, code: str, *arguments: str, timeout: int = 600, **environment: str) -> subprocess.CompletedProcess:
        """Run a script that may use stock RecBole; `say(**values)` in it prints what `said` reads."""
        script = self.folder / "script.py"
        prelude = (
            "import json, sys, warnings\nwarnings.simplefilter('ignore')\n"
            "def say(**values):\n    print('SAID ' + json.dumps(values, default=str), flush=True)\n"
        )
        script.write_text(prelude + textwrap.dedent(code))
        path = os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        given = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, str(script), *arguments],
            cwd=self.folder,
            env={**os.environ, **given, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def said(self, code: str, *arguments: str, **environment: str) -> SimpleNamespace:
        """Run a script that has to succeed and return what it said."""
        done = self.python(code, *arguments, **environment)
        assert done.returncode == 0, done.stderr[-3000:]
        values = {}
        for line in done.stdout.splitlines():
            if line.startswith("SAID "):
                values.update(json.loads(line[5:]))
        return SimpleNamespace(**values)


@pytest.fixture(scope="session")
def place(tmp_path_factory, new_distributions):
    return Place(tmp_path_factory.mktemp("stock"), new_distributions)


SHOP = {"dataset": "shop", "data_path": "data", "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
MODELS = {
    "Whim": SHOP,
    "PARS": {**SHOP, "hidden_size": 16, "inner_size": 16, "n_layers": 1, "n_heads": 2, "MAX_ITEM_LIST_LENGTH": 10},
    "NISE": {
        "dataset": "shop",
        "data_path": "data",
        "CLICK_FIELD": "click",
        "CONVERSION_FIELD": "conversion",
        "ACTION_FIELD": "cart",
        "load_col": {"inter": ["user_id", "item_id", "click", "conversion", "cart", "timestamp"]},
    },
}


@pytest.fixture(scope="session")
def models():
    """Names and keys of a third party's model, a sequential model of ours and a method."""
    return MODELS
