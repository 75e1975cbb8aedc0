"""Checkpoints of RecBole trainers that load without executing anything, and from which training goes on exactly."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.trainer import (
    KGATTrainer,
    KGTrainer,
    MKRTrainer,
    PretrainTrainer,
    RaCTTrainer,
    RecVAETrainer,
    S3RecTrainer,
    TraditionalTrainer,
    Trainer,
)
from scipy import sparse
from torch.utils.data import DataLoader

from cvr_plugins.config import KEYS, refuse_processes
from cvr_plugins.options import check_number
from cvr_plugins.training import interrupts
from cvr_plugins.training.change import Before
from cvr_plugins.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
    storable,
)
from cvr_plugins.training.history import EpochRecord, History
from cvr_plugins.training.keeper import check_space
from cvr_plugins.wording import flat

__all__ = ["CheckpointError", "SafeCheckpoints", "load_checkpoint"]

_CSR = "scipy.sparse.csr_matrix"
FRAMEWORK = "recbole"
_LAST = ".last"


def both_of(file: str | Path) -> tuple[Path, Path]:
    """Return where the best epoch's checkpoint and the last epoch's are, from the path of either."""
    file = Path(file)
    stem = file.stem.removesuffix(_LAST)
    return file.with_name(f"{stem}{file.suffix}"), file.with_name(f"{stem}{_LAST}{file.suffix}")


_IN_PASSES = (
    *(Trainer, TraditionalTrainer, KGTrainer, KGATTrainer, MKRTrainer),
    *(PretrainTrainer, S3RecTrainer, RaCTTrainer, RecVAETrainer),
)
"""RecBole's trainers whose epochs are passes of Trainer's own, with nothing before them that counts in `fit`."""


class SafeCheckpoints:
    """Mixin in front of a RecBole trainer: `class MyTrainer(SafeCheckpoints, Trainer)`.

    Checkpoints are plain dictionaries, which `torch.load(weights_only=True)` reads: weights, what else RecBole's hold,
    and everything that training goes on from: random states, all optimisers, the epoch, the best score, the count of
    early stopping, the history. They are written whole or not at all.

    That is so where the configuration is a `cvr_plugins.recbole.Config`, as in our runner. With RecBole's own the
    mixin leaves files to RecBole, whose `load_data_and_model` reads no other.

    Next to the checkpoint of the best epoch, `NAME.pth`, lies `NAME.last.pth` while a later epoch has been trained.
    `resume_checkpoint("NAME.pth")` takes the newer of the two; training then ends as if it had never been interrupted,
    to the bit. `fit` removes `NAME.last.pth` when it ends, unless `keep_last` is set.

    Within an epoch that one is written every `checkpoint_minutes`, too, where the epoch is made of passes of RecBole's
    own Trainer over the data, or where the trainer says by `divides` and `epoch_state` that its epoch can be left
    between two batches; of any other trainer a warning says that it is not. What a pass of an epoch that is taken up
    gave is remembered, and what the trainer does between passes is done again before the rest of them.

    A trainer with a state of its own returns it from `extra_state` and takes it back in `load_extra_state`; one whose
    model changes its parameters overrides `load_weights`.

    on_epoch: called with the EpochRecord of each epoch. history: of the training, over all that it was taken up in.
    """

    keep_last = False
    divides = False
    on_epoch: Callable[[EpochRecord], None] | None = None

    config: Any
    model: Any
    device: torch.device
    saved_model_file: str
    valid_metric_bigger: bool

    def __new__(cls, *_: Any, **__: Any) -> SafeCheckpoints:
        """Return an instance whose class has `_Passes` behind all trainers but RecBole's first."""
        if issubclass(cls, Trainer) and not cls.divides and _Passes not in cls.__mro__:
            cls = type(cls.__name__, (cls, _Passes), {"__module__": cls.__module__})
        return super().__new__(cls)

    def __init__(self, config: Any, model: Any) -> None:
        refuse_processes(config.final_config_dict)
        self._ours = hasattr(config, "stored")
        if self._ours:
            # What cannot be kept is refused before training.
            config.stored()
        self.history = History(config["valid_metric"])
        self._valid_result: Any = None
        self._loaders: dict[str, Any] = {}
        self._random: Mapping[str, Any] | None = None
        self._saved_epoch: int | None = None
        self._keeps = False
        minutes = config["checkpoint_minutes"]
        minutes = KEYS["checkpoint_minutes"].default if minutes is None else minutes
        self._seconds = 60 * check_number("checkpoint_minutes", minutes, low=0, open_low=True)
        self._written = time.monotonic()
        self._within: dict[str, Any] | None = None
        self._loss: Any = None
        self._passed: list[Any] | None = None
        self._begun: Mapping[str, Any] | None = None
        self._last: str | None = None
        self._built = _changing(model)
        self._untold: EpochRecord | None = None
        self._before = Before(None)
        self._unvalidated: dict[str, Any] | None = None
        self._drawn: dict[str, Any] | None = None
        super().__init__(config, model)  # type: ignore[call-arg]

    def extra_state(self) -> dict[str, Any]:
        """Return what this trainer adds to a checkpoint: numbers, text, tensors, lists and mappings of them."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `extra_state` returned; called when training is resumed."""

    def epoch_state(self) -> Any:
        """Return what an epoch goes on from beside the model and the optimisers, after some of its batches."""
        return self._loss

    def load_epoch_state(self, state: Any) -> None:
        """Take back what `epoch_state` returned; called when an epoch is taken up."""
        self._loss = state

    def load_weights(self, checkpoint: Mapping[str, Any]) -> None:
        """Give the model the weights of a checkpoint; called when training is resumed and before an evaluation."""
        load_weights(self.model, checkpoint)

    @property
    def last_model_file(self) -> str:
        """Where the state after the last epoch is kept while it is newer than the best epoch's."""
        return self._last or str(both_of(self.saved_model_file)[1])

    def fit(self, train_data: Any, valid_data: Any = None, *args: Any, **options: Any) -> Any:
        """Train as RecBole's trainer does; a resumed training goes on with the random states it was interrupted in."""
        self._loaders = {"train": train_data, "valid": valid_data}
        saved = options.get("saved", args[1] if len(args) > 1 else True)
        self._keeps = bool(saved) and self._ours
        if self._random is not None:
            set_random_state(self._random, self._generators())
            self._random = None
        if self._nothing_left():
            return self.best_valid_score, self.best_valid_result
        if self._keeps and not self._divisible:
            warnings.warn(f"{self.config['model']} is kept at the ends of epochs alone, not within one: {self._whole}.")
        if self._keeps:
            check_space(Path(self.saved_model_file).parent, self.model.state_dict())
        with interrupts.waiting() if self._keeps else nullcontext():
            result = super().fit(train_data, valid_data, *args, **options)  # type: ignore[misc]
            self._tell()
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
        if eval_data and load_best_model and self._ours:
            file, load_best_model = model_file or self.saved_model_file, False
            self.load_weights(self._checked(file, load_checkpoint(file, framework=FRAMEWORK, map_location=self.device)))
            self.logger.info(f"Loading model structure and parameters from {file}")  # type: ignore[attr-defined]
        return super().evaluate(eval_data, load_best_model, model_file, show_progress)  # type: ignore[misc]

    def resume_checkpoint(self, resume_file: str | Path) -> None:
        """Take up the training that a checkpoint was written in, where it was last.

        Raises CheckpointError if the file cannot be read safely, is another model's, or holds no training state.
        """
        file = str(resume_file)
        if not self._ours:
            raise CheckpointError(f"{file} is taken up by cvr_plugins.recbole.run(..., resume={file!r}) alone.")
        self.saved_model_file = str(both_of(file)[0])
        found = [path for path in dict.fromkeys((self.saved_model_file, self.last_model_file)) if os.path.exists(path)]
        read = {path: self._checked(path, load_checkpoint(path, framework=FRAMEWORK)) for path in found or [file]}
        path = max(read, key=lambda each: _position(read[each]))
        checkpoint = read[path]
        if "training" not in checkpoint:
            raise CheckpointError(f"{path} holds weights and no training state; training cannot go on from it.")
        try:
            self._take_up(checkpoint, checkpoint["training"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} does not fit the model or its options: {error}") from error
        self.logger.info(f"Checkpoint loaded. Resume training from epoch {self.start_epoch}")  # type: ignore[attr-defined]

    def _checked(self, path: str, checkpoint: dict[str, Any]) -> dict[str, Any]:
        if checkpoint.get("model") != self.config["model"]:
            raise CheckpointError(f"{path} is of {checkpoint.get('model')}, not of {self.config['model']}.")
        return checkpoint

    def _take_up(self, checkpoint: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        self._stand(checkpoint)
        if training["pretrained"] is not None:
            self._last = self.last_model_file
            self.saved_model_file = str(Path(self._last).with_name(training["pretrained"]))
        self.start_epoch = checkpoint["epoch"] + 1
        self._saved_epoch = checkpoint["epoch"]
        self.cur_step = training["cur_step"]
        self.best_valid_score = training["best_valid_score"]
        self.best_valid_result = training["best_valid_result"]
        self.history.records = [EpochRecord(**record) for record in training["history"]]
        self.train_loss_dict = dict(training["train_loss_dict"])
        self._random = training["random"]
        self._within = training["within"] and {**training["within"], "random": self._random, "checkpoint": checkpoint}

    def _stand(self, checkpoint: Mapping[str, Any]) -> None:
        """Let model, optimisers and what else the trainer has be what they were when a checkpoint was written."""
        training = checkpoint["training"]
        self.load_weights(checkpoint)
        modules = dict(self.model.named_modules())
        for name, value in training["attributes"].items():
            module, _, attribute = name.rpartition(".")
            held = getattr(modules[module], attribute, None)
            device = held.device if isinstance(held, torch.Tensor) else self.device
            setattr(modules[module], attribute, value.to(device) if isinstance(value, torch.Tensor) else value)
        for alias, name in training["aliases"].items():
            setattr(self, alias, getattr(self, name))
        stateful, _ = self._stateful()
        for name, state in training["stateful"].items():
            stateful[name].load_state_dict(state)
        self.load_extra_state(training["extra_state"])

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **options: Any) -> Any:
        # What is true now, before an epoch, is all that the epochs before it have left.
        if self._keeps and epoch_idx > 0 and self._saved_epoch != epoch_idx - 1:
            self._save_last()
        self._tell()
        if self._keeps and interrupts.asked():
            raise KeyboardInterrupt
        self._valid_result, self._loss = None, None
        within, self._within = self._within, None
        if within is not None and within["trained"] is not None:
            loss, record = within["trained"]["loss"], EpochRecord(**within["trained"]["record"])
            set_random_state(within["random"], self._generators())
        else:
            # A model that is not trained (ItemKNN, NCEPLRec) has one number for the optimiser's sake; a trainer that
            # divides its epochs sees to it itself.
            checked = not self.divides and sum(p.numel() for p in self.model.parameters()) > 1
            optimizers = [each for each in self._stateful()[0].values() if isinstance(each, torch.optim.Optimizer)]
            self._before = Before.of(optimizers if checked else ()) if within is None else Before(within["before"])
            self._begun, self._passed = within, None
            if self._keeps and self._divisible:
                self._passed = []
            train = super()._train_epoch  # type: ignore[misc]
            if self.divides and self._passed is not None:
                loss = self.one_pass(train, train_data, epoch_idx, *args, **options)
            else:
                loss = train(train_data, epoch_idx, *args, **options)
            self._passed = None
            self._before.unmoved(optimizers, self.config["model"], epoch_idx)
            total = sum(loss) if isinstance(loss, tuple) else loss
            record = self.record(epoch_idx, None if total is None else float(total))
        self.history.records.append(record)
        self._unvalidated = {"loss": loss, "record": asdict(record)}
        self._drawn = random_state(self._generators())
        if not self._validates(epoch_idx):
            self._untold = record
        return loss

    def _tell(self) -> None:
        # Once it is kept: whoever is told may raise, as a closed standard output does.
        record, self._untold = self._untold, None
        if record is not None and self.on_epoch is not None:
            self.on_epoch(record)

    @property
    def _divisible(self) -> bool:
        return self.divides or not self._whole

    @property
    def _whole(self) -> str:
        """Why an epoch cannot be left between two batches; "" if it can."""
        kinds = type(self).__mro__
        behind = kinds[kinds.index(SafeCheckpoints) + 1 : kinds.index(Trainer)]
        own = [kind for kind in behind if {"fit", "_train_epoch"} & set(vars(kind))]
        other = next((kind.__name__ for kind in own if kind not in (*_IN_PASSES, _Passes)), None)
        if other is not None:
            return f"{other} goes over the data in a way of its own"
        return "enable_scaler scales its gradients by what it has met in the epoch" if self.enable_scaler else ""  # type: ignore[attr-defined]

    def one_pass(self, train: Callable[..., Any], train_data: Any, epoch: int, *args: Any, **options: Any) -> Any:
        """Train a pass over the data, or what is left of it.

        Parameters
        ----------
        train
            Does it with any loader; what follows are its arguments.
        """
        within, passed = self._begun, self._passed
        if passed is None:
            return train(train_data, epoch, *args, **options)
        if within is not None and len(passed) < len(within["passed"]):
            passed.append(within["passed"][len(passed)])
            return passed[-1]
        self._begun, self._loss = None, None
        start, done = random_state(self._generators()), 0
        if within is not None:
            start, done = within["start"], within["batches"]
            set_random_state(start, self._generators())
            self.load_epoch_state(within["state"])

        def at(number: int) -> None:
            if number == done:
                if within is not None:
                    # The batches before were drawn again, and this one with the numbers that were drawn for it then.
                    self._stand(within["checkpoint"])
                    set_random_state(within["random"], self._generators())
                return
            stops = interrupts.asked()
            if stops or time.monotonic() - self._written >= self._seconds:
                now = {"start": start, "batches": number, "state": self.epoch_state(), "before": self._before.hashes}
                self._save_within(epoch, passed=passed, **now)
            if stops:
                raise KeyboardInterrupt

        whole = options.get("loss_func") or self.model.calculate_loss

        def counted(interaction: Any) -> Any:
            losses = whole(interaction)
            values = tuple(each.item() for each in losses) if isinstance(losses, tuple) else losses.item()
            if self._loss is None:
                self._loss = values
            elif isinstance(values, tuple):
                self._loss = tuple(map(sum, zip(self._loss, values, strict=True)))
            else:
                self._loss += values
            return losses

        if not self.divides:
            # RecBole's own sum begins with the first batch that it is given.
            options["loss_func"] = counted
        loss = train(_Divided(train_data, done, at), epoch, *args, **options)
        passed.append(loss if self.divides else self._loss)
        return passed[-1]

    def _save_within(self, epoch: int, *, random: Mapping[str, Any] | None = None, **within: Any) -> None:
        file, valid = Path(self.last_model_file), self.best_valid_result
        self._write(file, epoch - 1, best_valid_result=valid, within={"trained": None, **within}, random=random)

    def _neg_sample_batch_eval(self, batched_data: Any) -> Any:
        self._leave_validation()
        return super()._neg_sample_batch_eval(batched_data)  # type: ignore[misc]

    def _full_sort_batch_eval(self, batched_data: Any) -> Any:
        self._leave_validation()
        return super()._full_sort_batch_eval(batched_data)  # type: ignore[misc]

    def _leave_validation(self) -> None:
        if self._keeps and interrupts.asked():
            records = self.history.records
            if self._unvalidated is not None:
                last = records.pop()
                self._save_within(last.epoch, trained=self._unvalidated, random=self._drawn)
                records.append(last)
            raise KeyboardInterrupt

    def _valid_epoch(self, *args: Any, **options: Any) -> Any:
        score, result = super()._valid_epoch(*args, **options)  # type: ignore[misc]
        self._unvalidated, self._drawn = None, random_state(self._generators())
        if self.history.records:
            record, best = self.history.records[-1], self.best_valid_score
            self._valid_result = storable(dict(result))
            record.value, record.metrics = float(score), self.valid_metrics(self._valid_result)
            record.improved = bool(score >= best if self.valid_metric_bigger else score <= best)
            self._untold = record
        return score, result

    def record(self, epoch: int, loss: float | None) -> EpochRecord:
        """Return the record of an epoch that was trained and not validated yet; loss: what RecBole makes of it."""
        rate = self.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]
        return EpochRecord(epoch, {} if loss is None else {"loss": loss}, learning_rate=float(rate))

    def valid_metrics(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Return the metrics of an epoch's record; result: what RecBole makes of the evaluation."""
        return dict(result)

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **options: Any) -> None:
        if not self._ours:
            super()._save_checkpoint(epoch, verbose=verbose, **options)  # type: ignore[misc]
            return
        file = options.pop("saved_model_file", self.saved_model_file)
        self._write(Path(file), epoch, best_valid_result=self._valid_result)
        self._saved_epoch = epoch
        if verbose:
            self.logger.info(f"Saving current: {file}")  # type: ignore[attr-defined]

    def save_pretrained_model(self, epoch: int, saved_model_file: str) -> None:
        """Write the checkpoint of a pre-training epoch (S3Rec, RaCT)."""
        if not self._ours:
            super().save_pretrained_model(epoch, saved_model_file)  # type: ignore[misc]
            return
        if self._last is None:
            self._last = self.last_model_file
        self.saved_model_file = saved_model_file
        self._write(Path(saved_model_file), epoch, best_valid_result=None)

    def _save_last(self) -> None:
        if self.history.records:
            last = self.history.records[-1].epoch
            # Of the epoch's end: a trainer's `fit` (NCL's) may have drawn for the next one since, and will again.
            self._write(Path(self.last_model_file), last, best_valid_result=self.best_valid_result, random=self._drawn)

    def _write(
        self,
        path: Path,
        epoch: int,
        *,
        best_valid_result: Any,
        within: Mapping[str, Any] | None = None,
        random: Mapping[str, Any] | None = None,
    ) -> None:
        stateful, aliases = self._stateful()
        training = {
            "cur_step": self.cur_step,
            "best_valid_score": self.best_valid_score,
            "best_valid_result": best_valid_result,
            "history": [asdict(record) for record in self.history.records],
            "train_loss_dict": getattr(self, "train_loss_dict", {}),
            "pretrained": None if self._last is None else Path(self.saved_model_file).name,
            "attributes": self._attributes(),
            "stateful": {name: each.state_dict() for name, each in stateful.items()},
            "aliases": aliases,
            "random": random or random_state(self._generators()),
            "within": within,
            "extra_state": self.extra_state(),
        }
        content = {
            **self.config.stored(),
            "epoch": epoch,
            "state_dict": self.model.state_dict(),
            "other_parameter": _other_parameter(self.model),
            "training": training,
        }
        save_checkpoint(path, content)
        self._written = time.monotonic()

    def _generators(self) -> dict[str, Any]:
        found = {}
        for name, loader in self._loaders.items():
            # A knowledge graph's is made of two.
            within = vars(loader) if hasattr(loader, "__dict__") else {}
            parts = {f".{part}": each for part, each in within.items() if isinstance(each, DataLoader)}
            found.update(
                {name + part: getattr(each, "generator", None) for part, each in {"": loader, **parts}.items()}
            )
        return found

    def _attributes(self) -> dict[str, Any]:
        """Return what the model has counted or collected in attributes since it was built."""
        known = set(self.model.other_parameter())
        now = _changing(self.model)
        return {
            name: value
            for name, (value, mark) in now.items()
            if name not in known and not _same(self._built.get(name), value, mark)
        }

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
        return bool(self._loaders.get("valid")) and step > 0 and (epoch + 1) % step == 0 and not self._pretrains

    @property
    def _pretrains(self) -> bool:
        """Whether epochs are those of RecBole's `pretrain`, which validates none and knows another number of them."""
        return isinstance(self, PretrainTrainer) and bool(self.model.train_stage.endswith("pretrain"))

    def _nothing_left(self) -> bool:
        if self._pretrains:
            return False
        # RecBole would overwrite the best epoch's weights with the last one's.
        ended = self.start_epoch >= self.epochs or self.cur_step > self.stopping_step  # type: ignore[attr-defined]
        return self.start_epoch > 0 and ended


class _Passes(Trainer):
    """RecBole's Trainer, each of whose passes over the data `SafeCheckpoints` may leave and take up."""

    def _train_epoch(self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False) -> Any:
        options = {"loss_func": loss_func, "show_progress": show_progress}
        return self.one_pass(super()._train_epoch, train_data, epoch_idx, **options)


class _Divided:
    """A training loader that says of each batch, before it is given, which one it is, and leaves out the first ones."""

    def __init__(self, loader: Any, done: int, at: Callable[[int], None]) -> None:
        self._loader, self._done, self._at = loader, done, at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self._loader):
            if number >= self._done:
                self._at(number)
                yield batch


def _position(checkpoint: Mapping[str, Any]) -> tuple[int, bool, int, int]:
    """How far a training was: the last epoch that ended, and whether the next was trained, its passes and batches."""
    within = (checkpoint.get("training") or {}).get("within") or {"trained": None, "passed": (), "batches": -1}
    trained = within["trained"] is not None
    return checkpoint.get("epoch", -1), trained, len(within.get("passed", ())), within.get("batches", 0)


def _changing(model: Any) -> dict[str, tuple[Any, Any]]:
    """Return the numbers, and lists, arrays and tensors of them, in a model's attributes, with a mark of their state.

    Those with a gradient, which a batch has left, are left out.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for module, each in model.named_modules():
        for name, value in vars(each).items():
            mark: Any = None
            if isinstance(value, torch.Tensor) and not value.requires_grad:
                mark = 0 if value.is_inference() else value._version
            elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
                mark = hash(value.tobytes())
            elif isinstance(value, list) and value and all(isinstance(one, (int, float, np.generic)) for one in value):
                mark = hash(tuple(value))
            elif isinstance(value, (int, float, np.generic)) and name != "training":
                mark = value
            if mark is not None:
                found[f"{module}.{name}" if module else name] = value, mark
    return found


def _same(built: tuple[Any, Any] | None, value: Any, mark: Any) -> bool:
    if built is None:
        return False
    return built[1] == mark and (built[0] is value or not isinstance(value, torch.Tensor))


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
        raise CheckpointError(
            f"The checkpoint's weights do not fit the model, its options or its data: {flat(error)}"
        ) from error
    model.load_other_parameter({key: _matrix(value) for key, value in other.items()})


def _other_parameter(model: Any) -> dict[str, Any]:
    # A module among the model's own has its weights in the state_dict already.
    return {key: _arrays(value) for key, value in model.other_parameter().items() if key not in model._modules}


def _arrays(value: Any) -> Any:
    """Return what a sparse matrix is made of, one of several forms for all; anything else as it is."""
    if not sparse.issparse(value):
        return value
    rows = sparse.csr_matrix(value)
    return {_CSR: list(rows.shape), "data": rows.data, "indices": rows.indices, "indptr": rows.indptr}


def _matrix(value: Any) -> Any:
    if not isinstance(value, Mapping) or _CSR not in value:
        return value
    return sparse.csr_matrix((value["data"], value["indices"], value["indptr"]), shape=value[_CSR])
