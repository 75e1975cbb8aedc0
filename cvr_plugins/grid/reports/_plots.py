"""The plots of an HTML report, drawn by matplotlib as SVG that needs no other file."""

from __future__ import annotations

import base64
import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from cvr_plugins.grid._cells import GridError
from cvr_plugins.grid._rows import DONE
from cvr_plugins.grid.reports._layout import Layout
from cvr_plugins.grid.reports._results import Results
from cvr_plugins.training.run_folder import RunFolder

_ACROSS = 4
_SIDE = 2.6
_COLOURS = 10
_WIDEST_LEGEND = 4


def calibration_plot(results: Results, layout: Layout, target: str) -> str | None:
    """Draw the reliability curves of "task/space", a panel per row and a line per run.

    Parameters
    ----------
    results : Results
        Of the grid.
    layout : Layout
        What makes a row.
    target : str
        Such as "cvr/click".

    Returns
    -------
    str or None
        SVG in base 64; None if no run has that curve.
    """
    lines = defaultdict(list)
    for label, colour, folder in _finished(results, layout):
        curve = folder.read_json("calibration.json")["curves"].get(target)
        if curve is not None and curve["rows"]:
            lines[label].append((colour, curve["predicted"], curve["observed"]))
    limit = 1.05 * max((max(*xs, *ys) for curves in lines.values() for _, xs, ys in curves), default=0) or 1.0

    def draw(axes: Any, curves: Any) -> None:
        axes.plot([0, limit], [0, limit], color="0.6", linewidth=0.8, linestyle="--")
        for colour, predicted, observed in curves:
            axes.plot(predicted, observed, marker=".", markersize=3, linewidth=0.9, color=colour)
        axes.set(xlim=(0, limit), ylim=(0, limit))

    return _panels(lines, draw, "mean prediction", "mean label")


def training_plot(results: Results, layout: Layout) -> str | None:
    """Draw the watched metric on the validation part by epoch, a panel per row, a line per run, the best epoch marked.

    Parameters
    ----------
    results : Results
        Of the grid.
    layout : Layout
        What makes a row.

    Returns
    -------
    str or None
        SVG in base 64; None if no run is finished.
    """
    lines = defaultdict(list)
    names = set()
    for label, colour, folder in _finished(results, layout):
        history = folder.read_json("history.json")
        watched = history["valid_metric"]
        names.add(watched)
        values = pd.Series([epoch["metrics"].get(watched) for epoch in history["epochs"]], dtype=float)
        lines[label].append((colour, values, history["best_epoch"]))

    def draw(axes: Any, runs: Any) -> None:
        for colour, values, best in runs:
            axes.plot(values, linewidth=0.9, color=colour)
            axes.plot(best, values[best], marker="o", markersize=4, color=colour)
        axes.locator_params(axis="x", integer=True)

    return _panels(lines, draw, "epoch", " / ".join(sorted(names)), share_y=True)


def loss_plot(results: Results, layout: Layout) -> str | None:
    """Draw training loss terms by epoch, a panel per row, a line per term: the mean over its runs still training.

    Parameters
    ----------
    results : Results
        Of the grid.
    layout : Layout
        What makes a row.

    Returns
    -------
    str or None
        SVG in base 64; None if no run is finished.
    """
    losses = defaultdict(list)
    for label, _, folder in _finished(results, layout):
        losses[label].append(pd.DataFrame([epoch["losses"] for epoch in folder.read_json("history.json")["epochs"]]))

    def draw(axes: Any, runs: list[pd.DataFrame]) -> None:
        means = pd.concat(runs).groupby(level=0).mean()
        for term in means:
            axes.plot(means[term], linewidth=1.0, label=term)
        axes.locator_params(axis="x", integer=True)
        axes.legend(fontsize=6, frameon=False, ncol=1 + (means.shape[1] > _WIDEST_LEGEND))

    return _panels(losses, draw, "epoch", "mean loss term")


def _finished(results: Results, layout: Layout) -> Iterator[tuple[str, str, RunFolder]]:
    """(panel, colour, run folder) of every finished run; runs that are compared with each other have one colour."""
    pairs = layout.pairs(results)
    names = [*layout.groups, *layout.columns, *layout.compared]
    for name, run in results.runs[results.runs["status"] == DONE].iterrows():
        yield " ".join(run[names]), f"C{pairs[name] % _COLOURS}", RunFolder.open(results.folder.run_path(str(name)))


def _panels(
    content: dict[str, Any], draw: Callable[[Any, Any], None], xlabel: str, ylabel: str, *, share_y: bool = False
) -> str | None:
    """A panel for each label with what is drawn of its content."""
    if not content:
        return None
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise GridError(
            "The HTML report draws its plots with matplotlib, which is not installed: "
            "pip install 'cvr-plugins[report]', or choose --format md or tex."
        ) from error

    across = min(_ACROSS, len(content))
    down = math.ceil(len(content) / across)
    # Salt and no date: the same results draw the same bytes.
    style: dict[Any, Any] = {"svg.hashsalt": "cvr-plugins", "font.size": 8}
    style |= {"axes.spines.top": False, "axes.spines.right": False}
    # A dollar sign in a name begins no formula.
    style["text.parse_math"] = False
    with mpl.rc_context(style):
        figure = Figure(figsize=(_SIDE * across, _SIDE * down), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(down, across, squeeze=False, sharey=share_y)
        for axes in panels.flat[len(content) :]:
            axes.set_axis_off()
        for axes, (label, drawn) in zip(panels.flat, content.items(), strict=False):
            draw(axes, drawn)
            axes.set_title(label, fontsize=8)
        figure.supxlabel(xlabel)
        figure.supylabel(ylabel)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return base64.b64encode(out.getvalue()).decode("ascii")
