"""`cvr-plugins run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvr_plugins.training.history import EpochRecord, History


# So that --epochs=3, as RecBole writes it, is one of the key=value pairs.
@click.command(context_settings={"ignore_unknown_options": True})
@click.option("-c", "--config", "files", multiple=True, metavar="FILE", help="YAML, or one of 'configs'; repeatable.")
@click.option("-m", "--model", help="Method, such as ESMM, or RecBole model ('methods' and 'models' list them).")
@click.option("-d", "--dataset", help="Data set, file or folder ('datasets' lists the registered ones).")
@click.option("-o", "--out", type=click.Path(), help="Run folder to write; a new one in checkpoint_dir if not given.")
@click.option("--framework", metavar="NAME", help="torch-rechub or recbole; the one that has the model if not given.")
@click.option("--resume", type=click.Path(), metavar="FOLDER", help="Go on with a run cut off or failed (RecBole).")
@click.option("--json", "as_json", is_flag=True, help="Print the folder and its metrics as JSON, and no progress.")
@click.argument("pairs", nargs=-1, metavar="[key=value ...]", type=click.UNPROCESSED)
def run(
    files: tuple[str, ...],
    model: str | None,
    dataset: str | None,
    out: str | None,
    framework: str | None,
    resume: str | None,
    as_json: bool,
    pairs: tuple[str, ...],
) -> int:
    """Train, evaluate and keep a CVR model, or any model of RecBole.

    Later settings win: files in their order, then -m and -d, then key=value pairs, also written --key=value ('keys'
    and 'show METHOD' list the keys). Ctrl-C keeps the best weights so far.

    \b
    cvr-plugins run -m ESMM -d ml-100k-funnel
    cvr-plugins run -c ml-100k-funnel -m ESMM learning_rate=0.01
    cvr-plugins run -m ESMM -d log.parquet CONVERSION_FIELD=purchase drop_columns=[session_id]
    cvr-plugins run -m BPR -d ml-100k epochs=20
    cvr-plugins run -m NISE -d ml-100k-funnel --framework recbole
    """
    from cvr_plugins.cli import _frameworks
    from cvr_plugins.cli._output import echo_json, echo_report, flat
    from cvr_plugins.cli.configs import find_config
    from cvr_plugins.config import ConfigError, load_yaml, parse_pairs, resolve
    from cvr_plugins.training.run_folder import RunFolder

    layers = {name: load_yaml(find_config(name)) for name in files}
    for name, layer in layers.items():
        if "grid" in layer:
            raise ConfigError(f"{name} is a grid of many runs: 'cvr-plugins grid -c {name} --out FOLDER' runs it.")
    chosen = (("model", model), ("dataset", dataset), ("framework", framework))
    keys = {**{key: value for key, value in chosen if value is not None}, **parse_pairs(pairs)}
    if resume is not None:
        layers = {resume: _resumed(resume), **layers}
    merged = {key: value for layer in (*layers.values(), keys) for key, value in layer.items()}
    if _frameworks.framework_of(merged) == _frameworks.RECBOLE:
        from cvr_plugins.cli import _run_recbole

        paths = [find_config(name) for name in files]
        return _run_recbole.run(paths, keys, out=out, resume=resume, as_json=as_json)
    if resume is not None:
        raise ConfigError("--resume goes on with runs of RecBole models only; leave it out.")
    config = resolve(*({k: v for k, v in layer.items() if k != "framework"} for layer in (*layers.values(), keys)))

    from cvr_plugins.rechub.runner import run as run_method

    watched = config["valid_metric"]
    result = run_method(
        config,
        folder=out,
        on_note=lambda note: click.echo(f"Note: {note}", err=True),
        on_epoch=None if as_json else _epoch_line(watched),
    )
    if as_json:
        metrics = RunFolder.open(result.folder).read_json("metrics.json")
        echo_json({"folder": str(result.folder), "stopped": result.history.stopped, **metrics})
        return 1 if result.history.stopped == "interrupted" else 0
    click.echo(f"\n{config['dataset']}: {flat(result.log)}")
    click.echo(_ending(result.history, watched))
    echo_report(result.report, title=f"\n{config['model']} on the test part of {config['dataset']}")
    click.echo(f"\nRun folder: {result.folder}")
    return 1 if result.history.stopped == "interrupted" else 0


def _resumed(folder: str) -> dict[str, Any]:
    from cvr_plugins.config import ConfigError, load_yaml

    file = Path(folder) / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"{folder} is not the folder of a run: it has no config.yaml.")
    return load_yaml(file)


def _epoch_line(watched: str) -> Callable[[EpochRecord], None]:
    def show(record: EpochRecord) -> None:
        losses = " ".join(f"{name} {value:.4f}" for name, value in record.losses.items())
        factors = " ".join(f"{task} {value:.4g}" for task, value in record.factors.items())
        factors = f"  factor: {factors}" if factors else ""
        mark = " *" if record.improved else ""
        click.echo(f"epoch {record.epoch:3d}  loss: {losses}{factors}  {watched} {record.metrics[watched]:.4f}{mark}")

    return show


def _ending(history: History, watched: str) -> str:
    last = history.records[-1].epoch
    ending = {
        "all epochs": f"Training ran all {len(history.records)} epochs",
        "early": f"Training stopped after epoch {last}",
        "interrupted": f"Training was interrupted after epoch {last}",
    }[history.stopped]
    return (
        f"{ending}; kept the weights of epoch {history.best_epoch}, {watched} {history.best_value:.4f} on the "
        "validation part."
    )
