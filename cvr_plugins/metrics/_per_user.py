"""Ranking metrics of each user's rows, averaged over users: NDCG and recall at k, their conventions named."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cvr_plugins.metrics._checks import Bools, Ints
from cvr_plugins.metrics._grouped import grouped_columns
from cvr_plugins.nearest import unknown
from cvr_plugins.options import check_count

DENOMINATORS = ("min", "positives")
WITHOUT_POSITIVE = {"left_out": None, "zero": 0.0, "one": 1.0}


class UserRanking(NamedTuple):
    """Of each user: expected gain at the k highest rows, discounted or not, and positives, each `[users]`."""

    discounted: NDArray[np.float64]
    hits: NDArray[np.float64]
    positives: Ints


def rank_users(labels: Bools, codes: Ints, groups: Ints, k: int) -> UserRanking:
    """Rank each user's rows by order code; rows of one code share the places of their run, in expectation."""
    check_count("k", k)
    order = np.lexsort((-codes, groups))
    users, code, positive = groups[order], codes[order], labels[order].astype(np.float64)
    new_user = np.concatenate(([True], users[1:] != users[:-1]))[: len(users)]
    new_run = new_user | np.concatenate(([True], code[1:] != code[:-1]))[: len(users)]
    user, run = np.cumsum(new_user) - 1, np.cumsum(new_run) - 1
    place = np.arange(len(users)) - np.flatnonzero(new_user)[user]
    inside = (place < k).astype(np.float64)
    count = int(user[-1]) + 1 if len(user) else 0

    def expected(gain: NDArray[np.float64]) -> NDArray[np.float64]:
        shared = (np.bincount(run, gain) / np.bincount(run))[run] if len(run) else gain
        return np.bincount(user, shared * positive, count).astype(np.float64)

    positives = np.bincount(user, positive, count).astype(np.int64)
    return UserRanking(expected(inside / np.log2(place + 2.0)), expected(inside), positives)


def user_ndcg_of(
    ranking: UserRanking, k: int, denominator: str = "min", without_positive: str = "left_out"
) -> float | None:
    """See `cvr_plugins.metrics.user_ndcg`."""
    ideal = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(int(ranking.positives.max(initial=0))) + 2.0))))
    return _mean(ranking.discounted, ideal[_denominators(ranking, k, denominator)], ranking, without_positive)


def user_recall_of(
    ranking: UserRanking, k: int, denominator: str = "min", without_positive: str = "left_out"
) -> float | None:
    """See `cvr_plugins.metrics.user_recall`."""
    most = _denominators(ranking, k, denominator).astype(np.float64)
    return _mean(ranking.hits, most, ranking, without_positive)


def _denominators(ranking: UserRanking, k: int, denominator: str) -> Ints:
    if denominator not in DENOMINATORS:
        raise ValueError(unknown(f"Unknown denominator {denominator!r}.", denominator, DENOMINATORS))
    return np.minimum(ranking.positives, k) if denominator == "min" else ranking.positives


def _mean(
    gains: NDArray[np.float64], most: NDArray[np.float64], ranking: UserRanking, without_positive: str
) -> float | None:
    if without_positive not in WITHOUT_POSITIVE:
        raise ValueError(unknown(f"Unknown without_positive {without_positive!r}.", without_positive, WITHOUT_POSITIVE))
    counted = ranking.positives > 0
    values = gains[counted] / most[counted]
    instead = WITHOUT_POSITIVE[without_positive]
    if instead is not None:
        values = np.append(values, np.full(int((~counted).sum()), instead))
    return float(values.mean()) if len(values) else None


def user_ndcg(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    k: int,
    *,
    denominator: str = "min",
    without_positive: str = "left_out",
) -> float | None:
    """NDCG at k of each user, averaged: `mean_u DCG_u / IDCG_u`, `DCG_u = sum_{i: rank <= k} y_i / log2(rank_i + 1)`.

    Equal scores count in expectation over all ways of breaking the tie.

    Parameters
    ----------
    labels
        y, 0/1, `[N]`.
    scores
        Finite, `[N]`.
    groups
        User of each row, `[N]`.
    k
        How many of a user's rows count.
    denominator
        IDCG_u is of the best order, over min(k, P_u) places with "min", over all P_u positives with "positives", where
        no user with more than k of them can reach 1.
    without_positive
        A user without a positive is "left_out", or counts "zero" or "one".

    Returns
    -------
    float or None
        None where undefined: no user counts.

    Raises
    ------
    ValueError
        On unequal lengths, non-binary labels, scores that are not finite, missing groups, k below 1 and unknown
        conventions.
    """
    ranking = rank_users(*grouped_columns(labels, scores, groups), k)
    return user_ndcg_of(ranking, k, denominator, without_positive)


def user_recall(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    k: int,
    *,
    denominator: str = "min",
    without_positive: str = "left_out",
) -> float | None:
    """Recall at k of each user, averaged: `mean_u hits_u / d_u`, the positives among the k highest over d_u.

    Parameters
    ----------
    labels, scores, groups, k, without_positive
        As for `user_ndcg`, ties and errors included.
    denominator
        d_u is min(k, P_u) with "min", P_u, the user's positives, with "positives".

    Returns
    -------
    float or None
        None where undefined: no user counts.
    """
    ranking = rank_users(*grouped_columns(labels, scores, groups), k)
    return user_recall_of(ranking, k, denominator, without_positive)
