"""Small files of browsing sessions, and everything RecBole makes of them for a model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("recbole")

HEADER = "session_id:token\titem_id:token\ttimestamp:float\tpurchase:float"
OPTIONS: dict[str, Any] = {
    "USER_ID_FIELD": "session_id",
    "load_col": {"inter": ["session_id", "item_id", "timestamp", "purchase"]},
    "MAX_ITEM_LIST_LENGTH": 6,
    "hidden_size": 8,
    "inner_size": 12,
    "n_heads": 2,
    "n_layers": 1,
    "train_batch_size": 8,
    "eval_batch_size": 5,
    "epochs": 2,
    "topk": [1, 3],
    "metrics": ["NDCG", "Hit"],
    "valid_metric": "NDCG@3",
    "show_progress": False,
    "use_gpu": False,
}


def random_events(sessions: int = 40, items: int = 15, *, longest: int = 9, shortest: int = 1, seed: int = 0) -> list:
    """Events (session, item, time, purchase), in order of sessions; times are whole seconds of today, all different."""
    rng = np.random.default_rng(seed)
    events, time = [], 1_700_000_000
    for session in range(sessions):
        viewed = rng.integers(0, items, rng.integers(shortest, longest + 1))
        bought = set(viewed[rng.random(len(viewed)) < 0.2].tolist())
        for item in viewed.tolist():
            time += 1
            events.append((f"s{session}", f"i{item}", time, int(item in bought)))
    return events


@pytest.fixture
def make_events():
    return random_events


@pytest.fixture
def write(tmp_path):
    """Write the file of a data set; return the options that find it."""

    def write(events: list, *, name: str = "shop", header: str = HEADER) -> dict[str, Any]:
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        text = "\n".join([header, *("\t".join(map(str, event)) for event in events)])
        (folder / f"{name}.inter").write_text(text + "\n", encoding="utf-8")
        return {"data_path": str(folder.parent), "dataset": name}

    return write


@pytest.fixture
def recbole(assemble, tmp_path):
    """Everything that RecBole makes of a model's name or class, where the data are found, and options."""

    def make(model: Any, found: dict[str, Any], **options: Any) -> SimpleNamespace:
        return assemble(model, {**OPTIONS, "checkpoint_dir": str(tmp_path / "saved"), **found, **options})

    return make
