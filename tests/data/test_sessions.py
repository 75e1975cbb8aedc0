"""Browsing sessions as funnel logs: what is kept, in which order, and what counts as bought."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cvr_plugins.data import DataError
from cvr_plugins.data.sessions import ml_100k_sessions, session_log


def browsed(*events):
    return pd.DataFrame(events, columns=["session_id", "item_id", "timestamp"])


def bought(*events):
    return pd.DataFrame(events, columns=["session_id", "item_id"])


def rows(log):
    names = log.frame[["session_id", "item_id"]].astype(str)
    return list(zip(names["session_id"], names["item_id"], log.frame["timestamp"], log.frame["purchase"], strict=True))


def test_every_event_of_a_bought_item_says_so_and_events_are_in_order_of_time():
    events = browsed(("b", "x", 5), ("a", "x", 3), ("a", "y", 1), ("b", "z", 2), ("a", "x", 2))
    log = session_log(events, bought(("a", "x"), ("b", "y"), ("c", "x")), name="shop")
    assert rows(log) == [("b", "z", 2, 0), ("b", "x", 5, 0), ("a", "y", 1, 0), ("a", "x", 2, 1), ("a", "x", 3, 1)]
    assert (log.frame["click"] == 1).all()
    assert log.notes == ()


def test_events_of_one_time_stay_in_the_order_of_the_rows():
    log = session_log(browsed(("a", "x", 1), ("a", "y", 1), ("a", "x", 1)), bought(), name="shop")
    assert [item for _, item, _, _ in rows(log)] == ["x", "y", "x"]


def test_rare_items_go_first_and_then_sessions_of_one_event_and_both_are_counted():
    events = browsed(("a", "x", 1), ("a", "rare", 2), ("b", "x", 3), ("b", "x", 4), ("c", "x", 5))
    log = session_log(events, bought(("b", "x"), ("a", "rare")), name="shop", min_item_events=2)
    assert rows(log) == [("b", "x", 3, 1), ("b", "x", 4, 1)]
    assert log.notes == (
        "1 events of items with fewer than 2 events are left out.",
        "2 sessions of a single event are left out.",
    )


def test_nothing_left_is_an_error():
    with pytest.raises(DataError, match="shop hold no session of two events"):
        session_log(browsed(("a", "x", 1), ("b", "y", 2)), bought(), name="shop")


def test_ml_100k_is_cut_into_sessions_of_about_fourteen_events():
    pytest.importorskip("recbole")
    log = ml_100k_sessions()
    frame = log.frame
    sizes = frame.groupby("session_id", observed=True).size()
    assert (len(log), len(sizes)) == (100_000, 7174)
    assert round(sizes.mean(), 1) == 13.9
    assert sizes.between(10, 20).all()
    # As many events are bought as there are ratings of 5.
    assert frame["purchase"].sum() == 21_201
    users = frame["session_id"].astype(str).str.rpartition("-")
    assert users[0].nunique() == 943
    runs = frame.assign(user=users[0], run=users[2].astype(int)).groupby(["user", "run"])["timestamp"]
    later = runs.min().groupby("user").shift(-1)
    assert (runs.max() <= later).where(later.notna(), True).all()
    assert not frame.duplicated(["session_id", "item_id"]).any()
    assert np.isfinite(frame["timestamp"]).all()
