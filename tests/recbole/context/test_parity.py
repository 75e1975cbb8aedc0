"""The same method trains the same function through torch-rechub and through RecBole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature

from cvr_plugins import rechub
from cvr_plugins.plugins import registry
from cvr_plugins.recbole import models
from cvr_plugins.recbole.context.propensity import FIELD, add_propensities

METHODS = [entry.name for entry in registry().entries("method")]
STEPS = 10
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
def test_equal_weights_give_equal_losses_in_float64(method, options, prepare, batch, spied):
    run = prepare(models.model_class(method), shuffle=False, dropout=0.2, **options)
    ours = run.model.core
    dense = {"dense_stats": None}
    if options.get("dense") == "tanh":
        encoder = ours.encoder
        means = iter(zip(encoder.dense_mean.tolist(), encoder.dense_std.tolist(), strict=True))
        dense = {"dense_stats": {f.name: [next(means) for _ in range(f.width)].pop() for f in encoder.dense_fields}}
    theirs = twin(run, method, dropout=0.2, **options, **dense)
    state = {name: value.clone() for name, value in theirs.state_dict().items()}
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, state.pop(name), rtol=0, atol=0, equal_nan=True)
    assert not state, "no weight of the one is without its like in the other"

    ours.double()
    theirs.double()
    add_propensities(ours.objective, run.train.dataset, run.model.propensity_params)
    x, y = columns(run, batch)
    loader = rechub.TensorLoader(x, y, batch_size=run.config["train_batch_size"], shuffle=False)
    trainer = rechub.CVRTrainer(
        theirs, optimizer_params={"lr": 0.02, "weight_decay": 1e-5}, model_path=None, progress=False
    )
    seen_here, seen_there = spied(ours.objective), spied(theirs.objective)
    torch.manual_seed(1)
    run.trainer._train_epoch(run.train, 0)
    torch.manual_seed(1)
    trainer._train_one_epoch(loader, 0)

    steps = STEPS * len(ours.objective.phases)
    assert len(seen_here) == len(seen_there) >= steps
    for here, there in zip(seen_here[:steps], seen_there[:steps], strict=True):
        assert here.keys() == there.keys()
        np.testing.assert_allclose(list(here.values()), list(there.values()), rtol=1e-9, atol=1e-12)
    assert len({round(sum(step.values()), 6) for step in seen_here}) > STEPS / 2, "the losses change"
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(
            value, theirs.state_dict()[name], rtol=1e-7, atol=1e-9, equal_nan=True, check_dtype=False
        )


def test_a_whole_epoch_reports_what_torch_rechubs_trainer_reports(prepare, batch):
    run = prepare(models.model_class("NISE"), shuffle=False)
    theirs = twin(run, "NISE")
    x, y = columns(run, batch)
    trainer = rechub.CVRTrainer(
        theirs, optimizer_params={"lr": 0.02, "weight_decay": 1e-5}, model_path=None, progress=False
    )
    total = run.trainer._train_epoch(run.train, 0)
    losses, factors, diagnostics = trainer._train_one_epoch(rechub.TensorLoader(x, y, batch_size=64), 0)
    (record,) = run.trainer.history.records
    assert record.losses == pytest.approx(losses, rel=1e-5)
    assert record.factors == pytest.approx(factors, rel=1e-4)
    assert record.diagnostics == diagnostics
    assert record.epoch == 0
    assert total > 0
