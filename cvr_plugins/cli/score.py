"""`cvr-plugins predict` and `cvr-plugins evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cvr_plugins.cli._output import remark, stands

if TYPE_CHECKING:
    from cvr_plugins.rechub.scoring import Scoring

_device = click.option("--device", default="cpu", show_default=True, help="Torch device; auto: cuda if there is one.")
_verify = click.option("--verify/--no-verify", default=True, help="Check the files' hashes first; done if not said.")


@click.command(short_help="Score a new log with a run's model.")
@click.argument("run_dir", type=click.Path())
@click.argument("log", type=click.Path())
@click.argument("out", type=click.Path())
@_device
@_verify
def predict(run_dir: str, log: str, out: str, device: str, verify: bool) -> None:
    """Score LOG (CSV or Parquet) with the model of RUN_DIR and write its rows with p_cvr, p_ctr, p_ctcvr to OUT.

    The log is streamed: it may be larger than memory. Its columns pass through, of a CSV log as text. Tokens that are
    not in the run's vocabulary are scored as the unknown id and counted. OUT ends in .csv, .tsv (also with .gz) or
    .parquet and is written whole or not at all.
    """
    from cvr_plugins.rechub.scoring import predict as score

    _check_framework(run_dir, verify)
    with _bar("predict") as on_rows:
        scoring = score(run_dir, log, out, device=device, verify=verify, on_rows=on_rows)
    _echo_notes(scoring)
    with stands(f"{out} is written."):
        click.echo(f"Scored {scoring.rows:,} rows: {out}")


@click.command(short_help="Evaluate a run's model on a labelled log.")
@click.argument("run_dir", type=click.Path())
@click.argument("log", type=click.Path())
@_device
@_verify
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def evaluate(run_dir: str, log: str, device: str, verify: bool, as_json: bool) -> None:
    """Evaluate the model of RUN_DIR on LOG (CSV or Parquet with labels), by task and space."""
    from cvr_plugins.cli._output import echo_json, echo_report
    from cvr_plugins.rechub.scoring import evaluate_run
    from cvr_plugins.training.run_folder import RunFolder

    _check_framework(run_dir, verify)
    with _bar("evaluate") as on_rows:
        report, scoring = evaluate_run(run_dir, log, device=device, verify=verify, on_rows=on_rows)
    if as_json:
        echo_json(
            {
                **report.to_dict(),
                "rows": scoring.rows,
                "unknown": scoring.unknown,
                "notes": list(scoring.notes),
            }
        )
        return
    _echo_notes(scoring)
    mechanism = RunFolder.open(run_dir, verify=False).read_json("metrics.json").get("mechanism")
    echo_report(report, title=f"{run_dir} on {log}", mechanism=mechanism)


def _check_framework(run_dir: str, verify: bool) -> None:
    from cvr_plugins.cli._frameworks import RECBOLE
    from cvr_plugins.training.run_folder import RunFolder, RunFolderError

    if RunFolder.open(run_dir, verify=verify).about.get("framework") == RECBOLE:
        raise RunFolderError(
            f"{run_dir} is a run of RecBole, whose ids are those of its own data set, so that no other log can be "
            "scored: its metrics.json has the test part's metrics, and cvr_plugins.recbole.load_data_and_model gives "
            "its model and data."
        )


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int], None]]:
    from tqdm import tqdm

    with tqdm(desc=what, unit=" rows", unit_scale=True, disable=None, leave=False) as bar:

        def on_rows(count: int) -> None:
            bar.update(count)

        yield on_rows


def _echo_notes(scoring: Scoring) -> None:
    for note in scoring.notes:
        remark(f"Note: {note}")
    for name, count in scoring.unknown.items():
        tokens = "1 token" if count == 1 else f"{count:,} tokens"
        remark(f"Note: column {name!r}: {tokens} not in the run's vocabulary, scored as the unknown id.")
