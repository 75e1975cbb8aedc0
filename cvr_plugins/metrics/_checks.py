"""Checks that turn what a caller passes into arrays the metrics can trust, or into a one-sentence error."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


def as_column(values: ArrayLike, name: str) -> NDArray[Any]:
    """Return `values` as a 1-D array; raise ValueError naming `name` if it is not one."""
    try:
        column = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} cannot be read as an array of numbers ({error}); pass a 1-D NumPy array.") from error
    if column.ndim != 1:
        raise ValueError(f"{name} must be 1-D; got shape {column.shape}. Flatten it with .reshape(-1).")
    return column


def as_labels(values: ArrayLike, name: str = "labels") -> Bools:
    """Return 0/1 (or boolean) `values` as booleans; raise ValueError at the first value that is neither."""
    column = _as_numbers(values, name)
    positive = column != 0
    wrong = np.flatnonzero(column != positive)
    if wrong.size:
        raise ValueError(f"{name} must hold only 0 and 1; row {wrong[0]} holds {column[wrong[0]]}.")
    return positive


def as_scores(values: ArrayLike, name: str = "scores") -> Floats:
    """Return finite `values` as float32 if float32 holds each of them exactly, else as float64.

    Raises ValueError at the first value that is NaN, infinite or an integer beyond 2^53 (float64 would round it).
    """
    column = _as_numbers(values, name)
    if column.dtype != np.float32:
        if column.dtype.kind in "iu" and column.dtype.itemsize == 8:
            large = np.flatnonzero((column > 1 << 53) | (column < -(1 << 53)))
            if large.size:
                raise ValueError(
                    f"{name} must be integers up to 2^53, which float64 holds exactly; "
                    f"row {large[0]} holds {column[large[0]]}. Rank them first."
                )
        double = column.astype(np.float64)
        with np.errstate(over="ignore"):
            single = double.astype(np.float32)
        column = single if np.array_equal(single, double) else double
    wrong = np.flatnonzero(~np.isfinite(column))
    if wrong.size:
        raise ValueError(f"{name} must be finite; row {wrong[0]} holds {column[wrong[0]]}.")
    return column


def as_probabilities(values: ArrayLike, name: str = "probabilities") -> Floats:
    """Return `values` as `as_scores` does; raise ValueError at the first value outside [0, 1]."""
    column = as_scores(values, name)
    wrong = np.flatnonzero((column < 0) | (column > 1))
    if wrong.size:
        raise ValueError(
            f"{name} must lie in [0, 1]; row {wrong[0]} holds {column[wrong[0]]}. Apply the sigmoid to logits."
        )
    return column


def same_length(**columns: NDArray[Any]) -> None:
    """Raise ValueError unless all columns have as many rows as the first."""
    (first, reference), *rest = columns.items()
    for name, column in rest:
        if len(column) != len(reference):
            raise ValueError(
                f"{first} has {len(reference)} rows but {name} has {len(column)}; both must describe the same rows."
            )


def _as_numbers(values: ArrayLike, name: str) -> NDArray[Any]:
    column = as_column(values, name)
    if column.dtype.kind not in "biuf" or column.dtype.itemsize > 8:
        raise ValueError(f"{name} must hold numbers of at most 64 bits; got dtype {column.dtype}.")
    return column
