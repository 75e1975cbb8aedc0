"""What a run leaves behind is the same on both sides: one body, run in torch-rechub and in RecBole."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvr_plugins.config import ConfigError
from cvr_plugins.metrics import DEFAULT_METRICS
from cvr_plugins.model import CVRModel
from cvr_plugins.training.history import EpochRecord
from cvr_plugins.training.results import RunResult
from cvr_plugins.training.run_folder import RunFolder

SIDES = ["torch-rechub", "recbole"]
SPACES = ["ctr/entire", "cvr/click", "cvr/entire", "cvr/oracle", "ctcvr/entire"]
KEYS = {"epochs": 2, "dims": [4], "embedding_size": 4, "eval_batch_size": 64, "show_progress": False}

BAZAAR = """
from cvr_plugins import hookimpl
from cvr_plugins.metrics import Metric


def bazaar(*, path=None):
    "Exposures of a made-up bazaar, whose truth is known."
    import numpy as np
    import pandas as pd

    from cvr_plugins.data import FunnelLog, Schema

    draw = np.random.default_rng(0)
    user, item = draw.integers(0, 30, 900), draw.integers(0, 20, 900)
    click = (draw.random(900) < 0.3 + 0.4 * (user % 2)).astype(int)
    would = (draw.random(900) < 0.2 + 0.6 * (item % 2)).astype(int)
    frame = pd.DataFrame({"user": user, "item": item, "click": click, "conversion": click * would, "would": would})
    schema = Schema("user", "item", "click", "conversion", counterfactual="would")
    return FunnelLog.from_frame(frame, schema, name="bazaar")


@hookimpl
def cvr_register_datasets():
    return {"bazaar": bazaar}


@hookimpl
def cvr_register_metrics():
    brier = lambda sample: float(((sample.probabilities - sample.labels) ** 2).mean())
    return {"Brier": Metric("Brier", "min", brier, "mean squared error")}
"""


@pytest.fixture(params=SIDES)
def train(request, plugin, tmp_path, monkeypatch):
    """Run ESMM on the bazaar, on one side, into the folder `run`."""
    pytest.importorskip(request.param.replace("-", "_"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plugin("acme", BAZAAR)

    def make(on_epoch=None, **keys) -> RunResult:
        config = {**KEYS, "model": "ESMM", "dataset": "bazaar", **keys}
        if request.param == "recbole":
            from cvr_plugins.recbole import run

            return run(config, out="run", on_epoch=on_epoch)
        from cvr_plugins.rechub import run

        return run(config, folder="run", on_epoch=on_epoch)

    return make


def keys_of(*metrics: str) -> set[str]:
    return {f"{space}/{metric}" for space in SPACES for metric in metrics}


def written(name: str) -> dict:
    return RunFolder.open("run").read_json(f"{name}.json")


@pytest.mark.parametrize("asked", [None, ["auc", "user_ndcg@5"], ["auc", "Brier"]], ids=["all", "ours", "plugin's"])
def test_what_is_asked_for_is_reported_of_the_validation_and_of_the_test_part(asked, train):
    result = train(**({} if asked is None else {"metrics": asked}))
    wanted = keys_of(*(asked or DEFAULT_METRICS))
    assert set(result.report) == set(result.valid) == wanted
    assert [set(record.metrics) for record in result.history.records] == [wanted] * len(result.history.records)
    assert all(result.report[key] is not None for key in wanted)
    metrics = written("metrics")
    assert metrics["values"] == result.report.values
    assert metrics["valid"] == result.valid
    assert set(metrics["support"]) == set(SPACES)


def test_the_truth_of_a_registered_data_set_reaches_the_report(train):
    result = train(metrics=["auc"], valid_metric="cvr/oracle/auc")
    assert result.report["cvr/oracle/auc"] > 0
    assert result.report.support["cvr/oracle"].rows == result.parts["test"]["rows"]
    assert result.best_valid_score == pytest.approx(result.valid["cvr/oracle/auc"], abs=1e-4)


def test_each_part_is_scored_once(train, monkeypatch):
    batches, epochs = [], []
    predict = CVRModel.predict

    def counting(model, x):
        batches.append(len(next(iter(x.values()))))
        return predict(model, x)

    def on_epoch(record):
        epochs.append(batches[:])
        batches.clear()

    monkeypatch.setattr(CVRModel, "predict", counting)
    result = train(on_epoch=on_epoch)
    assert len(epochs) == 2
    for part, found in (("valid", epochs[1]), ("test", batches)):
        rows = result.parts[part]["rows"]
        assert found == [64] * (rows // 64) + [rows % 64], part


def test_a_run_folder_has_one_shape(train):
    result = train()
    about = RunFolder.open("run").about
    assert set(about) == {"format", "framework", "method", "plugin", "parameters"}
    assert (about["method"], about["plugin"]) == ("ESMM", "builtin")
    metrics = written("metrics")
    assert set(metrics) == {"part", "values", "support", "valid", "protocol", "data", "notes", "mechanism"}
    assert metrics["data"]["log"] == {**metrics["data"]["log"], "rows": 900, "users": 30, "items": 20}
    assert sum(metrics["data"][part]["rows"] for part in ("train", "valid", "test")) == 900
    assert set(written("calibration")["curves"]) == set(SPACES)
    history = written("history")
    assert set(history) == {"stopped", "best_epoch", "best_value", "valid_metric", "epochs"}
    for record, epoch in zip(result.history.records, history["epochs"], strict=True):
        assert EpochRecord(**epoch) == record
        assert set(record.losses) == {"ctr", "ctcvr"}
        assert record.value == pytest.approx(record.metrics["cvr/click/auc"], abs=1e-4)
    best = history["epochs"][history["best_epoch"]]
    assert (best["improved"], best["value"]) == (True, history["best_value"])
    assert result.folder == Path("run")
    assert result.checkpoint.is_file()
    assert not {"path", "folder"} & set(metrics)


def test_what_the_mechanism_did_is_told(train):
    with pytest.raises(
        ConfigError, match=r"AdapSL keeps no model of its first 7 epochs, and epochs is 7.*allow_unready"
    ):
        train(model="AdapSL", epochs=7)
    result = train(model="AdapSL", epochs=1, allow_unready=True)
    assert written("metrics")["mechanism"] == result.mechanism
    assert result.mechanism == {"figure": "active", "says": "coordinates in use", "value": 1.0, "idle": True}


def test_a_result_is_a_mapping_of_recboles_keys_and_a_report_to_be_read(train):
    result = train(metrics=["auc"], learning_rate=0.02)
    assert list(result) == ["best_valid_score", "valid_score_bigger", "best_valid_result", "test_result"]
    assert result["valid_score_bigger"] is True
    assert result["test_result"] == pytest.approx(dict(result.report.values), abs=1e-4)
    assert result["best_valid_score"] == max(record.value for record in result.history.records)
    with pytest.raises(KeyError):
        result["history"]
    header, line = str(result.report).splitlines()
    assert header.split() == SPACES
    assert line.split() == ["auc", *(f"{result.report[f'{space}/auc']:.4f}" for space in SPACES)]


def test_the_command_prints_one_line_for_each_epoch(train, capsys, request):
    from cvr_plugins.cli._group import run

    framework = request.node.callspec.params["train"]
    pairs = ["epochs=2", "dims=[4]", "embedding_size=4", "show_progress=false"]
    assert run(["run", "-m", "ESMM", "-d", "bazaar", "--framework", framework, *pairs, "-o", "run"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    for line, epoch in zip(lines, written("history")["epochs"], strict=True):
        terms = " ".join(f"{name} {value:.4f}" for name, value in epoch["losses"].items())
        said = f"epoch {epoch['epoch']:3d}  loss: {terms}  cvr/click/auc {epoch['value']:.4f}"
        assert line == said + " *" * epoch["improved"]
