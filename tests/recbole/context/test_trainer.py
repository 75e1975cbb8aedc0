"""Training through RecBole's Trainer: phases, state, replaced parameters, early stopping, resuming, what it refuses."""

from __future__ import annotations

import copy
import itertools
import logging
import math

import numpy as np
import pytest
import torch
from recbole.trainer import Trainer
from torch import nn

from cvr_plugins import Method, Objective, Phase
from cvr_plugins.config import ConfigError
from cvr_plugins.functional import bce, masked_mean
from cvr_plugins.plugins import registry
from cvr_plugins.recbole import models
from cvr_plugins.recbole.context import MethodRecommender, MethodTrainer
from cvr_plugins.testing.pretended_device import GPU, PretendedDevice
from cvr_plugins.training.step import TrainingError

METHODS = [entry.name for entry in registry().entries("method")]
SPACES = ("ctr/entire", "cvr/click", "cvr/entire", "cvr/oracle", "ctcvr/entire")


def class_of(objective, **options):
    """The RecBole model class of a method that no plugin registers."""
    name = f"{objective.__name__}Model"
    method = Method(objective.__name__, objective, summary="Of a test", reference="A test, 2026", **options)
    # Here, where a checkpoint's reference to it leads.
    globals()[name] = type(name, (MethodRecommender,), {"method": method, "plugin": "tests", "__module__": __name__})
    return globals()[name]


class TwoPhases(Objective):
    """First the CTR head and what is shared, then the CVR head alone; counts clicks."""

    phases = (
        Phase("click", terms=("ctr",), trains=("ctr",)),
        Phase("conversion", terms=("cvr",), trains=("cvr",), shared=False),
    )

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("clicks", torch.zeros(()))

    def loss(self, out, y):
        cvr = masked_mean(bce(out.logits["cvr"], y.conversion), y.click)
        return {"ctr": bce(out.logits["ctr"], y.click).mean(), "cvr": cvr}

    def after_batch(self, out, y, x):
        self.clicks += y.click.sum()

    def diagnostics(self):
        return {"clicks": self.clicks.item()}


class Growing(TwoPhases):
    """Gets another parameter at each epoch's end, in place of the one before."""

    phases = (Phase("joint"),)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.ended = []

    def loss(self, out, y):
        terms = super().loss(out, y)
        return {**terms, "ctr": terms["ctr"] * self.scale.mean()}

    def on_epoch_end(self, epoch):
        self.ended.append(epoch)
        self.scale = nn.Parameter(torch.ones(epoch + 2))
        return True


def test_a_method_learns_and_is_evaluated_in_every_space(prepare):
    metrics = [f"{space}/{metric}" for space in SPACES for metric in ("auc", "log_loss")]
    run = prepare(models.ESMM, epochs=8, metrics=metrics)
    assert type(run.trainer) is MethodTrainer
    score, best = run.trainer.fit(run.train, run.valid)
    result = run.trainer.evaluate(run.test)
    assert set(result) == set(best) == set(metrics)
    assert score == best["cvr/click/auc"] > 0.6
    assert all(math.isfinite(value) for value in result.values())
    records = run.trainer.history.records
    assert [record.epoch for record in records] == list(range(len(records)))
    assert set(records[-1].metrics) == set(metrics)


def test_learner_learning_rate_and_weight_decay_reach_every_phase(prepare):
    run = prepare(class_of(TwoPhases), learner="adagrad", learning_rate=0.3, weight_decay=0.01)
    assert run.trainer.optimizer is run.trainer.loop.optimizers[0]
    assert len(run.trainer.loop.optimizers) == 2
    for optimizer in run.trainer.loop.optimizers:
        assert type(optimizer) is torch.optim.Adagrad
        (group,) = optimizer.param_groups
        assert (group["lr"], group["weight_decay"]) == (0.3, 0.01)


def test_gradients_are_clipped(prepare):
    run = prepare(models.ESMM, learner="sgd", learning_rate=1.0, weight_decay=0.0, clip_grad_norm={"max_norm": 1e-3})
    before = [p.detach().clone() for p in run.model.parameters()]
    run.trainer._train_epoch(run.train, 0)
    moved = math.sqrt(sum(((p - b) ** 2).sum().item() for p, b in zip(run.model.parameters(), before, strict=True)))
    assert 0 < moved <= 1e-3 * len(run.train) * (1 + 1e-4)


def test_an_epochs_end_comes_after_its_validation_and_replaced_parameters_are_trained(prepare):
    run = prepare(class_of(Growing), epochs=3, learning_rate=0.05)
    run.trainer.fit(run.train, run.valid)
    objective = run.model.core.objective
    assert objective.ended == [0, 1], "the last epoch's end would change what was validated"
    assert objective.scale.shape == (3,)
    assert not torch.equal(objective.scale, torch.ones(3)), "the new parameter was trained"
    assert any(p is objective.scale for p in run.trainer.optimizer.param_groups[0]["params"])


def test_the_best_epochs_model_is_evaluated_though_its_parameters_were_replaced_since(prepare):
    run = prepare(class_of(Growing), epochs=4, learning_rate=0.05, valid_metric="cvr/entire/log_loss")
    scores, shapes = [], []
    valid = run.trainer._valid_epoch

    def watching(data, show_progress=False):
        score, result = valid(data, show_progress=show_progress)
        # The first epoch is made the best one.
        score = float(len(scores))
        scores.append(score)
        shapes.append(copy.deepcopy(run.model.core.state_dict()))
        return score, result

    run.trainer._valid_epoch = watching
    run.trainer.fit(run.train, run.valid)
    assert len(scores) == 4
    run.trainer.evaluate(run.test)
    for name, value in run.model.core.state_dict().items():
        torch.testing.assert_close(value, shapes[0][name], rtol=0, atol=0)


@pytest.mark.parametrize(("key", "bigger"), [("cvr/entire/gauc", True), ("AUC", True), ("cvr/oracle/ece", False)])
def test_early_stopping_follows_any_metric_in_its_direction(key, bigger, prepare):
    run = prepare(models.ESMM, epochs=12, stopping_step=1, valid_metric=key, learning_rate=0.1)
    score, best = run.trainer.fit(run.train, run.valid)
    values = [record.value for record in run.trainer.history.records]
    assert score == (max if bigger else min)(values) == best[key.lower()]
    assert len(values) < 12, "it stopped"
    assert run.trainer.evaluate(run.valid)[key.lower()] == score, "and evaluates the best epoch"


@pytest.mark.parametrize(("values", "best"), [([0.9, 0.8, 0.5, 0.7, 0.4], 3), ([0.5, 0.9], 1)])
def test_epochs_of_a_first_stage_are_neither_best_nor_waited_for(values, best, prepare, monkeypatch, caplog):
    run = prepare(models.AS_IPS, epochs=len(values), stopping_step=0, learning_rate=0.1, warm_up=2)
    states = []

    def scripted(trainer, *_, **__):
        states.append(copy.deepcopy(trainer.model.state_dict()))
        return values[len(states) - 1], {"cvr/click/auc": values[len(states) - 1]}

    monkeypatch.setattr(Trainer, "_valid_epoch", scripted)
    with caplog.at_level(logging.WARNING):
        found = run.trainer.fit(run.train, run.valid)
    assert found == (values[best], {"cvr/click/auc": values[best]})
    assert len(states) == len(values)
    run.trainer.evaluate(run.test)
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(value, states[best][name], rtol=0, atol=0)
    told = any("training ended in its first stage" in record.getMessage() for record in caplog.records)
    assert told == (len(values) == 2)


WEIGHTED = {"weighting": "dtp", "update_every": 7}


@pytest.mark.parametrize(("method", "options"), [*((method, {}) for method in METHODS), ("NISE", WEIGHTED)])
def test_a_resumed_training_ends_as_one_that_was_not_interrupted(method, options, prepare):
    scheduled = {"scheduler": "ExponentialLR", "scheduler_params": {"gamma": 0.5}}
    keys = {"epochs": 4, "dropout": 0.2, "learning_rate": 0.01, **scheduled, **options}
    whole = prepare(models.model_class(method), **keys)
    whole.trainer.fit(whole.train, whole.valid)

    first = prepare(models.model_class(method), **keys, checkpoint_minutes=1e-9)
    train_batch, batches = first.trainer.loop.train_batch, itertools.count()

    def stops(*batch):
        if next(batches) == 2 * len(first.train) + 2:
            raise KeyboardInterrupt
        return train_batch(*batch)

    first.trainer.loop.train_batch = stops
    with pytest.raises(KeyboardInterrupt):
        first.trainer.fit(first.train, first.valid)

    second = prepare(models.model_class(method), **keys)
    second.trainer.resume_checkpoint(first.trainer.saved_model_file)
    assert second.trainer._within["batches"] == 2
    second.trainer.fit(second.train, second.valid)
    assert second.trainer.history == whole.trainer.history
    rates = [record.learning_rate for record in second.trainer.history.records]
    assert rates == pytest.approx([0.01 * 0.5**epoch for epoch in range(len(rates))])
    assert len(rates) > 2
    for name, value in second.model.state_dict().items():
        torch.testing.assert_close(value, whole.model.state_dict()[name], rtol=0, atol=0, equal_nan=True)
    evaluated = {key.split("/")[0] for key, value in second.trainer.evaluate(second.test).items() if value is not None}
    assert evaluated == set(second.model.tasks)


REFUSED = [
    ({"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}, "train_neg_sample_args would make up"),
    ({"metrics": ["NDCG"], "valid_metric": "NDCG@10", "topk": 10}, "metrics must be keys such as cvr/click/auc"),
    ({"learner": "sparse_adam"}, "learner must be one of adam, adamw, .*; got 'sparse_adam'"),
    ({"learner": "adamm"}, r"got 'adamm'. Did you mean adam"),
    ({"valid_metric": "cvr/click/calibration"}, "valid_metric: 'cvr/click/calibration' is best at 1"),
    ({"valid_metric": "ctavr/entire/auc"}, "is of a task this model does not predict; .* cvr, ctr, ctcvr"),
    ({"valid_metric": "cvr/clicked/auc"}, r"Unknown space of task 'cvr' 'clicked'. Did you mean click\?"),
    ({"metrics": ["cvr/click/auk"]}, r"metrics: Unknown metric 'auk'"),
    ({"metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {"mode": "uni10"}}, "mode must be labeled; .* uni10"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "message"), REFUSED, ids=[str(keys) for keys, _ in REFUSED])
def test_settings_that_would_make_another_thing_of_it_are_refused(keys, message, prepare):
    with pytest.raises(ConfigError, match=message):
        prepare(models.ESMM, **keys)


def test_an_undefined_watched_metric_is_an_error_before_training(prepare, shop):
    log = shop()
    log.columns["inter"]["conversion:float"] = log.columns["inter"]["click:float"]
    run = prepare(models.ESMM, log=log)
    with pytest.raises(TrainingError, match="cvr/click/auc is undefined on the validation data of 90 rows"):
        run.trainer.fit(run.train, run.valid)
    assert run.trainer.history.records == []
    no_truth = prepare(models.ESMM, COUNTERFACTUAL_FIELD=None, drop_columns=["truth"], valid_metric="cvr/oracle/auc")
    with pytest.raises(TrainingError, match=r"needs the label column 'counterfactual'; .* set COUNTERFACTUAL_FIELD"):
        no_truth.trainer.fit(no_truth.train, no_truth.valid)


def test_recboles_plain_trainer_is_refused_where_it_would_leave_something_out(prepare):
    run = prepare(models.IdeFN)
    with pytest.raises(ConfigError, match=r"IdeFN is trained in several phases or keeps state"):
        Trainer(run.config, run.model).fit(run.train, saved=False)


def test_recboles_plain_trainer_trains_a_plain_loss(prepare, batch):
    run = prepare(models.ESMM, epochs=1)
    rows = batch(run.train)
    before = run.model.calculate_loss(rows).item()
    Trainer(run.config, run.model).fit(run.train, saved=False)
    assert run.model.calculate_loss(rows).item() < before


def test_mixed_precision_runs_the_network_in_half_and_the_losses_in_full(prepare):
    class Watching(TwoPhases):
        def loss(self, out, y):
            types.append((out.logits["cvr"].dtype, y.click.dtype))
            return super().loss(out, y)

    types = []
    run = prepare(class_of(Watching), enable_amp=True, epochs=1)
    linear = next(module for module in run.model.modules() if isinstance(module, nn.Linear))
    halves = []
    linear.register_forward_hook(lambda module, args, out: halves.append(out.dtype) if module.training else None)
    run.trainer.fit(run.train, run.valid)
    assert set(types) == {(torch.float32, torch.float32)}
    assert set(halves) == {torch.bfloat16}
    full = prepare(class_of(Watching), epochs=1)
    full.trainer.fit(full.train, full.valid)
    here, there = run.trainer.history.records[0].losses, full.trainer.history.records[0].losses
    assert here == pytest.approx(there, rel=0.02)
    assert here != there


def test_loss_terms_factors_and_state_are_logged(prepare, caplog):
    run = prepare(models.NISE, epochs=2)
    written = {}
    run.trainer.tensorboard.add_scalar = lambda name, value, step: written.setdefault(name, []).append((step, value))
    with caplog.at_level(logging.DEBUG):
        run.trainer.fit(run.train, run.valid)
    assert {"Train/loss/ctr", "Train/loss/cvr", "Train/factor/cvr", "Loss/Train"} <= set(written)
    assert [step for step, _ in written["Train/loss/ctr"]] == [0, 1]
    assert written["Train/loss/ctr"][0][1] == run.trainer.history.records[0].losses["ctr"]


def test_without_a_validation_part_all_epochs_run(prepare):
    run = prepare(models.ESMM, epochs=3)
    run.trainer.fit(run.train)
    assert len(run.trainer.history.records) == 3
    assert np.isfinite(run.trainer.evaluate(run.test)["cvr/click/auc"])


@pytest.mark.parametrize("method", ["IdeFN", "AdapSL"], ids=["a memory", "replaced parameters"])
def test_everything_is_on_the_configured_device(method, prepare):
    here = prepare(models.model_class(method), epochs=2, valid_metric="cvr/click/auc")
    here.trainer.fit(here.train, here.valid, saved=False)
    with PretendedDevice():
        away = prepare(models.model_class(method), epochs=2, valid_metric="cvr/click/auc", on=GPU)
        assert {p.device for p in away.model.parameters()} == {GPU}
        away.trainer.fit(away.train, away.valid, saved=False)
        found = away.trainer.evaluate(away.test, load_best_model=False)
    assert found == here.trainer.evaluate(here.test, load_best_model=False)
    for one, other in zip(here.trainer.history.records, away.trainer.history.records, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-6)
