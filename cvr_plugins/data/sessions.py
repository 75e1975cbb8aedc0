"""Browsing sessions as funnel logs: rows are browse events, all of them clicks, and say whether the item was bought."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cvr_plugins.data.errors import DataError
from cvr_plugins.data.log import FunnelLog
from cvr_plugins.data.movielens import read_ratings
from cvr_plugins.data.schema import Schema

ML_100K = "ml-100k-sessions"
SCHEMA = Schema(user="session_id", item="item_id", click="click", conversion="purchase", timestamp="timestamp")
EVENTS = 14


def session_log(
    browsed: pd.DataFrame,
    bought: pd.DataFrame,
    *,
    name: str,
    min_item_events: int = 1,
) -> FunnelLog:
    """Return the log of sessions: one row per browse event, `purchase` 1 on *every* event of an item that was bought.

    Purchases that were not browsed are left out, as are, in this order, the events of rare items and sessions of fewer
    than two events; notes count them. Sessions are in order of their first row, events in order of time, those of the
    same time in that of the rows. Nothing but browse events is in the log: an event of the cart or of the purchase
    itself would tell the label.

    Parameters
    ----------
    browsed
        Columns `session_id`, `item_id`, `timestamp`.
    bought
        Columns `session_id`, `item_id`, in the same ids.
    name
        Of the log.
    min_item_events
        An item with fewer events is rare.

    Raises
    ------
    DataError
        If no session is left.
    """
    session, sessions = pd.factorize(browsed["session_id"])
    item, items = pd.factorize(browsed["item_id"])
    found = []

    kept = np.bincount(item, minlength=len(items))[item] >= min_item_events
    if not kept.all():
        found.append(f"{int((~kept).sum())} events of items with fewer than {min_item_events} events are left out.")
    several = np.bincount(session[kept], minlength=len(sessions))[session] > 1
    alone = kept & ~several
    if alone.any():
        found.append(f"{int(alone.sum())} sessions of a single event are left out.")
    kept &= several
    if not kept.any():
        raise DataError(f"The files of {name} hold no session of two events; use the original files.")

    pair = np.unique(_codes(sessions, bought["session_id"], len(items)) + _codes(items, bought["item_id"], 1))
    purchase = np.isin(session * len(items) + item, pair[pair >= 0])
    time = browsed["timestamp"].to_numpy(dtype=np.float64)
    order = np.flatnonzero(kept)
    order = order[np.lexsort((time[order], session[order]))]
    frame = pd.DataFrame(
        {
            "session_id": pd.Categorical.from_codes(session[order], sessions.astype(str)),
            "item_id": pd.Categorical.from_codes(item[order], items.astype(str)),
            "timestamp": time[order],
            "click": np.ones(len(order), dtype=np.int8),
            "purchase": purchase[order].astype(np.int8),
        }
    )
    return FunnelLog.from_frame(frame, SCHEMA, name=name, notes=found)


def ml_100k_sessions(*, path: str | Path | None = None) -> FunnelLog:
    """Return MovieLens-100k cut into sessions of about 14 events, in which a rating of 5 stands for a purchase.

    The ratings of each user, in order of time, are divided into as many runs of equal length, give or take one, as
    come closest to 14 events each. Ratings are not purchases and nothing is viewed twice: this tries the machinery of
    session models and their evaluation, and supports no claim about shops.

    Parameters
    ----------
    path
        As for `ml_100k_funnel`.

    Raises
    ------
    DataError
        If the files are not found or are not MovieLens.

    References
    ----------
    Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015.
    """
    ratings = read_ratings(path, name=ML_100K).sort_values("timestamp", kind="stable", ignore_index=True)
    users = ratings.groupby("user_id", sort=False)
    place, count = users.cumcount(), users["user_id"].transform("size")
    runs = (count / EVENTS).round().clip(lower=1).astype(np.int64)
    browsed = pd.DataFrame(
        {
            "session_id": ratings["user_id"] + "-" + (place * runs // count + 1).astype(str),
            "item_id": ratings["item_id"],
            "timestamp": ratings["timestamp"],
        }
    )
    return session_log(browsed, browsed[ratings["rating"] == 5], name=ML_100K)


def _codes(known: pd.Index, values: pd.Series, step: int) -> np.ndarray:
    """Return `step` times the place of each value among the known ones; far below 0 for one that is not there."""
    place = known.get_indexer(pd.Index(values))
    return np.where(place >= 0, place.astype(np.int64) * step, np.iinfo(np.int64).min // 4)
