"""How a report arranges a grid: what makes a row, what a column, what is averaged over and what is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from cvr_plugins.grid._cells import GridError
from cvr_plugins.grid._spec import VARIANT
from cvr_plugins.grid.reports._results import Results

SEED = "seed"
METHODS = (VARIANT, "model")


@dataclass(frozen=True)
class Layout:
    """Dimensions by their part in a table.

    Parameters
    ----------
    groups : list of str
        They name a block of rows, within which values are compared.
    compared : list of str
        They name a row of its block.
    columns : list of str
        Side by side.
    over : list of str
        Averaged over, and paired in differences.
    fixed : list of str
        Take one value only.
    """

    groups: list[str]
    compared: list[str]
    columns: list[str]
    over: list[str]
    fixed: list[str]

    @classmethod
    def of(
        cls,
        results: Results,
        *,
        compared: Sequence[str] = (),
        columns: Sequence[str] = (),
        over: Sequence[str] | None = None,
    ) -> Layout:
        """Arrange a grid: seeds are averaged over, methods compared, every other dimension makes blocks of rows.

        Parameters
        ----------
        results : Results
            Of the grid.
        compared : sequence of str
            Empty for `variant`, else `model`, or if neither varies the last dimension that does.
        columns : sequence of str
            Dimensions to put side by side.
        over : sequence of str or None
            None for `seed`.

        Returns
        -------
        Layout
            With a part for each dimension.

        Raises
        ------
        GridError
            For names that are no dimensions or play two parts, and if nothing is left to compare.
        """
        results.require((*columns, *(over or ()), *compared))
        averaged = list(over) if over is not None else [name for name in results.dimensions if name == SEED]
        asked = [*columns, *averaged, *compared]
        twice = [name for name in asked if asked.count(name) > 1]
        if twice:
            raise GridError(f"{twice[0]!r} can only be one of compared, column and averaged over.")
        rows = [name for name in results.varied if name not in columns and name not in averaged]
        if not compared:
            methods = [name for name in METHODS if name in results.dimensions]
            varied = [name for name in methods if name in rows]
            compared = (varied or rows[-1:] or methods)[:1]
            if not compared:
                raise GridError(f"Nothing is left to compare: {', '.join(results.chosen)} is chosen for each run.")
            if compared[0] in asked:
                raise GridError(f"Nothing is left to compare: {', '.join(asked)} are columns or averaged over.")
        groups = [name for name in rows if name not in compared]
        used = {*groups, *compared, *columns, *averaged}
        fixed = [name for name in results.dimensions if name not in used]
        return cls(groups, list(compared), list(columns), averaged, fixed)

    @property
    def rows(self) -> list[str]:
        """Dimensions that name a row."""
        return [*self.groups, *self.compared]

    def arranged(self, results: Results) -> pd.DataFrame:
        """Return the runs with those of a block and of a row together, in the grid's order."""
        return results.runs.sort_values(self.rows, key=lambda values: pd.factorize(values)[0], kind="stable")

    def pairs(self, results: Results) -> pd.Series:
        """Return a number for each run that those have in common which are compared: equal values averaged over."""
        runs = results.runs
        return runs.groupby(self.over, sort=False).ngroup() if self.over else pd.Series(0, runs.index)
