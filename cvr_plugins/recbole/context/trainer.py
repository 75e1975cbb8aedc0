"""A RecBole trainer that trains any method by its phases and loss terms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from recbole.trainer import Trainer
from recbole.utils import get_gpu_usage, set_color
from torch import Tensor
from torch.nn.utils.clip_grad import clip_grad_norm_
from tqdm import tqdm

from cvr_plugins.contracts import Inputs, Labels, Objective, Outputs
from cvr_plugins.metrics import Scored
from cvr_plugins.recbole.compat.checkpoints import SafeCheckpoints
from cvr_plugins.recbole.context.collector import MethodCollector, Rows
from cvr_plugins.recbole.context.metrics import is_key
from cvr_plugins.recbole.context.propensity import add_propensities
from cvr_plugins.recbole.context.settings import check_settings, watch_of
from cvr_plugins.training.history import EpochRecord, History
from cvr_plugins.training.loop import Loop, Trained
from cvr_plugins.training.optimisers import learner_class, make_optimizers, make_schedulers, scheduler_class
from cvr_plugins.training.snapshot import Snapshot
from cvr_plugins.training.watch import undefined


class _Training(Trainer):
    """RecBole's Trainer with the methods' training step, evaluation of all tasks, and a checked validation metric."""

    history: History

    def __init__(self, config: Any, model: Any) -> None:
        check_settings(config, model)
        self.watch = watch_of(config, model)
        super().__init__(config, model)
        if self.watch is not None:
            self.valid_metric_bigger = self.watch.direction == "max"
        self.best_valid_score = -math.inf if self.valid_metric_bigger else math.inf
        self.eval_collector = MethodCollector(config, model.score)
        self._trained = Trained({}, {}, {}, 0.0)
        self._begun: Mapping[str, Any] | None = None

    def _build_optimizer(self, **kwargs: Any) -> Any:
        if kwargs:
            return super()._build_optimizer(**kwargs)
        model, config = self.model, self.config
        options = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        optimizers = make_optimizers(model.core, learner_class(self.learner), options)
        bigger = self.valid_metric_bigger if self.watch is None else self.watch.direction == "max"
        self.loop = Loop(
            model.core,
            optimizers,
            name=model.method.name,
            plugin=model.plugin,
            device=self.device,
            schedulers=make_schedulers(
                optimizers,
                scheduler_class(config["scheduler"]),
                config["scheduler_params"] or {},
                watched=config["valid_metric"],
                direction="max" if bigger else "min",
            ),
            outputs=self._outputs if self.enable_amp else None,
            update=self._update,
        )
        return optimizers[0]

    def fit(self, train_data: Any, valid_data: Any = None, *args: Any, **options: Any) -> Any:
        """Train as RecBole's Trainer does: early stopping, checkpoints and loggers are its own.

        A propensity that the method wants known before is fitted to the training part first. Raises TrainingError if
        the validation metric is undefined on `valid_data` or a loss term is not finite.
        """
        self.loop.check_validated(bool(valid_data))
        if valid_data and self.watch is not None:
            part = valid_data.dataset
            labels = {name: column.to_numpy() for name, column in part.label_frame().items()}
            self.watch.check(labels, groups=part.inter_feat[part.uid_field].numpy(), labels=labels)
        model = self.model
        remark = add_propensities(model.core.objective, train_data.dataset, model.propensity_params)
        if remark is not None:
            self.logger.info(remark)
        found = super().fit(train_data, valid_data, *args, **options)
        if valid_data and not self.loop.judged:
            self.logger.warning(self.loop.ended_unready(self.epochs))
        return found

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> float:
        begun = self._begun
        if epoch_idx > 0 and begun is None:
            # Not at the epoch's end: what was validated and saved is the model before its parameters are replaced.
            self.loop.end_epoch(epoch_idx - 1, self.history.records[-1].value)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.enable_scaler)
        labelled, self._begun = self._labelled(train_data, epoch_idx, show_progress), None
        self._trained = self.loop.train_epoch(labelled, epoch_idx, begun=begun)
        self._log(epoch_idx)
        return self._trained.loss

    def _labelled(self, train_data: Any, epoch: int, show_progress: bool) -> Iterator[tuple[Inputs, Labels]]:
        batches = self._bar(train_data, f"Train {epoch:>5}", show_progress)
        for interaction in batches:
            interaction = interaction.to(self.device)
            yield self.model.features(interaction), self.model.labels(interaction)
            if self.gpu_available and show_progress:
                batches.set_postfix_str(set_color("GPU RAM: " + get_gpu_usage(self.device), "yellow"))

    def _update(self, loss: Tensor, optimizer: torch.optim.Optimizer, inputs: Sequence[Tensor] | None) -> None:
        if not loss.requires_grad:
            optimizer.step()
            return
        scaler = self._scaler
        scaler.scale(loss).backward(inputs=inputs)
        if self.clip_grad_norm:
            scaler.unscale_(optimizer)
            clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
        scaler.step(optimizer)
        scaler.update()

    def _outputs(self, x: Inputs) -> Outputs:
        """Run the network in mixed precision, and hand its outputs to the losses in full."""
        with torch.autocast(device_type=self.device.type):
            out = self.model.core.outputs(x)
        return Outputs(
            logits={head: logit.float() for head, logit in out.logits.items()},
            embedding=out.embedding.float(),
            hidden={head: hidden.float() for head, hidden in out.hidden.items()},
            embed=out.embed,
            inputs=x,
        )

    def _bar(self, data: Any, what: str, show_progress: bool) -> Any:
        return tqdm(data, total=len(data), ncols=100, desc=set_color(what, "pink")) if show_progress else data

    def _log(self, epoch: int) -> None:
        values = self._trained.values()
        self.logger.debug(f"epoch {epoch}: {values}")
        for name, value in values.items():
            self.tensorboard.add_scalar(f"Train/{name}", value, epoch)
        self.wandblogger.log_metrics({**values, "train_step": epoch}, head="train")

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> tuple[float, Any]:
        score, result = super()._valid_epoch(valid_data, show_progress=show_progress)
        if score is None or not math.isfinite(score):
            raise undefined(self.config["valid_metric"])
        if self.loop.begins_anew():
            self.best_valid_score = -math.inf if self.valid_metric_bigger else math.inf
            self.cur_step = 0
        return score, result

    def _neg_sample_batch_eval(self, batched_data: Any) -> Any:
        interaction = batched_data[0].to(self.device)
        return interaction, self._predicted(interaction), None, None

    def _predicted(self, interaction: Any) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        model = self.model
        return model.predictions(interaction), model.label_columns(interaction), model.users(interaction)

    def evaluate(
        self, eval_data: Any, load_best_model: bool = True, model_file: Any = None, show_progress: bool = False
    ) -> Any:
        """Evaluate as RecBole's Trainer does, beginning anew after an evaluation that did not end."""
        self.eval_collector.begin()
        return super().evaluate(eval_data, load_best_model, model_file, show_progress)

    @torch.no_grad()
    def scored(self, eval_data: Any, show_progress: bool = False) -> Scored:
        """Return the predictions of the model as it is now beside the labels of a loader, rows in its order."""
        self.model.eval()
        rows = Rows()
        for batch in self._bar(eval_data, "Evaluate   ", show_progress):
            interaction = batch[0] if isinstance(batch, (tuple, list)) else batch
            rows.add(*self._predicted(interaction.to(self.device)))
        return rows.scored()


class MethodTrainer(SafeCheckpoints, _Training):
    """RecBole's Trainer for the CVR methods: one optimiser step per phase and batch, then the method's own state.

    Parameters
    ----------
    config
        RecBole's keys: `learner`, `learning_rate`, `weight_decay`, `clip_grad_norm`, `stopping_step`, `eval_step`,
        `metrics`, `valid_metric`, `enable_amp`, ...; ours: `scheduler`, `scheduler_params`. With `enable_amp` the
        network runs in mixed precision and the losses in full.
    model
        A MethodRecommender.

    Raises
    ------
    ConfigError
        For settings that a CVR method has no use for (sampled negatives, ranking metrics), an unknown `learner`, and a
        `valid_metric` without a better direction or of a task that is not predicted.

    Notes
    -----
    `history` has an EpochRecord of each epoch trained; `scored(eval_data)` gives predictions and labels.
    """

    def __init__(self, config: Any, model: Any) -> None:
        self._best: tuple[str, Snapshot] | None = None
        super().__init__(config, model)

    divides = True

    def epoch_state(self) -> dict[str, Any]:
        """Return the sums of the epoch's batches so far."""
        assert self.loop.sums is not None
        return self.loop.sums.state()

    def load_epoch_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `epoch_state` returned."""
        self._begun = state

    def extra_state(self) -> dict[str, Any]:
        """Return the training's state beyond what RecBole saves itself: the first phase's optimiser is among that."""
        stateful = [each.state_dict() for each in self._stateful_parts()]
        return {**super().extra_state(), "phases_and_schedulers": stateful, "judged": self.loop.judged}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `extra_state` returned."""
        super().load_extra_state(state)
        self.loop.judged = state["judged"]
        for each, saved in zip(self._stateful_parts(), state["phases_and_schedulers"], strict=True):
            each.load_state_dict(saved)

    def _stateful_parts(self) -> list[Any]:
        return [*self.loop.optimizers[1:], *self.loop.schedulers]

    def record(self, epoch: int, loss: float | None) -> EpochRecord:
        """Return the record of an epoch that was trained and not validated yet."""
        found = self._trained
        record = super().record(epoch, loss)
        kept: dict[str, Any] = {"losses": found.losses, "factors": found.factors, "diagnostics": found.diagnostics}
        return replace(record, **kept, unmoved=list(found.unmoved))

    def valid_metrics(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Return the metrics of an epoch's record: those of the report, and RecBole's own."""
        own = {name: value for name, value in result.items() if not is_key(name)}
        return {**own, **self.eval_collector.report.values}

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **options: Any) -> None:
        super()._save_checkpoint(epoch, verbose=verbose, **options)
        if type(self.model.core.objective).on_epoch_end is not Objective.on_epoch_end:
            self._best = (self.saved_model_file, Snapshot(self.model.core))

    def evaluate(
        self, eval_data: Any, load_best_model: bool = True, model_file: Any = None, show_progress: bool = False
    ) -> Any:
        """Evaluate as RecBole's Trainer does; a metric that is undefined on `eval_data` is None.

        A model whose parameters were replaced since the best epoch gets back those of then, which the checkpoint's
        weights alone would not fit.
        """
        if load_best_model and self._best is not None and str(model_file or self._best[0]) == self._best[0]:
            self.loop.restore(self._best[1])
            load_best_model = False
        return super().evaluate(eval_data, load_best_model, model_file, show_progress)
