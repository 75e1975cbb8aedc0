"""The funnel log: a checked table of exposures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd

from cvr_plugins.data import checks
from cvr_plugins.data.errors import DataError, quoted, require_columns, rows
from cvr_plugins.data.schema import Schema
from cvr_plugins.data.tokens import as_token_lists, as_tokens, token_list_series


@dataclass(frozen=True, eq=False)
class FunnelLog:
    """A table of exposures, one row each. Made by `from_frame`, which checks it; the constructor trusts its caller.

    Parameters
    ----------
    frame
        The columns of `schema` in one form: ids and token features as categoricals of strings (code -1: missing),
        `token_seq` features as Arrow lists of strings, float features and the timestamp as float64, labels as int8 with
        conversion and action 0 wherever there was no click, the part as a categorical.
    schema
        Which column plays which part.
    name
        For messages.
    notes
        What the checks changed.
    """

    frame: pd.DataFrame
    schema: Schema
    name: str = "log"
    notes: tuple[str, ...] = ()

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, schema: Schema, *, name: str = "log", notes: Iterable[str] = ()
    ) -> FunnelLog:
        """Check a table and bring it into the form above; `frame` itself is not changed.

        Parameters
        ----------
        frame
            The columns of `schema`; others are ignored, with a note.
        schema
            Which column plays which part.
        name
            Of the log.
        notes
            Put before those of the checks.

        Raises
        ------
        DataError
            Naming the column, the number of rows and the remedy, if columns are missing or doubled, the log is empty, a
            label is not binary or unknown where it must be known, an id is missing, a float feature is not finite, or
            a truth column is impossible.
        """
        where = f"Log {name!r}"
        require_columns(list(frame.columns), schema.columns, where)
        if len(frame) == 0:
            raise DataError(f"{where} has no rows; it needs at least one exposure.")
        found = list(notes)
        ignored = [column for column in frame.columns if column not in schema.columns]
        if ignored:
            found.append(f"Columns that are not in the schema are ignored: {quoted(ignored)}.")
        source = frame[list(schema.columns)].reset_index(drop=True)
        made: dict[str, object] = {}
        for column, kind in schema.kinds.items():
            made[column] = _feature(source[column], kind, where, found, required=column in (schema.user, schema.item))
        labels, changed = checks.clean_labels(source, schema, where)
        made.update(labels)
        found.extend(changed)
        if schema.timestamp is not None:
            made[schema.timestamp] = checks.timestamps(source[schema.timestamp], where)
        if schema.part is not None:
            made[schema.part] = checks.parts(source[schema.part], where)
        clean = pd.DataFrame({column: made[column] for column in schema.columns}, copy=False)
        return cls(clean, schema, name, tuple(found))

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, positions: np.ndarray, *, name: str | None = None) -> FunnelLog:
        """Return the rows at `positions`, in that order, as a log without notes."""
        return FunnelLog(self.frame.take(positions).reset_index(drop=True), self.schema, name or self.name)

    def labels(self) -> dict[str, np.ndarray]:
        """Return float32 arrays `[N]`: `click` and `conversion`; `action` and `counterfactual` if the log has them.

        An action of several columns is their OR: 1 where any of them is.
        """
        columns = dict(self.schema.labels)
        if self.schema.counterfactual is not None:
            columns["counterfactual"] = (self.schema.counterfactual,)
        return {
            label: reduce(np.maximum, (self.frame[name].to_numpy(dtype=np.float32) for name in names))
            for label, names in columns.items()
        }

    def user_codes(self) -> np.ndarray:
        """Return one integer per row, `[N]`, equal for equal users: the groups of GAUC."""
        return self.frame[self.schema.user].cat.codes.to_numpy(dtype=np.int64)

    def summary(self) -> dict[str, float | int | None]:
        """Return counts and rates, None where undefined or not in the log.

        `click_rate` is over exposures, `click_conversion_rate` over clicks (click space), `oracle_conversion_rate` over
        exposures against the counterfactual.
        """
        labels = self.labels()
        total, clicks = len(self), int(labels["click"].sum())
        conversions = int(labels["conversion"].sum())
        oracle = labels.get("counterfactual")
        return {
            "rows": total,
            "users": int(self.frame[self.schema.user].nunique()),
            "items": int(self.frame[self.schema.item].nunique()),
            "clicks": clicks,
            "conversions": conversions,
            "actions": int(labels["action"].sum()) if "action" in labels else None,
            "click_rate": clicks / total if total else None,
            "click_conversion_rate": conversions / clicks if clicks else None,
            "oracle_conversion_rate": float(oracle.mean(dtype=np.float64)) if oracle is not None and total else None,
        }


def _feature(column: pd.Series, kind: str, where: str, notes: list[str], *, required: bool) -> object:
    if kind == "float":
        return checks.finite(column, where)
    if kind == "token_seq":
        return token_list_series(as_token_lists(column))
    tokens = as_tokens(column)
    missing = int((tokens.codes < 0).sum())
    if missing and required:
        raise DataError(
            f"{where}: id column {column.name!r} is missing in {rows(missing)} of {len(column):,}; every exposure "
            "needs a user and an item, so fill or drop them."
        )
    if missing:
        notes.append(f"token column {column.name!r}: missing in {rows(missing)}; these get the id 0.")
    return tokens
