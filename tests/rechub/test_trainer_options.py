"""CVRTrainer's options: optimisers, schedulers, regularisation, loggers, and what is refused with the reason."""

from __future__ import annotations

import copy
import functools
import json

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR
from torch_rechub.basic.features import SparseFeature
from torch_rechub.basic.tracking import BaseLogger
from torch_rechub.models.multi_task import ESMM as StockESMM

from cvr_plugins import Labels
from cvr_plugins.rechub import CVRTrainer, IdeFN, Naive, TrainingError

OPTIMIZERS = [
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    (torch.optim.Adam, {"lr": 0.01, "amsgrad": True}),
    (torch.optim.Adam, {"lr": 0.01, "fused": False}),
    (torch.optim.AdamW, {"lr": 0.01}),
    (functools.partial(torch.optim.NAdam, lr=0.01), {}),
]


@pytest.mark.parametrize(("make", "params"), OPTIMIZERS)
def test_any_torch_optimizer_trains(make, params, build, loader, trainer):
    """Equal, to the last bit, to the few lines that a user would write for one epoch."""
    model, plain = build(Naive), build(Naive)
    made = trainer(model, n_epoch=1, optimizer_fn=make, optimizer_params=params)
    made.fit(loader())
    kernel = {"fused": True} if make in (torch.optim.Adam, torch.optim.AdamW) and len(params) == 1 else {}
    kernel = {"fused": True} if "amsgrad" in params else kernel
    optimizer = make(plain.parameters(), **params, **kernel)
    plain.train()
    for x, ys in loader():
        terms = plain.loss_terms(x, Labels(ys[:, 0], ys[:, 1]))
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_the_defaults_are_torch_rechubs_adam_fused(trainer):
    made = trainer(optimizer_params=None)
    assert made.optimizer is made.loop.optimizers[0]
    assert type(made.optimizer) is torch.optim.Adam
    group = made.optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["fused"]) == (1e-3, 1e-5, True)
    assert len(group["params"]) == len(list(made.model.parameters()))
    assert trainer(optimizer_params={"lr": 0.1}).optimizer.param_groups[0]["weight_decay"] == 0


def test_options_given_are_not_changed(trainer):
    optimizer_params, scheduler_params = {"lr": 0.1}, {"factor": 0.5}
    trainer(optimizer_params=optimizer_params, scheduler_fn=ReduceLROnPlateau, scheduler_params=scheduler_params)
    assert (optimizer_params, scheduler_params) == ({"lr": 0.1}, {"factor": 0.5})


def rates(history):
    return [record.learning_rate for record in history.records]


def test_schedulers_step_once_per_epoch(trainer, loader):
    made = trainer(n_epoch=4, scheduler_fn=StepLR, scheduler_params={"step_size": 2, "gamma": 0.1})
    assert rates(made.fit(loader())) == pytest.approx([0.01, 0.01, 0.001, 0.001])
    assert made.scheduler is made.loop.schedulers[0]


@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_schedulers_may_step_once_per_batch(trainer, loader):
    params = {"max_lr": 1.0, "total_steps": 20, "anneal_strategy": "linear"}
    made = trainer(n_epoch=4, scheduler_fn=OneCycleLR, scheduler_params=params, scheduler_interval="batch")
    found = rates(made.fit(loader()))
    reference = OneCycleLR(torch.optim.Adam([torch.zeros(1)], lr=0.01), **params)
    expected = []
    for _ in range(20):
        reference.optimizer.step()
        reference.step()
        expected.append(reference.get_last_lr()[0])
    assert found == pytest.approx(expected[4::5])


def test_regularization_sums_over_tables_and_dense_weights_but_not_normalisation(trainer, build):
    model = build()
    tables = sum(table.weight.abs().sum() for table in model.encoder.tables)
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    dense = sum(p.square().sum() for layer in layers for p in layer.parameters())
    made = trainer(model, regularization_params={"embedding_l1": 0.5, "dense_l2": 2.0})
    torch.testing.assert_close(made.reg_loss_fn(model), 0.5 * tables + 2.0 * dense)


class Recorder(BaseLogger):
    """A logger of torch-rechub that keeps what it is told."""

    def __init__(self):
        self.params, self.steps, self.finished = [], [], 0

    def log_hyperparams(self, params):
        self.params.append(params)

    def log_metrics(self, metrics, step=None):
        self.steps.append((step, metrics))

    def finish(self):
        self.finished += 1


def test_loggers_get_every_term_and_metric(trainer, loader):
    loggers = [Recorder(), Recorder()]
    made = trainer(n_epoch=2, model_logger=loggers, metrics=["auc", "gauc"])
    history = made.fit(loader(), loader(seed=1))
    for each in loggers:
        assert each.params == [{"n_epoch": 2, "learning_rate": 0.01, "valid_metric": "cvr/click/auc"}]
        assert each.finished == 1
        assert [step for step, _ in each.steps] == [0, 1]
        for record, (_, logged) in zip(history.records, each.steps, strict=True):
            losses = {f"train/{name}": value for name, value in record.losses.items()}
            metrics = {f"val/{key}": value for key, value in record.metrics.items() if key.endswith("/auc")}
            assert logged == {**losses, **metrics, "learning_rate": 0.01}
            assert (len(losses), len(metrics)) == (2, 4)
            assert json.dumps(logged)


def test_what_an_objective_says_of_its_state_reaches_history_and_logger(trainer, build, loader):
    logged = Recorder()
    made = trainer(build(IdeFN, memory_size=8), n_epoch=2, model_logger=logged)
    last = made.fit(loader(shuffle=True)).records[-1].diagnostics
    assert last["memory/size"] == 8
    assert 0 < last["memory/fill"] <= 8
    assert logged.steps[-1][1]["state/memory/fill"] == last["memory/fill"]
    assert "relabelled" in last


def test_loggers_are_finished_when_training_fails(trainer, loader):
    class Failing(Recorder):
        def log_metrics(self, metrics, step=None):
            raise ZeroDivisionError

    loggers = [Recorder(), Failing()]
    with pytest.raises(ZeroDivisionError):
        trainer(model_logger=loggers).fit(loader())
    assert [each.finished for each in loggers] == [1, 1]


def test_metrics_may_be_chosen(trainer, loader):
    made = trainer(metrics=["log_loss", "f1@5%"], valid_metric="ctr/entire/ks", n_epoch=1)
    record = made.fit(loader(), loader(seed=1)).records[0]
    assert {key.split("/")[2] for key in record.metrics} == {"log_loss", "f1@5%", "ks"}


REFUSED = [
    ({"task_types": ["classification"] * 2}, "for each of cvr, ctr, ctcvr"),
    ({"task_types": ["regression"] * 3}, "CVR tasks are probabilities; got .*'regression'"),
    ({"adaptive_params": {"method": "uwl"}}, "adaptive_params weighs torch-rechub's losses per column"),
    ({"gpus": [1, 2]}, r"gpus \(nn.DataParallel\) would split the batch .* use device='cuda:1'"),
    ({"n_epoch": 0}, "n_epoch must be a whole number of at least 1; got 0"),
    ({"earlystop_patience": 0.5}, "earlystop_patience must be a whole number of at least 1; got 0.5"),
    ({"scheduler_interval": "step"}, "scheduler_interval must be .*'epoch'.*'batch'; got 'step'"),
    ({"model_path": "no/such/folder"}, "model_path must be an existing folder, .* got 'no/such/folder'. Create it"),
    ({"device": "gpu"}, "The device 'gpu' cannot be used here: "),
    ({"optimizer_params": {"learning_rate": 1}}, "optimiser does not take the optimizer_params .*'learning_rate'"),
    ({"optimizer_params": {"lr": -1.0}}, "Invalid learning rate"),
    ({"optimizer_fn": torch.optim.LBFGS, "optimizer_params": {"lr": 1.0}}, "LBFGS evaluates the loss several times"),
    ({"scheduler_fn": StepLR, "scheduler_params": {"size": 1}}, r"scheduler does not take the .*'size'"),
    ({"scheduler_fn": functools.partial(ReduceLROnPlateau, patience=2)}, "has mode='min', but the better direction of"),
    ({"scheduler_fn": ReduceLROnPlateau, "scheduler_interval": "batch"}, "it needs scheduler_interval='epoch'"),
    ({"regularization_params": {"embed_l2": 1.0}}, "Unknown key 'embed_l2' in regularization_params. Did you"),
    ({"regularization_params": {"dense_l2": -1.0}}, r"\['dense_l2'\] must be a finite number of at least 0; got -1.0"),
    ({"valid_metric": "ctavr/entire/auc"}, "of a task this model does not predict; it predicts cvr, ctr, ctcvr"),
    ({"valid_metric": "cvr/click/auc", "earlystop_taskid": 0}, "Give either valid_metric or earlystop_taskid"),
    ({"earlystop_taskid": 3}, r"earlystop_taskid must be the index of one of \['cvr', 'ctr', 'ctcvr'\]; got 3"),
    ({"earlystop_mode": "min"}, "earlystop_mode='min' contradicts 'cvr/click/auc', whose better direction is 'max'"),
    ({"metrics": ["auc", "precison@10%"]}, "precison"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_options_that_cannot_apply_are_refused_with_the_reason(options, message, trainer):
    with pytest.raises(ValueError, match=message):
        trainer(**options)


def test_what_the_parent_would_be_told_anyway_is_accepted(trainer):
    trainer(task_types=["classification"] * 3, adaptive_params=None, gpus=[], earlystop_taskid=0, earlystop_mode="max")


def test_models_of_torch_rechub_itself_are_referred_to_its_trainer():
    features = [SparseFeature("user", 5, embed_dim=2)]
    stock = StockESMM(features, copy.deepcopy(features), {"dims": [2]}, {"dims": [2]})
    with pytest.raises(ValueError, match=r"CVRTrainer trains models of cvr_plugins.rechub; got ESMM. Use torch_"):
        CVRTrainer(stock)


UNDEFINED = [
    ("ctr/entire/auc", 0, "ctr/entire/auc is undefined on the validation data of 64 rows: it needs labels"),
    ("cvr/click/auc", 1, "cvr/click/auc is undefined on the validation data of 64 rows"),
    ("cvr/oracle/auc", None, "cvr/oracle/auc needs the label column 'counterfactual'; .* have click, conversion"),
    ("ctr/entire/gauc", None, "ctr/entire/gauc needs the user of each row: give a TensorLoader with groups"),
]


@pytest.mark.parametrize(("metric", "constant", "message"), UNDEFINED)
def test_an_undefined_validation_metric_is_an_error_before_training(metric, constant, message, trainer, loader):
    made = trainer(valid_metric=metric)
    made.loop.train_epoch = lambda *_: pytest.fail("it was trained")
    valid = loader(64, seed=1)
    if constant is not None:
        valid._labels[:, constant] = 1 - constant
    with pytest.raises(TrainingError, match=message):
        made.fit(loader(), valid)


def test_an_undefined_validation_metric_of_a_stock_loader_shows_after_an_epoch(trainer, loader, log, stock_loader):
    data = log(64, seed=1)
    nothing = data.y["click"] * 0
    valid = stock_loader(data.x, [nothing, data.y["click"], nothing], 16)
    message = r"cvr/click/auc is undefined on the validation data \(0 positives in \d+ rows\)"
    with pytest.raises(TrainingError, match=message):
        trainer().fit(loader(), valid)


def test_a_watched_gauc_uses_the_loaders_groups(trainer, loader):
    made = trainer(valid_metric="ctr/entire/gauc", n_epoch=1)
    history = made.fit(loader(), loader(seed=1, groups=True))
    assert history.best_value == history.records[0].metrics["ctr/entire/gauc"] is not None


def test_a_plateau_needs_a_validation_loader(trainer, loader):
    with pytest.raises(ValueError, match="ReduceLROnPlateau follows the validation metric: give fit a"):
        trainer(scheduler_fn=ReduceLROnPlateau).fit(loader())
