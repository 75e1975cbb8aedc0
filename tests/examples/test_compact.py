"""The export of a pruned model: equal predictions, dead parts gone, parameters counted."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from cvr_plugins.architectures import DCNV2, MLP, NCF, DeepFM, Masked, Towers
from cvr_plugins.contracts import Layout
from cvr_plugins.model import CVRModel
from cvr_plugins.objectives import DR, AdapSL
from cvr_plugins.rechub import TensorLoader, predict, run
from cvr_plugins.rechub.trained import TrainedRun

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))
from compact import compact

USERS, TAGS, WIDTH = 12, 7, 6


class Encoder(nn.Module):
    """Tags are concatenated before the user, so that tables and fields stand in different orders."""

    def __init__(self):
        super().__init__()
        self.user, self.tags = nn.Embedding(USERS, WIDTH), nn.Embedding(TAGS, WIDTH, padding_idx=0)

    def forward(self, x):
        pooled = self.tags(x["tags"]).sum(dim=1)
        return torch.cat([pooled, self.user(x["user"]), x["price"].unsqueeze(1)], dim=1)


LAYOUT = Layout((WIDTH, WIDTH), dense=1, names=("tags", "user"))


def inputs(rows=20, seed=0):
    draw = torch.Generator().manual_seed(seed)
    tags = torch.randint(0, TAGS, (rows, 3), generator=draw)
    tags[0] = 1
    return {
        "user": torch.randint(0, USERS, (rows,), generator=draw),
        "tags": tags,
        "price": torch.randn(rows, generator=draw),
    }


def build(backbone=MLP, objective=None, **network):
    """A model of which batch statistics, weights and biases are all at random."""
    torch.manual_seed(2)
    objective = objective or AdapSL()

    def make(layout):
        return backbone(layout, **{"dims": (8, 6), **network})

    model = CVRModel(Encoder(), Masked(LAYOUT, objective.heads, backbone=make), objective)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model


def drop(part, place):
    """Take the weights at a place of a masked part away."""
    gone = torch.zeros_like(part.mask)
    gone[place] = True
    with torch.no_grad():
        part.drop(gone.flatten())


def drop_columns(model, table, columns):
    """Take whole embedding columns from the prediction model: first the shared ones, then the private ones."""
    shared, private = model.architecture.tables[table].coordinates("cvr")
    for column in columns:
        part, place = (shared, column) if column < 3 else (private, column - 3)
        drop(part, (slice(None), place))


NETWORKS = {
    "mlp": (MLP, {}),
    "mlp without batch_norm": (MLP, {"batch_norm": False}),
    "mlp sigmoid": (MLP, {"activation": "sigmoid"}),
    "mlp prelu and dropout": (MLP, {"activation": "prelu", "dropout": 0.4}),
    "mlp of no layer": (MLP, {"dims": ()}),
    "dcn_v2": (DCNV2, {}),
    "deepfm": (DeepFM, {}),
}


KEEP = [(1.0, True), (0.1, True), (0.02, False), (0.0, True)]
"""Shares of the weights that stay, and whether the CTR head is trained."""
CASES = [*((name, 0.5, False) for name in NETWORKS), *(("mlp", *keep) for keep in KEEP), ("deepfm", 0.0, False)]


@pytest.mark.parametrize(("name", "keep", "train_ctr"), CASES)
def test_predictions_are_equal(name, keep, train_ctr):
    backbone, network = NETWORKS[name]
    known = {} if train_ctr else {"propensity": "uniform", "train_ctr": False}
    model = build(backbone, AdapSL(**known), **network)
    for which in ("prediction", "imputation"):
        model.architecture.prune(which, keep, kinds=("embeddings", "linear"))
    drop_columns(model, 1, [0, 4])
    made, report = compact(model, inputs())
    model.eval()
    other = inputs(64, seed=9)
    torch.testing.assert_close(made(other), model(other), rtol=0, atol=1e-6)
    assert report.largest_difference <= 1e-6
    assert set(made.predict(other)) == set(model.predict(other))
    assert report.after == sum(p.numel() for p in made.parameters()) < report.before


def test_columns_without_a_weight_go_with_the_inputs_they_fed():
    model = build(batch_norm=False)
    drop_columns(model, 0, [1, 2, 5])
    made, report = compact(model, inputs())
    # The other head, ctr, keeps its whole tables beside the prediction model's.
    assert made.encoder.user.weight.shape == (USERS, WIDTH + 3)
    assert made.encoder.tags.weight.shape == (TAGS, WIDTH + WIDTH)
    assert made.networks["cvr"].network[0].weight.shape == (8, 2 * WIDTH + 1 - 3)
    assert report.embeddings_after == USERS * (WIDTH + 3) + TAGS * 2 * WIDTH
    assert report.active["prediction"]["embeddings"] == (USERS * 3 + TAGS * WIDTH, (USERS + TAGS) * WIDTH)
    assert report.active["imputation"]["embeddings"] == ((USERS + TAGS) * WIDTH,) * 2


def test_dead_units_go_and_their_constants_stay():
    model = build()
    first, second = (w for w in model.architecture.weights() if w.kind == "linear")
    # Unit 0 of the first layer reads nothing: what it gives is a constant. Nothing reads unit 7.
    drop(first.coordinates("cvr")[0], 0)
    for each in second.coordinates("cvr"):
        drop(each, (slice(None), 7))
    with torch.no_grad():
        # Nothing reads unit 2 of the second layer.
        model.architecture.logits["cvr"].weight[0, 2] = 0
    made, _ = compact(model, inputs())
    shapes = [tuple(m.weight.shape) for m in made.networks["cvr"].modules() if isinstance(m, nn.Linear)]
    assert shapes == [(6, 2 * WIDTH + 1), (5, 6), (1, 5)]
    torch.testing.assert_close(made(inputs(50, 3)), model.eval()(inputs(50, 3)), rtol=0, atol=1e-6)


class TwoTables(nn.Module):
    def __init__(self):
        super().__init__()
        self.user, self.item = nn.Embedding(9, 4), nn.Embedding(7, 4)

    def forward(self, x):
        return torch.cat([self.user(x["user"]), self.item(x["item"])], dim=1)


def test_dead_units_of_ncf_go():
    torch.manual_seed(0)
    objective = AdapSL(propensity="uniform", train_ctr=False)
    model = CVRModel(TwoTables(), Masked(Layout((4, 4)), objective.heads, backbone=NCF), objective)
    shared, private = (w.coordinates("cvr") for w in model.architecture.weights() if w.kind == "linear")
    for each in (shared[0], private[0]):
        drop(each, slice(3))
    x = {"user": torch.arange(7), "item": torch.arange(7)}
    made, report = compact(model, x)
    layers = [tuple(m.weight.shape) for m in made.networks["cvr"].modules() if isinstance(m, nn.Linear)]
    assert layers == [(13, 8), (13, 13), (1, 13)]
    torch.testing.assert_close(made(x), model.eval()(x), rtol=0, atol=1e-6)
    assert report.embeddings_after == (9 + 7) * 4


def test_shares_are_those_of_the_masks():
    model = build()
    with torch.no_grad():
        model.architecture.prune("prediction", 0.25, kinds=("embeddings", "linear"))
    report = compact(model, inputs())[1]
    assert report.shares["prediction"] == model.architecture.active("prediction")
    assert report.shares["imputation"] == {"total": 1.0, "shared": 1.0, "private": 1.0}


def test_the_model_and_the_random_numbers_are_left_as_they_were():
    model = build().train()
    before, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    compact(model, inputs())
    assert torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_the_export_owns_its_weights_and_carries_no_architecture():
    model = build()
    made, _ = compact(model, inputs())
    expected = made(inputs())
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert torch.equal(made(inputs()), expected)
    assert torch.equal(pickle.loads(pickle.dumps(made))(inputs()), expected)
    assert len(pickle.dumps(made)) < len(pickle.dumps(model))


def test_an_example_without_a_token_of_a_feature_is_refused():
    with pytest.raises(ValueError, match="no token of feature 'tags'"):
        compact(build(), {**inputs(), "tags": torch.zeros(20, 3, dtype=torch.int64)})


def test_other_architectures_are_refused():
    objective = DR()
    model = CVRModel(Encoder(), Towers(LAYOUT, objective.heads, backbone=MLP), objective)
    with pytest.raises(ValueError, match="architecture 'masked'; got one of Towers"):
        compact(model, inputs())


def test_a_run_folder_becomes_a_file_that_predicts_as_the_run_did(shop, tmp_path):
    pruned = {"warm_up": 0, "prune_rate": 0.2, "target_sparsity": 0.9, "prune": ["embeddings", "linear"]}
    folder, out = tmp_path / "run", tmp_path / "model.pt2"
    keys = {"model": "AdapSL", "propensity": "logistic_ids", "epochs": 4, "non_click_fraction": 0.5, **pruned}
    run({**shop.config, **keys}, folder=folder)
    command = [sys.executable, sys.modules["compact"].__file__, folder, shop.path, out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = (int(number.replace(",", "")) for number in re.findall(r"(\d[\d,]*) (?:para|in )", done.stdout))
    assert after < before
    trained = TrainedRun.load(folder)
    encoded = trained.vocabulary.transform(pd.read_parquet(shop.path))
    ((x, _),) = TensorLoader.from_encoded(encoded, {}, batch_size=600).in_order()
    program = torch.export.load(out).module()
    with torch.no_grad():
        again = program(x).numpy()
    predict(folder, shop.path, tmp_path / "scored.parquet")
    scored = pd.read_parquet(tmp_path / "scored.parquet")
    for column, task in enumerate(trained.model.tasks):
        np.testing.assert_allclose(again[:, column], scored[f"p_{task}"], rtol=0, atol=2e-6)
    one = {name: values[:1] for name, values in x.items()}
    np.testing.assert_allclose(program(one).detach().numpy(), again[:1], rtol=0, atol=1e-6)
