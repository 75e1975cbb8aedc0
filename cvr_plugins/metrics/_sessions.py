"""In-session re-ranking: how far up a scorer puts the items of a session that were bought in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cvr_plugins.metrics._candidates import SessionCandidates, as_offsets, session_baselines, session_of
from cvr_plugins.metrics._checks import Bools, Ints, as_column, as_labels, as_scores, same_length
from cvr_plugins.metrics._grouped import GroupedAuc, group_by_codes
from cvr_plugins.metrics._ranking import RankedScores, order_codes, tie_blocks
from cvr_plugins.nearest import unknown
from cvr_plugins.options import check_count

_HIGHEST_CODE = (1 << 32) - 1

SESSION_METRICS: tuple[str, ...] = ("auc", "gauc")
"""The metrics of a ranking within sessions that look at all of it."""

SESSION_METRICS_AT_K: tuple[str, ...] = ("hr", "ndcg", "precision", "recall", "f1")
"""Those that look at the k highest of each session."""


class PaddedAuc(NamedTuple):
    """What counting padding as negatives makes of a scorer's AUC, and of a random scorer's; both None if undefined."""

    scorer: float | None
    random: float | None


class RankedSessions:
    """The candidates of each session ranked by a scorer, and the metrics of that ranking.

    ptr: candidates of session s are at `ptr[s]:ptr[s + 1]`, [n + 1]; purchased: 0/1, [N]; scores: finite, any scale,
    [N]; views: events of each candidate, at least 1, [N], for the metrics over events; None: 1 each.

    The metrics at k are means over the sessions with a purchase; the others are left out and counted
    (`without_purchase`). Sessions that bought all their items stay in, though no order of theirs is wrong: a baseline
    has them too (`all_purchased`). Every metric takes equal scores in expectation over all ways of breaking the
    ties, so that a constant scorer gets exactly what a random one gets on average.
    None where undefined. Raises ValueError on unequal lengths, a `ptr` that does not ascend from 0 to N, labels that
    are not binary, scores that are not finite.
    """

    def __init__(
        self, ptr: ArrayLike, purchased: ArrayLike, scores: ArrayLike, *, views: ArrayLike | None = None
    ) -> None:
        self._labels, checked = as_labels(purchased, "purchased"), as_scores(scores)
        same_length(purchased=self._labels, scores=checked)
        self._ptr = as_offsets(ptr, len(self._labels))
        self._codes = order_codes(checked)
        self._views = None if views is None else _as_views(views, len(self._labels))
        self._session = session_of(self._ptr)
        self.total = len(self._ptr) - 1
        self._purchases = np.bincount(self._session, self._labels, self.total).astype(np.int64)
        self._counted = self._purchases > 0
        self.without_purchase = self.total - int(self._counted.sum())
        self.all_purchased = int((self._counted & (self._purchases == np.diff(self._ptr))).sum())
        self._at: dict[int, _AtK] = {}

    def auc(self) -> float | None:
        """AUC over the events of all sessions pooled, each with its item's score and label; None without both labels.

        Over real events alone: nothing is padded. An item viewed twice in a session counts twice.
        """
        return RankedScores(*self._events).auc()

    def gauc(self) -> float | None:
        """Mean of the AUC over each session's items, over sessions with bought and unbought ones; None without any."""
        return self.grouped.mean

    @cached_property
    def grouped(self) -> GroupedAuc:
        """`gauc`, and how many sessions it rests on: those in which some, but not all, items were bought."""
        return group_by_codes(self._labels, self._codes, self._session)

    def hr(self, k: int) -> float | None:
        """Hit rate, the mean of 1 where a bought item is among the k highest."""
        return self._mean(self._at_k(k).hit)

    def ndcg(self, k: int) -> float | None:
        """NDCG with binary gains and the discount 1 / log2(rank + 1), over the k highest.

        Ties in expectation: McSherry and Najork, ECIR 2008.
        """
        return self._mean(self._at_k(k).ndcg)

    def precision(self, k: int) -> float | None:
        """Mean of `hits / k`, k also where the session has fewer items."""
        return self._mean(self._at_k(k).hits / k)

    def recall(self, k: int) -> float | None:
        """Mean of `hits / purchases`."""
        at = self._at_k(k)
        return self._mean(at.hits / self._purchases[self._counted])

    def f1(self, k: int) -> float | None:
        """Mean of the sessions' own F1, `2 hits / (k + purchases)`; not the F1 of the mean precision and recall."""
        at = self._at_k(k)
        return self._mean(2 * at.hits / (k + self._purchases[self._counted]))

    def padded_auc(self, slots: int) -> PaddedAuc:
        """AUC with every session padded to `slots` events, padding being negatives below every score.

        This is how published figures of in-session re-ranking came about; it mostly measures padding, hence the same
        figure of a random scorer comes with it. Equal to `1 - (1 - auc) * negatives / (negatives + padding)`.
        Raises ValueError if a session has more events than slots.
        """
        labels, codes = self._events
        events = np.bincount(self._session, self._views, self.total)
        if self.total and events.max() > slots:
            raise ValueError(
                f"slots must be at least {int(events.max())}, the events of the longest session; got {slots}."
            )
        padding = np.zeros(self.total * slots - len(labels), np.int64)
        padded = np.concatenate((labels, padding != 0))
        return PaddedAuc(
            RankedScores(padded, np.concatenate((codes + 1, padding))).auc(),
            RankedScores(padded, np.concatenate((np.ones_like(codes), padding))).auc(),
        )

    def value(self, metric: str, k: int | None = None) -> float | None:
        """Return the metric by its name of `SESSION_METRICS`, or with `k` of `SESSION_METRICS_AT_K`."""
        known = SESSION_METRICS if k is None else SESSION_METRICS_AT_K
        if metric not in known:
            raise ValueError(unknown(f"Unknown session metric {metric!r}.", metric, known))
        result: float | None = getattr(self, metric)(*() if k is None else (k,))
        return result

    @cached_property
    def _events(self) -> tuple[Bools, Ints]:
        if self._views is None:
            return self._labels, self._codes
        return np.repeat(self._labels, self._views), np.repeat(self._codes, self._views)

    @cached_property
    def _blocks(self) -> _Blocks:
        """The runs of equal scores, best first, of the sessions that count."""
        rows = self._counted[self._session]
        keys = self._session[rows] << 33 | (_HIGHEST_CODE - self._codes[rows]) << 1 | self._labels[rows]
        ends, positives = tie_blocks(keys)
        session = keys[ends[1:] - 1] >> 33
        first = np.concatenate(([True], session[1:] != session[:-1])) if len(session) else np.zeros(0, np.bool_)
        number = np.cumsum(first) - 1
        return _Blocks(number, ends[:-1] - ends[:-1][first][number], np.diff(ends), np.diff(positives))

    def _at_k(self, k: int) -> _AtK:
        if check_count("k", k) not in self._at:
            self._at[k] = _at_k(self._blocks, self._purchases[self._counted], int(k))
        return self._at[k]

    def _mean(self, values: NDArray[np.float64]) -> float | None:
        return float(values.mean()) if len(values) else None


class _Blocks(NamedTuple):
    """Runs of equal scores: number of the session among those counted, candidates above, size and purchases, [b]."""

    session: Ints
    above: Ints
    size: Ints
    purchases: Ints


class _AtK(NamedTuple):
    """Of each session with a purchase: expected hits, probability of a hit, expected NDCG."""

    hits: NDArray[np.float64]
    hit: NDArray[np.float64]
    ndcg: NDArray[np.float64]


def _at_k(blocks: _Blocks, purchases: Ints, k: int) -> _AtK:
    session, above, size, bought = (column[blocks.above < k] for column in blocks)
    slots = np.minimum(k - above, size)
    share = bought / size
    discounts = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))))
    gains = share * (discounts[above + slots] - discounts[above])
    # A block misses if each of its slots goes to one of the unbought: sampling without replacement.
    miss = np.ones(len(size))
    for taken in range(int(slots.max(initial=0))):
        open_ = np.flatnonzero(slots > taken)
        miss[open_] *= np.maximum(size[open_] - bought[open_] - taken, 0) / (size[open_] - taken)
    first = np.searchsorted(session, np.arange(len(purchases)))
    return _AtK(
        hits=np.bincount(session, share * slots, len(purchases)).astype(np.float64),
        hit=1 - np.multiply.reduceat(miss, first) if len(purchases) else miss,
        ndcg=np.bincount(session, gains, len(purchases)) / discounts[np.minimum(purchases, k)],
    )


def session_report(
    candidates: SessionCandidates,
    scores: ArrayLike,
    training_counts: ArrayLike,
    *,
    topk: Iterable[int] = (1, 3, 5),
) -> dict[str, dict[str, float | None]]:
    """Return scorer -> metric -> value: the given scores as "model", then `SESSION_BASELINES`, under equal metrics.

    scores: of the candidates, [N]; training_counts: as in `session_baselines`; topk: the ks. Metrics: "auc", "gauc",
    then "hr@k", "ndcg@k", "precision@k", "recall@k", "f1@k", as `RankedSessions` has them.
    """
    ks = tuple(topk)
    scorers: Mapping[str, ArrayLike] = {"model": scores, **session_baselines(candidates, training_counts)}
    report: dict[str, dict[str, float | None]] = {}
    for name, each in scorers.items():
        ranked = RankedSessions(candidates.ptr, candidates.purchased, each, views=candidates.views)
        report[name] = {metric: ranked.value(metric) for metric in SESSION_METRICS}
        report[name] |= {f"{metric}@{k}": ranked.value(metric, k) for metric in SESSION_METRICS_AT_K for k in ks}
    return report


def _as_views(views: ArrayLike, length: int) -> Ints:
    column = as_column(views, "views")
    if column.dtype.kind not in "iu" or len(column) != length or (column < 1).any():
        raise ValueError(f"views must hold {length} whole numbers of at least 1, one for each candidate.")
    return column.astype(np.int64)
