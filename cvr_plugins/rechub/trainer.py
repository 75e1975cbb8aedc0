"""A torch-rechub trainer that trains any method by its phases and loss terms."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch_rechub.basic.features import SequenceFeature
from torch_rechub.trainers import MTLTrainer
from tqdm import tqdm

import cvr_plugins.rechub.trainer_options as checks
from cvr_plugins.metrics import DEFAULT_METRICS, Report, Scored
from cvr_plugins.model import CVRModel
from cvr_plugins.options import check_choice, check_count
from cvr_plugins.rechub.batches import TensorLoader
from cvr_plugins.rechub.labels import NOT_EVALUATED, LabelColumns
from cvr_plugins.rechub.loaders import batches, number_of_batches, number_of_rows
from cvr_plugins.training import interrupts
from cvr_plugins.training.checkpoint import CheckpointError, random_state, set_random_state
from cvr_plugins.training.history import EpochRecord, History
from cvr_plugins.training.keeper import Keeper, check_space
from cvr_plugins.training.loop import EpochSums, Loop, Trained
from cvr_plugins.training.optimisers import make_optimizers, make_schedulers
from cvr_plugins.training.results import report_of
from cvr_plugins.training.rows import RowBuffer
from cvr_plugins.training.snapshot import Snapshot
from cvr_plugins.training.step import TrainingError
from cvr_plugins.wording import one_line

__all__ = ["CVRTrainer", "EpochRecord", "History", "TrainingError"]

logger = logging.getLogger("cvr_plugins")


class _Position(NamedTuple):
    """Where a training is: before an epoch, after some of its batches, or before its validation.

    Parameters
    ----------
    epoch
        Its number.
    sums
        Of the batches trained on, None before the first one.
    trained
        What the epoch was trained to, None until then.
    """

    epoch: int = 0
    sums: Mapping[str, Any] | None = None
    trained: Trained | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as a checkpoint holds it."""
        return {**self._asdict(), "trained": None if self.trained is None else self.trained._asdict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> _Position:
        """Return what `to_dict` was made of."""
        trained = values["trained"]
        return cls(values["epoch"], values["sums"], None if trained is None else Trained(**trained))


class CVRTrainer(MTLTrainer):
    """Train a model of `cvr_plugins.rechub` by its objective: one optimiser step per phase and batch.

    Parameters
    ----------
    model
        A RechubModel.
    optimizer_fn, optimizer_params, scheduler_fn, scheduler_params, regularization_params, n_epoch, earlystop_patience
        As in torch-rechub's MTLTrainer; any torch optimiser and scheduler. Adam runs fused unless `optimizer_params`
        says otherwise; ReduceLROnPlateau gets the watched value.
    device, model_logger
        As there.
    model_path
        As there; None writes no file.
    task_types, earlystop_taskid, earlystop_mode
        Accepted where they say what this trainer does anyway.
    adaptive_params, gpus
        Cannot apply, and must be left out.
    valid_metric
        `task/space/metric` that early stopping watches.
    metrics
        Computed at each evaluation.
    label_columns
        Names of the columns of `ys` from a stock DataLoader (a TensorLoader knows its own), None for torch-rechub's:
        conversion, click, click * conversion.
    scheduler_interval
        When schedulers are stepped: "epoch" or "batch".
    on_epoch
        Called with each EpochRecord.
    progress
        Show progress bars on a terminal.
    non_click_correction
        Whether the model corrects its predictions where the training loader leaves out unclicked rows.

    Raises
    ------
    ValueError
        For what cannot apply, and for options that contradict each other.
    """

    def __init__(
        self,
        model: CVRModel,
        task_types: Sequence[str] | None = None,
        optimizer_fn: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_params: dict[str, Any] | None = None,
        regularization_params: dict[str, float] | None = None,
        scheduler_fn: Callable[..., Any] | None = None,
        scheduler_params: dict[str, Any] | None = None,
        adaptive_params: None = None,
        n_epoch: int = 10,
        earlystop_taskid: int | None = None,
        earlystop_patience: int = 10,
        device: str | torch.device = "cpu",
        gpus: Sequence[int] | None = None,
        model_path: str | os.PathLike[str] | None = "./",
        model_logger: Any = None,
        earlystop_mode: str | None = None,
        *,
        valid_metric: str | None = None,
        metrics: Sequence[str] = DEFAULT_METRICS,
        label_columns: Sequence[str] | None = None,
        scheduler_interval: str = "epoch",
        on_epoch: Callable[[EpochRecord], None] | None = None,
        progress: bool = True,
        non_click_correction: bool = True,
    ) -> None:
        if not isinstance(model, CVRModel):
            raise ValueError(
                f"CVRTrainer trains models of cvr_plugins.rechub; got {type(model).__name__}. "
                "Use torch_rechub.trainers.MTLTrainer for torch-rechub's own models."
            )
        tasks = model.tasks
        checks.refuse_parent_options(tasks, task_types, adaptive_params, gpus)
        check_count("n_epoch", n_epoch)
        check_count("earlystop_patience", earlystop_patience)
        check_choice("scheduler_interval", scheduler_interval, ("epoch", "batch"))
        checks.check_model_path(model_path)
        self.watch = checks.watched(tasks, valid_metric, earlystop_taskid, earlystop_mode)
        self.metrics = checks.with_watched(metrics, self.watch.metric)
        strengths = checks.regularization(regularization_params)
        at = checks.checked_device(device)
        params = {"lr": 1e-3, "weight_decay": 1e-5} if optimizer_params is None else dict(optimizer_params)
        optimizers = make_optimizers(model.to(at), optimizer_fn, params)
        self.loop = Loop(
            model,
            optimizers,
            name=type(model).__name__,
            plugin=getattr(type(model), "plugin", None),
            device=at,
            schedulers=make_schedulers(
                optimizers,
                scheduler_fn,
                scheduler_params or {},
                watched=self.watch.key,
                direction=self.watch.direction,
                interval=scheduler_interval,
            ),
            interval=scheduler_interval,
            penalty=self._penalty if any(strengths.values()) else None,
        )
        super().__init__(
            model,
            ["classification"] * len(tasks),
            optimizer_fn=lambda *_, **__: optimizers[0],
            regularization_params=strengths,
            n_epoch=n_epoch,
            earlystop_patience=earlystop_patience,
            device=device,
            model_path=model_path,
            model_logger=model_logger,
        )
        self.scheduler = self.loop.schedulers[0] if self.loop.schedulers else None
        self.label_columns = None if label_columns is None else tuple(label_columns)
        self.patience = earlystop_patience
        self.on_epoch = on_epoch
        self.progress = progress
        self._corrects = non_click_correction
        self._best: Snapshot | None = None
        self._waited = 0
        self._before_batch: Callable[[], None] | None = None
        self.history = History(self.watch.key)

    def fit(
        self,
        train_dataloader: Any,
        val_dataloader: Any = None,
        mode: str = "base",
        seed: int = 0,
        *,
        keeper: Keeper | None = None,
    ) -> History:
        """Train, keeping the weights of the best epoch, and write them to `model_path/model_<mode>_<seed>.pth`.

        Whichever way training ends (all epochs, early stopping, Ctrl-C, an error) the best weights so far are restored
        and saved.

        Parameters
        ----------
        train_dataloader, val_dataloader
            TensorLoader or DataLoader of `(x_dict, ys)`; without the second all epochs run and the last weights stay.
        mode, seed
            For the file's name.
        keeper
            Of the checkpoint that training is taken up from and writes; the loaders are then TensorLoaders, whose order
            depends on the epoch alone.

        Returns
        -------
        History
            `stopped` is "interrupted" after Ctrl-C; before the first epoch is finished that raises, since there is
            nothing to keep.

        Raises
        ------
        TrainingError
            If a loss term is not finite, the validation metric is undefined, or a plugin's method fails.
        """
        history = self.history = History(self.watch.key, stopped="error")
        self.model.sampling.share.fill_(getattr(train_dataloader, "unclicked_share", 1.0) if self._corrects else 1.0)
        self.check_validation(val_dataloader)
        position = self._begin(keeper)
        # In the handler of an interrupt nothing may be written: what stands there may be half done.
        try:
            with interrupts.waiting() if keeper is not None else nullcontext():
                for log in self._iter_loggers():
                    log.log_hyperparams(
                        {"n_epoch": self.n_epoch, "learning_rate": self._current_lr(), "valid_metric": self.watch.key}
                    )
                history.stopped = self._epochs(train_dataloader, val_dataloader, position, keeper)
            if history.stopped == "all epochs" and not self.loop.judged:
                logger.warning(self.loop.ended_unready(self.n_epoch))
        except KeyboardInterrupt:
            if self._best is None:
                raise
            history.stopped = "interrupted"
            logger.warning("Interrupted; kept the weights of epoch %s.", history.best_epoch)
        finally:
            try:
                if self._best is not None:
                    self.loop.restore(self._best)
                    self._save(mode, seed)
            finally:
                for log in self._iter_loggers():
                    log.finish()
        return history

    def _epochs(self, train: Any, valid: Any, at: _Position, keeper: Keeper | None) -> str:
        """Train and validate epoch by epoch from a position; return how training ended."""
        history = self.history
        while self._waited < self.patience:
            if at.epoch >= self.n_epoch:
                return "all epochs"
            if history.records and at.sums is None and at.trained is None:
                self.loop.end_epoch(at.epoch - 1, history.records[-1].value)
            trained = at.trained or self._train_from(train, at, keeper)
            at = _Position(at.epoch, trained=trained)
            report = None if valid is None else self._validated(valid, at, keeper)
            value = None if report is None else self.watch.value(report)
            anew = self.loop.begins_anew()
            improved = anew or value is None or self.watch.better(value, history.best_value)
            if improved:
                self._best, self._waited = Snapshot(self.model), 0
            else:
                self._waited += 1
            record = EpochRecord(
                at.epoch,
                trained.losses,
                metrics={} if report is None else dict(report.values),
                value=value,
                improved=improved,
                learning_rate=self._current_lr(),
                factors=trained.factors,
                diagnostics=trained.diagnostics,
                unmoved=list(trained.unmoved),
            )
            history.records.append(record)
            at = _Position(at.epoch + 1)
            self._keep(keeper, at)
            # Last: whoever is told may raise, as a closed standard output does.
            self._report(record, trained)
        return "early"

    def _train_from(self, loader: Any, at: _Position, keeper: Keeper | None) -> Trained:
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(at.epoch)
        if keeper is None:
            return self._train_one_epoch(loader, at.epoch)
        kept = keeper

        def between(sums: EpochSums) -> None:
            stops = interrupts.asked()
            if stops or kept.due:
                self._keep(kept, _Position(at.epoch, sums=sums.state()))
            if stops:
                raise KeyboardInterrupt

        return self._train_one_epoch(loader, at.epoch, at, between)

    def _validated(self, loader: Any, at: _Position, keeper: Keeper | None) -> Report:
        """Evaluate; an interrupt that waits leaves training before that, once it is written."""

        def leave() -> None:
            if interrupts.asked():
                self._keep(keeper, at)
                raise KeyboardInterrupt

        self._before_batch = leave
        try:
            return self.evaluate(self.model, loader)
        finally:
            self._before_batch = None

    def _keep(self, keeper: Keeper | None, at: _Position) -> None:
        if keeper is not None:
            training = {
                "position": at.to_dict(),
                "waited": self._waited,
                "best": None if self._best is None else self._best.weights,
                "history": [asdict(record) for record in self.history.records],
                "loop": self.loop.state(),
                "random": random_state(),
            }
            keeper.write(self.model.state_dict(), training)

    def _begin(self, keeper: Keeper | None) -> _Position:
        self._best, self._waited, self.loop.judged = None, 0, False
        if keeper is None:
            return _Position()
        if keeper.found is None:
            # So that what cannot be written is found before training.
            check_space(keeper.path.parent, self.model.state_dict())
            self._keep(keeper, _Position())
            return _Position()
        training = keeper.found["training"]
        try:
            if training["best"] is not None:
                self.model.load_state_dict(training["best"])
                self._best = Snapshot(self.model)
            self.model.load_state_dict(keeper.found["state_dict"])
            self._waited = training["waited"]
            self.history.records = [EpochRecord(**record) for record in training["history"]]
            self.loop.take_up(training["loop"])
            position = _Position.from_dict(training["position"])
            set_random_state(training["random"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{keeper.path} does not fit the model or its options: {one_line(error)}") from error
        return position

    def train_one_epoch(self, data_loader: Any) -> dict[str, float]:
        """Train on every batch once; return loss term -> mean over the batches, before any weighting."""
        return self._train_one_epoch(data_loader, epoch=0).losses

    def _train_one_epoch(
        self,
        data_loader: Any,
        epoch: int,
        at: _Position | None = None,
        between: Callable[[EpochSums], None] | None = None,
    ) -> Trained:
        columns, dtype = self._columns(data_loader), next(p.dtype for p in self.model.parameters())
        begun = None if at is None else at.sums
        done = 0 if begun is None else begun["batches"]
        rest = islice(self._bar(data_loader, f"epoch {epoch}"), done, None)
        labelled = ((x, columns.labels(ys, dtype)) for x, ys in rest)
        return self.loop.train_epoch(labelled, epoch, begun=begun, between=between)

    def _penalty(self) -> Tensor:
        penalty: Tensor = self.reg_loss_fn(self.model)
        return penalty

    def evaluate(self, model: nn.Module, data_loader: Any) -> Report:
        """Return the metrics of `model` on a loader of `(x_dict, ys)`, by task and space."""
        return report_of(self.scored(model, data_loader), self.metrics)

    def scored(self, model: nn.Module, data_loader: Any) -> Scored:
        """Return the predictions of `model` beside the labels of a loader of `(x_dict, ys)`."""
        columns = self._columns(data_loader, training=False)
        scores, ys = self._score(model, data_loader, with_labels=True)
        assert ys is not None
        named = columns.arrays(ys)
        predictions = {task: scores[:, i] for i, task in enumerate(self.model.tasks)}
        return Scored(predictions=predictions, groups=getattr(data_loader, "groups", None), **named)

    def predict(self, model: nn.Module, data_loader: Any) -> np.ndarray:
        """Return probabilities `[N, n_task]` for a loader of `x_dict` or `(x_dict, ys)`, rows in their stored order."""
        return self._score(model, data_loader, with_labels=False)[0]

    def export_onnx(self, output_path: str, *args: Any, onnx_export_kwargs: Any = None, **options: Any) -> bool:
        """Write the model as ONNX, as torch-rechub's export_onnx does, whatever its sequence features are called."""
        named = [f.name for f in getattr(self.model, "features", []) if isinstance(f, SequenceFeature)]
        if not all(name.isidentifier() for name in named):
            # The stock exporter makes each such name a dimension's, which only its older path allows for any text.
            onnx_export_kwargs = {"dynamo": False, **(onnx_export_kwargs or {})}
        done: bool = super().export_onnx(output_path, *args, onnx_export_kwargs=onnx_export_kwargs, **options)
        return done

    def _score(self, model: nn.Module, loader: Any, *, with_labels: bool) -> tuple[np.ndarray, np.ndarray | None]:
        rows = number_of_rows(loader)
        scores, labels = RowBuffer(rows), RowBuffer(rows)
        model.eval()
        with torch.no_grad():
            for x, ys in self._bar(loader, "evaluate", in_order=True):
                if self._before_batch is not None:
                    self._before_batch()
                scores.append(model(x))
                if with_labels:
                    if ys is None:
                        raise ValueError("Evaluation needs labels: give a loader of (x_dict, ys).")
                    labels.append(ys)
        predicted = scores.array()
        if predicted is None:
            raise ValueError("The loader gave no batch; there is nothing to score.")
        return predicted, labels.array()

    def _columns(self, loader: Any, *, training: bool = True) -> LabelColumns:
        given = getattr(loader, "label_columns", None)
        names = self.label_columns if given is None else given
        needs = [name for name in self.model.objective.needs if training or name not in NOT_EVALUATED]
        return LabelColumns(names, needs=needs, method=type(self.model).__name__)

    def check_validation(self, loader: Any) -> None:
        """Raise TrainingError if the watched metric will have no value on `loader`, as far as can be told before."""
        if loader is not None:
            labels = None
            if isinstance(loader, TensorLoader):
                labels = {name: column for name, column in loader.labels().items() if name not in NOT_EVALUATED}
            columns = self._columns(loader, training=False).names
            self.watch.check(columns, groups=getattr(loader, "groups", None), labels=labels)
        self.loop.check_validated(loader is not None)

    def _report(self, record: EpochRecord, trained: Trained) -> None:
        watched = record.metrics.get(self.watch.key)
        logger.info("epoch %d: %s %s %s", record.epoch, record.losses, self.watch.key, watched)
        values = trained.values("train")
        values.update({f"val/{key}": value for key, value in record.metrics.items() if value is not None})
        values["learning_rate"] = self._current_lr()
        for log in self._iter_loggers():
            log.log_metrics(values, step=record.epoch)
        if self.on_epoch is not None:
            self.on_epoch(record)

    def _save(self, mode: str, seed: int) -> None:
        if self.model_path is not None:
            path = os.path.join(self.model_path, f"model_{mode}_{seed}.pth")
            torch.save(self.model.state_dict(), f"{path}.part")
            os.replace(f"{path}.part", path)

    def _bar(self, loader: Any, what: str, *, in_order: bool = False) -> Any:
        # None: tqdm shows the bar on a terminal and stays silent where the output is a file.
        disable = None if self.progress else True
        source = batches(loader, self.device, in_order=in_order)
        return tqdm(source, desc=what, total=number_of_batches(loader), disable=disable, leave=False, mininterval=0.5)
