"""Adap-SL through the torch-rechub side: features of every kind, run folders, early stopping, ONNX."""

from __future__ import annotations

import json
import logging
import warnings

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature

from cvr_plugins.rechub import AdapSL, CVRTrainer, MultiDR, TensorLoader, predict, run
from cvr_plugins.rechub.trained import TrainedRun

PRUNED = {"warm_up": 0, "prune_rate": 0.2, "target_sparsity": 0.9, "prune": ["embeddings", "linear"]}


def features():
    """Of different widths, one sharing another's table, dense values among them."""
    user = [
        SparseFeature("user", 30, embed_dim=4),
        SequenceFeature("seen", 20, embed_dim=6, padding_idx=0, shared_with="item"),
        DenseFeature("age"),
    ]
    return user, [SparseFeature("item", 20, embed_dim=6), DenseFeature("vector", embed_dim=2)]


def columns(rows=400):
    rng = np.random.default_rng(0)
    x = {
        "user": rng.integers(0, 30, rows),
        "seen": rng.integers(0, 20, (rows, 4)),
        "age": rng.normal(size=rows),
        "item": rng.integers(1, 20, rows),
        "vector": rng.normal(size=(rows, 2)),
    }
    click = (rng.random(rows) < 0.3 + 0.02 * x["item"]).astype(int)
    return x, {"click": click, "conversion": click * (rng.random(rows) < 0.03 * x["user"])}


@pytest.fixture
def trained():
    torch.manual_seed(0)
    model = AdapSL(*features(), dims=[8, 6], **PRUNED)
    loader = TensorLoader(*columns(), batch_size=64, shuffle=True)
    trainer = CVRTrainer(model, n_epoch=5, model_path=None, progress=False)
    return trainer, trainer.fit(loader)


def test_every_kind_of_feature_is_trained_and_pruned(trained):
    trainer, history = trained
    shares = [record.diagnostics["active/prediction/total"] for record in history.records]
    # Reported before an epoch's pruning.
    assert shares == pytest.approx([0.8**t for t in range(5)], abs=0.01)
    assert trainer.model.architecture.active("imputation")["total"] == pytest.approx(0.8**4, abs=0.01)
    assert len(trainer.model.architecture.tables) == 2, "a shared table is one table"


def test_the_best_epoch_comes_back_with_its_masks():
    torch.manual_seed(0)
    loader = TensorLoader(*columns(), batch_size=64)
    trainer = CVRTrainer(
        AdapSL(*features(), dims=[8], **PRUNED),
        optimizer_params={"lr": 0.05},
        n_epoch=12,
        earlystop_patience=2,
        model_path=None,
        progress=False,
    )
    history = trainer.fit(loader, TensorLoader(*columns(300)))
    record = history.records[history.best_epoch]
    active = trainer.model.architecture.active("prediction")["total"]
    assert active == pytest.approx(record.diagnostics["active/prediction/total"])
    found = trainer.evaluate(trainer.model, TensorLoader(*columns(300))).values["cvr/click/auc"]
    assert found == history.best_value


def test_it_runs_in_onnxruntime(trained, tmp_path):
    trainer, _ = trained
    path = tmp_path / "model.onnx"
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert trainer.export_onnx(str(path))
    finally:
        logging.disable(before)
    session = onnxruntime.InferenceSession(str(path))
    x = {name: values[:7] for name, values in columns()[0].items()}
    x["age"] = x["age"][:, None]
    kinds = {i.name: i.type for i in session.get_inputs()}
    fed = {n: v.astype(np.int64 if "int64" in kinds[n] else np.float32) for n, v in x.items()}
    (theirs,) = session.run(None, fed)
    model = trainer.model.eval()
    with torch.no_grad():
        ours = model({name: torch.from_numpy(values) for name, values in fed.items()}).numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_a_run_folder_scores_as_the_run_did(shop, tmp_path):
    config = {**shop.config, "model": "AdapSL", "propensity": "logistic_ids", "epochs": 4, **PRUNED}
    result = run(config, folder=tmp_path / "run")
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert history["epochs"][-1]["diagnostics"]["active/imputation/shared"] == pytest.approx(0.8**3, abs=0.02)
    loaded = TrainedRun.load(tmp_path / "run")
    assert loaded.model.architecture.active("prediction")["total"] < 1
    predict(tmp_path / "run", shop.path, tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["p_cvr"].between(0, 1).all()
    assert result.report.values["cvr/click/auc"] is not None


def test_the_stock_copy_of_features_stays_as_it_was():
    user, item = features()
    AdapSL(user, item, dims=[8])
    plain = MultiDR(user, item, dims=[8])
    assert [tuple(table.weight.shape) for table in plain.encoder.tables] == [(30, 4), (20, 6)]
