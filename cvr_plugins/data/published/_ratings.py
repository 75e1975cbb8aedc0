"""Ratings as a funnel log: who rates has clicked, a high rating is a conversion, a random sample of pairs the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from cvr_plugins.data.errors import DataError
from cvr_plugins.data.log import FunnelLog
from cvr_plugins.data.schema import Feature, Schema
from cvr_plugins.options import check_flag, check_number

USER, ITEM, CLICK, CONVERSION, PART = "user_id", "item_id", "rated", "positive", "part"


@dataclass(frozen=True)
class Ratings:
    """Ratings of pairs: numbers of their users and items `[N]`, each pair once, and the values `[N]`."""

    user: np.ndarray
    item: np.ndarray
    value: np.ndarray

    def pairs(self, items: int) -> np.ndarray:
        """Return one number per pair, where there are so many items."""
        return self.user.astype(np.int64) * items + self.item

    def take(self, chosen: np.ndarray) -> Ratings:
        """Return the ratings at these positions, or where this is true."""
        return Ratings(self.user[chosen], self.item[chosen], self.value[chosen])


class Rated(NamedTuple):
    """Ratings by choice and random ones, and the tokens behind the numbers of their users and items."""

    train: Ratings
    test: Ratings
    users: Sequence[str]
    items: Sequence[str]

    @classmethod
    def of(cls, *frames: pd.DataFrame) -> Rated:
        """Number two tables of users, items and values.

        Tokens are in the order of the numbers that they are, or of their text where one of them is no number.
        """
        users, items = (_tokens(frames, column) for column in frames[0].columns[:2])
        train, test = (
            Ratings(_codes(users, frame[user]), _codes(items, frame[item]), frame[value].to_numpy(dtype=np.float64))
            for frame in frames
            for user, item, value in [frame.columns]
        )
        return cls(train, test, list(users), list(items))


def _tokens(frames: Sequence[pd.DataFrame], column: str) -> pd.Index:
    found = pd.Index(pd.concat([frame[column].astype(object) for frame in frames]).unique())
    numbers = pd.to_numeric(found, errors="coerce")
    return found.sort_values() if np.isnan(numbers).any() else found[np.argsort(numbers, kind="stable")]


def _codes(known: pd.Index, column: pd.Series) -> np.ndarray:
    return known.get_indexer(pd.Index(column.astype(object)))


def ratings_log(
    rated: Rated,
    *,
    threshold: float,
    overlap: bool,
    name: str,
    unrated: float = 1,
    seed: int = 0,
    features: Mapping[Feature, np.ndarray] | None = None,
    notes: Sequence[str] = (),
) -> FunnelLog:
    """Return a log of all pairs of a user and an item, and after them of the test ratings, with their parts.

    A training row is a pair; it is clicked if it was rated by choice, and converted if the rating is high. A test row
    is a random rating: clicked, since its rating is known, though nobody chose it. So the click space of the test part
    is a random sample of all pairs, and AUC in it is free of the selection.

    Parameters
    ----------
    rated
        The ratings.
    threshold
        The least rating that is a conversion.
    overlap
        False leaves out test ratings of pairs that were rated by choice, too.
    name
        Of the log.
    unrated
        The share of the pairs without a training rating that become rows; below 1 clicks are more frequent than among
        all pairs.
    seed
        Of the draw of these.
    features
        Feature -> array `[users]` or `[items]` of its tokens or values, by its side.
    notes
        Put before those about overlap and draw.

    Raises
    ------
    DataError
        If an option is out of its range.
    """
    check_number(f"{name}: threshold", threshold, low=0, error=DataError)
    check_number(f"{name}: unrated", unrated, low=0, high=1, open_low=True, error=DataError)
    check_flag(f"{name}: overlap", overlap, error=DataError)
    train, test, users, items = rated
    both = np.isin(test.pairs(len(items)), train.pairs(len(items)))
    what = "kept" if overlap else "left out"
    found = [*notes, f"{both.sum():,} of {len(both):,} test pairs also occur in training; they are {what} (overlap)."]
    test = test if overlap else test.take(~both)
    rest = _unrated(train, len(users), len(items), unrated, seed)
    if unrated < 1:
        found.append(f"{len(rest):,} unrated pairs were drawn; clicks are more frequent here than among all pairs.")
    empty = np.zeros(len(rest))
    rows = [train, Ratings(rest // len(items), rest % len(items), empty), test]
    user, item = (np.concatenate([getattr(part, side) for part in rows]) for side in ("user", "item"))
    clicked = np.concatenate([np.full(len(part.user), part is not rows[1], dtype=np.int8) for part in rows])
    positive = (np.concatenate([part.value for part in rows]) >= threshold).astype(np.int8) * clicked
    parts = np.repeat(np.array([0, 1], dtype=np.int8), [len(train.user) + len(rest), len(test.user)])
    # Training rows in the order of their pairs: a permutation by a seed is then the same for every threshold.
    order = np.concatenate(
        [np.argsort(user[parts == 0].astype(np.int64) * len(items) + item[parts == 0]), np.flatnonzero(parts == 1)]
    )
    columns: dict[str, object] = {
        USER: pd.Categorical.from_codes(user[order], categories=pd.Index(users)),
        ITEM: pd.Categorical.from_codes(item[order], categories=pd.Index(items)),
        CLICK: clicked[order],
        CONVERSION: positive[order],
        PART: pd.Categorical.from_codes(parts[order], categories=pd.Index(["train", "test"])),
    }
    for feature, values in (features or {}).items():
        side = user if feature.side == "user" else item
        columns[feature.name] = values[side[order]]
    schema = Schema(USER, ITEM, CLICK, CONVERSION, features=tuple(features or ()), part=PART)
    return FunnelLog.from_frame(pd.DataFrame(columns, copy=False), schema, name=name, notes=found)


def _unrated(train: Ratings, users: int, items: int, share: float, seed: int) -> np.ndarray:
    """Numbers of pairs that nobody rated, or a random share of them."""
    free = np.ones(users * items, dtype=bool)
    free[train.pairs(items)] = False
    pairs = np.flatnonzero(free)
    if share == 1:
        return pairs
    return np.sort(np.random.default_rng(seed).choice(pairs, round(share * len(pairs)), replace=False))
