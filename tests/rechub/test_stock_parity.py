"""ESMM trained here and by torch-rechub itself, from equal weights on equal batches: the same figures in float64."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch_rechub.basic.features import SparseFeature
from torch_rechub.models.multi_task import ESMM as StockESMM
from torch_rechub.trainers import MTLTrainer

from cvr_plugins.functional import bce
from cvr_plugins.rechub import ESMM, CVRTrainer

ROWS, BATCH, EPOCHS = 470, 64, 3
"""Eight batches an epoch, the last of them smaller; 24 steps in all."""


def in_ours(stock: dict[str, torch.Tensor], names: list[str]) -> dict[str, torch.Tensor]:
    """Rename a stock ESMM's weights: its tower is one Sequential whose last layer is our logit layer."""
    renamed = {}
    for key, value in stock.items():
        parts = key.split(".")
        if key.startswith("embedding."):
            renamed[f"encoder.tables.{names.index(parts[2])}.weight"] = value
        else:
            head, layer = parts[0].removeprefix("tower_"), int(parts[2])
            last = max(int(k.split(".")[2]) for k in stock if k.startswith(parts[0]))
            place = f"logits.{head}" if layer == last else f"towers.{head}.layers.{layer}"
            renamed[f"architecture.{place}.{parts[3]}"] = value
    return {**renamed, "sampling.share": torch.ones((), dtype=torch.float64)}


def stock_trainer(model, **options):
    """A stock MTLTrainer; it casts labels to float32, which its own loss refuses beside float64 predictions."""
    trainer = MTLTrainer(model, ["classification"] * 3, **options)
    trainer.loss_fns = [lambda p, y, bce=loss: bce(p, y.double()) for loss in trainer.loss_fns]
    return trainer


@pytest.fixture
def pair():
    """The same ESMM twice in float64, and a log for both."""

    def make(seed: int = 0):
        names = ["user", "age", "item", "shop"]
        features = [SparseFeature(name, 30, embed_dim=4) for name in names]
        torch.manual_seed(seed)
        towers = {"cvr_params": {"dims": [16, 8]}, "ctr_params": {"dims": [12]}}
        stock = StockESMM(features[:2], features[2:], **towers).double()
        with torch.no_grad():
            for table in stock.embedding.embed_dict.values():
                table.weight.normal_(0, 0.3)
        ours = ESMM(features[:2], features[2:], **towers).double()
        ours.load_state_dict(in_ours(stock.state_dict(), names))
        rng = np.random.default_rng(seed)
        x = {name: rng.integers(0, 30, ROWS) for name in names}
        click = (rng.random(ROWS) < 0.2 + 0.5 * (x["user"] % 2)).astype(float)
        conversion = click * (rng.random(ROWS) < 0.2 + 0.5 * (x["item"] % 2))
        return SimpleNamespace(
            stock=stock, ours=ours, names=names, x=x, columns=[conversion, click, conversion * click]
        )

    return make


def test_the_two_models_predict_alike(pair, tensors):
    both = pair()
    batch = tensors(both.x)
    for mode in (True, False):
        both.stock.train(mode)
        both.ours.train(mode)
        with torch.no_grad():
            torch.testing.assert_close(both.ours(batch), both.stock(batch), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fused", [True, False])
def test_training_gives_equal_losses_and_equal_weights(fused, pair, stock_loader, capfd):
    both = pair()
    params = {"lr": 1e-2, "weight_decay": 1e-3}
    stock = stock_trainer(both.stock, optimizer_params=params)
    ours = CVRTrainer(
        both.ours, optimizer_params={**params, "fused": fused}, model_path=None, n_epoch=EPOCHS, progress=False
    )
    loader = stock_loader(both.x, both.columns, BATCH)
    stock_losses = [stock.train_one_epoch(loader) for _ in range(EPOCHS)]
    history = ours.fit(loader)
    capfd.readouterr()
    for record, (_, ctr, ctcvr) in zip(history.records, stock_losses, strict=True):
        assert record.losses["ctr"] == pytest.approx(ctr, rel=1e-9)
        assert record.losses["ctcvr"] == pytest.approx(ctcvr, rel=1e-9)
    assert stock_losses[-1][1] < stock_losses[0][1] - 0.01
    expected, found = in_ours(both.stock.state_dict(), both.names), both.ours.state_dict()
    assert expected.keys() == found.keys()
    assert any(key.endswith("running_var") for key in found)
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-9, atol=1e-9, msg=key)


def test_the_regularised_loss_is_the_stock_one(pair, stock_loader, capfd):
    both = pair(seed=2)
    options = {
        "optimizer_params": {"lr": 1e-2},
        "regularization_params": {"embedding_l2": 1e-3, "dense_l1": 1e-4, "dense_l2": 1e-3},
    }
    loader = stock_loader(both.x, both.columns, BATCH)
    stock_trainer(both.stock, **options).train_one_epoch(loader)
    CVRTrainer(both.ours, model_path=None, progress=False, **options).train_one_epoch(loader)
    capfd.readouterr()
    expected = in_ours(both.stock.state_dict(), both.names)
    for key, value in both.ours.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-9, atol=1e-9, msg=key)


def test_evaluation_and_prediction_equal_the_stock_ones(pair, stock_loader, capfd):
    both = pair(seed=3)
    stock = stock_trainer(both.stock)
    ours = CVRTrainer(both.ours, model_path=None, progress=False, metrics=["auc"])
    loader = stock_loader(both.x, both.columns, BATCH)
    cvr, ctr, ctcvr = stock.evaluate(both.stock, loader)
    report = ours.evaluate(both.ours, loader)
    # The stock CVR score counts unclicked rows as negative.
    for key, score in {"cvr/entire/auc": cvr, "ctr/entire/auc": ctr, "ctcvr/entire/auc": ctcvr}.items():
        assert report.get(key) == pytest.approx(score, abs=1e-12)
    p = np.array(stock.predict(both.stock, [x for x, _ in loader]))
    np.testing.assert_allclose(ours.predict(both.ours, loader), p, rtol=1e-12)
    conversion, click, _ = both.columns
    clicked = click == 1
    assert report.get("cvr/click/auc") == pytest.approx(roc_auc_score(conversion[clicked], p[clicked, 0]), abs=1e-12)
    capfd.readouterr()


def test_stock_losses_saturate_where_ours_do_not():
    """Why the figures are compared on ordinary logits: torch-rechub takes the logarithm of a rounded probability."""
    logit, label = torch.tensor([60.0]), torch.zeros(1)
    stock = torch.nn.BCELoss()(torch.sigmoid(logit), label)
    assert float(stock) == 100.0
    assert float(bce(logit, label)) == 60.0
