"""Adap-SL's masks through the torch-rechub side: over features of every kind, run folders, early stopping."""

from __future__ import annotations

import pytest
from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature

from cvr_plugins.rechub import AdapSL, MultiDR, TrainedRun, run

PRUNED = {"warm_up": 0, "prune_rate": 0.2, "target_sparsity": 0.9, "prune": ["embeddings", "linear"]}


def test_every_kind_of_feature_is_pruned_and_the_best_epoch_comes_back_with_its_masks(build, trainer, loader):
    made = trainer(build(AdapSL, **PRUNED), optimizer_params={"lr": 0.05}, n_epoch=12, earlystop_patience=2)
    valid = loader(300, seed=1)
    history = made.fit(loader(400, shuffle=True), valid)
    shares = [record.diagnostics["active/prediction/total"] for record in history.records]
    # Reported before an epoch's pruning.
    assert shares == pytest.approx([0.8**t for t in range(len(shares))], abs=0.01)
    assert history.best_epoch < len(shares) - 1
    assert made.model.architecture.active("prediction")["total"] == pytest.approx(shares[history.best_epoch])
    assert made.evaluate(made.model, valid).values["cvr/click/auc"] == history.best_value


def test_a_run_folder_keeps_the_masks(shop, tmp_path):
    config = {**shop.config, "model": "AdapSL", "propensity": "logistic_ids", "epochs": 3, **PRUNED}
    run(config, folder=tmp_path / "run")
    assert TrainedRun.load(tmp_path / "run").model.architecture.active("prediction")["total"] < 1


def test_features_stay_as_they_were_and_a_shared_table_is_one():
    user = [
        SparseFeature("user", 30, embed_dim=4),
        SequenceFeature("seen", 20, embed_dim=6, padding_idx=0, shared_with="item"),
    ]
    item = [SparseFeature("item", 20, embed_dim=6), DenseFeature("vector", embed_dim=2)]
    assert len(AdapSL(user, item, dims=[8]).architecture.tables) == 2
    plain = MultiDR(user, item, dims=[8])
    assert [tuple(table.weight.shape) for table in plain.encoder.tables] == [(30, 4), (20, 6)]
