"""GAUC: the AUC within each group (user), averaged over the groups in which it is defined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cvr_plugins.metrics._checks import Bools, Ints, as_column, as_labels, as_scores, same_length
from cvr_plugins.metrics._ranking import order_codes, tie_blocks
from cvr_plugins.nearest import unknown

_GROUP_BITS = 30  # beside 32 bits of score and 1 of label in a non-negative int64


@dataclass(frozen=True)
class GroupedAuc:
    """AUC over groups.

    mean: plain mean over the counted groups; impression: mean weighted by the groups' rows; both None if no group
    counts. counted: groups with a positive and a negative row; total: all groups.
    """

    mean: float | None
    impression: float | None
    counted: int
    total: int

    def weighted(self, weighting: str) -> float | None:
        """Return the mean named `weighting`, "mean" or "impression"; raise ValueError for another name."""
        means = {"mean": self.mean, "impression": self.impression}
        if weighting not in means:
            raise ValueError(unknown(f"Unknown weighting {weighting!r}.", weighting, means))
        return means[weighting]


def group_codes(groups: ArrayLike, name: str = "groups") -> Ints:
    """Return one integer in [0, 2^30) per row, equal exactly where the groups are.

    Parameters
    ----------
    groups
        Any hashable values, `[N]`.
    name
        Of the column, for messages.

    Raises
    ------
    ValueError
        At the first missing group (None, NaN or NaT), and for values that cannot be hashed.
    """
    column = as_column(groups, name)
    kind = column.dtype.kind
    if kind in "cV":
        raise ValueError(f"{name} must hold integers, strings or other hashable ids; got dtype {column.dtype}.")
    if kind == "O":
        # Here, since only such ids need it.
        import pandas as pd

        try:
            column = pd.factorize(column)[0]
        except TypeError as error:
            raise ValueError(f"{name} must hold hashable ids; {error}.") from error
    # Only NaN and NaT differ from themselves.
    missing = np.flatnonzero(column < 0 if kind == "O" else column != column)
    if missing.size:
        raise ValueError(
            f"{name} must name a group for every row; row {missing[0]} is missing. Drop it or give it an id."
        )
    if column.dtype.kind in "biu" and len(column):
        lowest, highest = int(column.min()), int(column.max())
        if highest - lowest < 1 << _GROUP_BITS:
            # uint64 ids may not fit int64 before the shift, narrow ids may not survive it in their own type.
            wide = column if column.dtype.itemsize == 8 else column.astype(np.int64)
            return (wide - wide.dtype.type(lowest)).astype(np.int64)
    return np.unique(column, return_inverse=True)[1].astype(np.int64)


def group_by_codes(labels: Bools, scores: Ints, groups: Ints) -> GroupedAuc:
    """Return the grouped AUC of checked columns: order codes of the scores, group codes of the groups."""
    if not len(labels):
        return GroupedAuc(None, None, counted=0, total=0)
    keys = groups << 33 | scores << 1 | labels
    rows, positives = tie_blocks(keys)
    negatives = rows - positives
    of_block = keys[rows[1:] - 1] >> 33
    first = np.flatnonzero(np.concatenate(([True], of_block[1:] != of_block[:-1])))
    edges = np.append(first, len(of_block))
    in_group = np.diff(positives[edges]), np.diff(negatives[edges])
    wins = np.diff(positives) * (negatives[:-1] + negatives[1:])
    # The counts run on from group to group: what lies below a group's first block is taken off again.
    twice = np.add.reduceat(wins, first) - 2 * negatives[first] * in_group[0]
    defined = (in_group[0] > 0) & (in_group[1] > 0)
    counted = int(defined.sum())
    if not counted:
        return GroupedAuc(None, None, counted=0, total=len(first))
    aucs = twice[defined] / (2 * in_group[0] * in_group[1])[defined]
    weights = np.diff(rows[edges])[defined]
    return GroupedAuc(float(aucs.mean()), float(aucs @ weights / weights.sum()), counted=counted, total=len(first))


def grouped_columns(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> tuple[Bools, Ints, Ints]:
    """Return checked labels, the order codes of the scores and the group codes; raise ValueError as `gauc` does."""
    positive, checked, ids = as_labels(labels), as_scores(scores), as_column(groups, "groups")
    same_length(labels=positive, scores=checked, groups=ids)
    return positive, order_codes(checked), group_codes(ids)


def grouped_auc(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> GroupedAuc:
    """Both kinds of `gauc` and the number of groups they rest on; arguments and errors as there."""
    return group_by_codes(*grouped_columns(labels, scores, groups))


def gauc(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, weighting: str = "mean") -> float | None:
    """Group AUC, `sum_g w_g AUC_g / sum_g w_g` over the groups g with both a positive and a negative row.

    Each AUC_g is exact, ties averaged. `grouped_auc` also tells how many groups counted.

    Parameters
    ----------
    labels
        0/1, `[N]`.
    scores
        Finite, `[N]`.
    groups
        Id of each row's group (user), integers, strings or other hashable values, `[N]`.
    weighting
        "mean" (w_g = 1) or "impression" (w_g = rows of g).

    Returns
    -------
    float or None
        None where undefined: no group has both.

    Raises
    ------
    ValueError
        On unequal lengths, non-binary labels, scores that are not finite and missing groups.

    References
    ----------
    Zhou et al., DIN, KDD 2018, eq. 8 (impression-weighted).
    """
    return grouped_auc(labels, scores, groups).weighted(weighting)
