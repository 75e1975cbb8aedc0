"""Training of the sequential models: RecBole's trainer with length buckets, safe checkpoints, metrics of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from recbole.config import Config
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer

from cvr_plugins.config import ConfigError
from cvr_plugins.options import check_count, check_flag
from cvr_plugins.recbole.compat.checkpoints import SafeCheckpoints
from cvr_plugins.recbole.evaluation import SessionEvaluation
from cvr_plugins.sequential import LengthBucketSampler
from cvr_plugins.training.optimisers import learner_class, make_optimizer


class SessionTrainer(SessionEvaluation, SafeCheckpoints, Trainer):
    """RecBole's trainer for PARS and MaskedRec.

    Parameters
    ----------
    config
        RecBole's, of whose keys these are read here.

        learner: adam, adamw (both with torch's fused kernel), sgd, adagrad or rmsprop; RecBole takes any other for
        adam. learning_rate, weight_decay, clip_grad_norm (as `{max_norm: 1.0}`), epochs, eval_step, stopping_step:
        RecBole's.

        length_buckets: None draws batches from all sessions. A number draws them from sessions of about equal length,
        found among as many batches as it says: `window` of `LengthBucketSampler`. The order of an epoch then depends on
        `seed` and the number of the epoch alone.

        detect_anomaly: check every gradient for NaN, as `torch.autograd.set_detect_anomaly` does, and name the
        operation.
    model
        A PARS or MaskedRec.

    Raises
    ------
    ConfigError
        For an option out of range.
    """

    def __init__(self, config: Config, model: Any) -> None:
        self._make_optimizer = learner_class(config["learner"])
        self.length_buckets = config["length_buckets"]
        try:
            self.detect_anomaly = check_flag("detect_anomaly", config["detect_anomaly"] or False)
            if self.length_buckets is not None:
                check_count("length_buckets", self.length_buckets)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        super().__init__(config, model)

    def _build_optimizer(self, **changes: Any) -> torch.optim.Optimizer:
        if changes:
            made: torch.optim.Optimizer = super()._build_optimizer(**changes)
            return made
        options = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        # Not RecBole's own loop over the parameters, which takes several times as long where the tables are large.
        return make_optimizer(self._make_optimizer, list(self.model.parameters()), options)

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **options: Any) -> Any:
        if self.length_buckets is not None:
            train_data = _Bucketed(train_data, self.length_buckets, self.config["seed"], epoch_idx)
        # One of RecBole's sequential models turns this on for the whole process when it is imported, for a third of the
        # time of a step.
        with torch.autograd.set_detect_anomaly(self.detect_anomaly):
            return super()._train_epoch(train_data, epoch_idx, *args, **options)


class _Bucketed:
    """A training loader's batches, made by itself, of sessions of about equal length."""

    shuffle = True

    def __init__(self, loader: TrainDataLoader, window: int, seed: int, epoch: int) -> None:
        part = loader._dataset
        lengths = part.inter_feat[part.item_list_length_field]
        self._loader = loader
        self._batches = LengthBucketSampler(lengths, loader.step, window=window, seed=seed)
        self._batches.epoch = epoch

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Interaction]:
        for index in self._batches:
            yield self._loader.collate_fn(index)
