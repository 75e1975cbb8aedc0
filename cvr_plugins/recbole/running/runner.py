"""Any RecBole model from configuration to test result, on today's packages and without ray."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.config import Config as RecBoleConfig
from recbole.utils import get_trainer

from cvr_plugins.config import ConfigError, refuse_processes
from cvr_plugins.metrics import ReliabilityCurve, Report, reliability
from cvr_plugins.recbole.compat._loading import load_checkpoint
from cvr_plugins.recbole.compat.checkpoints import SafeCheckpoints, load_weights
from cvr_plugins.recbole.compat.process_state import log_file, surroundings
from cvr_plugins.recbole.context.collector import MethodCollector
from cvr_plugins.recbole.context.metrics import is_key
from cvr_plugins.recbole.evaluation import SessionEvaluation
from cvr_plugins.recbole.evaluation.names import is_of_sessions
from cvr_plugins.recbole.running._building import data_and_model, log_flops, owner_of, packages_named
from cvr_plugins.recbole.running.config import Config, restored
from cvr_plugins.recbole.running.resuming import (
    CHECKPOINT,
    FRAMEWORK,
    check_same,
    checkpoint_of,
    configuration,
    new_work_folder,
    resumable,
    settings,
)
from cvr_plugins.training import run_folder
from cvr_plugins.training.failures import blamed
from cvr_plugins.training.history import EpochRecord, History
from cvr_plugins.training.results import RunResult
from cvr_plugins.training.step import TrainingError


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
    TrainingError where a method or a plugin's model fails in training, and `out` then is a run folder that says why,
    with the checkpoints to resume from once an epoch was trained; what RecBole raises for all else.
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
        return _Run(config, resume=checkpoint, on_epoch=on_epoch).execute(saved=saved)


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
        result = dict(_Run(config).execute(saved=saved, ends_on_interrupt=False))
    if queue is not None:
        queue.put(result)
    return result


def load_data_and_model(model_file: str | Path) -> tuple[Config, Any, Any, Any, Any, Any]:
    """Return config, model, dataset, train_data, valid_data and test_data of a checkpoint, as RecBole's function does.

    model_file: a checkpoint or a run folder. Nothing in it is executed; the model is put on the device that
    `gpu_id` and `use_gpu` mean on this machine. Raises CheckpointError for a file that cannot be read safely.
    """
    checkpoint = load_checkpoint(checkpoint_of(model_file))
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


def named(result: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Return a result of RecBole's with names that tell the protocol: `full/ndcg@10`, `uni100/mrr@5`, `labeled/auc`.

    Names of metrics of sessions and of tasks tell it themselves.
    """
    mode = config["eval_args"]["mode"]["test"]
    return {key if "/" in key or is_of_sessions(key) else f"{mode}/{key}": value for key, value in result.items()}


class _Run:
    """What RecBole makes of a configuration: data, model and trainer, ready to be trained.

    Parameters
    ----------
    config
        RecBole's.
    folder
        Where checkpoints are written, None for `checkpoint_dir`.
    resume
        The checkpoint that training is taken up from, None for a new one.
    on_epoch
        Called with the EpochRecord of each epoch.
    """

    def __init__(
        self,
        config: RecBoleConfig,
        *,
        folder: Path | None = None,
        resume: Path | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
    ) -> None:
        logger = getLogger()
        logger.info(config)
        self.config = config
        self.owner = owner_of(config)
        self.dataset, *self.loaders, model = data_and_model(config)
        logger.info(self.dataset)
        logger.info(model)
        log_flops(config, self.dataset, model)
        whose = self._blamed("its trainer's constructor", ConfigError)
        with _checkpoints_in(folder, config), whose:
            self.trainer: Any = trainer_class(config)(config, model)
        if folder is not None:
            self.trainer.saved_model_file = str(folder / CHECKPOINT)
        if isinstance(self.trainer, SafeCheckpoints):
            self.trainer.on_epoch = on_epoch
            if resume is not None:
                check_same(config, resume)
                self.trainer.resume_checkpoint(resume)
        elif resume is not None:
            raise ConfigError(f"Training of {config['model']} cannot be resumed: RecBole trains it in one go.")
        else:
            self.trainer.history = History(config["valid_metric"])

    @property
    def about(self) -> dict[str, Any]:
        """What run.json says."""
        parameters = sum(p.numel() for p in self.trainer.model.parameters())
        method = self.config["model"]
        return {"framework": FRAMEWORK, "method": method, "plugin": self.owner, "parameters": parameters}

    def execute(self, *, saved: bool, ends_on_interrupt: bool = True) -> RunResult:
        """Train and evaluate. ends_on_interrupt: whether Ctrl-C ends training as early stopping does."""
        trainer, config = self.trainer, self.config
        train, valid, test = self.loaders
        progress = bool(config["show_progress"])
        try:
            with packages_named(config), self._blamed("training"):
                score, found = trainer.fit(train, valid, saved=saved, show_progress=progress)
            trainer.history.stopped = "early" if trainer.cur_step > trainer.stopping_step else "all epochs"
        except KeyboardInterrupt:
            safe = isinstance(trainer, SafeCheckpoints)
            if not (ends_on_interrupt and saved and safe and Path(trainer.saved_model_file).exists()):
                raise
            score, found = trainer.best_valid_score, trainer.best_valid_result
            trainer.history.stopped = "interrupted"
        with self._blamed("evaluation"):
            tested = trainer.evaluate(test, load_best_model=saved, show_progress=progress)
        getLogger().info(f"best valid : {found}")
        getLogger().info(f"test result: {tested}")
        report, curves = self._reported(tested)
        best = trainer.history.best
        return RunResult(
            report=report,
            valid=named({} if best is None else best.metrics, config),
            history=trainer.history,
            config=config,
            best_valid_score=score,
            valid_score_bigger=config["valid_metric_bigger"],
            best_valid_result=found,
            test_result=tested,
            checkpoint=Path(trainer.saved_model_file) if saved else None,
            reliability=curves,
            **self._data(),
        )

    def _reported(self, result: Mapping[str, Any]) -> tuple[Report, Mapping[str, ReliabilityCurve]]:
        """Return the report of what was just evaluated; result: what RecBole's Evaluator made of it."""
        collector = self.trainer.eval_collector
        if not isinstance(collector, MethodCollector):
            return Report(named(result, self.config), {}), {}
        assert collector.scored is not None
        own = {name: value for name, value in result.items() if not is_key(name)}
        values = {**collector.report.values, **named(own, self.config)}
        return Report(values, collector.report.support), reliability(collector.scored)

    def _data(self) -> dict[str, Any]:
        dataset = self.dataset
        log = {
            "rows": dataset.inter_num,
            "users": dataset.user_num - 1 if dataset.uid_field else None,
            "items": dataset.item_num - 1 if dataset.iid_field else None,
        }
        names = ("train", "valid", "test")
        parts = {name: {"rows": len(part._dataset)} for name, part in zip(names, self.loaders, strict=True)}
        return {"log": log, "parts": parts, "notes": getattr(dataset, "notes", ())}

    def _blamed(self, doing: str, kind: type[Exception] = TrainingError) -> AbstractContextManager[None]:
        return blamed(self.config["model"], self.owner, doing, kind)


def _into(
    out: Path, config: RecBoleConfig, resume: Path | None, on_epoch: Callable[[EpochRecord], None] | None
) -> RunResult:
    """Work in a folder beside `out`, which stays if training is cut off, and write `out` when all is done."""
    made = not out.parent.exists()
    work, resume = new_work_folder(out, config, resume)
    run: _Run | None = None
    before = 0

    def also(place: Path) -> None:
        for file in sorted(work.iterdir()):
            if file.name not in ("config.yaml", "run.log") and file.is_file():
                shutil.copyfile(file, place / file.name)

    try:
        with surroundings(config, log=work / "run.log"):
            run = _Run(config, folder=work, resume=resume, on_epoch=on_epoch)
            before = len(run.trainer.history.records)
            result = replace(run.execute(saved=True), folder=out)
            result = run_folder.write(result, run.about, settings(config), also)
    except BaseException as error:
        # One folder stays: the failed run's, the one that was worked in if a run was cut off after an epoch, or none.
        trained = run is not None and len(run.trainer.history.records) > before
        checkpoints = sorted(work.glob("*.pth")) if trained else []
        written = None
        if run is not None and isinstance(error, TrainingError):
            history = run.trainer.history
            written = run_folder.write_failed(out, run.about, settings(config), history, error, checkpoints)
        if written is not None or not checkpoints:
            shutil.rmtree(work, ignore_errors=True)
            if made:
                with suppress(OSError):
                    out.parent.rmdir()
        if isinstance(error, TrainingError) and checkpoints:
            raise TrainingError(f"{error} {resumable(written or work)}") from error
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
