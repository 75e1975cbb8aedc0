"""CVRTrainer: losses by term, early stopping, best weights however training ends, seeds, progress bars."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from cvr_plugins.objectives import Naive as NaiveObjective
from cvr_plugins.rechub import ESMM, CVRTrainer, TrainingError
from cvr_plugins.training.history import History


def test_training_learns_and_losses_come_by_term(trainer, loader):
    made = trainer(n_epoch=8)
    history = made.fit(loader(600, shuffle=True), loader(400, seed=1))
    assert history is made.history
    terms = {"ctr", "ctcvr"}
    assert [set(record.losses) for record in history.records] == [terms] * 8
    assert [record.epoch for record in history.records] == list(range(8))
    for term in terms:
        assert history.records[-1].losses[term] < history.records[0].losses[term]
    assert history.records[-1].metrics["ctr/entire/auc"] > 0.65


class Scripted(CVRTrainer):
    """Watches given values instead of the report's."""

    def __init__(self, *args, values, **options):
        super().__init__(*args, **options)
        self.values = iter(values)
        self.after = []

    def evaluate(self, model, data_loader):
        report = super().evaluate(model, data_loader)
        report.values[self.watch.key] = next(self.values)
        self.after.append({name: value.clone() for name, value in model.state_dict().items()})
        return report


@pytest.fixture
def scripted(loader):
    def fit(values, model, **options):
        options = {"n_epoch": len(values), "model_path": None, "progress": False, **options}
        made = Scripted(model, values=values, **options)
        return made, made.fit(loader(shuffle=True), loader(seed=1))

    return fit


class Staged(NaiveObjective):
    """Is ready from its third epoch on."""

    def __init__(self):
        super().__init__()
        self.ended = 0

    @property
    def ready(self):
        return self.ended >= 2

    def on_epoch_end(self, epoch):
        self.ended = epoch + 1
        return False


STOPS = [
    ([0.5, 0.7, 0.6, 0.6, 0.9], ESMM, 2, "cvr/click/auc", 1, 4, "early"),
    ([0.5, 0.7, 0.6, 0.6, 0.9], ESMM, 3, "cvr/click/auc", 4, 5, "all epochs"),
    ([0.5, 0.5, 0.6, 0.6, 0.6], ESMM, 2, "ctr/entire/auc", 2, 5, "early"),
    ([0.5, 0.6, 0.4], ESMM, 1, "ctcvr/entire/log_loss", 0, 2, "early"),
    # Epochs of a first stage are neither the best one nor waited for.
    ([0.9, 0.8, 0.5, 0.6, 0.4], Staged, 1, "cvr/click/auc", 3, 5, "early"),
    ([0.9, 0.8, 0.5, 0.4, 0.6], Staged, 1, "cvr/click/auc", 2, 4, "early"),
    ([0.9, 0.8], Staged, 1, "cvr/click/auc", 1, 2, "all epochs"),
]


@pytest.mark.parametrize(("values", "kind", "patience", "metric", "best", "epochs", "stopped"), STOPS)
def test_early_stopping_and_the_best_epochs_weights(
    values, kind, patience, metric, best, epochs, stopped, build, scripted, weights, same, caplog
):
    made, history = scripted(values, build(kind), earlystop_patience=patience, valid_metric=metric)
    assert (history.best_epoch, history.best_value, history.stopped) == (best, values[best], stopped)
    assert len(history.records) == epochs
    assert [record.improved for record in history.records][best]
    assert same(weights(made.model), made.after[best])
    assert not any(same(made.after[best], state) for i, state in enumerate(made.after) if i != best)
    assert ("training ended in its first stage" in caplog.text) == (len(values) == 2)


def test_the_parents_way_of_naming_the_watched_metric(trainer):
    assert trainer().watch.key == "cvr/click/auc"
    keys = [trainer(earlystop_taskid=i, earlystop_mode="max").watch.key for i in range(3)]
    assert keys == ["cvr/click/auc", "ctr/entire/auc", "ctcvr/entire/auc"]
    assert trainer(valid_metric="ctcvr/entire/log_loss", earlystop_mode="min").watch.direction == "min"


def test_without_validation_the_last_weights_stay(trainer, loader, weights, same):
    states = []
    made = trainer(on_epoch=lambda record: states.append((record, weights(made.model))))
    history = made.fit(loader())
    assert (history.best_epoch, history.best_value, history.stopped) == (2, None, "all epochs")
    assert [record.metrics for record, _ in states] == [{}, {}, {}]
    assert same(weights(made.model), states[-1][1])


@pytest.mark.parametrize("ending", ["all epochs", "early", "interrupted", "callback", "loss"])
def test_the_best_weights_are_restored_and_saved_however_training_ends(
    ending, build, loader, tmp_path, weights, same, caplog
):
    class Failing(NaiveObjective):
        batches = 0

        def loss(self, out, y):
            self.batches += self.training
            if self.batches == 18 and ending == "interrupted":
                raise KeyboardInterrupt
            if self.batches == 18 and ending == "loss":
                raise ZeroDivisionError
            return super().loss(out, y)

    def on_epoch(record):
        if record.epoch == 3 and ending == "callback":
            raise ZeroDivisionError("a callback's")

    values = [0.5, 0.8, 0.6, 0.6, 0.6]
    made = Scripted(
        build(Failing),
        values=values,
        n_epoch=5,
        earlystop_patience=2 if ending == "early" else 9,
        model_path=tmp_path,
        on_epoch=on_epoch,
        progress=False,
    )
    if ending in ("callback", "loss"):
        # A plugin's method that fails is named.
        with pytest.raises((ZeroDivisionError, TrainingError), match=r"a callback's|Failing \(plugin test-plugin\)"):
            made.fit(loader(shuffle=True), loader(seed=1), mode="try", seed=7)
    else:
        made.fit(loader(shuffle=True), loader(seed=1), mode="try", seed=7)
    assert made.history.stopped == ("error" if ending in ("callback", "loss") else ending)
    # Batch 18 of five a epoch is in the middle of the fourth.
    assert len(made.history.records) == {"all epochs": 5, "early": 4, "callback": 4}.get(ending, 3)
    assert same(weights(made.model), made.after[1])
    assert [path.name for path in tmp_path.iterdir()] == ["model_try_7.pth"]
    assert same(torch.load(tmp_path / "model_try_7.pth", weights_only=True), made.after[1])
    assert ("Interrupted; kept the weights of epoch 1." in caplog.text) == (ending == "interrupted")


def test_ctrl_c_before_an_epoch_is_over_raises_and_writes_nothing(build, loader, tmp_path):
    class Interrupted(NaiveObjective):
        def loss(self, out, y):
            raise KeyboardInterrupt

    made = CVRTrainer(build(Interrupted), model_path=tmp_path, progress=False)
    with pytest.raises(KeyboardInterrupt):
        made.fit(loader(), loader(seed=1))
    assert made.history == History(made.watch.key, stopped="error")
    assert not list(tmp_path.iterdir())


def test_the_same_seed_gives_the_same_result_to_the_last_bit(trainer, build, loader, weights, same):
    options = {"dropout": 0.3, "architecture": "mmoe"}
    results = []
    for _ in range(2):
        made = trainer(build(seed=5, **options))
        history = made.fit(loader(shuffle=True, seed=2), loader(seed=1))
        results.append((history, weights(made.model)))
    assert results[0][0] == results[1][0]
    assert same(results[0][1], results[1][1])
    made = trainer(build(seed=6, **options))
    assert made.fit(loader(shuffle=True, seed=2), loader(seed=1)) != results[0][0]


def test_each_fit_sees_the_same_orders_of_a_loader(trainer, build, loader, weights, same):
    data = loader(shuffle=True)
    states = []
    for _ in range(2):
        made = trainer(build())
        made.fit(data)
        next(iter(data))
        states.append(weights(made.model))
    assert same(*states)


def test_epochs_are_logged_not_printed(trainer, loader, capfd, caplog):
    with caplog.at_level(logging.INFO, logger="cvr_plugins"):
        trainer(progress=True).fit(loader(), loader(seed=1))
    assert [record.message.split(":")[0] for record in caplog.records] == ["epoch 0", "epoch 1", "epoch 2"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("progress", [True, False])
def test_progress_bars_are_shown_on_a_terminal_where_wanted(progress, trainer, loader, monkeypatch, capfd):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    trainer(progress=progress, n_epoch=1).fit(loader(), loader(seed=1))
    shown = capfd.readouterr().err
    assert all((text in shown) == progress for text in ("epoch 0", "evaluate", "0/5"))


def test_a_model_in_float64_is_trained_in_float64(trainer, build, loader):
    model = build().double()
    made = trainer(model)
    made.fit(loader(), loader(seed=1))
    assert {value.dtype for name, value in model.state_dict().items() if "num_batches" not in name} == {torch.float64}
    assert made.predict(model, loader()).dtype == np.float64
