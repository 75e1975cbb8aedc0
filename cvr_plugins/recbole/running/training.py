"""One training of a RecBole model: its data, model and trainer, and the result of what it is evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset, data_preparation
from recbole.data.transform import construct_transform
from recbole.utils import get_flops, get_trainer, init_seed

from cvr_plugins.config import ConfigError
from cvr_plugins.data.errors import DataError
from cvr_plugins.data.source import ENCODING
from cvr_plugins.files import undecodable
from cvr_plugins.metrics import ReliabilityCurve, Report, reliability
from cvr_plugins.plugins.blame import blamed
from cvr_plugins.recbole import names
from cvr_plugins.recbole.compat.checkpoints import FRAMEWORK, SafeCheckpoints
from cvr_plugins.recbole.compat.guards import check_pretrained
from cvr_plugins.recbole.context.collector import MethodCollector
from cvr_plugins.recbole.context.metrics import is_key
from cvr_plugins.recbole.evaluation import SessionEvaluation
from cvr_plugins.recbole.evaluation.names import is_of_sessions
from cvr_plugins.recbole.running import datasets, starting
from cvr_plugins.recbole.running.resuming import CHECKPOINT, check_taken_up
from cvr_plugins.training.history import EpochRecord, History
from cvr_plugins.training.results import RunResult, acted
from cvr_plugins.training.step import TrainingError
from cvr_plugins.training.warm_start import Start


def data_and_model(config: RecBoleConfig) -> tuple[Any, Any, Any, Any, Any]:
    """Return the data set, its three loaders and a new model, made in RecBole's order and with its seeds.

    Raises ConfigError for a data set that is not there, a package that is not installed, a field that is missing,
    a plugin's model whose constructor raises; CheckpointError for pre-trained weights that cannot be read safely; what
    RecBole raises for all else.
    """
    init_seed(config["seed"], config["reproducibility"])
    datasets.check(
        config["data_path"], config["dataset"], config["benchmark_filename"], config["additional_feat_suffix"]
    )
    name, owner = config["model"], names.owner(config["model"])
    brought = owner if hasattr(config.model_class, "recbole_dataset") else None
    with blamed(name, brought, "its data set", ConfigError), packages_named(config), _fields_named(config):
        dataset = create_dataset(config)
        parts = data_preparation(config, dataset)
        init_seed(config["seed"], config["reproducibility"])
        check_pretrained(config)
        with blamed(name, owner, "its constructor", ConfigError):
            model = config.model_class(config, parts[0]._dataset)
        model = model.to(config["device"])
    return (dataset, *parts, model)


@contextmanager
def packages_named(config: RecBoleConfig) -> Iterator[None]:
    """Say in a sentence that a package is missing which only some of RecBole's models need."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The model {config['model']} needs the package {error.name}, which is not installed; install it."
        ) from error


@contextmanager
def _fields_named(config: RecBoleConfig) -> Iterator[None]:
    """Say in a sentence that a field, the order of time or the right encoding is missing, where RecBole says little."""
    try:
        yield
    except KeyError as error:
        raise ConfigError(
            f"RecBole lacks {error} in {config['dataset']} for {config['model']}: if it is a field, load_col must list "
            "it, and USER_ID_FIELD, ITEM_ID_FIELD and the like must name the file's own."
        ) from error
    except LookupError as error:
        if "unknown encoding" not in str(error):
            raise
        raise ConfigError(f"Unknown encoding {config['encoding']!r}; use 'utf-8', 'cp1252' or the like.") from error
    except UnicodeError as error:
        files = sorted(Path(config["data_path"]).glob(f"{config['dataset']}.*"))
        encoding = config["encoding"] or "utf-8"
        reason = next(filter(None, (undecodable(file, encoding) for file in files)), f"is no text: {error}.")
        raise DataError(f"File {reason} {ENCODING}") from error
    except ValueError as error:
        order = config["eval_args"]["order"]
        if order == "TO" or "has to be 'TO'" not in str(error):
            raise
        raise ConfigError(
            f"{config['model']} learns from sequences in order of time, and eval_args says order: {order} for "
            f"{config['dataset']}: take a data set of sessions, such as -c ml-100k-sessions, or order: TO."
        ) from error


def log_flops(config: RecBoleConfig, dataset: Any, model: Any) -> None:
    """Count the operations of one prediction and log them, as RecBole does before it trains."""
    # Random numbers are drawn for it (by BERT4Rec's masking for one), so that without it results would differ from
    # RecBole's.
    logger = getLogger()
    try:
        flops = get_flops(model, dataset, config["device"], logger, construct_transform(config))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a count that is only shown is no reason to end a run
        logger.warning(f"FLOPs were not counted: {type(error).__name__}: {error}")
    else:
        logger.info(f"FLOPs: {flops}")


class Training:
    """What RecBole makes of a configuration: data, model and trainer, ready to be trained.

    Parameters
    ----------
    config
        RecBole's.
    folder
        Where checkpoints are written, None for `checkpoint_dir`.
    resume
        The checkpoint that training is taken up from, None for a new one.
    start
        The run whose weights a new one starts from, None for none.
    on_epoch
        Called with the EpochRecord of each epoch.

    Notes
    -----
    `started` is what run.json says of the weights that the run started from.
    """

    def __init__(
        self,
        config: RecBoleConfig,
        *,
        folder: Path | None = None,
        resume: Path | None = None,
        start: Start | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
    ) -> None:
        logger = getLogger()
        logger.info(config)
        self.config = config
        self.owner = names.owner(config["model"])
        self.dataset, *self.loaders, model = data_and_model(config)
        logger.info(self.dataset)
        logger.info(model)
        log_flops(config, self.dataset, model)
        self.started: Mapping[str, str] = {}
        if start is not None:
            own = partial(starting.start_from, model, start, config, self.dataset)
            given = model.start_from(start, self.dataset) if hasattr(model, "start_from") else own()
            self.started = {"init_from": given}
            logger.info(self.started["init_from"])
        whose = self._blamed("its trainer's constructor", ConfigError)
        with _checkpoints_in(folder, config), whose:
            self.trainer: Any = trainer_class(config)(config, model)
        if folder is not None:
            self.trainer.saved_model_file = str(folder / CHECKPOINT)
        if isinstance(self.trainer, SafeCheckpoints):
            self.trainer.on_epoch = on_epoch
            if resume is not None:
                check_taken_up(config, resume)
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
        return {
            "framework": FRAMEWORK,
            "method": method,
            "plugin": self.owner,
            "parameters": parameters,
            **self.started,
        }

    def run(self, *, saved: bool, ends_on_interrupt: bool = True) -> RunResult:
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
            valid={} if best is None else named(best.metrics, config, "valid"),
            history=trainer.history,
            config=config,
            best_valid_score=score,
            valid_score_bigger=config["valid_metric_bigger"],
            best_valid_result=found,
            test_result=tested,
            checkpoint=Path(trainer.saved_model_file) if saved else None,
            reliability=curves,
            mechanism=acted(getattr(trainer.model, "mechanism", None), trainer.history),
            **self._data(),
        )

    def _reported(self, result: Mapping[str, Any] | None) -> tuple[Report, Mapping[str, ReliabilityCurve]]:
        """Return the report of what was just evaluated; result: what RecBole's Evaluator made of it."""
        collector = self.trainer.eval_collector
        if not result or not isinstance(collector, MethodCollector):
            return Report(named(result or {}, self.config, "test"), {}), {}
        assert collector.scored is not None
        own = {name: value for name, value in result.items() if not is_key(name)}
        values = {**collector.report.values, **named(own, self.config, "test")}
        return Report(values, collector.report.support), reliability(collector.scored)

    def _data(self) -> dict[str, Any]:
        dataset = self.dataset
        log = {
            "rows": dataset.inter_num,
            "users": dataset.user_num - 1 if dataset.uid_field else None,
            "items": dataset.item_num - 1 if dataset.iid_field else None,
        }
        loaders = zip(("train", "valid", "test"), self.loaders, strict=True)
        parts = {name: {"rows": len(loader._dataset)} for name, loader in loaders}
        return {"log": log, "parts": parts, "notes": (*getattr(dataset, "notes", ()), *self.started.values())}

    def _blamed(self, doing: str, kind: type[Exception] = TrainingError) -> AbstractContextManager[None]:
        return blamed(self.config["model"], self.owner, doing, kind)


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


def named(result: Mapping[str, Any], config: RecBoleConfig, part: str) -> dict[str, Any]:
    """Return a result of RecBole's with names that tell the protocol: `full/ndcg@10`, `uni100/mrr@5`, `labeled/auc`.

    Names of metrics of sessions and of tasks tell it themselves. part: "valid" or "test", whose result it is.
    """
    mode = config["eval_args"]["mode"][part]
    return {key if "/" in key or is_of_sessions(key) else f"{mode}/{key}": value for key, value in result.items()}


@contextmanager
def _checkpoints_in(folder: Path | None, config: RecBoleConfig) -> Iterator[None]:
    """Let RecBole's trainer, which makes the folder it is to save in, take another one than the configuration's."""
    before = config["checkpoint_dir"]
    config["checkpoint_dir"] = before if folder is None else str(folder)
    try:
        yield
    finally:
        config["checkpoint_dir"] = before
