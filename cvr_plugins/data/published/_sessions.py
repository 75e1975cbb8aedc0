"""YooChoose, RetailRocket and Taobao's UserBehavior: what was browsed in a session, and what of it was bought."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from cvr_plugins.data.checks import timestamps
from cvr_plugins.data.errors import DataError
from cvr_plugins.data.finding import find_files
from cvr_plugins.data.log import FunnelLog
from cvr_plugins.data.sessions import session_log
from cvr_plugins.data.source import Source
from cvr_plugins.data.tables import read_frame

MIN_ITEM_EVENTS = 5
"""Ye et al., PARS, AAAI 2026, below table 1: items with fewer interactions are removed."""

_TYPES = {"session_id": pa.int64(), "item_id": pa.int64(), "timestamp": pa.int64(), "event": pa.string()}
_MOMENT = pa.timestamp("ms", tz="UTC")


def yoochoose(*, path: str | Path | None = None) -> FunnelLog:
    """Return YooChoose (RecSys Challenge 2015): clicks, and as purchases what was bought in the same session.

    Items with fewer than five clicks are left out, then sessions of a single click.

    Parameters
    ----------
    path
        The folder of `yoochoose-clicks.dat` and `yoochoose-buys.dat`, or one above its `yoochoose-data`.

    Raises
    ------
    DataError
        If the files are not found, cannot be read or hold no session of two clicks.

    Notes
    -----
    Ye et al. (PARS, AAAI 2026) used 417,370 of these sessions, chosen by a rule that they do not give.
    """
    clicks, buys = find_files(
        path, [("yoochoose-clicks.dat", "yoochoose-buys.dat")], name="YooChoose", within=("yoochoose-data",)
    )
    names = ("session_id", "timestamp", "item_id")
    source = Source(clicks, ",", names=(*names, "category"))
    browsed = read_frame(source, names, {**_TYPES, "timestamp": _MOMENT})
    browsed["timestamp"] = timestamps(browsed["timestamp"], f"File {str(clicks)!r}")
    bought = read_frame(Source(buys, ",", names=(*names, "price", "quantity")), ["session_id", "item_id"], _TYPES)
    return session_log(browsed, bought, name="yoochoose", min_item_events=MIN_ITEM_EVENTS)


def retailrocket(*, path: str | Path | None = None) -> FunnelLog:
    """Return RetailRocket: the views of a visitor, and as purchases what the visitor's transactions hold.

    A visitor is a session; events of the cart are left out. Items with fewer than five views are left out, then
    visitors of a single view.

    Parameters
    ----------
    path
        The folder of `events.csv`.

    Raises
    ------
    DataError
        If the file is not found, cannot be read, holds an unknown event or no visitor of two views.

    Notes
    -----
    Ye et al. (PARS, AAAI 2026) have 116,679 sessions.
    """
    (file,) = find_files(path, [("events.csv",)], name="RetailRocket")
    names = {"visitorid": "session_id", "itemid": "item_id", "timestamp": "timestamp", "event": "event"}
    events = read_frame(Source.open(file), list(names), {column: _TYPES[name] for column, name in names.items()})
    events = events.rename(columns=names).assign(timestamp=events["timestamp"] / 1000)
    return _log(events, file, ("view", "transaction", "addtocart"), "retailrocket")


def taobao(*, path: str | Path | None = None) -> FunnelLog:
    """Return Taobao UserBehavior: the page views of a user, and as purchases what the user bought.

    A user is a session; events of the cart and of favourites are left out. Items with fewer than five views are left
    out, then users of a single view.

    Parameters
    ----------
    path
        The folder of `UserBehavior.csv`.

    Raises
    ------
    DataError
        If the file is not found, cannot be read, holds an unknown behaviour or no user of two views.

    Notes
    -----
    Ye et al. (PARS, AAAI 2026) used 213,374 of these users, chosen by a rule that they do not give; all of them take
    some 10 GB of memory.
    """
    (file,) = find_files(path, [("UserBehavior.csv",)], name="Taobao UserBehavior")
    source = Source(file, ",", names=("session_id", "item_id", "category_id", "event", "timestamp"))
    return _log(read_frame(source, list(_TYPES), _TYPES), file, ("pv", "buy", "cart", "fav"), "taobao")


def _log(events: pd.DataFrame, file: Path, kinds: tuple[str, ...], name: str) -> FunnelLog:
    """The log of events of browsing and of buying, the first two kinds; any but these kinds is refused."""
    unknown = sorted(set(events["event"].unique()) - set(kinds))
    if unknown:
        raise DataError(f"File {str(file)!r} holds the event {unknown[0]!r}; known are {', '.join(sorted(kinds))}.")
    browsed, bought = (events[events["event"] == kind] for kind in kinds[:2])
    return session_log(browsed, bought, name=name, min_item_events=MIN_ITEM_EVENTS)
