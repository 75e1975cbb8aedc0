"""CVRTrainer on loaders of every kind: what it trains on, what it predicts, and what it evaluates to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch.utils.data import DataLoader, IterableDataset, RandomSampler
from torch_rechub.utils.data import PredictDataset, TorchDataset

from cvr_plugins.objectives import Naive as NaiveObjective
from cvr_plugins.rechub import TrainingError
from cvr_plugins.training.rows import RowBuffer

ORDER = ("conversion", "click", "ctcvr")


def stock_columns(data):
    return [data.y["conversion"], data.y["click"], data.y["click"] * data.y["conversion"]]


def test_evaluation_equals_scikit_learns(trainer, build, loader, log):
    model = build(seed=4)
    with torch.no_grad():
        for table in model.encoder.tables:
            table.weight.normal_()
    data = loader(500, extra=("counterfactual",), groups=True, batch_size=128, shuffle=True)
    made = trainer(model, metrics=["auc", "log_loss", "gauc"])
    report = made.evaluate(model, data)
    plain = log(500)
    click, conversion = plain.y["click"], plain.y["conversion"]
    p = made.predict(model, data).astype(np.float64)
    cvr, ctr, ctcvr = p.T
    clicked = click == 1
    expected = {
        "ctr/entire": (click, ctr),
        "cvr/click": (conversion[clicked], cvr[clicked]),
        "cvr/entire": (conversion, cvr),
        "cvr/oracle": (plain.would, cvr),
        "ctcvr/entire": (conversion, ctcvr),
    }
    assert set(report.values) == {f"{key}/{metric}" for key in expected for metric in ("auc", "log_loss", "gauc")}
    for key, (label, score) in expected.items():
        assert report.get(f"{key}/auc") == pytest.approx(roc_auc_score(label, score), abs=1e-12)
        assert report.get(f"{key}/log_loss") == pytest.approx(log_loss(label, score), rel=1e-6)
    groups = plain.x["user"] % 7
    per_user = [roc_auc_score(click[groups == g], ctr[groups == g]) for g in range(7)]
    assert report.get("ctr/entire/gauc") == pytest.approx(np.mean(per_user), abs=1e-12)


def test_predictions_come_in_the_stored_order_from_every_loader(trainer, build, loader, log, stock_loader, tensors):
    model = build().eval()
    made = trainer(model)
    data = log(100)
    with torch.no_grad():
        expected = model(tensors(data.x)).numpy()
    loaders = [
        loader(100, shuffle=True, batch_size=33),
        stock_loader(data.x, stock_columns(data), 33),
        DataLoader(PredictDataset(data.x), batch_size=33),
        [tensors({name: values[start : start + 33] for name, values in data.x.items()}) for start in range(0, 100, 33)],
    ]
    for each in loaders:
        found = made.predict(model, each)
        assert (found.shape, found.dtype) == ((100, 3), np.float32)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not model.training


def test_a_stock_dataloader_trains_and_evaluates_alike(trainer, build, loader, log, stock_loader, weights, same):
    data = log()
    columns = stock_columns(data)
    named = {"label_columns": ORDER}
    results = []
    for train, options in [
        (loader(), {}),
        (stock_loader(data.x, columns, 64), {}),
        (stock_loader(data.x, columns[:2], 64), {"label_columns": ("conversion", "click")}),
        (stock_loader(data.x, columns, 64, num_workers=0, drop_last=False), named),
    ]:
        made = trainer(build(), **options)
        history = made.fit(train, train)
        results.append((history, weights(made.model)))
    for history, state in results[1:]:
        assert history.records == results[0][0].records
        assert same(state, results[0][1])


def test_a_tensor_loader_knows_its_columns_better_than_the_trainer(trainer, loader, log, stock_loader):
    data = log()
    made = trainer(label_columns=("conversion", "click"), valid_metric="cvr/oracle/auc")
    train = stock_loader(data.x, stock_columns(data)[:2], 64)
    history = made.fit(train, loader(seed=1, extra=("counterfactual",)))
    assert history.best_value is not None


def test_an_action_label_reaches_the_objective_that_needs_it(trainer, build, loader, log):
    seen = []

    class NeedsAction(NaiveObjective):
        needs = ("click", "conversion", "action")

        def loss(self, out, y):
            seen.append(y.action)
            return super().loss(out, y)

    with pytest.raises(ValueError, match="NeedsAction needs the label column 'action'"):
        trainer(build(NeedsAction)).fit(loader())
    trainer(build(NeedsAction), n_epoch=1).fit(loader(extra=("action",)))
    assert torch.cat(seen).tolist() == log().action.tolist()


class Stream(IterableDataset):
    """Rows one after another, their number unknown."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        return (self.dataset[i] for i in range(len(self.dataset)))


def test_loaders_without_a_length_are_taken(trainer, build, loader, log):
    data = log(100)
    ys = np.stack(stock_columns(data), axis=1)
    stream = DataLoader(Stream(TorchDataset(data.x, ys)), batch_size=33)
    with pytest.raises(TypeError):
        len(stream)
    made, plain = trainer(build(), metrics=["auc"]), trainer(build(), metrics=["auc"])
    assert made.fit(stream, stream).records == plain.fit(*[loader(100, batch_size=33)] * 2).records
    assert made.predict(made.model, stream).shape == (100, 3)


def test_a_sampler_may_give_more_or_fewer_rows_than_there_are(trainer, log):
    data = log(50)
    dataset = TorchDataset(data.x, np.stack(stock_columns(data), axis=1))
    made = trainer()
    more = DataLoader(dataset, batch_size=16, sampler=RandomSampler(dataset, replacement=True, num_samples=130))
    assert made.predict(made.model, more).shape == (130, 3)
    fewer = DataLoader(dataset, batch_size=16, drop_last=True)
    found = made.predict(made.model, fewer)
    assert found.shape == (48, 3)
    np.testing.assert_array_equal(found, made.predict(made.model, DataLoader(dataset, batch_size=16))[:48])


@pytest.mark.parametrize("expected", [None, 5, 20])
def test_rows_are_collected_in_the_order_they_come(expected):
    buffer = RowBuffer(expected)
    assert buffer.array() is None
    for part in torch.arange(16.0).reshape(8, 2).split([4, 3, 1]):
        buffer.append(part)
    np.testing.assert_array_equal(buffer.array(), np.arange(16.0).reshape(8, 2))


def test_rows_of_a_type_that_numpy_lacks_become_float32():
    buffer = RowBuffer(None)
    buffer.append(torch.ones(2, dtype=torch.bfloat16))
    assert buffer.array().dtype == np.float32


def test_a_loader_that_runs_dry_is_an_error(trainer, loader, log, stock_loader):
    with pytest.raises(TrainingError, match=r"gave no batch in epoch 1; check .* can be read once per epoch"):
        trainer(label_columns=("click", "conversion")).fit(itertools.chain(loader()))
    data = log(20)
    with pytest.raises(TrainingError, match=r"gave no batch in epoch 0; check .* drop_last"):
        trainer().fit(stock_loader(data.x, stock_columns(data), 64, drop_last=True))
    made = trainer()
    with pytest.raises(ValueError, match="The loader gave no batch; there is nothing to score"):
        made.predict(made.model, [])
    with pytest.raises(ValueError, match="Evaluation needs labels"):
        made.evaluate(made.model, DataLoader(PredictDataset(data.x), batch_size=8))
