"""The checks of single columns of a funnel log; each returns a clean column or says what is wrong with it."""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd

from cvr_plugins.data.errors import DataError, rows
from cvr_plugins.data.schema import Schema

PARTS = ("train", "valid", "test")
"""The parts of a split, in the order of their numbers."""

_LOGICAL = {"true": 1.0, "false": 0.0, "True": 1.0, "False": 0.0, "TRUE": 1.0, "FALSE": 0.0}


def clean_labels(frame: pd.DataFrame, schema: Schema, where: str) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Check the labels and the truth of a log.

    Parameters
    ----------
    frame
        A table with those columns.
    schema
        Names them.
    where
        What the table is, at the beginning of a message.

    Returns
    -------
    columns : dict
        Column -> values `[N]`: labels as int8, conversion and action 0 wherever there was no click; the propensity as
        float64.
    notes : tuple
        What was changed, and where the truth contradicts the clicked rows.

    Raises
    ------
    DataError
        If a label is not binary or unknown where it must be known, or a truth column is impossible.
    """
    click = complete_binary(frame[schema.click], "click", where)
    made, notes = {schema.click: click}, []
    for label in ("conversion", "action"):
        for column in schema.labels.get(label, ()):
            made[column], changed = post_click(frame[column], click, label, where)
            notes.extend(changed)
    if schema.counterfactual is not None:
        truth = complete_binary(frame[schema.counterfactual], "counterfactual", where)
        made[schema.counterfactual] = truth
        differ = int(((truth != made[schema.conversion]) & (click == 1)).sum())
        if differ:
            notes.append(
                f"counterfactual column {schema.counterfactual!r}: differs from {schema.conversion!r} in "
                f"{rows(differ)} with a click, where both should be the same event."
            )
    if schema.propensity is not None:
        made[schema.propensity] = probability(frame[schema.propensity], "propensity", where)
    return made, tuple(notes)


def numbers(column: pd.Series, where: str, remedy: str) -> np.ndarray:
    """Return the column as float64 `[N]`, NaN where missing or empty.

    Raises
    ------
    DataError
        If it holds text or anything else that is not a number.
    """
    if pd.api.types.is_datetime64_any_dtype(column.dtype) or pd.api.types.is_timedelta64_dtype(column.dtype):
        raise DataError(f"{where}: column {column.name!r} holds dates where numbers are expected; {remedy}.")
    values, bad = _parsed(column)
    _refuse(bad, column, f"{where}: column", "holds text that is not a number in {rows} ({found})", remedy)
    return values


def binary(column: pd.Series, what: str, where: str) -> np.ndarray:
    """Return the column as float64 `[N]` of 0, 1 and NaN.

    Raises
    ------
    DataError
        If it holds anything but those, true and false.
    """
    values, bad = _parsed(column)
    if bad.any():
        texts = column[bad].astype(object)
        logical = np.array([_LOGICAL.get(text, np.nan) if isinstance(text, str) else np.nan for text in texts])
        values = values.copy()
        values[bad] = logical
        bad[bad] = np.isnan(logical)
    bad |= ~np.isnan(values) & (values != 0) & (values != 1)
    remedy = "make it binary or name another column"
    _refuse(bad, column, f"{where}: {what} column", "must be 0 or 1; found {found} in {rows}", remedy)
    return values


def complete_binary(column: pd.Series, what: str, where: str) -> np.ndarray:
    """Return a label known for every row, as int8 `[N]`; raise DataError otherwise."""
    values = binary(column, what, where)
    said = f"is missing (NaN) in {{rows}} of {len(values):,}"
    _refuse(np.isnan(values), column, f"{where}: {what} column", said, "fill or drop them")
    return values.astype(np.int8)


def post_click(column: pd.Series, click: np.ndarray, what: str, where: str) -> tuple[np.ndarray, list[str]]:
    """Return a label that exists only after a click, as int8 `[N]`, 0 wherever there was none; and what was changed."""
    values = binary(column, what, where)
    clicked = click == 1
    missing = np.isnan(values)
    said = "is missing (NaN) in {rows} with a click, where it must be 0 or 1"
    _refuse(missing & clicked, column, f"{where}: {what} column", said, "fill or drop them")
    notes = []
    if missing.any():
        notes.append(f"{what} column {column.name!r}: missing in {rows(int(missing.sum()))} without a click; set to 0.")
    masked = int(((values == 1) & ~clicked).sum())
    if masked:
        notes.append(f"{what} column {column.name!r}: 1 without a click in {rows(masked)}; masked (set to 0).")
    return np.where(clicked, values, 0).astype(np.int8), notes


def finite(column: pd.Series, where: str) -> np.ndarray:
    """Return a float feature as float64 `[N]`, every value finite in float32 too.

    Raises
    ------
    DataError
        On missing, infinite or non-numeric values.
    """
    values = numbers(column, where, "correct these rows or declare the column as a token feature")
    with np.errstate(over="ignore"):
        infinite = np.isinf(values.astype(np.float32))
    remedy = "fill, clip or drop them, or declare the column as a token feature"
    for bad, state in ((np.isnan(values), "missing (NaN)"), (infinite, "infinite (or beyond float32)")):
        _refuse(bad, column, f"{where}: float column", f"is {state} in {{rows}} of {len(values):,}", remedy)
    return values


def timestamps(column: pd.Series, where: str) -> np.ndarray:
    """Return timestamps as float64 `[N]`, numbers as they are, dates in seconds since 1970 (in UTC unless they say).

    Raises
    ------
    DataError
        If one is missing, infinite or neither a number nor a date (as text: ISO 8601).
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if not pd.api.types.is_numeric_dtype(column.dtype) and _parsed(column)[1].any():
        with contextlib.suppress(ValueError, TypeError):
            column = pd.to_datetime(column, utc=True, format="ISO8601")
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        stamps = pd.to_datetime(column, utc=True).dt.tz_localize(None)
        microseconds = stamps.to_numpy(dtype="datetime64[us]").astype(np.int64)
        column = pd.Series(np.where(stamps.notna(), microseconds / 1e6, np.nan), name=column.name)
    values = numbers(column, where, "give the timestamp as a number or an ISO 8601 date")
    remedy = "fill or drop them, or name no timestamp"
    _refuse(~np.isfinite(values), column, f"{where}: timestamp column", "is missing or infinite in {rows}", remedy)
    return values


def probability(column: pd.Series, what: str, where: str) -> np.ndarray:
    """Return a true propensity as float64 `[N]`.

    Raises
    ------
    DataError
        Where it is missing or outside (0, 1].
    """
    remedy = "correct it or name no propensity"
    values = numbers(column, where, remedy)
    bad = ~((values > 0) & (values <= 1))
    _refuse(bad, column, f"{where}: {what} column", "must lie in (0, 1]; found {found} in {rows}", remedy)
    return values


def parts(column: pd.Series, where: str) -> pd.Categorical:
    """Return the part of a published split each row belongs to, as a categorical of `PARTS`.

    Raises
    ------
    DataError
        Where it is missing or anything else.
    """
    texts = column.astype(object).where(column.notna(), "")
    said = "must be 'train', 'valid' or 'test'; found {found} in {rows}"
    _refuse(~texts.isin(PARTS).to_numpy(), texts, f"{where}: part column", said, "correct it or name no part column")
    return pd.Categorical(texts, categories=list(PARTS))


def _refuse(bad: np.ndarray, column: pd.Series, what: str, said: str, remedy: str) -> None:
    """Raise DataError, `WHAT 'column' SAID; REMEDY.`, if any row is bad, `[N]`."""
    if bad.any():
        distinct = dict.fromkeys(map(repr, column[bad].astype(object).tolist()))
        found = ", ".join([*list(distinct)[:3], *(["..."] if len(distinct) > 3 else [])])
        raise DataError(f"{what} {column.name!r} {said.format(rows=rows(int(bad.sum())), found=found)}; {remedy}.")


def _parsed(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """The numbers in a column [N], NaN where there is none; and where it holds something that is not a number [N]."""
    plain = column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column
    try:
        values = pd.to_numeric(plain, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        values = np.full(len(plain), np.nan)
    bad = np.isnan(values) & plain.notna().to_numpy()
    bad[bad] = [not (isinstance(value, str) and value == "") for value in plain[bad]]
    return values, bad
