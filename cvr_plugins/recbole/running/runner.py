"""Any RecBole model from configuration to test result, on today's packages and without ray."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole.config import Config as RecBoleConfig

from cvr_plugins.config import ConfigError, refuse_processes
from cvr_plugins.recbole.compat.checkpoints import FRAMEWORK, both_of, load_checkpoint, load_weights
from cvr_plugins.recbole.compat.process_state import log_file, surroundings
from cvr_plugins.recbole.running import starting
from cvr_plugins.recbole.running.config import Config, restored
from cvr_plugins.recbole.running.resuming import CHECKPOINT, LAST, checkpoint_of, configuration, settings
from cvr_plugins.recbole.running.training import Training, data_and_model
from cvr_plugins.training import run_folder
from cvr_plugins.training.history import EpochRecord
from cvr_plugins.training.results import RunResult
from cvr_plugins.training.run_folder import RunFolder
from cvr_plugins.training.step import TrainingError
from cvr_plugins.training.warm_start import VOCABULARY, Start, refuse_both
from cvr_plugins.training.working import WorkFolder, left_of, reserved, taken_up
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
    init_from: str | Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> RunResult:
    """Train and evaluate a RecBole model: RecBole's own, a CVR method, a sequential model of ours or a third party's.

    model: a name, a class, or a whole configuration (a mapping of RecBole's keys, or a `Config`); dataset,
    config_file_list, config_dict, saved: RecBole's. dataset may be a registered data set (`cvr-plugins datasets` lists
    them), a name below `data_path`, or a folder of atomic files. nproc and what follows: RecBole's, for several
    processes, which are refused.
    out: a new run folder, written whole or not at all; without it nothing is left but RecBole's checkpoint in
    `checkpoint_dir`. init_from: the folder of a run of the same model, whose weights a new run starts from, with its
    settings but for those given; see `cvr_plugins.rechub.run`.
    resume: a checkpoint, or the folder of an interrupted run, from which training goes on to the bit as if it had never
    been interrupted; only `epochs`, `stopping_step` and where things are may differ.
    on_epoch: called with the EpochRecord of each epoch.

    Ctrl-C in training, once the first epoch is validated, ends it there: the best epoch's weights are evaluated and
    kept, `stopped` is "interrupted", and the run can be resumed. Before that, and a second time, it raises.
    Random numbers are drawn in a fork, loggers and torch's modes are put back: afterwards the process is as it was.
    Raises ConfigError, RegistryError, CheckpointError and TargetError before training, each naming what to change;
    TrainingError where a model fails in training: with `out`, `OUT.unfinished` says why and is what goes on; without
    `out` what RecBole raises where its own models fail.
    """
    if isinstance(model, (Mapping, RecBoleConfig)) and (dataset, config_file_list, config_dict) != (None, None, None):
        raise ConfigError("Give either a whole configuration, or a model with dataset, config_file_list, config_dict.")
    refuse_processes({"nproc": nproc, "world_size": world_size, "group_offset": group_offset})
    if resume is not None and model is None and config_dict is None and config_file_list is None:
        model = configuration(Path(resume).parent if Path(resume).is_file() else left_of(resume))
    refuse_both(init_from, resume)
    if init_from is not None and not isinstance(model, RecBoleConfig):
        before = Path(init_from) / "config.yaml"
        given = config_dict if not isinstance(model, Mapping) else model
        named = None if isinstance(model, Mapping) else model
        model = Config(named, dataset, [before, *(config_file_list or ())], given)
    if isinstance(model, RecBoleConfig):
        config = model
    elif isinstance(model, Mapping):
        config = Config(config_dict=model)
    else:
        config = Config(model, dataset, config_file_list, config_dict)
    if resume is not None and not Path(resume).is_file():
        with taken_up(resume, None if out is None else Path(out)) as work:
            return into(work, config, on_epoch=on_epoch)
    if out is not None:
        with reserved([Path(out)]) as work:
            for file, name in () if resume is None else zip(both_of(resume), (CHECKPOINT, LAST), strict=True):
                if file.is_file():
                    shutil.copyfile(file, work.path / name)
            return into(work, config, init_from=init_from, on_epoch=on_epoch)
    with surroundings(config, log=None):
        start = None if init_from is None else start_of(init_from, config)
        taken = None if resume is None else Path(resume)
        return Training(config, resume=taken, start=start, on_epoch=on_epoch).run(saved=saved)


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
    `gpu_id` and `use_gpu` mean on this machine. Raises CheckpointError for a file that cannot be read safely,
    RunFolderError for a folder of no finished run, or whose files are not what was written.
    """
    place = Path(model_file)
    file = RunFolder.open(place).file(CHECKPOINT) if place.is_dir() else place
    checkpoint = load_checkpoint(file, framework=FRAMEWORK)
    config = restored(checkpoint)
    with surroundings(config, log=None):
        dataset, *parts, model = data_and_model(config)
        load_weights(model, checkpoint)
    return config, model, dataset, parts[0], parts[1], parts[2]


def start_of(folder: str | Path, config: RecBoleConfig) -> Start:
    """Return the run that one of `config` is to start from.

    Raises
    ------
    RunFolderError, CheckpointError
        As `Start.read`.
    """
    prefix = "core." if hasattr(config.model_class, "start_from") else ""
    return Start.read(folder, framework=FRAMEWORK, checkpoint=CHECKPOINT, prefix=prefix)


def into(
    work: WorkFolder,
    config: RecBoleConfig,
    *,
    init_from: str | Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> RunResult:
    """Train in the folder of a run, going on with what is in it, and make the run folder of it when all is done.

    Parameters
    ----------
    work
        The folder; its checkpoint, if there is one, is gone on from.
    config
        The configuration.
    init_from
        The folder of the run whose weights a new run starts from.
    on_epoch
        As of `run`.

    Raises
    ------
    TrainingError
        If the model fails; the folder then says why.
    """
    training: Training | None = None

    def also(place: Path) -> None:
        assert training is not None
        vocabulary = getattr(training.trainer.model, "vocabulary", starting.vocabulary)
        run_folder.write_json(place / VOCABULARY, vocabulary(training.dataset))
        for file in sorted(work.path.glob("*.pth")):
            shutil.copyfile(file, place / file.name)

    try:
        with surroundings(config, log=work.path / "run.log"):
            start = None if init_from is None else start_of(init_from, config)
            found, started = checkpoint_of(work.path), run_folder.started(work)
            resume = found if found.is_file() else None
            training = Training(config, folder=work.path, resume=resume, start=start, on_epoch=on_epoch)
            training.started = training.started or started
            run_folder.begin(work, training.about, settings(config))
            result = training.run(saved=True)
            return run_folder.write(work, result, training.about, settings(config), also)
    except BaseException as error:
        trained = any(work.path.glob("*.pth"))
        failed = isinstance(error, Exception) and not isinstance(error, (ConfigError, OSError))
        if training is None or not failed:
            if work.new and (training is None or not trained):
                work.remove()
            raise
        run_folder.write_failed(work, training.about, settings(config), training.trainer.history, error)
        reason = str(error) if isinstance(error, TrainingError) else f"{config['model']}: {sentence(one_line(error))}"
        raise TrainingError(reason, f"{work.path} says why; {work.resume}.") from error
