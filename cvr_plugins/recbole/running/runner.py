"""Any RecBole model from configuration to test result, on today's packages and without ray."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from recbole.config import Config as RecBoleConfig

from cvr_plugins.config import ConfigError, refuse_processes
from cvr_plugins.recbole.compat.checkpoints import FRAMEWORK, load_checkpoint, load_weights
from cvr_plugins.recbole.compat.process_state import log_file, surroundings
from cvr_plugins.recbole.running.config import Config, restored
from cvr_plugins.recbole.running.resuming import (
    begin,
    checkpoint_of,
    configuration,
    free_work_folder,
    resumable,
    settings,
)
from cvr_plugins.recbole.running.training import Training, data_and_model
from cvr_plugins.training import run_folder
from cvr_plugins.training.history import EpochRecord
from cvr_plugins.training.results import RunResult
from cvr_plugins.training.step import TrainingError
from cvr_plugins.wording import one_line, sentence


def run(
    model: str | type | Mapping[str, Any] | Config | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    nproc: int = 1,
    world_size: int = -1,
    ip: str = "localhost",
    port: str = "5678",
    group_offset: int = 0,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> RunResult:
    """Train and evaluate a RecBole model: RecBole's own, a CVR method, a sequential model of ours or a third party's.

    model: a name, a class, or a whole configuration (a mapping of RecBole's keys, or a `Config`); dataset,
    config_file_list, config_dict, saved: RecBole's. dataset may be a registered data set (`cvr-plugins datasets` lists
    them), a name below `data_path`, or a folder of atomic files. nproc and what follows: RecBole's, for several
    processes, which are refused.
    out: a new run folder, written whole or not at all; without it nothing is left but RecBole's checkpoint in
    `checkpoint_dir`. resume: a checkpoint, or the folder of an interrupted run, from which training goes on to the bit
    as if it had never been interrupted; only `epochs`, `stopping_step` and where things are may differ.
    on_epoch: called with the EpochRecord of each epoch.

    Ctrl-C in training, once the first epoch is validated, ends it there: the best epoch's weights are evaluated and
    kept, `stopped` is "interrupted", and the run can be resumed. Before that, and a second time, it raises.
    Random numbers are drawn in a fork, loggers and torch's modes are put back: afterwards the process is as it was.
    Raises ConfigError, RegistryError, CheckpointError and TargetError before training, each naming what to change;
    TrainingError where a model fails in training, and `out` then is a run folder that says why, with the checkpoints to
    resume from once an epoch was trained; without `out` what RecBole raises where its own models fail.
    """
    if isinstance(model, (Mapping, RecBoleConfig)) and (dataset, config_file_list, config_dict) != (None, None, None):
        raise ConfigError("Give either a whole configuration, or a model with dataset, config_file_list, config_dict.")
    refuse_processes({"nproc": nproc, "world_size": world_size, "group_offset": group_offset})
    if resume is not None and model is None and config_dict is None and config_file_list is None:
        model = configuration(Path(resume))
    if isinstance(model, RecBoleConfig):
        config = model
    elif isinstance(model, Mapping):
        config = Config(config_dict=model)
    else:
        config = Config(model, dataset, config_file_list, config_dict)
    checkpoint = None if resume is None else checkpoint_of(resume)
    if out is not None:
        return _into(Path(out), config, checkpoint, on_epoch)
    with surroundings(config, log=None):
        return Training(config, resume=checkpoint, on_epoch=on_epoch).run(saved=saved)


def run_recbole(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    queue: Any = None,
    *,
    command_line: Sequence[str] = (),
) -> dict[str, Any]:
    """Train and evaluate as `recbole.quick_start.run_recbole` does, with its arguments, result, logs and files.

    Logs go to the terminal, to `log/` and to `log_tensorboard/`, checkpoints to `checkpoint_dir`. The command line is
    not read: give `command_line=sys.argv[1:]` for that. Ctrl-C raises KeyboardInterrupt as in RecBole;
    `run(..., resume=CHECKPOINT)` goes on from the last whole epoch. What else differs, `Config` says.
    """
    config = Config(model, dataset, config_file_list, config_dict, command_line=command_line)
    with surroundings(config, log=log_file(config), console=True, tensorboard=True):
        result = dict(Training(config).run(saved=saved, ends_on_interrupt=False))
    if queue is not None:
        queue.put(result)
    return result


def load_data_and_model(model_file: str | Path) -> tuple[Config, Any, Any, Any, Any, Any]:
    """Return config, model, dataset, train_data, valid_data and test_data of a checkpoint, as RecBole's function does.

    model_file: a checkpoint or a run folder. Nothing in it is executed; the model is put on the device that
    `gpu_id` and `use_gpu` mean on this machine. Raises CheckpointError for a file that cannot be read safely.
    """
    checkpoint = load_checkpoint(checkpoint_of(model_file), framework=FRAMEWORK)
    config = restored(checkpoint)
    with surroundings(config, log=None):
        dataset, *parts, model = data_and_model(config)
        load_weights(model, checkpoint)
    return config, model, dataset, parts[0], parts[1], parts[2]


def _into(
    out: Path, config: RecBoleConfig, resume: Path | None, on_epoch: Callable[[EpochRecord], None] | None
) -> RunResult:
    """Work in a folder beside `out`, which stays if training is cut off, and write `out` when all is done."""
    work = free_work_folder(out)
    made = not out.parent.exists()
    training: Training | None = None

    def also(place: Path) -> None:
        for file in sorted(work.iterdir()):
            if file.name not in ("config.yaml", "run.log") and file.is_file():
                shutil.copyfile(file, place / file.name)

    try:
        resume = begin(work, config, resume)
        with surroundings(config, log=work / "run.log"):
            training = Training(config, folder=work, resume=resume, on_epoch=on_epoch)
            result = replace(training.run(saved=True), folder=out)
            result = run_folder.write(result, training.about, settings(config), also)
    except BaseException as error:
        # One folder stays: the failed run's, the one that was worked in if a run was cut off after an epoch, or none.
        checkpoints = sorted(work.glob("*.pth")) if training is not None and training.trained else []
        written = None
        failed = isinstance(error, Exception) and not isinstance(error, (ConfigError, OSError))
        if training is not None and failed:
            history = training.trainer.history
            written = run_folder.write_failed(out, training.about, settings(config), history, error, checkpoints)
        if written is not None or not checkpoints:
            shutil.rmtree(work, ignore_errors=True)
            if made:
                with suppress(OSError):
                    out.parent.rmdir()
        if training is None or not failed:
            raise
        reason = str(error) if isinstance(error, TrainingError) else f"{config['model']}: {sentence(one_line(error))}"
        raise TrainingError(f"{reason} {resumable(written or work)}" if checkpoints else reason) from error
    shutil.rmtree(work)
    return result
