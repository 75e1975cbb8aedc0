"""`cvr-plugins export`: a data set as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvr_plugins.cli._output import remark, stands

if TYPE_CHECKING:
    from cvr_plugins.config import Config
    from cvr_plugins.data import FunnelLog


@click.command(short_help="Write a data set as a file.", context_settings={"ignore_unknown_options": True})
@click.argument("dataset")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("-c", "--config", "files", multiple=True, metavar="FILE", help="Configuration naming the columns.")
@click.option(
    "--part",
    type=click.Choice(["train", "valid", "test"]),
    help="This part alone, as a run with the same eval_args and seed splits the data.",
)
@click.argument("pairs", nargs=-1, metavar="[key=value ...]", type=click.UNPROCESSED)
def export(dataset: str, out: Path, files: tuple[str, ...], part: str | None, pairs: tuple[str, ...]) -> None:
    """Write DATASET, checked, to OUT: a .csv, .tsv (also with .gz) or .parquet file, or RecBole's atomic files.

    Anything else than such a file name is a folder, in which a new folder of the data set's name gets the atomic files.
    The keys with which 'run' reads the data set back are printed.

    \b
    cvr-plugins export ml-100k-funnel log.parquet
    cvr-plugins export ml-100k-funnel test.csv --part test seed=2020
    cvr-plugins export ml-100k-funnel data
    """
    from cvr_plugins.cli._output import flat
    from cvr_plugins.cli.configs import find_config
    from cvr_plugins.config import dump_yaml, load_yaml, parse_pairs, resolve
    from cvr_plugins.data import write_atomic, write_table
    from cvr_plugins.files import check_apart
    from cvr_plugins.logs import field_keys, load_log, paths_read

    layers = [load_yaml(find_config(name)) for name in files]
    config = resolve(*layers, {"dataset": dataset}, parse_pairs(pairs), needs=("dataset",))
    log = load_log(config)
    notes = log.notes
    if part is not None:
        log = _part(log, part, config)
    table = bool(out.suffix) and not out.is_dir()
    check_apart(out if table else out / log.name, [*map(find_config, files), *paths_read(config)])
    if table:
        written = write_table(log, out)
    else:
        folder, remarks = write_atomic(log, out)
        written, notes = folder, (*notes, *remarks)
    for note in notes:
        remark(f"Note: {note}")
    keys = dump_yaml({"dataset": str(written), **field_keys(log.schema)}).rstrip()
    with stands(f"{written} is written."):
        click.echo(f"{written}: {flat(log.summary())}\nConfiguration to read it with:\n{keys}")


def _part(log: FunnelLog, part: str, config: Config) -> FunnelLog:
    from cvr_plugins.config import split_arguments
    from cvr_plugins.data import split

    ratios, by = split_arguments(config["eval_args"])
    parts = split(log, ratios=ratios, by=by, seed=config["seed"])
    return parts[("train", "valid", "test").index(part)]
