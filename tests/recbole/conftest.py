"""Throw-away plugins as in tests/plugins, and RecBole's tables put back after each test that binds a model."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location("throw_away_plugins", Path(__file__).parents[1] / "plugins/conftest.py")
_plugins = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_plugins)

distributions = _plugins.distributions

# What takes long to import, and nothing of RecBole's or ours; then each line of its input is a script to run.
FORKING = """
import os, runpy, sys, traceback
import pandas, scipy.sparse, sklearn, torch, torch.utils.tensorboard

for script in map(str.strip, sys.stdin):
    if os.fork() == 0:
        for name, number in (("out", 1), ("err", 2)):
            os.dup2(os.open(f"{script}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.path.insert(0, os.path.dirname(script))
        sys.argv = [script]
        try:
            runpy.run_path(script, run_name="__main__")
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(0)
    os.wait()
    print("ended", flush=True)
"""


@pytest.fixture(scope="session")
def _forking():
    command = [sys.executable, "-c", FORKING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture
def fresh(_forking, tmp_path):
    """Runs code where torch and pandas are imported and nothing of RecBole's or ours; returns what it printed."""

    def run(code: str) -> SimpleNamespace:
        script = tmp_path / "script.py"
        script.write_text(textwrap.dedent(code))
        print(script, file=_forking.stdin, flush=True)
        assert _forking.stdout.readline() == "ended\n"
        shown = (script.with_suffix(f".py.{name}").read_text() for name in ("out", "err"))
        return SimpleNamespace(**dict(zip(("stdout", "stderr"), shown, strict=True)))

    return run


@pytest.fixture
def recbole_as_it_was():
    """RecBole's tables of trainers, datasets and metrics, and the modules found by name, as before the test."""
    import recbole.data.dataset
    import recbole.trainer
    from recbole.evaluator import register

    from cvr_plugins.recbole.compat import binding

    tables = [
        vars(recbole.trainer),
        vars(recbole.data.dataset),
        register.metrics_dict,
        register.metric_information,
        register.metric_types,
        binding._names,
    ]
    before = [dict(table) for table in tables]
    smaller = list(register.smaller_metrics)
    yield
    for table, content in zip(tables, before, strict=True):
        for key in set(table) - set(content):
            del table[key]
        table.update(content)
    register.smaller_metrics[:] = smaller
    for name, module in list(sys.modules.items()):
        if name.startswith("recbole.model.") and not hasattr(module, "__file__"):
            del sys.modules[name]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder and a cache of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def assemble(elsewhere):
    """Make config, data, model and trainer of keys, with RecBole's order and seeds, mixins in front of the trainer."""

    def make(model: Any, keys: dict[str, Any], *mixins: type, dataset_class: type | None = None) -> SimpleNamespace:
        from recbole.data import create_dataset, data_preparation
        from recbole.utils import get_trainer, init_seed

        from cvr_plugins.recbole.running.config import Config

        config = Config(model, config_dict=keys)
        init_seed(config["seed"], config["reproducibility"])
        dataset = dataset_class(config) if dataset_class else create_dataset(config)
        train, valid, test = data_preparation(config, dataset)
        init_seed(config["seed"], config["reproducibility"])
        built = config.model_class(config, train._dataset).to(config["device"])
        base = get_trainer(config["MODEL_TYPE"], config["model"])
        trainer = type(base.__name__, (*(each for each in mixins if not issubclass(base, each)), base), {})
        return SimpleNamespace(
            config=config,
            dataset=dataset,
            train=train,
            valid=valid,
            test=test,
            model=built,
            trainer=trainer(config, built),
        )

    return make


@pytest.fixture(scope="session")
def new_distributions():
    """Distributions in a folder that outlives one test."""
    return _plugins.Distributions


@pytest.fixture(scope="session")
def ratings(tmp_path_factory):
    """A folder `data` with the atomic files of `toy`: 60 users, 40 items, about 900 ratings, 440 facts of a graph."""
    import numpy as np

    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("ratings") / "toy"
    folder.mkdir()
    rows = [
        (user, item, rng.integers(1, 6), 10 * step + user)
        for user in range(60)
        for step, item in enumerate(rng.permutation(40)[: rng.integers(12, 20)])
    ]
    files = {
        "inter": (["user_id:token", "item_id:token", "rating:float", "timestamp:float"], rows),
        "user": (["user_id:token", "age:token"], [(user, f"a{user % 5}") for user in range(60)]),
        "item": (["item_id:token", "class:token_seq"], [(item, f"c{item % 4} c{item % 3}") for item in range(40)]),
        "kg": (
            ["head_id:token", "relation_id:token", "tail_id:token"],
            [(f"e{item}", f"r{item % 3}", f"e{7 * item * step % 50}") for item in range(40) for step in range(1, 12)],
        ),
        "link": (["item_id:token", "entity_id:token"], [(item, f"e{item}") for item in range(40)]),
    }
    for suffix, (head, lines) in files.items():
        text = "\n".join("\t".join(map(str, line)) for line in [head, *lines])
        (folder / f"toy.{suffix}").write_text(text + "\n")
    return folder.parent


@pytest.fixture
def brief(ratings, tmp_path):
    """Keys of a quick run on `ratings`."""
    return {
        "dataset": "toy",
        "data_path": str(ratings),
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "checkpoint_dir": str(tmp_path / "saved"),
        "epochs": 2,
        "train_batch_size": 256,
        "embedding_size": 8,
        "show_progress": False,
    }
