"""One run on the torch-rechub side: read, split, encode, train, evaluate, write the run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cvr_plugins.config import Config, ConfigError, resolve, split_arguments
from cvr_plugins.data import DataError, FunnelLog, Schema, Vocabulary, check_parts, split
from cvr_plugins.data.encoding import FIRST
from cvr_plugins.files import TargetError
from cvr_plugins.logs import load_log
from cvr_plugins.metrics import Scored, reliability
from cvr_plugins.plugins.blame import blamed
from cvr_plugins.rechub.batches import TensorLoader
from cvr_plugins.rechub.build import build_model, user_error
from cvr_plugins.rechub.models import RechubModel, model_class
from cvr_plugins.rechub.plan import Plan, plan
from cvr_plugins.rechub.trainer import CVRTrainer
from cvr_plugins.training import run_folder
from cvr_plugins.training.checkpoint import save_checkpoint
from cvr_plugins.training.columns import PROPENSITY, check_needs, fitted_propensities, seen_features
from cvr_plugins.training.history import EpochRecord, History
from cvr_plugins.training.keeper import Keeper
from cvr_plugins.training.optimisers import learner_class, scheduler_class
from cvr_plugins.training.process import torch_seed, torch_threads
from cvr_plugins.training.results import RunResult, acted, report_of
from cvr_plugins.training.run_folder import settings_of
from cvr_plugins.training.step import TrainingError
from cvr_plugins.training.warm_start import Start, refuse_both
from cvr_plugins.training.working import WorkFolder, check_same, left_of, reserved, taken_up


def run(
    config: Config | Mapping[str, Any] | None = None,
    *,
    folder: str | Path | None = None,
    resume: str | Path | None = None,
    init_from: str | Path | None = None,
    log: FunnelLog | None = None,
    on_note: Callable[[str], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> RunResult:
    """Train and evaluate `config["model"]` on `config["dataset"]`; write the run folder whole or not at all.

    Until it is finished the run works in `NAME.unfinished` beside its folder NAME, where a checkpoint is written after
    each epoch and every `checkpoint_minutes` within one. Ctrl-C in training, once an epoch is finished, ends it there:
    the weights of the best epoch are evaluated and kept, `history.stopped` is "interrupted". Before that, and a second
    time, it raises, and the checkpoint stays. Random numbers are drawn from `seed` in a fork: the caller's generators
    are left as they were.

    Parameters
    ----------
    config
        The keys of a configuration file (`cvr-plugins keys` lists them) and options of the method, or what
        `cvr_plugins.config.resolve` made of them. Of a run that is resumed: the keys that are to differ, such as
        `epochs`; None for none.
    folder
        The run folder, None for a new one in `checkpoint_dir`, or that of the run that is resumed.
    resume
        A run that was cut off, NAME or `NAME.unfinished`: training goes on to the bit as if it had not been.
    init_from
        The folder of a finished or interrupted run, whose weights a new run starts from: last week's model on next
        week's data. Keys that `config` does not give are that run's. Tokens that it knew keep their embeddings, those
        of new ones are drawn, those that are gone are dropped; a note counts them. Dense values go on being scaled by
        the statistics that the weights were trained on.
    log
        What `load_log(config)` returns, if it has been read already.
    on_note, on_epoch
        Called as things happen.

    Returns
    -------
    RunResult
        What the run found.

    Raises
    ------
    ConfigError, OptionError, RegistryError, TargetError
        Before the data are read, each naming what to change.
    DataError, ConfigError, CheckpointError
        Before training.
    TrainingError
        In training; `NAME.unfinished` says why and holds what was trained until then.
    OutputError
        If a checkpoint or the run folder cannot be written; what was trained stays.
    """
    if config is None and resume is None and init_from is None:
        raise ConfigError("Give a configuration, or a run to be resumed.")
    refuse_both(init_from, resume)
    out = None if folder is None else Path(folder)
    if resume is not None:
        before = resolve(_keys(settings_of(left_of(resume))))
        planned = plan(resolve(before.to_dict(), _keys(config)))
        check_same(before.to_dict(), planned.config.to_dict())
        with taken_up(resume, out) as work:
            return _Run(planned, work, on_note, on_epoch).run(log)
    start = None
    if init_from is not None:
        start = Start.read(init_from, framework="torch-rechub", checkpoint="checkpoint.pt")
        planned = plan(resolve(_keys(start.settings), _keys(config)))
        made = model_class(planned.config["model"])
        start.check_method(made.method, made.plugin, _shaping(planned.config))
    else:
        planned = plan(config if isinstance(config, Config) else resolve(config or {}))
    place, model, dataset = (planned.config[key] for key in ("checkpoint_dir", "model", "dataset"))
    with reserved(run_folder.new_names(place, model, dataset) if out is None else [out]) as work:
        return _Run(planned, work, on_note, on_epoch, start).run(log)


def _keys(config: Config | Mapping[str, Any] | None) -> dict[str, Any]:
    values = config.to_dict() if isinstance(config, Config) else config or {}
    return {key: value for key, value in values.items() if key != "framework"}


def _shaping(config: Config) -> dict[str, Any]:
    return {key: config[key] for key in ("architecture", "backbone", "weighting", "dense", "embedding_size")} | dict(
        config.options
    )


class _Run:
    """One run, from its data to its folder."""

    def __init__(
        self,
        planned: Plan,
        work: WorkFolder,
        on_note: Callable[[str], None] | None,
        on_epoch: Callable[[EpochRecord], None] | None,
        start: Start | None = None,
    ) -> None:
        self.planned, self.config, self.work, self.start = planned, planned.config, work, start
        self.on_note, self.on_epoch = on_note, on_epoch

    def run(self, log: FunnelLog | None) -> RunResult:
        config = self.config
        begun = False
        try:
            data = _read(self.planned, load_log(config) if log is None else log)
            self._tell(data.notes)
            with torch_threads(config["threads"]), torch_seed(config["seed"], self.planned.device):
                model = build_model(config, data.schema, data.vocabulary)
                started = self._started(model, data)
                self._tell(started.values())
                data = replace(data, notes=(*data.notes, *started.values()))
                trainer = _trainer(self.planned, model, self.on_epoch)
                _check_watched(trainer, data.loaders["valid"])
                keeper = self._begun(model, data, started)
                begun = True
                history, scored = self._trained(trainer, model, data, keeper)
        except BaseException as error:
            if self.work.new and (not begun or isinstance(error, TargetError)):
                self.work.remove()
            raise
        return self._written(trainer, model, data, history, scored)

    def _tell(self, notes: Iterable[str]) -> None:
        if self.on_note is not None:
            for note in notes:
                self.on_note(note)

    def _started(self, model: RechubModel, data: _Data) -> dict[str, str]:
        """Give the model the weights that it starts from; return what run.json says of them."""
        if self.start is None:
            return run_folder.started(self.work)
        kept = self.start.give(model, data.vocabulary.to_dict(), _shaping(self.config), reserved=FIRST)
        return {"init_from": kept}

    def _begun(self, model: RechubModel, data: _Data, started: Mapping[str, str]) -> Keeper:
        """Write what the run is, and find what it is taken up from."""
        self.about = {
            "framework": "torch-rechub",
            "method": model.method.name,
            "plugin": model.plugin,
            "parameters": sum(p.numel() for p in model.parameters()),
            **started,
        }
        content = {**self._content(), "data": data.digest()}
        # First: where this is refused, the folder stays as it was.
        keeper = Keeper(self.work.training, content, minutes=self.config["checkpoint_minutes"])
        run_folder.begin(self.work, self.about, self.config.to_dict())
        try:
            self._describe(self.work.path, data)
        except OSError as error:
            raise TargetError(f"Cannot write to {str(self.work.path)!r}: {error.strerror or error}.") from error
        return keeper

    def _trained(self, trainer: CVRTrainer, model: RechubModel, data: _Data, keeper: Keeper) -> tuple[History, Scored]:
        try:
            with blamed(model.method.name, model.plugin, "training", TrainingError):
                history = trainer.fit(data.loaders["train"], data.loaders["valid"], keeper=keeper)
                return history, trainer.scored(model, data.loaders["test"])
        except OSError:
            # Of a disk or an output that is full, not of the run.
            raise
        except Exception as error:
            run_folder.write_failed(self.work, self.about, self.config.to_dict(), trainer.history, error)
            if isinstance(error, TrainingError):
                raise TrainingError(str(error), f"{self.work.path} says why; {self.work.resume}.") from error
            raise

    def _written(
        self, trainer: CVRTrainer, model: RechubModel, data: _Data, history: History, scored: Scored
    ) -> RunResult:
        report = report_of(scored, trainer.metrics)
        valid = history.best.metrics if history.best is not None else {}
        result = RunResult(
            report=report,
            valid=valid,
            history=history,
            config=self.config,
            best_valid_score=history.best_value,
            valid_score_bigger=trainer.watch.direction == "max",
            best_valid_result=valid,
            test_result=report.values,
            checkpoint=Path("checkpoint.pt"),
            reliability=reliability(scored),
            log=data.log,
            parts=data.parts,
            notes=data.notes,
            mechanism=acted(model.objective.mechanism, history),
        )

        def also(place: Path) -> None:
            self._describe(place, data)
            weights = {name: value.cpu() for name, value in model.state_dict().items()}
            save_checkpoint(place / "checkpoint.pt", {**self._content(), "state_dict": weights})

        return run_folder.write(self.work, result, self.about, self.config.to_dict(), also)

    def _content(self) -> dict[str, Any]:
        about = {"framework": self.about["framework"], "model": self.about["method"], "plugin": self.about["plugin"]}
        return {**about, "config": self.config.to_dict()}

    def _describe(self, place: Path, data: _Data) -> None:
        try:
            run_folder.write_json(place / "schema.json", data.schema.to_dict())
            run_folder.write_json(place / "vocabulary.json", data.vocabulary.to_dict())
        except UnicodeEncodeError as error:
            raise DataError(
                f"{self.config['dataset']} holds text that UTF-8 cannot: "
                f"{error.object[error.start : error.end]!r}; write the file anew, or name its encoding."
            ) from error


@dataclass(frozen=True)
class _Data:
    """What is kept of a log: its columns, how it is encoded, its encoded parts by name, summaries, remarks."""

    schema: Schema
    vocabulary: Vocabulary
    loaders: Mapping[str, TensorLoader]
    log: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]

    def digest(self) -> str:
        """Return a hash of the rows of all parts, in their order."""
        return " ".join(loader.digest() for loader in self.loaders.values())


def _read(planned: Plan, log: FunnelLog) -> _Data:
    config = planned.config
    check_needs(planned.method, planned.objective.needs, [*log.schema.labels, PROPENSITY])
    ratios, by = split_arguments(config["eval_args"])
    parts = dict(zip(("train", "valid", "test"), split(log, ratios=ratios, by=by, seed=config["seed"]), strict=True))
    notes = (*log.notes, *check_parts(*parts.values()))
    fit = {"max_length": config["max_sequence_length"], "min_count": config["min_count"]}
    features = seen_features(log.schema.features, config["inputs"], log.name)
    schema = log.schema if config["inputs"] is None else replace(log.schema, features=features, id_features=False)
    vocabulary = Vocabulary.fit(replace(parts["train"], schema=schema), **fit)
    labels = {name: part.labels() for name, part in parts.items()}
    if PROPENSITY in planned.objective.needs:
        found = fitted_propensities(planned.objective, parts["train"], config["propensity_params"])
        labels["train"][PROPENSITY], note = found
        notes = (*notes, note)
    return _Data(
        schema,
        vocabulary,
        {name: _loader(part, labels[name], vocabulary, config, train=name == "train") for name, part in parts.items()},
        log.summary(),
        {name: part.summary() for name, part in parts.items()},
        notes,
    )


def _loader(
    part: FunnelLog, labels: Mapping[str, np.ndarray], vocabulary: Vocabulary, config: Config, *, train: bool
) -> TensorLoader:
    return TensorLoader.from_encoded(
        vocabulary.transform(part.frame),
        labels,
        batch_size=config["train_batch_size" if train else "eval_batch_size"],
        shuffle=train,
        non_click_fraction=config["non_click_fraction"] if train else 1.0,
        seed=config["seed"],
        groups=part.user_codes(),
    )


def _trainer(planned: Plan, model: RechubModel, on_epoch: Callable[[EpochRecord], None] | None) -> CVRTrainer:
    config = planned.config
    with blamed(model.method.name, model.plugin, "its choice of parameters", ConfigError), user_error():
        return CVRTrainer(
            model,
            optimizer_fn=learner_class(config["learner"]),
            optimizer_params={"lr": config["learning_rate"], "weight_decay": config["weight_decay"]},
            scheduler_fn=scheduler_class(config["scheduler"]),
            scheduler_params=config["scheduler_params"],
            n_epoch=config["epochs"],
            earlystop_patience=config["stopping_step"],
            device=planned.device,
            model_path=None,
            valid_metric=config["valid_metric"],
            metrics=planned.metrics,
            on_epoch=on_epoch,
            progress=config["show_progress"],
            non_click_correction=config["non_click_correction"],
        )


def _check_watched(trainer: CVRTrainer, valid: TensorLoader) -> None:
    try:
        trainer.check_validation(valid)
    except TrainingError as error:
        raise ConfigError(str(error)) from error
