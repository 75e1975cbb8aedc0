"""The plots of an HTML report, drawn by matplotlib as SVG that needs no other file."""

from __future__ import annotations

import base64
import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cvr_plugins.grid._errors import GridError
from cvr_plugins.grid._rows import DONE
from cvr_plugins.grid.reports._layout import Layout
from cvr_plugins.grid.reports._results import Results
from cvr_plugins.training.run_folder import RunFolder

_ACROSS = 4
_SIDE = 2.6
_COLOURS = 10
_WIDEST_LEGEND = 4


def require_matplotlib() -> None:
    """Raise GridError, saying how to install it, unless matplotlib can be imported."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise GridError(
            "The HTML report draws its plots with matplotlib, which is not installed: "
            "pip install 'cvr-plugins[report]', or choose --format md or tex."
        ) from error


def calibration_plot(results: Results, layout: Layout, target: str) -> str | None:
    """Reliability curves of "task/space", a panel per row and a line per run; None if no run has that curve."""
    lines: dict[str, list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)
    for label, colour, folder in _finished(results, layout):
        curve = folder.read_json("calibration.json")["curves"].get(target)
        if curve is not None and curve["rows"]:
            lines[label].append((colour, curve))
    if not lines:
        return None
    largest = max(max(*curve["predicted"], *curve["observed"]) for curves in lines.values() for _, curve in curves)
    limit = 1.05 * largest or 1.0

    def draw(axes: Any, label: str) -> None:
        axes.plot([0, limit], [0, limit], color="0.6", linewidth=0.8, linestyle="--")
        for colour, curve in lines[label]:
            axes.plot(curve["predicted"], curve["observed"], marker=".", markersize=3, linewidth=0.9, color=colour)
        axes.set(xlim=(0, limit), ylim=(0, limit))

    return _panels(list(lines), draw, "mean prediction", "mean label")


def training_plot(results: Results, layout: Layout) -> str | None:
    """The watched metric on the validation part by epoch, a panel per row and a line per run, the best epoch marked."""
    lines: dict[str, list[tuple[str, list[float], int]]] = defaultdict(list)
    names = set()
    for label, colour, folder in _finished(results, layout):
        history = folder.read_json("history.json")
        names.add(history["valid_metric"])
        values = [epoch["metrics"].get(history["valid_metric"]) for epoch in history["epochs"]]
        lines[label].append((colour, [math.nan if v is None else v for v in values], history["best_epoch"]))
    if not lines:
        return None

    def draw(axes: Any, label: str) -> None:
        for colour, values, best in lines[label]:
            axes.plot(range(len(values)), values, linewidth=0.9, color=colour)
            axes.plot(best, values[best], marker="o", markersize=4, color=colour)
        axes.locator_params(axis="x", integer=True)

    return _panels(list(lines), draw, "epoch", " / ".join(sorted(names)), share_y=True)


def loss_plot(results: Results, layout: Layout) -> str | None:
    """Training loss terms by epoch, a panel per row and a line per term, the mean over its runs still training."""
    lines: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for label, _, folder in _finished(results, layout):
        for number, epoch in enumerate(folder.read_json("history.json")["epochs"]):
            for term, value in epoch["losses"].items():
                by_epoch = lines[label][term]
                by_epoch.extend([] for _ in range(number + 1 - len(by_epoch)))
                by_epoch[number].append(value)
    if not lines:
        return None

    def draw(axes: Any, label: str) -> None:
        for term, by_epoch in lines[label].items():
            axes.plot(range(len(by_epoch)), [sum(v) / len(v) for v in by_epoch], linewidth=1.0, label=term)
        axes.locator_params(axis="x", integer=True)
        axes.legend(fontsize=6, frameon=False, ncol=1 + (len(lines[label]) > _WIDEST_LEGEND))

    return _panels(list(lines), draw, "epoch", "mean loss term")


def _finished(results: Results, layout: Layout) -> Iterator[tuple[str, str, RunFolder]]:
    """(panel, colour, run folder) of every finished run; runs that are compared with each other have one colour."""
    pairs = list(dict.fromkeys(layout.pair_of(record) for record in results.records))
    for record in results.records:
        if record.status == DONE:
            names = (*layout.group_of(record), *layout.column_of(record), *layout.value_of(record))
            colour = f"C{pairs.index(layout.pair_of(record)) % _COLOURS}"
            yield " ".join(names), colour, RunFolder.open(results.folder.run_path(record.name))


def _panels(
    labels: Sequence[str], draw: Callable[[Any, str], None], xlabel: str, ylabel: str, *, share_y: bool = False
) -> str:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    across = min(_ACROSS, len(labels))
    down = math.ceil(len(labels) / across)
    # Salt and no date: the same results draw the same bytes.
    with mpl.rc_context(
        {"svg.hashsalt": "cvr-plugins", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(_SIDE * across, _SIDE * down), layout="constrained")
        FigureCanvasSVG(figure)
        grid = figure.subplots(down, across, squeeze=False, sharey=share_y)
        for axes in grid.flat[len(labels) :]:
            axes.set_axis_off()
        for axes, label in zip(grid.flat, labels, strict=False):
            draw(axes, label)
            axes.set_title(label, fontsize=8)
        figure.supxlabel(xlabel)
        figure.supylabel(ylabel)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return base64.b64encode(out.getvalue()).decode("ascii")
