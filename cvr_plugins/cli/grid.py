"""`cvr-plugins grid`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from cvr_plugins.cli._output import remark, stands


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("-c", "--config", "file", required=True, metavar="GRID", help="Grid file, or one of 'configs'.")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the grid's runs and table."
)
@click.option("--resume", is_flag=True, help="Go on in a folder that holds the grid already.")
@click.option("--retry-failed", is_flag=True, help="With --resume: run failed cells again.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Runs at a time.")
@click.option("--dry-run", is_flag=True, help="Check the grid and list its cells, without running any.")
@click.argument("pairs", nargs=-1, metavar="[key=value ...]", type=click.UNPROCESSED)
def grid(
    file: str, out: Path, resume: bool, retry_failed: bool, jobs: int, dry_run: bool, pairs: tuple[str, ...]
) -> int:
    """Run every cell of a grid file: all combinations of its lists, such as methods x architectures x seeds.

    The file holds the keys of a run, 'grid: {model: [Naive, ESMM], seed: [1, 2, 3]}', and may 'exclude' cells, give
    'overrides' to some of them, and list 'variants: {SNIPS: {model: MultiIPW, self_normalized: true}}', names that
    stand for several keys. Each run that ends adds a row to results.csv in OUT at once; a cell that fails is a row with
    its error, and the rest goes on. After an interruption of any kind, --resume runs what is missing and goes on
    with runs that were cut off. key=value pairs replace shared keys of the file and the values of its lists.

    \b
    cvr-plugins grid -c ml-100k-funnel/grid --out results --jobs 4
    cvr-plugins grid -c ml-100k-funnel/grid --out few model=[Naive,NISE] seed=[1,2]
    cvr-plugins report results
    """
    from cvr_plugins.cli.configs import find_config
    from cvr_plugins.config import load_yaml, parse_pairs
    from cvr_plugins.grid import plan, run_grid

    if retry_failed and not resume:
        raise click.UsageError("--retry-failed goes with --resume.", click.get_current_context())
    found = plan(load_yaml(find_config(file)), parse_pairs(pairs))
    product = " x ".join(f"{size} {name}" for name, size in zip(found.dimensions, found.sizes, strict=True))
    left_out = f" less {found.excluded} excluded" if found.excluded else ""
    click.echo(f"{_count(len(found.cells))}: {product}{left_out}")
    if dry_run:
        click.echo("\n".join(str(cell) for cell in found.cells))
        return 0

    watched = {cell.name: cell.config["valid_metric"] for cell in found.cells}
    progress = _Progress(watched, show=found.cells[0].config["show_progress"])
    again = shlex.join(["cvr-plugins", "grid", "-c", file, "-o", str(out), "--resume", *pairs])
    left = f"what has finished is in {out}. Go on with: {again}"
    try:
        with stands(left[0].upper() + left[1:]), progress:
            outcome = run_grid(
                found,
                out,
                resume=resume,
                retry_failed=retry_failed,
                jobs=jobs,
                on_note=progress.note,
                on_start=progress.start,
                on_row=progress.row,
            )
    except KeyboardInterrupt:
        remark(f"Interrupted; {left}")
        return 1
    before = f", {outcome.before} had a result before" if outcome.before else ""
    failed = f", {outcome.failed} of them failed (tracebacks in {out / 'errors'})" if outcome.failed else ""
    with stands(f"The grid is finished, and in {out}."):
        click.echo(f"Ran {_count(outcome.ran)}{failed}{before}: {out / 'results.csv'}")
    return 1 if outcome.failed else 0


class _Progress:
    """A progress bar over the cells, on a terminal, and a line for each that ended."""

    def __init__(self, watched: Mapping[str, str], *, show: bool) -> None:
        from tqdm import tqdm

        self._make = tqdm
        self._disable = None if show else True
        self._watched = watched
        self._bar: Any = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def start(self, cells: int) -> None:
        self._bar = self._make(total=cells, unit="run", disable=self._disable, smoothing=0, dynamic_ncols=True)

    def row(self, row: Mapping[str, str]) -> None:
        if row["status"] == "done":
            # What a run chose its epoch by. The test part is for the report, when nothing is to be chosen any more.
            value = f"{float(row['valid_value']):.4f}" if row["valid_value"] else "undefined"
            collapsed = f", collapsed: {row['collapsed']}" if row["collapsed"] else ""
            line = (
                f"{row['cell']}: {self._watched[row['cell']]} {value} (validation), {row['epochs_run']} epochs, "
                f"{float(row['seconds']):.1f} s{collapsed}"
            )
        else:
            line = f"{row['cell']}: FAILED, {row['error']}"
        self._write(line, click.echo)
        self._bar.update(1)

    def note(self, text: str) -> None:
        self._write(f"Note: {text}", remark)

    def _write(self, line: str, echo: Callable[[str], None]) -> None:
        with self._make.external_write_mode():
            echo(line)


def _count(cells: int) -> str:
    return f"{cells} cell{'s' * (cells != 1)}"
