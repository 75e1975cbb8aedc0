"""`cvr-plugins run`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from cvr_plugins.cli._output import remark, stands

if TYPE_CHECKING:
    from cvr_plugins.training.history import EpochRecord
    from cvr_plugins.training.results import RunResult


# So that --epochs=3, as RecBole writes it, is one of the key=value pairs.
@click.command(context_settings={"ignore_unknown_options": True})
@click.option("-c", "--config", "files", multiple=True, metavar="FILE", help="YAML, or one of 'configs'; repeatable.")
@click.option("-m", "--model", help="Method, such as ESMM, or RecBole model ('methods' and 'models' list them).")
@click.option("-d", "--dataset", help="Data set, file or folder ('datasets' lists the registered ones).")
@click.option("-o", "--out", type=click.Path(), help="Run folder to write; a new one in checkpoint_dir if not given.")
@click.option("--framework", metavar="NAME", help="torch-rechub or recbole; the one that has the model if not given.")
@click.option("--resume", type=click.Path(), metavar="FOLDER", help="Go on with a run that was cut off.")
@click.option("--init-from", type=click.Path(), metavar="FOLDER", help="Start from the weights of a finished run.")
@click.option("--json", "as_json", is_flag=True, help="Print the folder and its metrics as JSON, and no progress.")
@click.argument("pairs", nargs=-1, metavar="[key=value ...]", type=click.UNPROCESSED)
def run(
    files: tuple[str, ...],
    model: str | None,
    dataset: str | None,
    out: str | None,
    framework: str | None,
    resume: str | None,
    init_from: str | None,
    as_json: bool,
    pairs: tuple[str, ...],
) -> int:
    """Train, evaluate and keep a CVR model, or any model of RecBole.

    Later settings win: files in their order, then -m and -d, then key=value pairs, also written --key=value ('keys'
    and 'show METHOD' list the keys). Ctrl-C, SIGTERM and SIGHUP end training with the best weights so far,
    evaluated and kept (exit code 1); --resume goes on from there, or from a run that was killed. --init-from starts a
    new run from another one's weights, with its settings but for those given here.

    \b
    cvr-plugins run -m ESMM -d ml-100k-funnel
    cvr-plugins run -c ml-100k-funnel -m ESMM learning_rate=0.01
    cvr-plugins run -m ESMM -d log.parquet CONVERSION_FIELD=purchase drop_columns=[session_id]
    cvr-plugins run -m BPR -d ml-100k epochs=20
    cvr-plugins run -m NISE -d ml-100k-funnel --framework recbole
    cvr-plugins run --init-from runs/last-week -d this-week.parquet
    """
    from cvr_plugins.cli import _frameworks
    from cvr_plugins.cli._output import epoch_line, flat
    from cvr_plugins.cli.configs import find_config
    from cvr_plugins.config import ConfigError, load_yaml, parse_pairs, resolve
    from cvr_plugins.training.run_folder import settings_of
    from cvr_plugins.training.working import left_of

    layers = {name: load_yaml(find_config(name)) for name in files}
    for name, layer in layers.items():
        if "grid" in layer:
            raise ConfigError(f"{name} is a grid of many runs: 'cvr-plugins grid -c {name} --out FOLDER' runs it.")
    chosen = (("model", model), ("dataset", dataset), ("framework", framework))
    keys = {**{key: value for key, value in chosen if value is not None}, **parse_pairs(pairs)}
    before = left_of(resume) if resume is not None else init_from
    if before is not None:
        layers = {str(before): settings_of(before), **layers}
    merged = {key: value for layer in (*layers.values(), keys) for key, value in layer.items()}

    def on_epoch(watched: str, record: EpochRecord) -> None:
        if not as_json:
            click.echo(epoch_line(record, watched))

    if _frameworks.framework_of(merged) == _frameworks.RECBOLE:
        from cvr_plugins.cli import _run_recbole

        paths = [find_config(name) for name in files]
        result = _run_recbole.run(paths, keys, out=out, resume=resume, init_from=init_from, on_epoch=on_epoch)
        for note in result.notes:
            remark(f"Note: {note}")
        return _tell(result, as_json)
    config = resolve({key: value for key, value in merged.items() if key != "framework"})

    from cvr_plugins.rechub.runner import run as run_method

    result = run_method(
        config,
        folder=out,
        resume=resume,
        init_from=init_from,
        on_note=lambda note: remark(f"Note: {note}"),
        on_epoch=partial(on_epoch, config["valid_metric"]),
    )
    return _tell(result, as_json, log=f"{config['dataset']}: {flat(result.log)}")


def _tell(result: RunResult, as_json: bool, *, log: str | None = None) -> int:
    """Show what a run found; return the exit code."""
    interrupted = result.stopped == "interrupted"
    goes_on = f"'cvr-plugins run --resume {result.folder}' goes on." if interrupted else ""
    with stands(f"The run is finished, and in {result.folder}. {goes_on}".rstrip()):
        _show(result, as_json, log)
        if goes_on and not as_json:
            click.echo(goes_on)
    return int(interrupted)


def _show(result: RunResult, as_json: bool, log: str | None) -> None:
    from cvr_plugins.cli._output import echo_json, echo_report, ending
    from cvr_plugins.training.run_folder import RunFolder

    if as_json:
        assert result.folder is not None
        metrics = RunFolder.open(result.folder).read_json("metrics.json")
        echo_json({"folder": str(result.folder), "stopped": result.stopped, **metrics})
        return
    said = [log, ending(result.history) if result.history.records else None]
    click.echo("\n" + "\n".join(filter(None, said)))
    title = f"\n{result.config['model']} on the test part of {result.config['dataset']}"
    if result.report.support:
        echo_report(result.report, title=title, mechanism=result.mechanism)
    else:
        from cvr_plugins.cli._run_recbole import echo_own

        echo_own(result.test_result or {}, title)
    click.echo(f"\nRun folder: {result.folder}")
