"""The tables of a report, before they become Markdown, LaTeX or HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cvr_plugins.grid._cells import GridError
from cvr_plugins.grid._rows import DONE, FAILED
from cvr_plugins.grid.reports._layout import Layout
from cvr_plugins.grid.reports._results import NOT_RUN, Results
from cvr_plugins.grid.reports._statistics import Difference, difference_of, holm
from cvr_plugins.metrics import parse_key
from cvr_plugins.nearest import unknown
from cvr_plugins.plugins import registry

UNDEFINED = "undefined"
ARROWS = {"max": "↑", "min": "↓", "one": "→ 1"}


@dataclass(frozen=True)
class Table:
    """A titled table of text with notes below.

    Parameters
    ----------
    title : str
        Above it.
    text : DataFrame
        Its fields; the index names the rows, a level for each dimension.
    best : DataFrame or None
        Which fields are to be set in bold; None for none.
    groups : int
        How many of the first levels of the index name a block, which a rule parts from the next.
    notes : tuple of str
        Below it.
    """

    title: str
    text: pd.DataFrame
    best: pd.DataFrame | None
    groups: int
    notes: tuple[str, ...]


def summary_table(results: Results, layout: Layout, metrics: Sequence[str], *, digits: int = 4) -> Table:
    """Return mean and sample standard deviation of each metric per row, the best mean of each block in bold.

    What failed, has not run or collapsed is counted in columns of their own where there is any; another says what the
    methods' mechanisms did in the kept epochs.

    Parameters
    ----------
    results : Results
        Of the grid.
    layout : Layout
        What makes rows and columns.
    metrics : sequence of str
        Keys `task/space/metric`.
    digits : int
        Decimals.

    Returns
    -------
    Table
        With a column for each metric of each column of the layout.
    """
    runs = layout.arranged(results)
    rows = [runs[name] for name in layout.rows]
    text = pd.DataFrame(index=runs.groupby(layout.rows, sort=False).size().index)
    best = text.copy()
    for column, part in grouped(results.runs, layout.columns):
        cells = part.groupby(layout.rows, sort=False)
        for metric in metrics:
            name = " ".join([*column, head(metric)])
            needed = ["status", metric, f"{metric.rpartition('/')[0]}/mean_predicted"]
            text[name] = cells[needed].apply(_mean_text, metric, digits)
            means = _compared_values(metric, cells[metric].mean()).reindex(text.index)
            block = means.groupby(level=layout.groups) if layout.groups else means.groupby(lambda _: 0)
            least = _direction(metric) != "max"
            best[name] = (block.rank(method="min", ascending=least) == 1) & (block.transform("size") > 1)
    counted = {"runs": runs["status"] == DONE}
    counted |= {status: runs["status"] == status for status in (FAILED, NOT_RUN)}
    counted["collapsed"] = runs["collapsed"] != ""
    for name, which in counted.items():
        if name == "runs" or which.any():
            text[name] = which.groupby(rows, sort=False).sum().astype(str)
            best[name] = False
    if (runs["mechanism"] != "").any():
        text["mechanism"] = runs.groupby(layout.rows, sort=False)[["mechanism", "acted", "idle"]].apply(_mechanism_text)
        best["mechanism"] = False
    notes = tuple(_summary_notes(results, layout, metrics))
    return Table("Results on the test part", text.fillna(""), best, len(layout.groups), notes)


def difference_tables(
    results: Results, layout: Layout, metrics: Sequence[str], baseline: str | None = None, *, digits: int = 4
) -> list[Table]:
    """Return a table per metric: each row's paired differences to the baseline of its block and column, with tests.

    Of a metric that is best at 1 the distances from 1 are compared.

    Parameters
    ----------
    results : Results
        Of the grid.
    layout : Layout
        What makes rows and columns, and what is paired.
    metrics : sequence of str
        Keys `task/space/metric`.
    baseline : str or None
        The name of a row, the values of several compared dimensions parted by spaces; None for the first.
    digits : int
        Decimals.

    Returns
    -------
    list of Table
        Empty if there is only one row to compare.

    Raises
    ------
    GridError
        For a baseline that no row has.
    """
    values = {" ".join(value): value for value, _ in grouped(layout.arranged(results), layout.compared)}
    if baseline is not None and baseline not in values:
        what = f"The baseline {baseline!r} is no value of {' '.join(layout.compared)}."
        raise GridError(unknown(what, baseline, values))
    if len(values) < 2:
        return []
    chosen = values[next(iter(values)) if baseline is None else baseline]
    return [_difference_table(results, layout, metric, chosen, digits) for metric in metrics]


def grouped(runs: pd.DataFrame, names: list[str]) -> Iterable[tuple[Any, pd.DataFrame]]:
    """Return (values of `names`, their runs) in order of appearance; all runs at once for no name."""
    return runs.groupby(names, sort=False) if names else [((), runs)]


def head(metric: str) -> str:
    """Return a metric's column head: its key and an arrow to its better values."""
    return f"{metric} {ARROWS[_direction(metric)]}"


def _difference_table(results: Results, layout: Layout, metric: str, baseline: tuple[str, ...], digits: int) -> Table:
    runs = layout.arranged(results)
    runs = runs.assign(**{metric: _compared_values(metric, runs[metric])})
    runs.index = pd.Index(layout.pairs(results)[runs.index])
    blocks = [*layout.groups, *layout.columns]
    found: dict[tuple[str, ...], Difference] = {}
    for block, part in grouped(runs, blocks):
        rows = {value: each[metric].dropna() for value, each in grouped(part, layout.compared)}
        theirs = rows.pop(baseline, None)
        if theirs is not None:
            found |= {(*block, *value): difference_of(ours, theirs) for value, ours in rows.items()}
    labels = pd.MultiIndex.from_frame(pd.DataFrame(list(found), columns=[*blocks, *layout.compared], dtype=object))
    figures = pd.DataFrame(list(found.values()), labels, columns=Difference._fields)
    adjusted = holm(figures["t_test"])
    heads = ["difference", "relative", "pairs", "p (t-test)", "p (Wilcoxon)", "p (t-test, Holm)"]
    fields = [_difference_row(each, p, digits) for each, p in zip(found.values(), adjusted, strict=True)]
    title = f"Difference to {' '.join(baseline)} in {head(metric)}"
    if _direction(metric) == "one":
        title = f"Difference to {' '.join(baseline)} in the distance of {metric} from 1 {ARROWS['min']}"
    notes = tuple(_difference_notes(figures, layout))
    return Table(title, pd.DataFrame(fields, labels, columns=heads), None, len(blocks), notes)


def _difference_row(found: Difference, adjusted: float, digits: int) -> list[str]:
    if not found.pairs:
        return [UNDEFINED, "", "0", "", "", ""]
    relative = UNDEFINED if math.isnan(found.relative) else f"{100 * found.relative:+.2f} %"
    tests = [_p(found.t_test), _p(found.wilcoxon), _p(adjusted)]
    return [_with_spread(found.mean, found.spread, f"+.{digits}f"), relative, str(found.pairs), *tests]


def _difference_notes(figures: pd.DataFrame, layout: Layout) -> Iterator[str]:
    tested = figures.loc[figures["t_test"].notna(), "pairs"]
    yield (
        "Mean ± sample standard deviation of the differences between runs of equal "
        f"{', '.join(layout.over) or 'run'}; two-sided paired tests. "
        f"Holm's adjustment counts all {len(tested)} t-tests of this table."
    )
    # The least two-sided p-value of the exact test, of all signs equal.
    least = 2.0 ** (1 - tested.min())
    if least > 0.01:
        yield f"With {tested.min()} pairs Wilcoxon's p-value is at least {least:g}, whatever the data."


def _summary_notes(results: Results, layout: Layout, metrics: Sequence[str]) -> Iterator[str]:
    over = [f"{name} {', '.join(results.values_of(name))}" for name in layout.over]
    about = f" over {'; '.join(over)}" if over else ""
    yield f"Mean ± sample standard deviation{about}; no spread for a single run. Bold: best mean of its block."
    if layout.fixed:
        yield f"All runs: {', '.join(f'{name} {results.values_of(name)[0]}' for name in layout.fixed)}."
    for name, times in results.chosen.items():
        counts = ", ".join(f"{value} ({count})" for value, count in times.items())
        yield f"{name}: chosen by each run's value of the watched metric on the validation part; runs with {counts}."
    if not any(key.startswith("cvr/oracle/") for key in results.metrics):
        yield (
            "The log does not say what would have followed a click that did not happen: cvr/click judges CVR on "
            "clicked rows only and ctcvr/entire its product with CTR; nothing here judges CVR on unclicked rows."
        )
        if any(key.startswith("cvr/entire/") for key in metrics):
            yield "cvr/entire counts every unclicked row as one without conversion, and so rewards low predictions."
    runs = results.runs
    collapsed = runs.loc[runs["collapsed"] != "", "collapsed"].str.replace(" ", ", ")
    if len(collapsed):
        where = ", ".join(f"{name} ({tasks})" for name, tasks in collapsed.items())
        yield f"Collapsed, their predictions as good as constant: {where}."
    for failed, error in runs.loc[runs["status"] == FAILED, "error"].items():
        yield f"Failed: {failed}: {error}"


def _mean_text(runs: pd.DataFrame, metric: str, digits: int) -> str:
    """Return mean and spread of a row's runs, or why there is none."""
    values = runs[metric].dropna()
    done = runs["status"] == DONE
    if len(values):
        partly = f" ({len(values)} of {done.sum()})" if len(values) < done.sum() else ""
        return _with_spread(values.mean(), values.std(), f".{digits}f") + partly
    if done.any():
        # A metric without a value is undefined only where its task and space were evaluated at all.
        return UNDEFINED if runs[f"{metric.rpartition('/')[0]}/mean_predicted"].notna().any() else ""
    return FAILED if (runs["status"] == FAILED).any() else NOT_RUN


def _mechanism_text(runs: pd.DataFrame) -> str:
    """Return what the mechanism of a row's method did, and in how many runs nothing."""
    runs = runs[runs["mechanism"] != ""]
    means = runs.groupby("mechanism", sort=False)["acted"].mean()
    said = ", ".join(f"{says} {UNDEFINED if math.isnan(mean) else f'{mean:.3g}'}" for says, mean in means.items())
    idle = (runs["idle"] != "").sum()
    return f"{said}; did nothing in {idle} of {len(runs)}" if idle else said


def _with_spread(mean: float, spread: float, form: str) -> str:
    return f"{mean:{form}}" if math.isnan(spread) else f"{mean:{form}} ± {spread:{form.lstrip('+')}}"


def _p(value: float) -> str:
    if math.isnan(value):
        return UNDEFINED
    return f"{value:.4f}" if value >= 1e-4 else "< 0.0001"


def _direction(metric: str) -> str:
    find = registry().metric
    return find(parse_key(metric, find=find).metric).best


def _compared_values(metric: str, values: pd.Series) -> pd.Series:
    """Return the values themselves, or how far they are from 1 for a metric that is best there."""
    return (values - 1).abs() if _direction(metric) == "one" else values
