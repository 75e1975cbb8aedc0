"""The main job on real data: the shipped configurations, the network on true labels, and the round trip of the data."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cvr_plugins.cli._group import run as run_line
from cvr_plugins.cli.configs import find_config
from cvr_plugins.config import load_yaml, resolve, split_arguments
from cvr_plugins.data import DataError, Vocabulary, ml_100k_funnel, split
from cvr_plugins.rechub import CVRTrainer, TensorLoader, TrainedRun, evaluate_run, predict, run
from cvr_plugins.rechub.build import build_model
from cvr_plugins.training.process import torch_seed, torch_threads

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def log():
    try:
        return ml_100k_funnel()
    except DataError as error:
        pytest.skip(str(error))


def shipped(name: str) -> dict:
    # With less patience than shipped the same epochs are kept, in fewer.
    return {**load_yaml(find_config("ml-100k-funnel")), "model": name, "stopping_step": 2, "show_progress": False}


@pytest.fixture(scope="module")
def finished(log, tmp_path_factory):
    """The runs of the shipped configuration, by method."""
    folder = tmp_path_factory.mktemp("runs")
    return {name: run(shipped(name), folder=folder / name) for name in ("naive", "esmm")}


@pytest.fixture(scope="module")
def scored(log, finished):
    """Mean predicted CVR over all rows of the test part, by run."""
    config = resolve(shipped("naive"))
    ratios, by = split_arguments(config["eval_args"])
    *_, test = split(log, ratios=ratios, by=by, seed=config["seed"])
    scores = {name: TrainedRun.load(result.folder).score(test.frame)[0] for name, result in finished.items()}
    return SimpleNamespace(test=test, cvr={name: score[:, 0] for name, score in scores.items()})


def test_naive_ranks_as_published_and_predicts_far_too_much(finished, scored):
    report = finished["naive"].report
    assert 0.68 <= report.get("cvr/click/auc") <= 0.73
    assert 0.70 <= report.get("cvr/oracle/auc") <= 0.76
    true = scored.test.labels()["counterfactual"].mean()
    assert true == pytest.approx(0.21, abs=0.01)
    assert scored.cvr["naive"].mean() > 0.30
    assert report.support["cvr/oracle"].mean_predicted == pytest.approx(float(scored.cvr["naive"].mean()), rel=1e-5)
    # Nothing of that shows where it was trained: on clicks it is about right.
    assert report.get("cvr/click/calibration") == pytest.approx(1, abs=0.15)


def test_esmm_overestimates_less_and_ranks_the_entire_space_better(finished, scored):
    naive, esmm = finished["naive"].report, finished["esmm"].report
    assert scored.cvr["esmm"].mean() < scored.cvr["naive"].mean() - 0.02
    assert abs(np.log(esmm.get("cvr/oracle/calibration"))) < abs(np.log(naive.get("cvr/oracle/calibration")))
    assert esmm.get("cvr/oracle/auc") > naive.get("cvr/oracle/auc")
    assert esmm.get("cvr/oracle/log_loss") < naive.get("cvr/oracle/log_loss")


def test_the_same_network_on_the_true_labels_is_better_and_calibrated(log, finished):
    config = resolve(shipped("naive"))
    ratios, by = split_arguments(config["eval_args"])
    parts = split(log, ratios=ratios, by=by, seed=config["seed"])
    vocabulary = Vocabulary.fit(parts[0])
    train, valid, test = (
        TensorLoader.from_encoded(
            vocabulary.transform(part.frame),
            {
                "click": np.ones(len(part), np.float32),
                "conversion": part.labels()["counterfactual"],
                "counterfactual": part.labels()["counterfactual"],
            },
            batch_size=config["train_batch_size"],
            shuffle=part is parts[0],
        )
        for part in parts
    )
    with torch_threads(1), torch_seed(2020, TrainedRun.load(finished["naive"].folder).device):
        model = build_model(config, log.schema, vocabulary)
        trainer = CVRTrainer(model, n_epoch=50, earlystop_patience=2, model_path=None, progress=False)
        trainer.fit(train, valid)
        report = trainer.evaluate(model, test)
    assert 0.77 <= report.get("cvr/oracle/auc") <= 0.81
    assert report.get("cvr/oracle/auc") > finished["esmm"].report.get("cvr/oracle/auc") + 0.03
    assert report.get("cvr/oracle/calibration") == pytest.approx(1, abs=0.1)


def test_predictions_of_the_exported_test_part_give_the_metrics_of_the_run(finished, tmp_path, capsys):
    pd = pytest.importorskip("pandas")
    metrics = pytest.importorskip("sklearn.metrics")
    file = tmp_path / "test.csv"
    assert run_line(["export", "ml-100k-funnel", str(file), "--part", "test", "-c", "ml-100k-funnel"]) == 0
    folder, kept = finished["esmm"].folder, finished["esmm"].report
    done = predict(folder, file, tmp_path / "scored.parquet", batch_rows=3000)
    assert done.rows == 20_000
    assert set(done.unknown) == {"item_id"}
    table = pd.read_parquet(tmp_path / "scored.parquet").astype({"click": int, "conversion": int})
    truth = table["counterfactual_conversion"].astype(int)
    clicked = table[table["click"] == 1]
    for key, labels, scores in (
        ("cvr/oracle/auc", truth, table["p_cvr"]),
        ("cvr/click/auc", clicked["conversion"], clicked["p_cvr"]),
        ("ctr/entire/auc", table["click"], table["p_ctr"]),
        ("ctcvr/entire/auc", table["conversion"], table["p_ctcvr"]),
    ):
        assert metrics.roc_auc_score(labels, scores) == pytest.approx(kept.get(key), abs=1e-7)
    report, _ = evaluate_run(folder, file)
    assert report.values == pytest.approx(kept.values, rel=1e-5)


def test_the_exported_atomic_files_give_the_same_run(log, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_line(["export", "ml-100k-funnel", "atomic"]) == 0
    Path("keys.yaml").write_text(capsys.readouterr().out.partition("Configuration to read it with:\n")[2])
    short = ["-m", "ESMM", "epochs=1", "show_progress=false"]
    assert run_line(["run", *short, "-d", "ml-100k-funnel", "-o", "built_in"]) == 0
    assert run_line(["run", *short, "-c", "keys.yaml", "-d", "atomic", "-o", "read"]) == 0
    built_in, read = (json.loads(Path(name, "metrics.json").read_text()) for name in ("built_in", "read"))
    assert read["values"] == built_in["values"]
    assert read["data"] == built_in["data"]
