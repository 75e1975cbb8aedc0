"""Putting a report together: tables and plots by format, each file whole or not at all."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cvr_plugins.files import check_apart, whole_file
from cvr_plugins.grid._cells import GridError
from cvr_plugins.grid.reports import _plots
from cvr_plugins.grid.reports._layout import Layout
from cvr_plugins.grid.reports._results import Results, choose
from cvr_plugins.grid.reports._tables import Table, difference_tables, summary_table
from cvr_plugins.grid.reports._text import to_html, to_latex, to_markdown
from cvr_plugins.metrics import parse_key
from cvr_plugins.plugins import registry

FORMATS = ("md", "tex", "html")

USUAL = (
    ("cvr/oracle/auc", "cvr/oracle/log_loss", "cvr/oracle/calibration", "cvr/click/auc", "cvr/entire/auc"),
    ("cvr/click/auc", "ctcvr/entire/auc", "cvr/click/log_loss", "ctcvr/entire/log_loss"),
)
"""Metrics of a report that was asked for none: where the truth is known, and what a real log can judge."""

CURVES = ("cvr/oracle", "cvr/click", "cvr/entire", "ctcvr/entire")
"""Tasks and spaces whose calibration is drawn, the first two that a grid has."""

_STYLE = """
body { font-family: system-ui, sans-serif; margin: 2rem; color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; font-size: 0.9rem; border-bottom: 1px solid #555; }
thead, tbody th { border-top: 1px solid #555; }
th, td { padding: 0.2rem 0.7rem; text-align: right; font-weight: normal; font-variant-numeric: tabular-nums; }
tbody th { text-align: left; }
li { font-size: 0.85rem; } img { max-width: 100%; }
"""


@dataclass(frozen=True)
class Request:
    """What a report shows.

    Parameters
    ----------
    metrics : sequence of str
        Keys `task/space/metric`, empty for the usual ones.
    baseline : str or None
        See `difference_tables`.
    compared, columns, over : sequence of str
        See `Layout.of`.
    digits : int
        Decimals of values.
    chosen : sequence of str
        Dimensions to choose on the validation part, see `choose`.
    """

    metrics: Sequence[str] = ()
    baseline: str | None = None
    compared: Sequence[str] = ()
    columns: Sequence[str] = ()
    over: Sequence[str] | None = None
    digits: int = 4
    chosen: Sequence[str] = ()


def render(results: Results, request: Request, formats: Sequence[str]) -> dict[str, str]:
    """Return the content of a report by format.

    Parameters
    ----------
    results : Results
        Of the grid.
    request : Request
        What to show.
    formats : sequence of str
        Some of `FORMATS`.

    Returns
    -------
    dict
        Format -> text.

    Raises
    ------
    GridError
        For formats, metrics, dimensions and baselines that do not exist, and for "html" without matplotlib.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise GridError(f"Unknown report format {unknown[0]!r}; there are {', '.join(FORMATS)}.")
    if request.chosen:
        results = choose(results, request.chosen)
    metrics = _metrics(results, request.metrics)
    layout = Layout.of(results, compared=request.compared, columns=request.columns, over=request.over)
    tables = [summary_table(results, layout, metrics, digits=request.digits)]
    tables += difference_tables(results, layout, metrics, request.baseline, digits=request.digits)
    made = {
        "md": lambda: "\n".join(map(to_markdown, tables)),
        "tex": lambda: "\n".join(["% Needs \\usepackage{booktabs}.", *map(to_latex, tables)]),
        "html": lambda: _html(results, layout, tables),
    }
    return {name: made[name]() for name in formats}


def write_report(
    path: str | Path, request: Request, formats: Sequence[str], out: str | Path | None = None
) -> list[Path]:
    """Write `report.<format>` for each format; nothing is written if anything is wrong.

    Parameters
    ----------
    path : str or Path
        The grid's folder.
    request : Request
        What to show.
    formats : sequence of str
        Some of `FORMATS`.
    out : str, Path or None
        Folder to write into, None for the grid's.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    GridError
        As `Results.read` and `render` do.
    """
    content = render(Results.read(path), request, formats)
    files = []
    for name, text in content.items():
        file = Path(path if out is None else out) / f"report.{name}"
        check_apart(file, [Path(path, read) for read in ("grid.json", "results.csv", "runs")])
        with whole_file(file) as aside:
            aside.write_text(text, encoding="utf-8")
        files.append(file)
    return files


def _metrics(results: Results, asked: Sequence[str]) -> list[str]:
    known = results.metrics
    if not asked:
        usual = USUAL[0] if any(key.startswith("cvr/oracle/") for key in known) else USUAL[1]
        return [key for key in usual if key in known] or known[:4]
    keys = ["/".join(parse_key(key, find=registry().metric)) for key in asked]
    missing = [key for key in keys if key not in known]
    if missing:
        raise GridError(f"No run of this grid has a value of {missing[0]}; there are {', '.join(known)}.")
    return list(dict.fromkeys(keys))


def _html(results: Results, layout: Layout, tables: Sequence[Table]) -> str:
    title = html.escape(f"Grid {results.folder.path.name}")
    curves = [
        (f"Calibration of {target} on the test part, a line per run", _plots.calibration_plot(results, layout, target))
        for target in CURVES
    ]
    plots = [
        *[curve for curve in curves if curve[1] is not None][:2],
        (
            "The watched metric on the validation part, a line per run, a dot at the epoch kept",
            _plots.training_plot(results, layout),
        ),
        ("Training loss terms before any weighting, mean over runs", _plots.loss_plot(results, layout)),
    ]
    pictures = "\n".join(
        f'<h2>{html.escape(caption)}</h2>\n<img alt="{html.escape(caption)}" src="data:image/svg+xml;base64,{drawn}">'
        for caption, drawn in plots
        if drawn is not None
    )
    content = "\n".join([*map(to_html, tables), pictures])
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{content}\n</body>\n</html>\n"
    )
