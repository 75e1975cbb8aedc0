"""Checkpoints of RecBole trainers that load without executing anything, and from which training goes on exactly."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config as RecBoleConfig

from cvr_plugins.config import refuse_processes
from cvr_plugins.files import whole_file
from cvr_plugins.recbole.compat._loading import CheckpointError, load_checkpoint, storable
from cvr_plugins.recbole.running.config import plain
from cvr_plugins.training.history import EpochRecord, History

__all__ = ["CheckpointError", "SafeCheckpoints", "load_checkpoint"]

_OURS = "cvr_plugins"
_FORMAT = 1
_LAST = ".last"


class SafeCheckpoints:
    """Mixin in front of a RecBole trainer: `class MyTrainer(SafeCheckpoints, Trainer)`.

    Checkpoints hold what RecBole's hold, so that RecBole reads them, and beside it everything that training goes on
    from: random states, all optimisers, the epoch, the best score, the count of early stopping, the history. They are
    written whole or not at all and read with `torch.load(weights_only=True)` against a fixed list of types.

    Next to the checkpoint of the best epoch, `NAME.pth`, lies `NAME.last.pth` while a later epoch has been trained.
    `resume_checkpoint("NAME.pth")` takes the newer of the two; training then ends as if it had never been interrupted,
    to the bit. `fit` removes `NAME.last.pth` when it ends, unless `keep_last` is set.

    A trainer with a state of its own returns it from `extra_state` and takes it back in `load_extra_state`; one whose
    model changes its parameters overrides `load_weights`.

    on_epoch: called with the EpochRecord of each epoch. history: of the training, over all that it was taken up in.
    """

    keep_last = False
    on_epoch: Callable[[EpochRecord], None] | None = None

    config: RecBoleConfig
    model: Any
    device: torch.device
    saved_model_file: str
    valid_metric_bigger: bool

    def __init__(self, config: RecBoleConfig, model: Any) -> None:
        refuse_processes(config.final_config_dict)
        _check_storable(config)
        self.history = History(config["valid_metric"])
        self._valid_result: Any = None
        self._loaders: dict[str, Any] = {}
        self._random: Mapping[str, Any] | None = None
        self._saved_epoch: int | None = None
        self._keeps = False
        super().__init__(config, model)  # type: ignore[call-arg]

    def extra_state(self) -> dict[str, Any]:
        """Return what this trainer adds to a checkpoint: numbers, text, tensors, lists and mappings of them."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `extra_state` returned; called when training is resumed."""

    def load_weights(self, checkpoint: Mapping[str, Any]) -> None:
        """Give the model the weights of a checkpoint; called when training is resumed and before an evaluation."""
        load_weights(self.model, checkpoint)

    @property
    def last_model_file(self) -> str:
        """Where the state after the last epoch is kept while it is newer than the best epoch's."""
        stem, suffix = os.path.splitext(self.saved_model_file)
        return f"{stem}{_LAST}{suffix}"

    def fit(self, train_data: Any, valid_data: Any = None, *args: Any, **options: Any) -> Any:
        """Train as RecBole's trainer does; a resumed training goes on with the random states it was interrupted in."""
        self._loaders = {"train": train_data, "valid": valid_data}
        saved = options.get("saved", args[1] if len(args) > 1 else True)
        self._keeps = bool(saved)
        if self._random is not None:
            _set_random(self._random, self._loaders)
            self._random = None
        if self._nothing_left():
            return self.best_valid_score, self.best_valid_result
        result = super().fit(train_data, valid_data, *args, **options)  # type: ignore[misc]
        if self._keeps:
            if self.keep_last:
                self._save_last()
            else:
                Path(self.last_model_file).unlink(missing_ok=True)
        return result

    def evaluate(
        self, eval_data: Any, load_best_model: bool = True, model_file: str | None = None, show_progress: bool = False
    ) -> Any:
        """Evaluate as RecBole's trainer does. Raises CheckpointError if the best model cannot be loaded."""
        if eval_data and load_best_model:
            file = model_file or self.saved_model_file
            self.load_weights(load_checkpoint(file, type(self.model), map_location=self.device))
            self.logger.info(f"Loading model structure and parameters from {file}")  # type: ignore[attr-defined]
        return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)  # type: ignore[misc]

    def resume_checkpoint(self, resume_file: str | Path) -> None:
        """Take up the training that a checkpoint was written in, where it was last.

        Raises CheckpointError if the file cannot be read safely, is another model's, or holds no training state.
        """
        file = str(resume_file)
        stem, suffix = os.path.splitext(file)
        self.saved_model_file = stem.removesuffix(_LAST) + suffix
        found = [path for path in dict.fromkeys((self.saved_model_file, self.last_model_file)) if os.path.exists(path)]
        read = {path: load_checkpoint(path, type(self.model), map_location="cpu") for path in found or [file]}
        path = max(read, key=lambda each: read[each]["epoch"])
        checkpoint = read[path]
        ours = checkpoint.get(_OURS)
        if ours is None:
            raise CheckpointError(f"{path} holds weights and no training state; training cannot go on from it.")
        if checkpoint["config"]["model"] != self.config["model"]:
            raise CheckpointError(f"{path} is of {checkpoint['config']['model']}, not of {self.config['model']}.")
        try:
            self._take_up(checkpoint, ours)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} does not fit the model or its options: {error}") from error
        self.logger.info(f"Checkpoint loaded. Resume training from epoch {self.start_epoch}")  # type: ignore[attr-defined]

    def _take_up(self, checkpoint: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        self.load_weights(checkpoint)
        self.start_epoch = checkpoint["epoch"] + 1
        self._saved_epoch = checkpoint["epoch"]
        self.cur_step = checkpoint["cur_step"]
        self.best_valid_score = checkpoint["best_valid_score"]
        self.best_valid_result = ours["best_valid_result"]
        self.history.records = [EpochRecord(**record) for record in ours["history"]]
        self.train_loss_dict = dict(ours["train_loss_dict"])
        for alias, name in ours["aliases"].items():
            setattr(self, alias, getattr(self, name))
        stateful, _ = self._stateful()
        for name, state in ours["stateful"].items():
            stateful[name].load_state_dict(state)
        self.load_extra_state(ours["extra_state"])
        self._random = ours["random"]

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **options: Any) -> Any:
        # What is true now, before an epoch, is all that the epochs before it have left.
        if self._keeps and epoch_idx > 0 and self._saved_epoch != epoch_idx - 1:
            self._save_last()
        self._valid_result = None
        loss = super()._train_epoch(train_data, epoch_idx, *args, **options)  # type: ignore[misc]
        total = sum(loss) if isinstance(loss, tuple) else loss
        self.history.records.append(self.record(epoch_idx, None if total is None else float(total)))
        if self.on_epoch is not None and not self._validates(epoch_idx):
            self.on_epoch(self.history.records[-1])
        return loss

    def _valid_epoch(self, *args: Any, **options: Any) -> Any:
        score, result = super()._valid_epoch(*args, **options)  # type: ignore[misc]
        if self.history.records:
            record, best = self.history.records[-1], self.best_valid_score
            self._valid_result = storable(dict(result))
            record.value, record.metrics = float(score), self.valid_metrics(self._valid_result)
            record.improved = bool(score >= best if self.valid_metric_bigger else score <= best)
            if self.on_epoch is not None:
                self.on_epoch(record)
        return score, result

    def record(self, epoch: int, loss: float | None) -> EpochRecord:
        """Return the record of an epoch that was trained and not validated yet; loss: what RecBole makes of it."""
        rate = self.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]
        return EpochRecord(epoch, {} if loss is None else {"loss": loss}, learning_rate=float(rate))

    def valid_metrics(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Return the metrics of an epoch's record; result: what RecBole makes of the evaluation."""
        return dict(result)

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **options: Any) -> None:
        file = options.pop("saved_model_file", self.saved_model_file)
        self._write(Path(file), epoch, best_valid_result=self._valid_result)
        self._saved_epoch = epoch
        if verbose:
            self.logger.info(f"Saving current: {file}")  # type: ignore[attr-defined]

    def save_pretrained_model(self, epoch: int, saved_model_file: str) -> None:
        """Write the checkpoint of a pre-training epoch (S3Rec, RaCT)."""
        self._write(Path(saved_model_file), epoch, best_valid_result=None)
        self.saved_model_file = saved_model_file
        self._saved_epoch = epoch

    def _save_last(self) -> None:
        if self.history.records:
            last = self.history.records[-1].epoch
            self._write(Path(self.last_model_file), last, best_valid_result=self.best_valid_result)

    def _write(self, path: Path, epoch: int, *, best_valid_result: Any) -> None:
        stateful, aliases = self._stateful()
        ours = {
            "format": _FORMAT,
            "best_valid_result": None if best_valid_result is None else dict(best_valid_result),
            "history": [asdict(record) for record in self.history.records],
            "train_loss_dict": getattr(self, "train_loss_dict", {}),
            "stateful": {name: each.state_dict() for name, each in stateful.items()},
            "aliases": aliases,
            "random": _get_random(self._loaders),
            "extra_state": self.extra_state(),
        }
        state = {
            "config": plain(self.config),
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": self.best_valid_score,
            "state_dict": self.model.state_dict(),
            "other_parameter": _other_parameter(self.model),
            "optimizer": self.optimizer.state_dict(),  # type: ignore[attr-defined]
            _OURS: ours,
        }
        with whole_file(path) as aside:
            torch.save(storable(state), aside, pickle_protocol=2)

    def _stateful(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Return this trainer's optimisers and schedulers by name, and other names of one -> that name."""
        kinds = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
        found: dict[str, Any] = {}
        aliases: dict[str, str] = {}
        # RecVAE's `optimizer` is one of two others, in turns.
        for name, value in sorted(vars(self).items(), key=lambda pair: pair[0] == "optimizer"):
            if isinstance(value, kinds):
                known = next((each for each in found if found[each] is value), None)
                if known is None:
                    found[name] = value
                else:
                    aliases[name] = known
        return found, aliases

    def _validates(self, epoch: int) -> bool:
        step: int = self.eval_step  # type: ignore[attr-defined]
        return bool(self._loaders.get("valid")) and step > 0 and (epoch + 1) % step == 0

    def _nothing_left(self) -> bool:
        # RecBole would overwrite the best epoch's weights with the last one's.
        ended = self.start_epoch >= self.epochs or self.cur_step > self.stopping_step  # type: ignore[attr-defined]
        return self.start_epoch > 0 and ended


def load_weights(model: Any, checkpoint: Mapping[str, Any]) -> None:
    """Give a model the weights of a checkpoint, and what else it keeps in one (RecBole's `other_parameter`).

    Raises CheckpointError if they are not those of such a model.
    """
    other = checkpoint.get("other_parameter") or {}
    unknown = sorted(set(other) - set(model.other_parameter()))
    if unknown:
        raise CheckpointError(
            f"The checkpoint sets {', '.join(unknown)}, which a {type(model).__name__} does not keep."
        )
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise CheckpointError(
            f"The checkpoint's weights do not fit the model, its options or its data: {problem}"
        ) from error
    model.load_other_parameter(other)


def _other_parameter(model: Any) -> dict[str, Any]:
    # A module among the model's own has its weights in the state_dict already.
    return {key: value for key, value in model.other_parameter().items() if key not in model._modules}


def _check_storable(config: RecBoleConfig) -> None:
    for key, value in config.final_config_dict.items():
        _check_value(key, value)


def _check_value(key: str, value: Any) -> None:
    try:
        storable(value)
    except CheckpointError as error:
        raise CheckpointError(f"The value of {key} cannot be kept in a checkpoint: {error}") from error


def _get_random(loaders: Mapping[str, Any]) -> dict[str, Any]:
    drawn: Any = np.random.get_state()  # noqa: NPY002 - the generator RecBole draws from
    kind, keys, position, has_gauss, gauss = drawn
    version, words, spare = random.getstate()
    generators = {name: getattr(loader, "generator", None) for name, loader in loaders.items()}
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(words), spare],
        "loaders": {name: each.get_state() for name, each in generators.items() if each is not None},
    }


def _set_random(state: Mapping[str, Any], loaders: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, words, spare = state["python"]
    random.setstate((version, tuple(words), spare))
    for name, generator in state["loaders"].items():
        loader = loaders.get(name)
        if loader is not None:
            loader.generator.set_state(generator)
