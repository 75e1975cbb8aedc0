"""Bands that a correct implementation meets on Coat, and that a wrong propensity is seen to be wrong."""

from __future__ import annotations

import functools
import runpy
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch_rechub.basic.features import SparseFeature
from torch_rechub.basic.initializers import RandomNormal

from cvr_plugins.data.published import coat
from cvr_plugins.grid import plan
from cvr_plugins.metrics import auc
from cvr_plugins.propensities import fit_propensity
from cvr_plugins.rechub import AdapSL, CVRTrainer, MultiIPW, TensorLoader

ROOT = Path(__file__).resolve().parents[2]
COAT = ROOT.parent / "shared" / "data" / "coat"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not COAT.is_dir(), reason="Coat's files are not here"),
]


@functools.cache
def data():
    """Ids, labels and propensities of the training pairs, ids and labels of the test pairs."""
    log = coat(path=COAT)
    train = (log.frame["part"] == "train").to_numpy()
    parts = [log.take(np.flatnonzero(rows)) for rows in (train, ~train)]
    ids = [{name: part.frame[name].cat.codes.to_numpy() for name in ("user_id", "item_id")} for part in parts]
    labels = [part.labels() for part in parts]
    models = {"uniform": fit_propensity("uniform", parts[0])}
    models["features"] = fit_propensity("logistic_features", parts[0], crossed=True)
    return ids, labels, {name: model.predict(parts[0]) for name, model in models.items()}


def trained_auc(seed, propensity, model, *, weight_decay=0.005, epochs=20, labels=None):
    """Train a method on the NCF backbone on all training pairs; return its AUC on the random ratings."""
    ids, (train, test), _ = data()
    torch.manual_seed(seed)
    drawn = RandomNormal(0, 1)
    features = [SparseFeature(name, size, 16, initializer=drawn) for name, size in (("user_id", 290), ("item_id", 300))]
    made = model(features)
    y = {"click": train["click"], "conversion": train["conversion"] if labels is None else labels}
    y["propensity"] = propensity.astype(np.float32)
    trainer = CVRTrainer(
        made,
        optimizer_params={"lr": 0.005, "weight_decay": weight_decay},
        n_epoch=epochs,
        model_path=None,
        progress=False,
    )
    # About 128 ratings a batch.
    trainer.fit(TensorLoader(ids[0], y, batch_size=1600, shuffle=True, seed=seed))
    return auc(test["conversion"], trainer.predict(made, TensorLoader(ids[1], {}))[:, made.tasks.index("cvr")])


OPTIONS = {"backbone": "ncf", "dims": [16, 16], "train_ctr": False, "propensity": "column", "propensity_floor": 0.05}
IPS = functools.partial(MultiIPW, lambda_ctcvr=0.0, **OPTIONS)
NAIVE = functools.partial(IPS, self_normalized=True)


def test_naive_ncf_is_in_its_band():
    found = [trained_auc(seed, data()[2]["uniform"], NAIVE) for seed in range(2)]
    assert 0.767 <= statistics.median(found) <= 0.777


def test_feature_propensities_help_and_wrong_ones_do_not():
    right = data()[2]["features"]
    assert right.mean() == pytest.approx(0.08, abs=1e-3)
    shuffled = np.random.default_rng(0).permutation(right)
    inverted = np.minimum(right.mean() ** 2 / right, 1)
    # Of three seeds, because one of them may collapse.
    assert 0.772 <= statistics.median(trained_auc(seed, right, IPS) for seed in range(3)) <= 0.781
    of_inverted, of_shuffled = (trained_auc(0, propensity, IPS) for propensity in (inverted, shuffled))
    assert of_inverted < of_shuffled < 0.770
    assert of_inverted < 0.765


def test_adap_sl_is_in_its_band_and_pruning_is_part_of_it():
    adap_sl = functools.partial(AdapSL, prune_rate=0.1, warm_up=6, target_sparsity=0.5, **OPTIONS)
    pruned, whole = (
        trained_auc(0, data()[2]["features"], model, weight_decay=0.001, epochs=15)
        for model in (adap_sl, functools.partial(adap_sl, prune_rate=0.0))
    )
    assert 0.769 <= pruned <= 0.780
    assert whole < pruned


def test_shuffled_labels_teach_nothing():
    train = data()[1][0]
    clicked = np.flatnonzero(train["click"])
    labels = train["conversion"].copy()
    labels[clicked] = np.random.default_rng(0).permutation(labels[clicked])
    assert 0.4 < trained_auc(0, data()[2]["uniform"], NAIVE, labels=labels) < 0.56


def test_the_benchmark_prints_its_table_and_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples" / "benchmarks")
    main = runpy.run_path(str(ROOT / "examples" / "benchmarks" / "coat.py"))["main"]
    options = [str(COAT), "--seeds", "1", "--epochs", "1", "--out", str(tmp_path / "grid")]
    options += ["--only", "NCF", "--only", "Adap-SL-DR"]

    def table(*more):
        done = CliRunner().invoke(main, [*options, *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done

    (tmp_path / "table.md").write_text("before\n<!-- coat: here -->\nold\n<!-- end -->\n")
    first = table("--into", str(tmp_path / "table.md"))
    assert (tmp_path / "table.md").read_text().startswith("before\n<!-- coat: here -->\n\n| method | AUC")
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows] == [
        "method",
        "---",
        "additive logistic regression",
        "NCF",
        "Adap-SL-DR",
        "KBDR",
        "DCE-DR",
    ]
    assert "0.777" in rows[4]
    assert rows[-1].startswith("| DCE-DR | – | 0.770 |")
    assert float(rows[2].split("|")[2].split()[0]) > 0.76
    assert "seeds 1 to 1" in first.stdout
    assert "features, crossed 0.24" in first.stdout
    assert "prediction model, shared 1.00" in first.stdout
    assert "Collapsed runs (method, weight decay, seed): " in first.stdout
    runs = {path: path.stat().st_mtime_ns for path in (tmp_path / "grid" / "runs").iterdir()}
    assert len(runs) == 6
    again = [line for line in table().stdout.splitlines() if line.startswith("| ")]
    assert again == rows
    assert runs == {path: path.stat().st_mtime_ns for path in (tmp_path / "grid" / "runs").iterdir()}


def test_the_grid_file_lists_each_method_with_three_weight_decays_and_ten_seeds():
    grid = plan(ROOT / "examples/benchmarks/coat.yaml", {"data_path": str(COAT)})
    assert grid.dimensions == ("variant", "weight_decay", "seed")
    assert grid.sizes[1:] == (3, 10)
    assert all(cell.config["eval_args"]["split"] == {"PS": 0.1} for cell in grid.cells)
