"""Small logs made by hand, and what it means for two logs to be equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cvr_plugins.data import Feature, FunnelLog, Schema


@pytest.fixture
def schema() -> Schema:
    return Schema(
        user="user_id",
        item="item_id",
        click="click",
        conversion="conversion",
        action="cart",
        timestamp="timestamp",
        counterfactual="would_convert",
        propensity="propensity",
        part="part",
        features=(
            Feature("gender", "token", "user"),
            Feature("history", "token_seq", "user"),
            Feature("price", "float", "item"),
            Feature("genres", "token_seq", "item"),
            Feature("hour", "token", "context"),
        ),
    )


@pytest.fixture
def frame() -> pd.DataFrame:
    """Six exposures of three users and two items, every kind of column, nothing wrong with them."""
    return pd.DataFrame(
        {
            "user_id": [196, 196, 7, 7, 3, 3],
            "item_id": ["a", "b", "a", "b", "a", "b"],
            "gender": ["F", "F", "M", "M", "M", "M"],
            "history": [["a"], ["a"], [], [], ["b", "a", "c"], ["b", "a", "c"]],
            "price": [1.5, 0.1, 1.5, 0.1, 1.5, 0.1],
            "genres": ["Sci-Fi", "Children's Comedy", "Sci-Fi", "Children's Comedy", "Sci-Fi", "Children's Comedy"],
            "hour": [0, 1, 2, 3, 4, 5],
            "click": [1, 0, 1, 0, 1, 1],
            "conversion": [1, 0, 0, 0, 0, 1],
            "cart": [1, 0, 1, 0, 0, 1],
            "timestamp": [10.0, 20.0, 30.5, 40.0, 50.0, 60.0],
            "would_convert": [1, 1, 0, 0, 0, 1],
            "propensity": [0.5, 0.1, 1.0, 0.3, 0.7, 0.25],
            "part": ["train", "valid", "test", "train", "train", "test"],
        }
    )


@pytest.fixture
def log(frame: pd.DataFrame, schema: Schema) -> FunnelLog:
    return FunnelLog.from_frame(frame, schema, name="shop")


@pytest.fixture
def two_actions(frame: pd.DataFrame, schema: Schema) -> FunnelLog:
    """The log with a second action column, an action where the first has none, too."""
    frame = frame.assign(wish_list=[0, 0, 1, 0, 1, 0])
    return FunnelLog.from_frame(frame, replace(schema, action=("cart", "wish_list")), name="shop")


@pytest.fixture
def many() -> FunnelLog:
    """2,000 exposures of 100 users with repeated timestamps."""
    random = np.random.default_rng(5)
    n = 2000
    click = random.random(n) < 0.3
    columns = {name: random.integers(0, most, n) for name, most in (("u", 100), ("i", 40), ("t", 300))}
    frame = pd.DataFrame({**columns, "click": click.astype(int), "buy": (click & (random.random(n) < 0.4)).astype(int)})
    return FunnelLog.from_frame(frame, Schema("u", "i", "click", "buy", timestamp="t"), name="many")


def _plain(log: FunnelLog) -> dict[str, list[object]]:
    made: dict[str, list[object]] = {}
    for column in log.schema.columns:
        values = log.frame[column]
        if isinstance(values.dtype, pd.ArrowDtype):
            made[column] = [list(value) for value in values]
        elif isinstance(values.dtype, pd.CategoricalDtype):
            made[column] = [None if pd.isna(value) else value for value in values]
        else:
            made[column] = [(str(values.dtype), value) for value in values]
    return made


@pytest.fixture
def plain() -> Callable[[FunnelLog], dict[str, list[object]]]:
    """A log as plain Python values: equal for equal logs, whatever the codes behind their categories."""
    return _plain
