"""`cvr-plugins run` of a RecBole model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cvr_plugins.training.history import EpochRecord
    from cvr_plugins.training.results import RunResult

_FOLDER = "runs"


def run(
    files: Sequence[Path],
    keys: Mapping[str, Any],
    *,
    out: str | None,
    resume: str | None,
    init_from: str | None,
    on_epoch: Callable[[str, EpochRecord], None],
) -> RunResult:
    """Run what the files and keys configure, go on with the run in `resume`, or start from that in `init_from`.

    on_epoch: called with the name of the watched metric and the record of each epoch.
    """
    import sys

    from cvr_plugins.recbole.compat.messages import require_recbole

    require_recbole()

    from cvr_plugins.recbole.running import runner
    from cvr_plugins.recbole.running.config import Config
    from cvr_plugins.training.run_folder import new_names
    from cvr_plugins.training.warm_start import refuse_both
    from cvr_plugins.training.working import left_of, reserved, taken_up

    given = dict(keys)
    if not sys.stderr.isatty():
        given["show_progress"] = False
    refuse_both(init_from, resume)
    if resume is not None or init_from is not None:
        files = [(left_of(resume) if resume is not None else Path(init_from or "")) / "config.yaml", *files]
    config = Config(config_file_list=files, config_dict=given)
    made_in = Path(config.external_config_dict.get("checkpoint_dir", _FOLDER))
    names = [Path(out)] if out is not None else new_names(made_in, config["model"], config["dataset"])
    with reserved(names) if resume is None else taken_up(resume, None if out is None else Path(out)) as work:
        return runner.into(work, config, init_from=init_from, on_epoch=partial(on_epoch, str(config["valid_metric"])))


def echo_own(result: Mapping[str, Any], title: str) -> None:
    """Print RecBole's metrics of a model, those of the baselines beside, and what was counted."""
    from cvr_plugins.cli._output import echo_table
    from cvr_plugins.recbole.evaluation import as_table, counts

    columns = as_table(result)
    metrics = list(dict.fromkeys(metric for values in columns.values() for metric in values))
    rows = [[metric, *(_cell(values, metric) for values in columns.values())] for metric in metrics]
    echo_table(["", *columns], rows, title=title)
    for key, number in counts(result).items():
        click.echo(f"{key}: {number:,}")


def _cell(values: Mapping[str, Any], metric: str) -> str:
    if metric not in values:
        return ""
    value = values[metric]
    if value is None:
        return "undefined"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
