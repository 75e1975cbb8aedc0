"""A run from configuration to folder: what it leaves, that it repeats, and what stops it before it costs time."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from cvr_plugins.assembly import OptionError
from cvr_plugins.config import ConfigError, load_yaml, resolve
from cvr_plugins.data import DataError
from cvr_plugins.files import TargetError
from cvr_plugins.logs import load_log
from cvr_plugins.plugins import RegistryError, registry
from cvr_plugins.rechub import RunResult, TrainedRun, run
from cvr_plugins.rechub import runner as runner_module
from cvr_plugins.training.checkpoint import load_checkpoint
from cvr_plugins.training.run_folder import RunFolder

METHODS = [entry.key for entry in registry().entries("method") if entry.plugin == "builtin"]


@pytest.fixture
def start(shop, tmp_path):
    """Run the shop's configuration with some keys replaced (None: left out)."""

    def make(folder: str = "run", **keys: object) -> RunResult:
        config = {key: value for key, value in {**shop.config, **keys}.items() if value is not None}
        return run(config, folder=tmp_path / folder)

    return make


def test_a_run_tells_what_it_did(shop, tmp_path):
    notes, records = [], []
    result = run(resolve(shop.config), folder=tmp_path / "run", on_note=notes.append, on_epoch=records.append)
    assert result.folder == tmp_path / "run"
    assert result.history.stopped == "all epochs"
    assert records == result.history.records
    assert notes == list(result.notes)
    assert any("'hour': missing in" in note for note in notes)
    assert [result.parts[part]["rows"] for part in ("train", "valid", "test")] == [420, 60, 120]
    assert set(result.report.support) == {"ctr/entire", "cvr/click", "cvr/entire", "cvr/oracle", "ctcvr/entire"}
    assert {key.rsplit("/", 1)[1] for key in result.report.values} == {"auc", "gauc", "log_loss"}


def test_a_new_folder_is_made_in_checkpoint_dir(shop, tmp_path):
    config = {**shop.config, "checkpoint_dir": str(tmp_path / "runs"), "epochs": 1}
    first, second = run(config).folder, run(config).folder
    assert first != second
    assert {first.parent, second.parent} == {tmp_path / "runs"}
    assert first.name.startswith("ESMM-shop-20")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_its_folder_scores_as_the_run_did(method, shop, tmp_path):
    config = {**shop.config, "model": method, "epochs": 1}
    result = run(config, folder=tmp_path / "run")
    again = run(load_yaml(tmp_path / "run" / "config.yaml"), folder=tmp_path / "again")
    assert again.report == result.report
    assert again.history.records == result.history.records
    trained = TrainedRun.load(tmp_path / "run")
    log = load_log(resolve(config))
    scores, _ = trained.score(log.frame)
    assert np.array_equal(scores, TrainedRun.load(tmp_path / "again").score(log.frame)[0])
    assert np.isfinite(scores).all()


def test_the_configuration_in_the_folder_names_everything_and_resolves_to_itself(start):
    folder = start(model="NISE", architecture="mmoe", n_experts=3, cvr_params={"dims": [3]}).folder
    written = load_yaml(folder / "config.yaml")
    assert written["architecture"] == "mmoe"
    assert written["backbone"] == "mlp"
    assert written["weighting"] == "dynamic"
    assert written["n_experts"] == 3
    assert written["cvr_params"] == {"dims": [3]}
    assert written["dropout"] == 0.0
    assert "PROPENSITY_FIELD" not in written
    assert resolve(resolve(written).to_dict()) == resolve(written)


def test_the_checkpoint_is_plain_values_and_says_whose_it_is(shop_run):
    file = shop_run / "checkpoint.pt"
    assert torch.serialization.get_unsafe_globals_in_checkpoint(file) == []
    found = load_checkpoint(file)
    about = RunFolder.open(shop_run).about
    assert (found["framework"], found["model"], found["plugin"]) == ("torch-rechub", about["method"], about["plugin"])
    assert found["config"] == load_yaml(shop_run / "config.yaml")
    assert all(isinstance(value, torch.Tensor) and value.device.type == "cpu" for value in found["state_dict"].values())


def test_a_run_does_not_depend_on_the_hosts_random_numbers_nor_disturb_them(start):
    def states() -> tuple:
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002

    torch.manual_seed(3)
    before = states()
    first = start("a")
    assert states() == before
    torch.manual_seed(4)
    np.random.seed(4)  # noqa: NPY002
    random.seed(4)
    same = start("b")
    assert (same.report, same.history) == (first.report, first.history)
    assert start("c", seed=7).report.values != first.report.values


def test_the_number_of_threads_is_set_for_the_run_and_set_back(shop, tmp_path):
    threads = []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for value in (1, 2, None):
            config = {**shop.config, "threads": value, "epochs": 1}
            run(config, folder=tmp_path / str(value), on_epoch=lambda _: threads.append(torch.get_num_threads()))
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert threads == [1, 2, 3]


@pytest.mark.slow
def test_two_processes_find_the_same_to_the_last_digit(shop, tmp_path):
    code = "import sys; from cvr_plugins.rechub import run; from cvr_plugins.config import load_yaml; "
    code += "run(load_yaml(sys.argv[1]), folder=sys.argv[2])"
    for name, hash_seed in (("a", "1"), ("b", "2")):
        command = [sys.executable, "-c", code, str(shop.file), str(tmp_path / name)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
    for file in ("metrics.json", "history.json", "checkpoint.pt", "config.yaml", "vocabulary.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def _split(*ratios: float) -> dict:
    return {"eval_args": {"split": {"RS": list(ratios)}}}


REFUSED = [
    ({"model": "ESM"}, RegistryError, r"Unknown method 'ESM'. Did you mean"),
    ({"architecture": "tower"}, RegistryError, r"Unknown architecture 'tower'. Did you mean towers\?"),
    ({"backbone": "mpl"}, RegistryError, r"Unknown backbone 'mpl'"),
    ({"weighting": "dynamics"}, RegistryError, r"Unknown weighting 'dynamics'. Did you mean dynamic\?"),
    ({"Seed": 1}, ConfigError, r"Unknown key 'Seed'. Did you mean seed\?"),
    ({"n_experts": 3}, ConfigError, "Unknown key 'n_experts'."),
    ({"dimz": [3]}, ConfigError, r"Unknown key 'dimz'. Did you mean dims\?"),
    ({"cvt_params": {}}, OptionError, "ESMM has no head 'cvt'"),
    ({"valid_metric": "auc"}, ConfigError, "valid_metric: Key 'auc' must have the form task/space/metric"),
    ({"valid_metric": "cvr/click/acu"}, ConfigError, "valid_metric: Unknown metric 'acu'"),
    (
        {"valid_metric": "ctavr/entire/auc"},
        ConfigError,
        "is of a task this model does not predict; it predicts cvr, ctr",
    ),
    ({"valid_metric": "cvr/click/calibration"}, ConfigError, "valid_metric: .* is best at 1"),
    ({"metrics": ["auc", "acu"]}, ConfigError, r"metrics: Unknown metric 'acu'. Did you mean auc"),
    ({"metrics": []}, ConfigError, "metrics must name at least one metric"),
    ({"scheduler": "StepLRR"}, ConfigError, "scheduler must be one of StepLR, .*; got 'StepLRR'. Did you mean StepLR"),
    ({"scheduler": "_LRScheduler"}, ConfigError, "scheduler must be one of StepLR"),
    ({"scheduler": "math"}, ConfigError, "scheduler must be one of StepLR"),
    ({"device": "cuda:99"}, ConfigError, "The device 'cuda:99' cannot be used here"),
    ({"device": "meta"}, ConfigError, "The device 'meta' cannot be used here"),
    ({"device": "gpu"}, ConfigError, "The device 'gpu' cannot be used here"),
]


@pytest.mark.parametrize(("keys", "error", "message"), REFUSED, ids=[str(keys) for keys, _, _ in REFUSED])
def test_what_needs_no_data_is_refused_before_they_are_read(keys, error, message, start, monkeypatch, tmp_path):
    monkeypatch.setattr(runner_module, "load_log", lambda _: pytest.fail("the data were read"))
    with pytest.raises(error, match=message) as caught:
        start(**keys)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said_on_one_line(start):
    with pytest.raises(ConfigError, match=r"^The device 'cuda' cannot be used here: .*$"):
        start(device="cuda")


def test_a_folder_that_exists_or_cannot_be_made_is_refused_before_the_data_are_read(start, monkeypatch, tmp_path):
    monkeypatch.setattr(runner_module, "load_log", lambda _: pytest.fail("the data were read"))
    (tmp_path / "run").mkdir()
    with pytest.raises(TargetError, match="run' exists already; remove it or name another place"):
        start()
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match="file' is not a directory"):
        start("file/run")


BEFORE_TRAINING = [
    (
        {"model": "ESM2", "ACTION_FIELD": None, "drop_columns": ["note", "cart"]},
        ConfigError,
        "ESM2 needs the label column 'action'; got 'click', 'conversion'.* set ACTION_FIELD",
    ),
    (
        {"valid_metric": "cvr/oracle/auc", "COUNTERFACTUAL_FIELD": None, "drop_columns": ["note", "truth"]},
        ConfigError,
        "cvr/oracle/auc needs the label column 'counterfactual'",
    ),
    (_split(0.9, 0.0017, 0.0983), ConfigError, "cvr/click/auc is undefined on the validation data of 1 rows"),
    (_split(0.998, 0.001, 0.001), DataError, "leaves 'valid' without a row out of 600"),
    ({"eval_args": {"order": "TO"}, "TIME_FIELD": None, "drop_columns": ["note", "when"]}, DataError, "no timestamp"),
    ({"scheduler": "StepLR"}, ConfigError, "scheduler does not take the scheduler_params"),
    ({"scheduler": "StepLR", "scheduler_params": {"step": 1}}, ConfigError, "scheduler does not take"),
    ({"dims": [0]}, OptionError, "dims must be a list of positive integers"),
    ({"dropout": 2}, OptionError, "dropout must be a number in .0, 1.; got 2"),
    ({"cvr_params": {"dimz": [3]}}, OptionError, "Unknown option 'dimz' for backbone 'mlp'"),
    ({"CLICK_FIELD": "clicks"}, ConfigError, r"lacks the columns 'clicks' \(CLICK_FIELD\). Did you mean click"),
    (
        {"CONVERSION_FIELD": "hour", "user_features": None, "drop_columns": ["note", "conversion"]},
        DataError,
        "column 'hour' must be 0 or 1",
    ),
]


@pytest.mark.parametrize(
    ("keys", "error", "message"), BEFORE_TRAINING, ids=[str(keys) for keys, _, _ in BEFORE_TRAINING]
)
def test_what_the_data_show_is_refused_before_training(keys, error, message, start, monkeypatch, tmp_path):
    monkeypatch.setattr(runner_module.CVRTrainer, "fit", lambda *_: pytest.fail("training started"))
    with pytest.raises(error, match=message) as caught:
        start(**keys)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_conversions_without_clicks_are_counted_and_masked(shop, shop_frame, tmp_path):
    frame = shop_frame(600, 0)
    frame.loc[frame["click"] == 0, "conversion"] = 1
    frame.to_parquet(tmp_path / "log.parquet")
    notes: list[str] = []
    result = run({**shop.config, "dataset": tmp_path / "log.parquet"}, folder=tmp_path / "run", on_note=notes.append)
    unclicked = int((frame["click"] == 0).sum())
    assert f"conversion column 'conversion': 1 without a click in {unclicked} rows; masked (set to 0)." in notes
    assert result.log["conversions"] < result.log["clicks"]


def test_schedulers_learners_and_dense_features_are_those_of_the_configuration(start):
    plain = start("plain", epochs=3)
    stepped = start("step", epochs=3, scheduler="StepLR", scheduler_params={"step_size": 1, "gamma": 0.5})
    assert [record.learning_rate for record in stepped.history.records] == [0.02, 0.01, 0.005]
    others = [start(learner, learner=learner) for learner in ("adamw", "sgd", "adagrad", "rmsprop")]
    others += [start("tanh", dense="tanh"), start("wide", embedding_size=5), start("decay", weight_decay=0.5)]
    values = [tuple(result.report.values.values()) for result in [plain, *others]]
    assert len(set(values)) == len(values)


def test_what_the_vocabulary_keeps_is_that_of_the_configuration(start):
    def vocabulary(result: RunResult) -> dict:
        return RunFolder.open(result.folder).read_json("vocabulary.json")

    plain = vocabulary(start("plain", epochs=1))
    rare = vocabulary(start("rare", epochs=1, min_count=22))
    short = vocabulary(start("short", epochs=1, max_sequence_length=2))
    assert 0 < len(rare["tokens"]["item_id"]) < len(plain["tokens"]["item_id"]) == 20
    assert (plain["lengths"], short["lengths"]) == ({"tags": 4}, {"tags": 2})


def test_the_split_is_that_of_the_configuration(start, shop):
    from cvr_plugins.config import split_arguments
    from cvr_plugins.data import split

    log = load_log(resolve(shop.config))
    for order, users in (("RO", 30), ("UO", 6)):
        eval_args = {"order": order, "split": {"RS": [3, 1, 1]}}
        result = start(order, epochs=1, eval_args=eval_args, valid_metric="ctr/entire/auc", seed=5)
        ratios, by = split_arguments(resolve(shop.config, {"eval_args": eval_args})["eval_args"])
        parts = split(log, ratios=ratios, by=by, seed=5)
        assert [part.summary() for part in parts] == list(result.parts.values())
        assert result.parts["test"]["users"] == users
    late = start("TO", epochs=1, eval_args={"order": "TO"}, valid_metric="ctr/entire/auc")
    stamps = log.frame["when"].sort_values().to_numpy()
    assert late.parts["test"]["rows"] == (log.frame["when"] > stamps[479]).sum()


def test_stopping_step_and_batch_sizes_reach_the_trainer(start):
    result = start(epochs=40, stopping_step=1, learning_rate=0.5)
    assert result.history.stopped == "early"
    assert len(result.history.records) < 40
