"""The same method trains the same function through torch-rechub and through RecBole."""

from __future__ import annotations

import pytest
import torch
from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature

from cvr_plugins import rechub
from cvr_plugins.plugins import registry
from cvr_plugins.recbole import models
from cvr_plugins.recbole.context.model import dense_stats
from cvr_plugins.recbole.context.propensity import FIELD, add_propensities

METHODS = [entry.name for entry in registry().entries("method")]
MADE = {
    "token": lambda field: SparseFeature(field.name, field.rows, embed_dim=field.width),
    "token_seq": lambda field: SequenceFeature(field.name, field.rows, embed_dim=field.width, padding_idx=0),
    "dense": lambda field: DenseFeature(field.name, embed_dim=field.width),
}


def twin(run, method, **options):
    """The torch-rechub model of the same features, drawn from the same seed, and a loader of the same batches."""
    sides = {feature.name: feature.side for feature in run.dataset.schema.features}
    made = {field.name: MADE[field.kind](field) for field in run.model.core.encoder.fields}
    user = [feature for name, feature in made.items() if sides[name] == "user"]
    item = [feature for name, feature in made.items() if sides[name] != "user"]
    torch.manual_seed(run.config["seed"])
    return rechub.model_class(method)(user, item, dims=run.config["dims"], **options)


def columns(run, batch):
    rows = batch(run.train)
    x = {name: values.numpy() for name, values in run.model.features(rows).items()}
    labels = run.model.label_columns(rows)
    y = {name: labels[name].numpy() for name in ("click", "conversion", "action")}
    if FIELD in rows:
        y["propensity"] = rows[FIELD].numpy()
    return x, y


CASES = [
    *((method, {}) for method in METHODS),
    ("NISE", {"weighting": "dwa"}),
    ("ESMM", {"weighting": "dtp", "update_every": 3}),
    ("Naive", {"weighting": "fixed", "cvr_weight": 2.5}),
    ("MRDR", {"architecture": "mmoe", "backbone": "deepfm", "n_experts": 3}),
    ("DCMT", {"architecture": "ple", "backbone": "dcn_v2"}),
    ("MultiIPW", {"propensity": "logistic_ids"}),
    ("MRDR", {"propensity": "uniform"}),
    ("IdeFN", {"dense": "tanh", "memory_size": 20, "kappa": 0.2}),
]


@pytest.mark.parametrize(("method", "options"), CASES, ids=[f"{m}-{'-'.join(map(str, o.values()))}" for m, o in CASES])
def test_an_epoch_from_equal_weights_ends_in_equal_weights_in_float64(method, options, prepare, batch):
    run = prepare(models.model_class(method), shuffle=False, dropout=0.2, **options)
    ours = run.model.core
    if options.get("dense") == "tanh":
        options = {**options, "dense_stats": dense_stats(ours.encoder.fields, run.train.dataset)}
    theirs = twin(run, method, dropout=0.2, **options)
    begun = {name: value.clone() for name, value in theirs.state_dict().items()}
    torch.testing.assert_close(dict(ours.state_dict()), begun, rtol=0, atol=0, equal_nan=True)

    ours.double()
    theirs.double()
    add_propensities(ours.objective, run.train.dataset, run.model.propensity_params)
    loader = rechub.TensorLoader(*columns(run, batch), batch_size=run.config["train_batch_size"])
    params = {"lr": run.config["learning_rate"], "weight_decay": run.config["weight_decay"]}
    trainer = rechub.CVRTrainer(theirs, optimizer_params=params, model_path=None, progress=False)
    torch.manual_seed(1)
    run.trainer._train_epoch(run.train, 0)
    torch.manual_seed(1)
    there = trainer._train_one_epoch(loader, 0)

    (here,) = run.trainer.history.records
    for one, other in ((here.losses, there.losses), (here.factors, there.factors)):
        assert one == pytest.approx(other, rel=1e-8)
    assert here.diagnostics == pytest.approx(there.diagnostics, rel=1e-6, nan_ok=True)
    ended = theirs.state_dict()
    assert any(not torch.equal(value, begun[name].double()) for name, value in ended.items() if "tables" in name)
    torch.testing.assert_close(
        dict(ours.state_dict()), dict(ended), rtol=1e-7, atol=1e-9, equal_nan=True, check_dtype=False
    )
