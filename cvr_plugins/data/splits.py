"""Cutting a funnel log into training, validation and test parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from cvr_plugins.data.checks import PARTS
from cvr_plugins.data.errors import DataError, quoted, rows
from cvr_plugins.data.log import FunnelLog
from cvr_plugins.nearest import unknown
from cvr_plugins.options import check_number

By = Literal["random", "time", "user"]


def split(
    log: FunnelLog, ratios: Sequence[float] | float = (0.7, 0.1, 0.2), *, by: By = "random", seed: int = 2024
) -> tuple[FunnelLog, FunnelLog, FunnelLog]:
    """Cut a log into train, valid and test parts, each keeping the order of the log.

    Parameters
    ----------
    log
        What is cut.
    ratios
        Shares of the three parts. A single ratio asks for the split that the log's part column says; if that has no
        `valid` rows, this ratio of its `train` rows becomes the validation part, drawn as `by` says: the latest of them
        by `"time"`.
    by
        `"random"`: exposures are drawn by a permutation. `"user"`: whole users are, and the ratios count users.
        `"time"`: by timestamp over the whole log; exposures of the same instant stay together in the earlier part, so
        that no part shares an instant with another.
    seed
        Of the permutation.

    Raises
    ------
    DataError
        If the ratios are not three positive numbers with sum 1 or one between 0 and 1, `by` is unknown, `"time"` is
        asked for without a timestamp, a single ratio without a part column, or a part is empty.
    """
    if by not in get_args(By):
        raise DataError(unknown(f"Unknown split {by!r}.", by, get_args(By)))
    if isinstance(ratios, (int, float)):
        part = _published(log, ratios, by, seed)
    else:
        part = _drawn(log, _bounds(ratios), by, seed)
    empty = [name for number, name in enumerate(PARTS) if not (part == number).any()]
    if empty:
        how = f"its part column {log.schema.part!r}" if isinstance(ratios, (int, float)) else f"ratios {tuple(ratios)}"
        raise DataError(
            f"Log {log.name!r}: the split by {by} with {how} leaves {quoted(empty)} without a row "
            f"out of {len(log):,}; use a larger log or another split."
        )
    train, valid, test = (
        log.take(np.flatnonzero(part == number), name=f"{log.name}-{name}") for number, name in enumerate(PARTS)
    )
    return train, valid, test


def _drawn(log: FunnelLog, bounds: np.ndarray, by: By, seed: int) -> np.ndarray:
    """Part number [N] of each row."""
    if by == "random":
        return _assign(np.random.default_rng(seed).permutation(len(log)), bounds)
    if by == "user":
        users, codes = np.unique(log.user_codes(), return_inverse=True)
        return _assign(np.random.default_rng(seed).permutation(len(users)), bounds)[codes]
    return _by_time(log, bounds)


def _published(log: FunnelLog, ratio: float, by: By, seed: int) -> np.ndarray:
    """Part number [N] of each row, as the part column says."""
    share = "The share of training rows for validation"
    check_number(share, ratio, low=0, high=1, open_low=True, open_high=True, error=DataError)
    if log.schema.part is None:
        raise DataError(
            f"Log {log.name!r} has no part column, which a published split needs; name one (of {quoted(PARTS)}), or "
            "split by ratios of train, valid and test."
        )
    part = log.frame[log.schema.part].cat.set_categories(list(PARTS)).cat.codes.to_numpy().copy()
    if not (part == PARTS.index("valid")).any():
        train = np.flatnonzero(part == PARTS.index("train"))
        part[train] = _drawn(log.take(train), np.array([1 - ratio, 1.0]), by, seed)
    return part


def check_parts(train: FunnelLog, valid: FunnelLog, test: FunnelLog) -> tuple[str, ...]:
    """Look for parts in which a label has one class only.

    Returns
    -------
    tuple
        Notes about labels of the validation and the test part (some of their metrics are undefined), about the action
        in the training part, and about rows that a published split has in another part.

    Raises
    ------
    DataError
        If nothing can be learnt from the training part: one class of click, or of conversion after clicks.
    """
    found = _one_class(train)
    for label, what in found.items():
        if label in ("click", "conversion"):
            raise DataError(f"{what}, so there is nothing to learn; use more data, another split or another column.")
    # A truth column is not learnt from; in the training part it may be anything.
    reports = [f"{what}; no method can learn from it." for label, what in found.items() if label == "action"]
    reports += [f"{what}; its AUC is undefined." for log in (valid, test) for what in _one_class(log).values()]
    return (*_against_published(train, valid, test), *reports)


def _against_published(train: FunnelLog, valid: FunnelLog, test: FunnelLog) -> tuple[str, ...]:
    column = train.schema.part
    if column is None:
        return ()
    # Validation rows may come from the published training part.
    kept = ((train, ("train",)), (valid, ("train", "valid")), (test, ("test",)))
    found = [(log, int((~log.frame[column].isin(names)).sum())) for log, names in kept]
    return tuple(
        f"Log {log.name!r}: column {column!r} has {rows(count)} in another part; this is not the published split."
        for log, count in found
        if count
    )


def _bounds(ratios: Sequence[float]) -> np.ndarray:
    try:
        values = np.asarray(ratios, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (3,) or not (values > 0).all() or abs(values.sum() - 1) > 1e-6:
        raise DataError(f"Split ratios must be three positive numbers with sum 1 (train, valid, test), got {ratios!r}.")
    return np.cumsum(values)[:2]


def _assign(order: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Part number [N] of each element of a permutation: the first share of the order is part 0, and so on."""
    cuts = np.rint(bounds * len(order)).astype(np.int64)
    part = np.empty(len(order), dtype=np.int8)
    part[order] = np.searchsorted(cuts, np.arange(len(order)), side="right")
    return part


def _by_time(log: FunnelLog, bounds: np.ndarray) -> np.ndarray:
    column = log.schema.timestamp
    if column is None:
        raise DataError(f"Log {log.name!r} has no timestamp column, which the split by time needs; name one.")
    stamps = log.frame[column].to_numpy()
    ordered = np.sort(stamps)
    cuts = np.rint(bounds * len(ordered)).astype(np.int64)
    last = [ordered[cut - 1] if cut > 0 else -np.inf for cut in cuts]
    return np.searchsorted(np.asarray(last), stamps, side="left").astype(np.int8)


def _one_class(log: FunnelLog) -> dict[str, str]:
    """Label name -> what to say of it, for the labels with one class in the rows of their space."""
    schema, labels = log.schema, log.labels()
    clicked = labels["click"] == 1
    spaces = {"click": ("", slice(None)), "counterfactual": ("", slice(None))}
    found = {}
    for label, values in labels.items():
        space, where = spaces.get(label, (" with a click", clicked))
        inside = values[where]
        if len(inside) == 0 or inside.min() == inside.max():
            names = schema.labels.get(label) or (schema.counterfactual,)
            column = f"column {names[0]!r}" if len(names) == 1 else f"the OR of the columns {quoted(names)}"
            value = "1" if len(inside) and inside[0] == 1 else "0"
            found[label] = f"Log {log.name!r}: {column} is {value} in all {rows(len(inside))}{space}"
    return found
