"""Made-up browsing sessions in RecBole's atomic format, and a RecBole run of any sequential model on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("recbole")


def write_sessions(folder: Path, name: str = "shop", *, sessions: int = 150, seed: int = 0) -> Path:
    """Write `folder/name/name.inter`: sessions one after the other, items viewed again, odd items bought more often."""
    rng = np.random.default_rng(seed)
    lines, time = ["session_id:token\titem_id:token\ttimestamp:float\tpurchase:float"], 0
    for session in range(sessions):
        length = int(rng.integers(2, 10))
        items = rng.choice(24, length, p=np.arange(1, 25) / 300)
        bought = {int(item) for item in items if rng.random() < (0.35 if item % 2 else 0.05)}
        for item in items:
            time += 1
            lines.append(f"s{session}\ti{item}\t{time}\t{int(int(item) in bought)}")
    place = folder / name
    place.mkdir(parents=True)
    (place / f"{name}.inter").write_text("\n".join(lines) + "\n")
    return place


BASE: dict[str, Any] = {
    "USER_ID_FIELD": "session_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    "PURCHASE_FIELD": "purchase",
    "load_col": {"inter": ["session_id", "item_id", "timestamp", "purchase"]},
    "MAX_ITEM_LIST_LENGTH": 12,
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": None, "mode": "full"},
    "train_neg_sample_args": None,
    "epochs": 1,
    "train_batch_size": 64,
    "eval_batch_size": 32,
    "topk": [1, 3],
    "metrics": ["SessionAUC", "SessionNDCG"],
    "valid_metric": "SessionNDCG@3",
    "show_progress": False,
    "use_gpu": False,
    "hidden_size": 16,
    "inner_size": 16,
    "n_layers": 1,
    "embedding_size": 16,
    "metric_decimal_place": 6,
    "seed": 7,
}


@pytest.fixture(scope="session", autouse=True)
def _known_to_recbole() -> None:
    from cvr_plugins.recbole.compat.binding import register_metrics
    from cvr_plugins.recbole.evaluation import RECBOLE_METRICS

    register_metrics(RECBOLE_METRICS)


@pytest.fixture
def recbole_keys() -> dict[str, Any]:
    """RecBole's keys for the made-up data."""
    return dict(BASE)


@pytest.fixture(scope="session")
def shop_folder(tmp_path_factory) -> Path:
    """The folder that holds the data set 'shop'."""
    folder = tmp_path_factory.mktemp("data")
    write_sessions(folder)
    return folder


@pytest.fixture
def relabelled(shop_folder):
    """Write the data set again under another name, with the purchase of every event, "0" or "1", changed."""

    def write(name: str, change: Callable[[str], str]) -> str:
        head, *lines = (shop_folder / "shop" / "shop.inter").read_text().splitlines()
        (shop_folder / name).mkdir(exist_ok=True)
        text = "\n".join([head, *(line[:-1] + change(line[-1]) for line in lines)])
        (shop_folder / name / f"{name}.inter").write_text(text + "\n")
        return name

    return write


@pytest.fixture
def recbole(assemble, shop_folder, tmp_path):
    """Everything that RecBole makes of a model class on the data set, with the mixin in front of its trainer."""

    def make(model_class: type, *, mixin: bool = True, dataset_class: type | None = None, **changes) -> SimpleNamespace:
        from cvr_plugins.recbole.evaluation import SessionEvaluation

        places = {"dataset": "shop", "data_path": str(shop_folder), "checkpoint_dir": str(tmp_path / "saved")}
        mixins = (SessionEvaluation,) if mixin else ()
        return assemble(model_class, {**places, **BASE, **changes}, *mixins, dataset_class=dataset_class)

    return make


@pytest.fixture
def fitted(recbole):
    """As `recbole`, trained for one epoch without writing anything."""

    def make(model_class: type, **changes) -> SimpleNamespace:
        run = recbole(model_class, **changes)
        run.best_score, run.best_result = run.trainer.fit(run.train, run.valid, saved=False, show_progress=False)
        run.result = run.trainer.evaluate(run.test, load_best_model=False)
        return run

    return make
