"""`cvr-plugins run` of a RecBole model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cvr_plugins.recbole.running.config import Config
    from cvr_plugins.recbole.running.runner import RunResult

_FOLDER = "runs"


def run(files: Sequence[Path], keys: Mapping[str, Any], *, out: str | None, resume: str | None, as_json: bool) -> int:
    """Run what the files and keys configure, or go on with the run in the folder `resume`; return the exit code."""
    import sys

    from cvr_plugins.recbole.compat.messages import require_recbole

    require_recbole()

    from cvr_plugins.cli._output import echo_json
    from cvr_plugins.config import ConfigError
    from cvr_plugins.files import TargetError
    from cvr_plugins.recbole.running import _failures, runner
    from cvr_plugins.recbole.running.config import Config
    from cvr_plugins.training.run_folder import default_name, unused
    from cvr_plugins.training.step import TrainingError

    given = dict(keys)
    if not sys.stderr.isatty():
        given["show_progress"] = False
    if resume is not None:
        files = [Path(resume) / "config.yaml", *files]
    config = Config(config_file_list=files, config_dict=given)
    made_in = Path(config.external_config_dict.get("checkpoint_dir", _FOLDER))
    name = default_name(config["model"], config["dataset"])
    folder = Path(out) if out is not None else unused(made_in / name)
    try:
        result = runner.run(config, out=folder, resume=resume, on_epoch=None if as_json else _epoch_line(config))
    except KeyboardInterrupt:
        left = runner.work_folder(folder)
        if not left.exists():
            raise
        click.echo(f"Error: Interrupted; 'cvr-plugins run --resume {left}' goes on.", err=True)
        return 1
    except TrainingError as error:
        if out is not None or str(folder) in str(error) or not folder.exists():
            raise
        raise TrainingError(f"{error} Run folder: {folder}") from error
    except (ConfigError, TargetError):
        raise
    except Exception:
        left = runner.work_folder(folder)
        if left.exists():
            click.echo(f"Note: {_failures.resumable(left)}", err=True)
        raise
    if as_json:
        from cvr_plugins.training.run_folder import RunFolder

        assert result.folder is not None
        metrics = RunFolder.open(result.folder).read_json("metrics.json")
        echo_json({"folder": str(result.folder), "stopped": result.stopped, **metrics})
    else:
        _show(result, config)
    return 1 if result.stopped == "interrupted" else 0


def _epoch_line(config: Config) -> Callable[[Mapping[str, Any]], None]:
    watched, bigger = str(config["valid_metric"]), bool(config["valid_metric_bigger"])
    best: list[float] = []

    def show(record: Mapping[str, Any]) -> None:
        loss = record["train_loss"]
        line = f"epoch {record['epoch']:3d}  loss {'none' if loss is None else f'{loss:.4f}'}"
        score = record.get("valid_score")
        if score is not None:
            improved = not best or (score >= best[-1] if bigger else score <= best[-1])
            best.extend([score] if improved else [])
            line += f"  {watched} {score:.4f}{' *' if improved else ''}"
        click.echo(line)

    return show


def _show(result: RunResult, config: Config) -> None:
    from cvr_plugins.cli._output import echo_report, echo_table
    from cvr_plugins.recbole.evaluation import as_table, counts

    if result.history:
        click.echo(f"\n{_ending(result, config)}")
    title = f"\n{config['model']} on the test part of {config['dataset']}"
    if result.report is not None:
        echo_report(result.report, title=title)
    elif result.test_result is not None:
        columns = as_table(result.test_result)
        metrics = list(dict.fromkeys(metric for values in columns.values() for metric in values))
        rows = [[metric, *(_cell(values, metric) for values in columns.values())] for metric in metrics]
        echo_table(["", *columns], rows, title=title)
        for key, number in counts(result.test_result).items():
            click.echo(f"{key}: {number:,}")
    click.echo(f"\nRun folder: {result.folder}")
    if result.stopped == "interrupted":
        click.echo(f"'cvr-plugins run --resume {result.folder}' goes on.")


def _cell(values: Mapping[str, Any], metric: str) -> str:
    if metric not in values:
        return ""
    value = values[metric]
    if value is None:
        return "undefined"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _ending(result: RunResult, config: Config) -> str:
    last = result.history[-1]["epoch"]
    ending = {
        "all epochs": f"Training ran all {len(result.history)} epochs",
        "early": f"Training stopped after epoch {last}",
        "interrupted": f"Training was interrupted after epoch {last}",
    }[result.stopped]
    if result.best_epoch is None:
        return f"{ending}."
    watched = f"{config['valid_metric']} {result.best_valid_score:.4f}"
    return f"{ending}; kept the weights of epoch {result.best_epoch}, {watched} on the validation part."
