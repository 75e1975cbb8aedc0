"""Metrics of a ranking, AUC, KS and precision, recall and F1 at the top, exact and from one sort."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from cvr_plugins.metrics._checks import Bools, Floats, Ints, as_labels, as_scores, same_length


def order_codes(scores: Floats) -> Ints:
    """Return integers in [0, 2^32) that are ordered, and equal, exactly where `scores` (finite, [N]) are.

    float32 scores: their bits, in two's complement instead of sign and magnitude, which also makes -0.0 equal 0.0.
    float64 scores: their dense ranks, since rounding them to 32 bits would make up ties.
    """
    if scores.dtype == np.float32:
        bits = np.ascontiguousarray(scores).view(np.int32)
        magnitude = bits & np.int32(0x7FFFFFFF)
        return np.where(bits < 0, -magnitude, magnitude).astype(np.int64) + (1 << 31)
    order = np.argsort(scores)
    ascending = scores[order]
    codes = np.zeros(len(scores), np.int64)
    codes[order[1:]] = np.cumsum(ascending[1:] != ascending[:-1])
    return codes


def tie_blocks(keys: Ints) -> tuple[Ints, Ints]:
    """Sort `keys` = `code << 1 | label` in place; return rows and positives up to the end of each run of one code.

    Both are [blocks + 1] and start with 0.
    """
    keys.sort()
    codes = keys >> 1
    last = np.empty(len(keys), np.bool_)
    np.not_equal(codes[1:], codes[:-1], out=last[:-1])
    last[-1:] = True
    ends = np.flatnonzero(last)
    positives = np.cumsum(keys & 1)[ends]
    return np.concatenate(([0], ends + 1)), np.concatenate(([0], positives))


class RankedScores:
    """The sorted form of (labels, scores) from which each ranking metric is one pass over the distinct scores.

    Counts are int64 and every ratio is taken once, of exact integers, so a result is the correctly rounded one and
    does not depend on the order of the rows. Sound below 2^32 rows.
    """

    def __init__(self, labels: Bools, codes: Ints) -> None:
        self._rows_below, self._positives_below = tie_blocks(codes << 1 | labels)
        self.rows = len(labels)
        self.positives = int(self._positives_below[-1])
        self.negatives = self.rows - self.positives

    @classmethod
    def of(cls, labels: ArrayLike, scores: ArrayLike) -> RankedScores:
        """Check both columns and rank them."""
        positive, checked = as_labels(labels), as_scores(scores)
        same_length(labels=positive, scores=checked)
        return cls(positive, order_codes(checked))

    def auc(self) -> float | None:
        """See `cvr_plugins.metrics.auc`."""
        if not self.positives or not self.negatives:
            return None
        negatives_below = self._rows_below - self._positives_below
        # A positive beats the negatives below its block and half of those in it: twice that is an integer.
        wins = np.diff(self._positives_below) @ (negatives_below[:-1] + negatives_below[1:])
        return int(wins) / (2 * self.positives * self.negatives)

    def ks(self) -> float | None:
        """See `cvr_plugins.metrics.ks`."""
        if not self.positives or not self.negatives:
            return None
        negatives_below = self._rows_below - self._positives_below
        gaps = np.abs(self._positives_below * self.negatives - negatives_below * self.positives)
        return int(gaps.max()) / (self.positives * self.negatives)

    def precision_at_top(self, percent: float | Fraction) -> float | None:
        """See `cvr_plugins.metrics.precision_at_top`."""
        chosen = self._rows_at_top(percent)
        return float(self._hits(chosen) / chosen) if chosen else None

    def recall_at_top(self, percent: float | Fraction) -> float | None:
        """See `cvr_plugins.metrics.recall_at_top`."""
        chosen = self._rows_at_top(percent)
        return float(self._hits(chosen) / self.positives) if self.positives else None

    def f1_at_top(self, percent: float | Fraction) -> float | None:
        """See `cvr_plugins.metrics.f1_at_top`."""
        chosen = self._rows_at_top(percent)
        return float(2 * self._hits(chosen) / (chosen + self.positives)) if self.positives else None

    def _rows_at_top(self, percent: float | Fraction) -> int:
        return math.ceil(as_percent(percent) / 100 * self.rows)

    def _hits(self, chosen: int) -> Fraction:
        """Return the expected number of positives among the `chosen` highest rows, ties broken at random."""
        passed = self.rows - chosen
        block = int(np.searchsorted(self._rows_below, passed, side="right")) - 1
        rows_below, rows_through = map(int, self._rows_below[block : block + 2])
        positives_below, positives_through = map(int, self._positives_below[block : block + 2])
        passed_in_block = Fraction(passed - rows_below, rows_through - rows_below)
        return self.positives - positives_below - passed_in_block * (positives_through - positives_below)


def as_percent(percent: float | Fraction) -> Fraction:
    """Return `percent` exactly as its decimal form reads (0.1 is 1/10); raise ValueError outside (0, 100]."""
    message = f"percent must be a number above 0 and at most 100; got {percent!r}."
    try:
        exact = percent if isinstance(percent, Fraction) else Fraction(repr(float(percent)))
    except (TypeError, ValueError) as error:
        raise ValueError(message) from error
    if not 0 < exact <= 100:
        raise ValueError(message)
    return exact


def auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve, `P(s+ > s-) + P(s+ = s-) / 2` over all pairs of a positive and a negative row.

    labels: 0/1, [N]; scores: finite, any scale, [N]. Exact, ties averaged; -0.0 equals 0.0; float64 scores are
    never rounded to float32. None where undefined: no positive or no negative row.
    Raises ValueError on unequal lengths, non-binary labels and scores that are not finite.
    Hanley and McNeil, Radiology 1982.
    """
    return RankedScores.of(labels, scores).auc()


def ks(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Kolmogorov-Smirnov statistic, `max_c |TPR(c) - FPR(c)|` over the thresholds c; equal scores form one threshold.

    labels: 0/1, [N]; scores: finite, [N]. None where undefined: no positive or no negative row.
    Raises ValueError on unequal lengths, non-binary labels and scores that are not finite.
    """
    return RankedScores.of(labels, scores).ks()


def precision_at_top(labels: ArrayLike, scores: ArrayLike, percent: float | Fraction) -> float | None:
    """Precision when the top rows by score are called positive, `TP / k` with `k = ceil(percent / 100 * N)`.

    labels: 0/1, [N]; scores: finite, [N]; percent: in (0, 100], read as the decimal it is written as (7 % of 100 rows
    are 7, whatever `0.07 * 100` rounds to), so k is at least 1. Where the cut falls among equal scores, TP is its
    expected value over all ways of breaking the tie: exact, and independent of the order of the rows.
    None where undefined: no rows. Without a positive row it is 0.
    Raises ValueError on unequal lengths, non-binary labels, scores that are not finite and percent out of range.
    Wen et al., ESM2, SIGIR 2020, section 4.2.1; the paper does not say how it rounds or breaks ties.
    """
    return RankedScores.of(labels, scores).precision_at_top(percent)


def recall_at_top(labels: ArrayLike, scores: ArrayLike, percent: float | Fraction) -> float | None:
    """Recall when the top rows by score are called positive, `TP / P`; k, TP and ties as in `precision_at_top`.

    None where undefined: no positive row. Raises ValueError as `precision_at_top` does.
    """
    return RankedScores.of(labels, scores).recall_at_top(percent)


def f1_at_top(labels: ArrayLike, scores: ArrayLike, percent: float | Fraction) -> float | None:
    """F1 when the top rows by score are called positive, `2 TP / (k + P)`; k, TP and ties as in `precision_at_top`.

    F1 is linear in TP here, so with ties it is the expected F1. None where undefined: no positive row (recall is
    undefined then). Raises ValueError as `precision_at_top` does.
    """
    return RankedScores.of(labels, scores).f1_at_top(percent)
