"""How results are shown: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from cvr_plugins.files import OutputError

if TYPE_CHECKING:
    from rich.table import Table

    from cvr_plugins.metrics import Report
    from cvr_plugins.training.history import EpochRecord, History

UNDEFINED = "undefined"

_SPACES = {
    "click": "the clicked rows",
    "entire": "all rows, unclicked ones counting as not converted",
    "oracle": "all rows against the conversion had they been clicked",
}
_UNBOUNDED = 100_000


def remark(text: str) -> None:
    """Print a line to standard error; where that is full, nothing ends for it."""
    with suppress(OSError):
        click.echo(text, err=True)


@contextmanager
def stands(what: str) -> Iterator[None]:
    """Say of a standard output that is closed or full what stands all the same."""
    try:
        yield
    except OSError as error:
        # What another part of ours has said already is passed on as it is.
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{error.strerror or error}. {what}") from error


def echo_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def echo_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print rows as a table; columns of numbers are set flush right and never folded."""
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(columns))]
    _print(columns, cells, numeric, title)


def echo_report(report: Report, *, title: str, mechanism: Mapping[str, Any] | None = None) -> None:
    """Print a report: a column for each task and space, a line for each metric, and what the spaces are.

    So it fits into 80 columns with all tasks; metrics may be many. mechanism: `RunResult.mechanism`.
    """
    targets = list(report.support)
    keys = [key.rpartition("/") for key in report.values]
    metrics = list(dict.fromkeys(metric for target, _, metric in keys if target in report.support))
    supports = [report.support[target] for target in targets]
    cells = [
        ["rows", *(f"{support.rows:,}" for support in supports)],
        ["positives", *(f"{support.positives:,}" for support in supports)],
        ["mean predicted", *(_metric(support.mean_predicted) for support in supports)],
        ["mean observed", *(_metric(support.mean_observed) for support in supports)],
    ]
    cells += [[metric, *(_metric(report.values.get(f"{target}/{metric}")) for target in targets)] for metric in metrics]
    _print(["", *(target.replace("/", "\n") for target in targets)], cells, [False, *(True for _ in targets)], title)
    present = {target.split("/")[1] for target in targets}
    click.echo("\n".join(f"{space}: {meaning}" for space, meaning in _SPACES.items() if space in present))
    if mechanism is not None:
        value = "none" if mechanism["value"] is None else f"{mechanism['value']:.4g}"
        idle = ": the method's mechanism did nothing" if mechanism["idle"] else ""
        click.echo(f"{mechanism['says']} in the kept epoch: {value}{idle}")


def epoch_line(record: EpochRecord, watched: str) -> str:
    """Return what is said of an epoch; watched: name of the validation metric."""
    terms = " ".join(f"{name} {value:.4f}" for name, value in record.losses.items())
    # RecBole's own models have one loss, without a name of its own.
    parts = [
        f"epoch {record.epoch:3d}",
        terms if list(record.losses) == ["loss"] else f"loss: {terms}" if terms else "",
    ]
    if record.factors:
        parts.append("factor: " + " ".join(f"{task} {value:.4g}" for task, value in record.factors.items()))
    if record.value is not None:
        parts.append(f"{watched} {record.value:.4f}{' *' if record.improved else ''}")
    return "  ".join(filter(None, parts))


def ending(history: History) -> str:
    """Return what is said of how training ended."""
    last = history.records[-1].epoch
    said = {
        "all epochs": f"Training ran all {len(history.records)} epochs",
        "early": f"Training stopped after epoch {last}",
        "interrupted": f"Training was interrupted after epoch {last}",
    }[history.stopped]
    if history.best_value is None:
        return f"{said}."
    kept = f"kept the weights of epoch {history.best_epoch}, {history.valid_metric} {history.best_value:.4f}"
    return f"{said}; {kept} on the validation part."


def flat(values: Mapping[str, Any]) -> str:
    """Return `a: 1, b: 2` of a mapping, numbers short, undefined ones left out."""
    shown = {k: f"{v:.4f}" if isinstance(v, float) else f"{v:,}" for k, v in values.items() if v is not None}
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in shown.items())


def _metric(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.4f}"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _is_number(text: str) -> bool:
    return text in ("", UNDEFINED) or text.replace(",", "").replace(".", "", 1).replace("-", "", 1).isdigit()


def _print(columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], title: str | None) -> None:
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        table = _table(columns, cells, numeric)
        # Where the terminal is too narrow it breaks the lines; rich would cut words and numbers off.
        needed = Console(width=_UNBOUNDED).measure(table).minimum
        console = Console(width=max(console.width, needed))
    else:
        # A file or a pipe has no width to respect, and lines without frames are easier to search and to cut.
        table = _table(columns, cells, numeric, box=None)
        console = Console(width=_UNBOUNDED)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    framed = "\n".join(lines).strip("\n")
    click.echo(f"{title}\n{framed}" if title else framed)


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], **box: Any) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(**{"box": SIMPLE_HEAD, **box}, pad_edge=False)
    for name, right in zip(columns, numeric, strict=True):
        # Text, since a name may hold brackets, which rich would take for its own markup.
        table.add_column(Text(name), justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    return table
