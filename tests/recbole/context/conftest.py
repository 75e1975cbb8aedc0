"""A small funnel log of every RecBole field type as atomic files, and methods prepared on it as RecBole would."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("recbole")

from recbole.data import create_dataset, data_preparation
from recbole.utils import get_trainer, init_seed

from cvr_plugins import plugins
from cvr_plugins.recbole.running.config import Config

ROWS = 900
NAME = "shop"


@pytest.fixture(autouse=True)
def _quiet(tmp_path, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    # RecBole writes its TensorBoard files below the working directory, in threads that outlive the test.
    monkeypatch.setattr("recbole.trainer.trainer.get_tensorboard", lambda _: SummaryWriter(str(tmp_path / "board")))
    monkeypatch.chdir(tmp_path)
    # About RecBole's use of pandas.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield


class Shop:
    """Columns of the files; `write` writes them, `columns[suffix]["field:type"]` are texts."""

    def __init__(self, rows: int = ROWS, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        users, items = 40, 25
        user, item = rng.integers(0, users, rows), rng.integers(0, items, rows)
        click = (rng.random(rows) < 0.3 + 0.4 * (user % 2)).astype(int)
        would = (rng.random(rows) < 0.2 + 0.6 * (item % 2)).astype(int)
        cart = click * (would | (rng.random(rows) < 0.3))
        wish = click * (rng.random(rows) < 0.2)
        self.would, self.click = would, click

        def words(most: int, prefix: str) -> str:
            return " ".join(f"{prefix}{n}" for n in rng.integers(0, 9, rng.integers(0, most + 1)))

        self.columns = {
            "inter": {
                "user_id:token": [f"u{u:03d}" for u in user],
                "item_id:token": [f"i{i}" for i in item],
                "hour:token": [str(h) if h < 22 else "" for h in rng.integers(0, 24, rows)],
                "price:float": [f"{v:.3f}" for v in rng.normal(size=rows)],
                "click:float": click,
                "conversion:float": click * would,
                "cart:float": cart,
                "wish:float": wish,
                "timestamp:float": rng.integers(0, 10**6, rows),
                "truth:float": would,
            },
            "user": {
                "user_id:token": [f"u{u:03d}" for u in range(users)],
                "age:token": [str(a) for a in rng.integers(1, 7, users)],
                "tags:token_seq": [words(4, "t") for _ in range(users)],
                "activity:float": [f"{v:.3f}" for v in rng.gamma(2.0, size=users)],
            },
            "item": {
                "item_id:token": [f"i{i}" for i in range(items)],
                "type:token": [f"b{b}" for b in rng.integers(0, 5, items)],
                "vector:float_seq": [" ".join(f"{v:.3f}" for v in rng.normal(size=3)) for _ in range(items)],
            },
        }

    def write(self, folder: Path) -> None:
        place = folder / NAME
        place.mkdir(parents=True, exist_ok=True)
        for suffix, columns in self.columns.items():
            lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
            (place / f"{NAME}.{suffix}").write_text("\n".join(lines) + "\n")


KEYS = {
    "dataset": NAME,
    "ACTION_FIELD": ["cart", "wish"],
    "COUNTERFACTUAL_FIELD": "truth",
    "dims": [8],
    "embedding_size": 4,
    "train_batch_size": 64,
    "eval_batch_size": 100,
    "epochs": 2,
    "allow_unready": True,
    "learning_rate": 0.02,
    "use_gpu": False,
    "show_progress": False,
}


@pytest.fixture
def shop():
    """A maker of the log."""
    return Shop


@pytest.fixture
def configure(tmp_path):
    """A maker of RecBole configurations on the log, which is written first."""

    def make(model, *, log=None, **keys):
        (log or Shop()).write(tmp_path / "data")
        given = {**KEYS, "data_path": str(tmp_path / "data"), "checkpoint_dir": str(tmp_path / "saved"), **keys}
        return Config(model, config_dict={key: value for key, value in given.items() if value is not Ellipsis})

    return make


@pytest.fixture
def prepare(configure):
    """A maker of what RecBole's run_recbole makes: config, data set, loaders, model, trainer. `...` takes a key out."""

    def make(model, *, on=None, **keys):
        config = configure(model, **keys)
        if on is not None:
            config["device"] = on
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        train, valid, test = data_preparation(config, dataset)
        init_seed(config["seed"], config["reproducibility"])
        made = config.model_class(config, train.dataset)
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, made)
        return SimpleNamespace(
            config=config, dataset=dataset, train=train, valid=valid, test=test, model=made, trainer=trainer
        )

    return make


@pytest.fixture
def plugin(distributions, recbole_as_it_was):
    """Installs a throw-away plugin, a module of this source, and has it found; returns the folder it is in."""

    def install(name, source):
        distributions.add(name, source)
        importlib.invalidate_caches()
        plugins.reset()
        return distributions.folder

    return install


@pytest.fixture
def spied():
    """Collects the loss terms of every call of an objective's loss, as numbers."""

    def spy(objective):
        seen = []
        loss = objective.loss

        def spying(out, y):
            terms = loss(out, y)
            seen.append({name: term.item() for name, term in terms.items()})
            return terms

        objective.loss = spying
        return seen

    return spy


@pytest.fixture
def batch():
    """All rows of a loader as one Interaction."""
    from recbole.data.interaction import cat_interactions

    def read(loader):
        return cat_interactions([each[0] if isinstance(each, tuple) else each for each in loader])

    return read


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
