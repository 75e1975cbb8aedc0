"""One run on the torch-rechub side: read, split, encode, train, evaluate, write the run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cvr_plugins.config import Config, ConfigError, resolve, split_arguments
from cvr_plugins.data import FunnelLog, Schema, Vocabulary, check_parts, split
from cvr_plugins.files import check_new
from cvr_plugins.logs import load_log
from cvr_plugins.metrics import reliability
from cvr_plugins.rechub.batches import TensorLoader
from cvr_plugins.rechub.build import build_model, user_error
from cvr_plugins.rechub.models import RechubModel
from cvr_plugins.rechub.plan import Plan, plan
from cvr_plugins.rechub.trainer import CVRTrainer
from cvr_plugins.training import run_folder
from cvr_plugins.training.checkpoint import save_checkpoint
from cvr_plugins.training.columns import PROPENSITY, check_needs, fitted_propensities, seen_features
from cvr_plugins.training.failures import blamed
from cvr_plugins.training.history import EpochRecord
from cvr_plugins.training.optimisers import learner_class, scheduler_class
from cvr_plugins.training.process import torch_seed, torch_threads
from cvr_plugins.training.results import RunResult, report_of
from cvr_plugins.training.step import TrainingError


def run(
    config: Config | Mapping[str, Any],
    *,
    folder: str | Path | None = None,
    log: FunnelLog | None = None,
    on_note: Callable[[str], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> RunResult:
    """Train and evaluate `config["model"]` on `config["dataset"]`; write the run folder whole or not at all.

    config: the keys of a configuration file (`cvr-plugins keys` lists them) and options of the method, or what
    `cvr_plugins.config.resolve` made of them. folder: None for a new one in `checkpoint_dir`. log: what
    `load_log(config)` returns, if it has been read already. on_note, on_epoch: called as things happen.
    Ctrl-C in training, once an epoch is finished, ends it there: the weights of the best epoch are evaluated and kept,
    `history.stopped` is "interrupted". Before that, and a second time, it raises and nothing is written.
    Random numbers are drawn from `seed` in a fork: the caller's generators are left as they were.
    Raises ConfigError, OptionError, RegistryError, TargetError before the data are read, DataError and ConfigError
    before training starts; each names what to change. TrainingError after that, with a run folder that holds the
    error and the history until then, and OutputError.
    """
    config = config if isinstance(config, Config) else resolve(config)
    planned = plan(config)
    config = planned.config
    place = config["checkpoint_dir"]
    target = run_folder.new_folder(place, config["model"], config["dataset"]) if folder is None else Path(folder)
    check_new(target)

    data = _read(planned, load_log(config) if log is None else log)
    if on_note is not None:
        for note in data.notes:
            on_note(note)
    with torch_threads(config["threads"]), torch_seed(config["seed"], planned.device):
        model = build_model(config, data.schema, data.vocabulary)
        trainer = _trainer(planned, model, on_epoch)
        _check_watched(trainer, data.loaders["valid"])
        about = {
            "framework": "torch-rechub",
            "method": model.method.name,
            "plugin": model.plugin,
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        try:
            with blamed(model.method.name, model.plugin):
                history = trainer.fit(data.loaders["train"], data.loaders["valid"])
                scored = trainer.scored(model, data.loaders["test"])
        except Exception as error:
            written = run_folder.write_failed(target, about, config.to_dict(), trainer.history, error)
            if folder is None and written is not None and isinstance(error, TrainingError):
                raise TrainingError(f"{error} Run folder: {written}") from error
            raise
    report = report_of(scored, trainer.metrics)
    valid = history.best.metrics if history.best is not None else {}
    result = RunResult(
        report=report,
        valid=valid,
        history=history,
        config=config,
        best_valid_score=history.best_value,
        valid_score_bigger=trainer.watch.direction == "max",
        best_valid_result=valid,
        test_result=report.values,
        folder=target,
        checkpoint=target / "checkpoint.pt",
        reliability=reliability(scored),
        log=data.log,
        parts=data.parts,
        notes=data.notes,
    )

    def also(place: Path) -> None:
        run_folder.write_json(place / "schema.json", data.schema.to_dict())
        run_folder.write_json(place / "vocabulary.json", data.vocabulary.to_dict())
        content = {
            "framework": about["framework"],
            "model": about["method"],
            "plugin": about["plugin"],
            "config": config.to_dict(),
            "state_dict": {name: value.cpu() for name, value in model.state_dict().items()},
        }
        save_checkpoint(place / "checkpoint.pt", content)

    return run_folder.write(result, about, config.to_dict(), also)


@dataclass(frozen=True)
class _Data:
    """What is kept of a log: its columns, how it is encoded, its encoded parts by name, summaries, remarks."""

    schema: Schema
    vocabulary: Vocabulary
    loaders: Mapping[str, TensorLoader]
    log: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]


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
    with user_error():
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
        )


def _check_watched(trainer: CVRTrainer, valid: TensorLoader) -> None:
    try:
        trainer.check_validation(valid)
    except TrainingError as error:
        raise ConfigError(str(error)) from error
