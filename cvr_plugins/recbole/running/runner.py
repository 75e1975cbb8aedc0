"""Any RecBole model from configuration to test result, on today's packages and without ray."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.config import Config as RecBoleConfig
from recbole.utils import get_trainer

from cvr_plugins.config import ConfigError, refuse_processes
from cvr_plugins.files import check_new, whole_folder
from cvr_plugins.metrics import Report, evaluate
from cvr_plugins.recbole.compat._loading import load_checkpoint
from cvr_plugins.recbole.compat.checkpoints import SafeCheckpoints, load_weights
from cvr_plugins.recbole.compat.process_state import log_file, surroundings
from cvr_plugins.recbole.evaluation import SessionEvaluation
from cvr_plugins.recbole.running import _failures, _folder
from cvr_plugins.recbole.running._building import data_and_model, log_flops, packages_named
from cvr_plugins.recbole.running.config import Config, restored
from cvr_plugins.training import run_folder
from cvr_plugins.training.step import TrainingError

_MAY_CHANGE = {
    *("epochs", "stopping_step", "checkpoint_dir", "data_path", "dataset", "device", "gpu_id", "use_gpu", "worker"),
    *(
        "framework",
        "threads",
        "show_progress",
        "state",
        "log_wandb",
        "wandb_project",
        "dataset_save_path",
        "dataloaders_save_path",
    ),
}
"""Keys that may differ where training is taken up: the training so far would not have been another."""


@dataclass(frozen=True, eq=False)
class RunResult(Mapping[str, Any]):
    """What a run found. As a mapping it is what RecBole's `run_recbole` returns, with its four keys.

    best_valid_score, best_valid_result: of the best epoch; valid_score_bigger: whether more is better; test_result:
    of that epoch's weights on the test part; history: one mapping for each epoch, from 0: epoch, train_loss and, where
    it was validated, valid_score and valid_result; stopped: "all epochs", "early" or "interrupted"; config: with every
    key; report: by task and space, None for models other than CVR methods; checkpoint: the weights' file, None if
    nothing was saved; folder: the run folder, None if there is none.
    """

    best_valid_score: float
    valid_score_bigger: bool
    best_valid_result: Mapping[str, Any] | None
    test_result: Mapping[str, Any] | None
    history: Sequence[Mapping[str, Any]]
    stopped: str
    config: RecBoleConfig
    report: Report | None = None
    checkpoint: Path | None = None
    folder: Path | None = None

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights were kept, None if none was validated; of equal ones the last, as RecBole has it."""
        found = [each["epoch"] for each in self.history if each.get("valid_score") == self.best_valid_score]
        return found[-1] if found else None

    _KEYS = ("best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")

    def __getitem__(self, key: str) -> Any:
        if key not in self._KEYS:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._KEYS)

    def __len__(self) -> int:
        return len(self._KEYS)


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
    on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
) -> RunResult:
    """Train and evaluate a RecBole model: RecBole's own, a CVR method, a sequential model of ours or a third party's.

    model: a name, a class, or a whole configuration (a mapping of RecBole's keys, or a `Config`); dataset,
    config_file_list, config_dict, saved: RecBole's. dataset may be a registered data set (`cvr-plugins datasets` lists
    them), a name below `data_path`, or a folder of atomic files. nproc and what follows: RecBole's, for several
    processes, which are refused.
    out: a new run folder, written whole or not at all; without it nothing is left but RecBole's checkpoint in
    `checkpoint_dir`. resume: a checkpoint, or the folder of an interrupted run, from which training goes on to the bit
    as if it had never been interrupted; only `epochs`, `stopping_step` and where things are may differ.
    on_epoch: called after each epoch with its entry of the history.

    Ctrl-C in training, once the first epoch is validated, ends it there: the best epoch's weights are evaluated and
    kept, `stopped` is "interrupted", and the run can be resumed. Before that, and a second time, it raises.
    Random numbers are drawn in a fork, loggers and torch's modes are put back: afterwards the process is as it was.
    Raises ConfigError, RegistryError, CheckpointError and TargetError before training, each naming what to change;
    TrainingError where a method or a plugin's model fails in training, and `out` then is a run folder that says why,
    with the checkpoints to resume from once an epoch was trained; what RecBole raises for all else.
    """
    if isinstance(model, (Mapping, RecBoleConfig)) and (dataset, config_file_list, config_dict) != (None, None, None):
        raise ConfigError("Give either a whole configuration, or a model with dataset, config_file_list, config_dict.")
    refuse_processes({"nproc": nproc, "world_size": world_size, "group_offset": group_offset})
    if resume is not None and model is None and config_dict is None and config_file_list is None:
        model = _folder.configuration(Path(resume))
    if isinstance(model, RecBoleConfig):
        config = model
    elif isinstance(model, Mapping):
        config = Config(config_dict=model)
    else:
        config = Config(model, dataset, config_file_list, config_dict)
    if out is None:
        with surroundings(config, log=None):
            return _execute(config, saved=saved, resume=_checkpoint(resume), on_epoch=on_epoch)
    return _into(Path(out), config, resume=_checkpoint(resume), on_epoch=on_epoch)


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
        result = dict(_execute(config, saved=saved, ends_on_interrupt=False))
    if queue is not None:
        queue.put(result)
    return result


def load_data_and_model(model_file: str | Path) -> tuple[Config, Any, Any, Any, Any, Any]:
    """Return config, model, dataset, train_data, valid_data and test_data of a checkpoint, as RecBole's function does.

    model_file: a checkpoint or a run folder. Nothing in it is executed; the model is put on the device that
    `gpu_id` and `use_gpu` mean on this machine. Raises CheckpointError for a file that cannot be read safely.
    """
    path = _checkpoint(model_file)
    assert path is not None
    checkpoint = load_checkpoint(path)
    config = restored(checkpoint["config"])
    with surroundings(config, log=None):
        dataset, *parts, model = data_and_model(config)
        load_weights(model, checkpoint)
    return config, model, dataset, parts[0], parts[1], parts[2]


def trainer_class(config: RecBoleConfig) -> type[Any]:
    """Return the trainer that RecBole has for the configured model, with safe checkpoints and evaluation of sessions.

    Decision trees keep RecBole's own: their libraries write and read their files.
    """
    base: type[Any] = get_trainer(config["MODEL_TYPE"], config["model"])
    from recbole.trainer import Trainer

    if not issubclass(base, Trainer):
        return base
    mixins = tuple(each for each in (SessionEvaluation, SafeCheckpoints) if not issubclass(base, each))
    return type(base.__name__, (*mixins, base), {"__module__": base.__module__}) if mixins else base


def _execute(
    config: RecBoleConfig,
    *,
    saved: bool,
    folder: Path | None = None,
    resume: Path | None = None,
    on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
    ends_on_interrupt: bool = True,
    finish: Callable[[Any, Any, RunResult], RunResult] | None = None,
) -> RunResult:
    logger = getLogger()
    logger.info(config)
    dataset, train_data, valid_data, test_data, model = data_and_model(config)
    logger.info(dataset)
    logger.info(model)
    log_flops(config, dataset, model)
    whose = _failures.blamed(config, "its trainer's constructor", ConfigError)
    with _checkpoints_in(folder, config), whose:
        trainer = trainer_class(config)(config, model)
    safe = isinstance(trainer, SafeCheckpoints)
    if folder is not None:
        trainer.saved_model_file = str(folder / _folder.CHECKPOINT)
    if safe:
        trainer.on_epoch = on_epoch
        if resume is not None:
            _check_same(config, resume)
            trainer.resume_checkpoint(resume)
    elif resume is not None:
        raise ConfigError(f"Training of {config['model']} cannot be resumed: RecBole trains it in one go.")
    stopped = None
    try:
        with packages_named(config), _failures.blamed(config):
            best_score, best_result = trainer.fit(
                train_data, valid_data, saved=saved, show_progress=bool(config["show_progress"])
            )
    except KeyboardInterrupt:
        if not (ends_on_interrupt and saved and safe and Path(trainer.saved_model_file).exists()):
            raise
        stopped, best_score, best_result = "interrupted", trainer.best_valid_score, trainer.best_valid_result
    with _failures.blamed(config, "evaluation"):
        test_result = trainer.evaluate(test_data, load_best_model=saved, show_progress=bool(config["show_progress"]))
    logger.info(f"best valid : {best_result}")
    logger.info(f"test result: {test_result}")
    result = RunResult(
        best_valid_score=best_score,
        valid_score_bigger=config["valid_metric_bigger"],
        best_valid_result=best_result,
        test_result=test_result,
        history=tuple(trainer.history) if safe else (),
        stopped=stopped or ("early" if trainer.cur_step > trainer.stopping_step else "all epochs"),
        config=config,
        report=evaluate(trainer.scored(test_data)) if hasattr(trainer, "scored") else None,
        checkpoint=Path(trainer.saved_model_file) if saved else None,
    )
    return result if finish is None else finish(trainer, (dataset, train_data, valid_data, test_data), result)


def work_folder(out: Path) -> Path:
    """Return the folder beside `out` that is worked in until all is done."""
    return out.with_name(f"{out.name}.unfinished")


def _into(
    out: Path,
    config: RecBoleConfig,
    *,
    resume: Path | None,
    on_epoch: Callable[[Mapping[str, Any]], None] | None,
) -> RunResult:
    """Work in a folder beside `out`, which stays if training is cut off, and write `out` when all is done."""
    check_new(out)
    work = work_folder(out)
    if work.exists():
        raise ConfigError(
            f"{str(work)!r} is left of a run that was cut off; resume it into another folder, or remove it, or name "
            "another place."
        )
    trained: list[Mapping[str, Any]] = []
    made = not out.parent.exists()

    def record(epoch: Mapping[str, Any]) -> None:
        trained.append(epoch)
        if on_epoch is not None:
            on_epoch(epoch)

    try:
        work.mkdir(parents=True)
        run_folder.write_yaml(work / "config.yaml", _folder.written(config))
        if resume is not None:
            resume = _folder.copied(resume, work)
        with surroundings(config, log=work / "run.log"):

            def finish(trainer: Any, data: Any, result: RunResult) -> RunResult:
                # Another run may have taken the name meanwhile; what was trained is not lost to that.
                folder = run_folder.unused(out)
                with whole_folder(folder) as aside:
                    _folder.write(aside, work, trainer, data, result)
                return replace(result, folder=folder, checkpoint=folder / _folder.CHECKPOINT)

            result = _execute(config, saved=True, folder=work, resume=resume, on_epoch=record, finish=finish)
    except BaseException as error:
        # One folder stays: the failed run's, the one that was worked in if a run was cut off after an epoch, or none.
        checkpoints = sorted(work.glob("*.pth")) if trained else []
        written = None
        if isinstance(error, TrainingError):
            written = _failures.write_failed(out, config, trained, error, checkpoints)
        if written is not None or not checkpoints:
            shutil.rmtree(work, ignore_errors=True)
            if made:
                with suppress(OSError):
                    out.parent.rmdir()
        if isinstance(error, TrainingError) and checkpoints:
            raise TrainingError(f"{error} {_failures.resumable(written or work)}") from error
        raise
    shutil.rmtree(work)
    return result


@contextmanager
def _checkpoints_in(folder: Path | None, config: RecBoleConfig) -> Iterator[None]:
    """Let RecBole's trainer, which makes the folder it is to save in, take another one than the configuration's."""
    before = config["checkpoint_dir"]
    config["checkpoint_dir"] = before if folder is None else str(folder)
    try:
        yield
    finally:
        config["checkpoint_dir"] = before


def _check_same(config: RecBoleConfig, checkpoint: Path) -> None:
    before = load_checkpoint(checkpoint, config.model_class)["config"].final_config_dict
    now = config.final_config_dict
    for key in sorted({*before, *now} - _MAY_CHANGE):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"The run to be resumed had {key}: {before.get(key)!r}, and now it is {now.get(key)!r}; "
                "only epochs, stopping_step and where things are may change."
            )


def _checkpoint(path: str | Path | None) -> Path | None:
    if path is None or not Path(path).is_dir():
        return None if path is None else Path(path)
    return Path(path) / _folder.CHECKPOINT
