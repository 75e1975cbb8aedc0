"""Propensities fitted before training, through the runner, the loaders and the trainer."""

from __future__ import annotations

import inspect
import json
from itertools import cycle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torch_rechub.basic.features import SparseFeature

from cvr_plugins.config import ConfigError
from cvr_plugins.data import DataError
from cvr_plugins.methods import METHODS
from cvr_plugins.propensities import PROPENSITIES
from cvr_plugins.rechub import CVRTrainer, MultiIPW, TensorLoader, run

ALONE = {"train_ctr": False, "lambda_ctcvr": 0.0}


FITTED = [name for name in PROPENSITIES if name != "column"]
WEIGHTED = [method.name for method in METHODS if "propensity" in inspect.signature(method.objective).parameters]


@pytest.mark.parametrize(("model", "name"), list(zip(WEIGHTED, cycle(FITTED), strict=False)))
def test_a_weighting_method_takes_any_propensity(model, name, shop, tmp_path):
    result = run({**shop.config, "model": model, "propensity": name, "epochs": 1}, folder=tmp_path / name)
    assert np.isfinite(result.report.values["cvr/click/auc"])
    (note,) = [note for note in result.notes if note.startswith("Propensity")]
    assert note.startswith(f"Propensity {name}: mean 0.4")
    assert note in json.loads((tmp_path / name / "metrics.json").read_text())["notes"]


def test_the_propensity_changes_what_is_learnt_and_its_options_change_the_propensity(shop, tmp_path):
    def note_and_score(name, **more):
        config = {**shop.config, "model": "MultiIPW", **ALONE, "epochs": 1, **more}
        result = run(config, folder=tmp_path / name)
        return result.notes[-1], result.report.values["cvr/oracle/log_loss"]

    ids = note_and_score("a", propensity="logistic_ids")
    again = note_and_score("b", propensity="logistic_ids")
    penalised = note_and_score("c", propensity="logistic_ids", propensity_params={"C": 1e-3})
    assert ids == again
    assert ids[0] != penalised[0]
    assert ids[1] != penalised[1]


def test_the_logs_own_column_is_read(shop, tmp_path, shop_frame):
    frame = shop_frame(400, 0)
    frame["shown"] = 0.25
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    config = {**shop.config, "dataset": str(tmp_path / "log.parquet"), "PROPENSITY_FIELD": "shown"}
    result = run({**config, "model": "MultiIPW", "propensity": "column", "epochs": 1}, folder=tmp_path / "run")
    assert "Propensity column: mean 0.2500, from 0.2500 to 0.2500" in result.notes[-1]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"propensity": "column"}, DataError, "has no propensity column"),
        ({"propensity": "logistic_id"}, ValueError, "propensity must be one of"),
        ({"propensity_params": {"C": 1}}, ConfigError, "'C' is no option here; no model is fitted"),
        ({"propensity": "logistic_ids", "propensity_params": {"C": -1}}, ConfigError, r"LogisticIds\(C=-1"),
    ],
)
def test_what_cannot_be_fitted_is_refused(given, error, message, shop, tmp_path):
    with pytest.raises(error, match=message):
        run({**shop.config, "model": "MultiIPW", **given}, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def columns():
    rng = np.random.default_rng(0)
    click = rng.integers(0, 2, 300)
    y = {"click": click, "conversion": click * rng.integers(0, 2, 300), "propensity": rng.uniform(0.1, 0.9, 300)}
    return {"user": rng.integers(0, 9, 300)}, y


def model():
    torch.manual_seed(0)
    return MultiIPW([SparseFeature("user", 9, embed_dim=4)], propensity="column", **ALONE)


def test_a_loader_carries_the_propensity_and_validation_does_without(columns):
    x, y = columns
    labels = {name: y[name] for name in ("click", "conversion")}
    trainer = CVRTrainer(model(), n_epoch=2, model_path=None)
    history = trainer.fit(TensorLoader(x, y, batch_size=64), TensorLoader(x, labels))
    assert len(history.records) == 2
    first, second = (trainer.evaluate(trainer.model, TensorLoader(x, given)).values for given in (y, labels))
    assert first == second


def test_a_stock_loader_does_too(columns):
    x, y = columns

    class Rows(Dataset):
        def __len__(self):
            return 300

        def __getitem__(self, i):
            return {"user": x["user"][i]}, np.array([y[n][i] for n in y], dtype=np.float32)

    ours, theirs = (CVRTrainer(model(), n_epoch=1, model_path=None, label_columns=tuple(y)) for _ in range(2))
    ours.fit(TensorLoader(x, y, batch_size=50))
    theirs.fit(DataLoader(Rows(), batch_size=50))
    for p, q in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_a_propensity_outside_its_range_is_refused(columns):
    x, y = columns
    with pytest.raises(ValueError, match=r"'propensity' must hold probabilities of a click; 1 of 300 rows .* 1\.5"):
        TensorLoader(x, {**y, "propensity": np.append(y["propensity"][1:], 1.5)})
