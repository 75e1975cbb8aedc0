"""What every test runs under, and a small funnel log of every kind of column with a finished run on it."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# Before anything imports torch: on a shared machine its threads spend their time waiting for each other, and the
# workers of pytest-xdist multiply them. Subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

BIG = 2**60


def _shop_frame(rows: int, seed: int) -> Any:
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 30, rows), rng.integers(0, 20, rows)
    click = (rng.random(rows) < 0.25 + 0.4 * (user % 2)).astype(int)
    would = (rng.random(rows) < 0.2 + 0.6 * (item % 2)).astype(int)
    words = np.array(["tea", "mug", "pot", "tin"], dtype=object)
    return pd.DataFrame(
        {
            "user_id": [f"{u:03d}" for u in user],
            "item_id": BIG + item,
            "price": np.round(item / 7 + rng.normal(size=rows) / 10, 3),
            "tags": [list(words[: 1 + i % 4]) for i in item],
            "hour": pd.array(np.where(rng.random(rows) < 0.1, None, rng.integers(0, 24, rows)), dtype="Int64"),
            "note": [None if n % 5 == 0 else f"note {n}, {'x' * (n % 3)}" for n in range(rows)],
            "click": click,
            "conversion": click * would,
            "cart": click * (would | (rng.random(rows) < 0.3)),
            "when": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 10**6, rows), unit="s"),
            "truth": would,
        }
    )


@pytest.fixture(scope="session")
def shop_frame():
    """A maker of exposures (rows, seed); ids as text with leading zeros and beyond 2^53, gaps, lists, dates."""
    return _shop_frame


@pytest.fixture(scope="session")
def shop(tmp_path_factory) -> SimpleNamespace:
    """600 exposures as a Parquet file, the configuration of a quick run on it, and the lines of it as a YAML file."""
    import yaml

    folder = tmp_path_factory.mktemp("shop")
    path = folder / "shop.parquet"
    _shop_frame(600, 0).to_parquet(path, index=False)
    config = {
        "model": "ESMM",
        "dataset": str(path),
        "ACTION_FIELD": "cart",
        "TIME_FIELD": "when",
        "COUNTERFACTUAL_FIELD": "truth",
        "user_features": ["hour"],
        "item_features": ["price", "tags"],
        "drop_columns": ["note"],
        "dims": [4],
        "embedding_size": 4,
        "train_batch_size": 64,
        "eval_batch_size": 100,
        "epochs": 2,
        "allow_unready": True,
        "learning_rate": 0.02,
        "metrics": ["auc", "gauc", "log_loss"],
        "show_progress": False,
        "checkpoint_dir": str(folder / "runs"),
    }
    file = folder / "shop.yaml"
    file.write_text(yaml.safe_dump(config))
    return SimpleNamespace(path=path, config=config, file=file)


@pytest.fixture(scope="session")
def shop_run(shop, tmp_path_factory) -> Path:
    """The folder of a finished run on the shop log; to be read, not changed."""
    from cvr_plugins.rechub import run

    return run(shop.config, folder=tmp_path_factory.mktemp("finished") / "run").folder


@pytest.fixture(scope="session")
def _environments():
    """The module that makes virtual environments."""
    return runpy.run_path(str(Path(__file__).resolve().parents[1] / "examples" / "plugin_environment.py"))


@pytest.fixture(scope="session")
def workshop(_environments):
    """The process that the programs of virtual environments run in."""
    opened = _environments["Workshop"]()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def plugin_environment(_environments, workshop, tmp_path_factory) -> Any:
    """A throw-away virtual environment to install plugins into."""
    return _environments["PluginEnvironment"](tmp_path_factory.mktemp("environment") / "venv", workshop)


@pytest.fixture
def plugin(tmp_path_factory, monkeypatch):
    """A maker of installed plugins, name -> source of its module; forgotten after the test."""
    from cvr_plugins import plugins

    monkeypatch.delenv("CVR_PLUGINS_LOAD", raising=False)
    installed = []

    def make(name: str, source: str) -> None:
        folder = tmp_path_factory.mktemp(name)
        (folder / f"{name}_module.py").write_text(source)
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[cvr_plugins]\n{name} = {name}_module\n")
        monkeypatch.syspath_prepend(folder)
        installed.append(f"{name}_module")
        plugins.reset()

    yield make
    plugins.reset()
    for module in installed:
        sys.modules.pop(module, None)
