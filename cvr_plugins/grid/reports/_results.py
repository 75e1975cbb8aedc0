"""The results of a grid as a report reads them, and settings chosen among them on the validation part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from cvr_plugins.config import KEYS
from cvr_plugins.grid._cells import GridError, text_of
from cvr_plugins.grid._folder import GridFolder
from cvr_plugins.grid._rows import DONE, SUPPORT
from cvr_plugins.grid._spec import VARIANT
from cvr_plugins.metrics import direction
from cvr_plugins.nearest import unknown
from cvr_plugins.plugins import registry

NOT_RUN = "not run"
WATCHED = "valid_metric"


@dataclass(frozen=True)
class Results:
    """The cells of a grid's folder, in the grid's order, also those that failed or have not run.

    Parameters
    ----------
    folder : GridFolder
        Where they were read from.
    dimensions : tuple of str
        Names of the grid's dimensions, each a column of `runs`.
    runs : DataFrame
        A row per cell, under its name: the dimensions as text; `status`, "done", "failed" or "not run"; `error`;
        `collapsed`, tasks whose predictions are as good as constant; `mechanism`, `acted` and `idle`: the figure by
        which the method's mechanism is seen to act, its value in the kept epoch, and "yes" if it did nothing;
        `valid_value`, the watched metric on the
        validation part; and `task/space/metric` for each, NaN where it is undefined.
    chosen : mapping
        Dimensions that were chosen on the validation part -> value -> how many of the runs have it.
    """

    folder: GridFolder
    dimensions: tuple[str, ...]
    runs: pd.DataFrame
    chosen: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> Results:
        """Read the folder of a grid, finished or not.

        Parameters
        ----------
        path : str or Path
            The grid's folder.

        Returns
        -------
        Results
            To a grid with neither a dimension `variant` nor `model`, `model` is added, so that tables name its method.

        Raises
        ------
        GridError
            If it is no such folder or has no finished run yet.
        """
        folder = GridFolder(Path(path))
        content = folder.grid()
        dimensions = list(content["dimensions"])
        rows = folder.read()
        found = {row["cell"]: row for row in rows}
        if not any(row["status"] == DONE for row in rows):
            raise GridError(
                f"{path} has no finished run yet; {len(rows)} failed." if rows else f"{path} has no result."
            )
        planned = [
            {
                "status": NOT_RUN,
                **found.pop(name, {}),
                "cell": name,
                **{dimension: text_of(value) for dimension, value in cell.items()},
            }
            for name, cell in content["cells"].items()
        ]
        runs = pd.DataFrame([*planned, *found.values()], columns=list(rows[0])).set_index("cell").fillna("")
        figures = ["valid_value", "acted", *(key for key in runs if key.count("/") == 2)]
        runs[figures] = runs[figures].replace("", "nan").astype(float)
        if not {VARIANT, "model"} & {*dimensions}:
            dimensions.insert(0, "model")
            runs["model"] = text_of(content["source"].get("model", "run"))
        return cls(folder, tuple(dimensions), runs)

    def require(self, names: Iterable[str]) -> None:
        """Raise GridError, with the nearest, unless all of these are dimensions."""
        for name in names:
            if name not in self.dimensions:
                raise GridError(unknown(f"{name!r} is no dimension of this grid.", name, self.dimensions))

    def values_of(self, dimension: str) -> list[str]:
        """Return the values a dimension takes, in the grid's order."""
        return list(self.runs[dimension].unique())

    @property
    def varied(self) -> list[str]:
        """Dimensions that take more than one value."""
        return [each for each in self.dimensions if len(self.values_of(each)) > 1]

    @property
    def metrics(self) -> list[str]:
        """Keys that at least one run has a value of, in the table's order."""
        known = self.runs.columns[self.runs.notna().any()]
        return [key for key in known if key.count("/") == 2 and key.rpartition("/")[2] not in SUPPORT]


def choose(results: Results, names: Sequence[str]) -> Results:
    """Return results without some dimensions, in which each run is the best of those that differ in them only.

    Best is the value of `valid_metric` at the kept epoch, on the validation part; the first of equal ones. So every
    seed chooses by itself, and failed runs are not chosen where another is finished.

    Parameters
    ----------
    results : Results
        Of a grid that is finished.
    names : sequence of str
        The dimensions to choose.

    Returns
    -------
    Results
        Its `chosen` says which values were.

    Raises
    ------
    GridError
        For names that are no dimensions, for a grid that is not finished, and where the runs did not all watch one
        metric.
    """
    results.require(names)
    runs = results.runs
    waiting = (runs["status"] == NOT_RUN).sum()
    if waiting:
        raise GridError(
            f"{waiting} of {len(runs)} runs are not finished, and any of them may be the best; go on with "
            "'cvr-plugins grid --resume' before choosing."
        )
    highest = _watched_direction(results, names) == "max"
    kept = [name for name in results.dimensions if name not in names]
    # Ranks, since of a run without a value, which is a failed one, there is a rank too: the lowest.
    worth = runs["valid_value"].rank(method="min", ascending=highest, na_option="top")
    best = runs.loc[worth.groupby([runs[name] for name in kept] or (lambda _: 0), sort=False).idxmax()]
    counts = {name: best[name].value_counts() for name in names}
    chosen = {
        name: {value: int(times[value]) for value in results.values_of(name) if value in times}
        for name, times in counts.items()
    }
    return replace(results, dimensions=tuple(kept), runs=best, chosen={**results.chosen, **chosen})


def _watched_direction(results: Results, names: Sequence[str]) -> str:
    """Where the watched metric of all runs is best, "max" or "min"."""
    source = results.folder.grid()["source"]
    settings = [*(source.get("variants") or {}).values(), *(entry["set"] for entry in source.get("overrides") or ())]
    if WATCHED in results.dimensions or any(WATCHED in keys for keys in settings):
        raise GridError(
            f"The runs of this grid did not all watch one {WATCHED}, so that {', '.join(names)} cannot be chosen by it."
        )
    return direction(source.get(WATCHED, KEYS[WATCHED].default), find=registry().metric)
