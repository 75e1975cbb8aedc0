"""Runs of RecBole models from configuration to folder: results, what is left on disk and in the process, resuming."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import signal
import sys
import warnings
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("recbole")

import recbole.trainer.trainer
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import BPR
from recbole.trainer import DecisionTreeTrainer
from recbole.utils import get_model, get_trainer, init_seed

from cvr_plugins.config import ConfigError, load_yaml
from cvr_plugins.data import DataError
from cvr_plugins.files import TargetError
from cvr_plugins.recbole import Config, load_checkpoint, load_data_and_model, run, run_recbole
from cvr_plugins.recbole.running.training import trainer_class
from cvr_plugins.training import interrupts
from cvr_plugins.training.run_folder import RunFolder, RunFolderError
from cvr_plugins.training.step import TrainingError

pytestmark = pytest.mark.usefixtures("elsewhere")

STOCK_KEYS = ["best_valid_score", "valid_score_bigger", "best_valid_result", "test_result"]
FOLDER = [
    *("checkpoint.pth", "config.yaml", "history.json", "manifest.json", "metrics.json", "run.json", "versions.json"),
    "vocabulary.json",
]
SEQUENTIAL = {
    "train_neg_sample_args": None,
    "MAX_ITEM_LIST_LENGTH": 8,
    "hidden_size": 8,
    "inner_size": 8,
    "n_layers": 1,
}


def test_run_recbole_returns_and_leaves_what_recboles_own_does(brief, tmp_path, capfd):
    result = run_recbole(model="BPR", dataset="toy", config_dict=brief)
    assert list(result) == STOCK_KEYS
    assert set(result["test_result"]) == {"recall@10", "mrr@10", "ndcg@10", "hit@10", "precision@10"}
    assert result["best_valid_score"] == result["best_valid_result"]["mrr@10"]
    (checkpoint,) = (tmp_path / "saved").iterdir()
    assert load_checkpoint(checkpoint)["config"]["checkpoint_dir"] == brief["checkpoint_dir"]
    assert checkpoint.name.startswith("BPR-")
    (log,) = (tmp_path / "log" / "BPR").iterdir()
    text = log.read_text()
    assert "epoch 1 training" in text
    assert "\x1b" not in text
    assert list((tmp_path / "log_tensorboard").iterdir())


def test_yaml_files_of_recbole_users_are_taken_as_they_are(brief, tmp_path):
    import yaml

    file = tmp_path / "bpr.yaml"
    file.write_text(yaml.safe_dump({**brief, "model": "BPR"}))
    assert run_recbole(config_file_list=[str(file)]) == run_recbole("BPR", "toy", None, brief)


def test_a_customised_script_runs(brief):
    config = Config(model="BPR", dataset="toy", config_dict=brief)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, train._dataset).to(config["device"])
    trainer = trainer_class(config)(config, model)
    trainer.fit(train, valid, verbose=False)
    assert trainer.evaluate(test) == run("BPR", "toy", config_dict=brief)["test_result"]


def test_neither_ray_nor_quick_start_is_imported(brief, fresh):
    done = fresh(
        f"""
        import sys
        sys.argv.append("--epochs=9")
        from cvr_plugins.recbole import run
        run("BPR", config_dict={brief!r})
        print([m for m in sys.modules if m.split(".")[0] in ("ray", "pkg_resources") or "quick_start" in m])
        """
    )
    assert (done.stderr, done.stdout) == ("", "[]\n")


def _state() -> tuple:
    root, cudnn = logging.getLogger(), torch.backends.cudnn
    numbers = np.random.get_state()[1].tolist()  # noqa: NPY002 - the generator that RecBole seeds
    drawn = random.getstate(), numbers, torch.get_rng_state().tolist()
    modes = torch.is_anomaly_enabled(), cudnn.benchmark, cudnn.deterministic, torch.get_num_threads()
    others = sys.stdout, sys.argv[:], list(warnings.filters), recbole.trainer.trainer.get_tensorboard
    return drawn, modes, root.level, list(root.handlers), others


@pytest.mark.parametrize("fails", [False, True])
def test_the_process_is_left_as_it_was(fails, brief, monkeypatch):
    before = _state()
    if fails:
        monkeypatch.setattr(recbole.trainer.Trainer, "fit", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_recbole("BPR", config_dict=brief)
    else:
        run_recbole("BPR", config_dict=brief)
        run("SASRec", config_dict={**brief, **SEQUENTIAL, "threads": 2}, out="there")
    assert _state() == before


def test_a_run_folder_tells_what_was_done(brief, tmp_path):
    records = []
    result = run("BPR", config_dict=brief, out=tmp_path / "runs" / "bpr", on_epoch=records.append)
    folder = RunFolder.open(tmp_path / "runs" / "bpr")
    assert sorted(path.name for path in folder.path.iterdir()) == FOLDER
    assert list((tmp_path / "runs").iterdir()) == [folder.path]
    assert (result.folder, result.checkpoint) == (folder.path, folder.path / "checkpoint.pth")
    about = folder.about
    assert (about["framework"], about["method"], about["plugin"]) == ("recbole", "BPR", "recbole")
    assert about["parameters"] == 8 * (61 + 41)
    metrics = folder.read_json("metrics.json")
    assert metrics["values"] == {f"full/{name}": value for name, value in result.test_result.items()}
    assert metrics["protocol"]["split"] == {"RS": [0.8, 0.1, 0.1]}
    assert metrics["valid"] == {f"full/{name}": value for name, value in result.best_valid_result.items()}
    assert metrics["data"]["log"]["users"] == 60
    assert sum(metrics["data"][part]["rows"] for part in ("train", "valid", "test")) == metrics["data"]["log"]["rows"]
    history = folder.read_json("history.json")
    assert history["stopped"] == result.stopped == "all epochs"
    assert [each["epoch"] for each in history["epochs"]] == [0, 1]
    assert history["epochs"] == [asdict(record) for record in result.history.records]
    assert result.history.records == records
    assert [type(each["improved"]) for each in history["epochs"]] == [bool, bool]
    assert not (tmp_path / "saved").exists()
    assert not (tmp_path / "log_tensorboard").exists()


def test_values_are_named_by_the_protocol_of_their_part(brief):
    mode = {"valid": "uni10", "test": "full"}
    result = run("BPR", config_dict={**brief, "eval_args": {"mode": mode}}, out="run")
    assert {name.split("/")[0] for name in result.report} == {"full"}
    assert {name.split("/")[0] for name in result.valid} == {"uni10"}
    assert dict(result.valid) == {f"uni10/{name}": value for name, value in result.best_valid_result.items()}


def test_a_run_can_be_repeated_from_its_folder(brief, tmp_path):
    first = run("BPR", config_dict=brief, out="first")
    second = run(config_file_list=[tmp_path / "first" / "config.yaml"], out="second")
    assert dict(second) == dict(first)
    one, two = (load_yaml(tmp_path / name / "config.yaml") for name in ("first", "second"))
    assert one == two
    assert load_checkpoint(first.checkpoint)["config"]["checkpoint_dir"] == brief["checkpoint_dir"]


def test_what_is_asked_of_a_cvr_method_is_reported_by_task_and_space(tmp_path):
    keys = {"epochs": 1, "show_progress": False, "embedding_size": 4, "dims": [8], "metrics": ["auc", "AUC"]}
    result = run("ESMM", "ml-100k-funnel", config_dict=keys, out="run")
    values = json.loads((tmp_path / "run" / "metrics.json").read_text())["values"]
    spaces = ["ctr/entire", "cvr/click", "cvr/entire", "cvr/oracle", "ctcvr/entire"]
    assert list(values) == [*(f"{space}/auc" for space in spaces), "labeled/auc"]
    assert values == result.report.values
    assert result.test_result["cvr/oracle/auc"] == pytest.approx(values["cvr/oracle/auc"], abs=1e-4)
    assert values["labeled/auc"] == pytest.approx(values["ctcvr/entire/auc"], abs=1e-4)


def test_what_is_there_is_not_overwritten_and_a_full_disk_is_found_before_training(brief, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(TargetError, match=r"no space for a checkpoint .*'run.unfinished': No space left"):
            run("BPR", config_dict=brief, out="run")
    assert not list(tmp_path.iterdir())
    (tmp_path / "run").mkdir()
    with pytest.raises(TargetError, match="exists already"):
        run("BPR", config_dict=brief, out="run")
    (tmp_path / "other.unfinished").mkdir()
    (tmp_path / "other.unfinished" / "mine").touch()
    with pytest.raises(TargetError, match=r"'other.unfinished' is of a run .* --resume other.unfinished"):
        run("BPR", config_dict=brief, out="other")


@pytest.mark.parametrize("resumed", [False, True])
def test_a_model_of_recboles_own_that_fails_leaves_a_run_folder_that_says_why(resumed, brief, tmp_path, monkeypatch):
    before = ["good"] if resumed else []
    if resumed:
        run("BPR", config_dict=brief, out="good")
    monkeypatch.setattr(recbole.trainer.Trainer, "_check_nan", lambda self, loss: 1 / 0)
    with pytest.raises(TrainingError, match=r"^BPR: ZeroDivisionError: division by zero\. run.unf.* --resume run.unf"):
        run("BPR", config_dict={**brief, "epochs": 4}, out="run", resume="good" if resumed else None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*before, "run.unfinished"]
    with pytest.raises(RunFolderError, match="division by zero"):
        RunFolder.open(tmp_path / "run.unfinished")


@pytest.mark.parametrize(
    ("model", "rate", "fails"),
    [("BPR", 1e-3, True), ("BPR", 0.0, False), ("Pop", 1e-3, False), ("NCEPLRec", 1e-3, False)],
)
def test_an_epoch_of_a_model_of_recboles_own_that_changes_nothing_is_an_error(model, rate, fails, brief, monkeypatch):
    whole = BPR.calculate_loss
    monkeypatch.setattr(BPR, "calculate_loss", lambda *given: 0 * whole(*given))
    keys = {**brief, "learning_rate": rate, "epochs": 1}
    with pytest.raises(TrainingError, match="BPR: epoch 0 changed no parameter") if fails else nullcontext():
        run(model, config_dict=keys)


@pytest.mark.parametrize("number", [None, signal.SIGTERM], ids=["at once", "a signal that waits"])
def test_an_interrupt_keeps_the_best_weights_and_the_run_goes_on_from_there(number, brief, tmp_path):
    brief["epochs"], at = 5, 2
    whole = run("BPR", config_dict=brief, out="whole")
    step, steps = torch.optim.Adam.step, []

    def interrupt(record) -> None:
        if record.epoch == at:

            def stop(*args, **options):
                torch.optim.Adam.step = step
                if number is None:
                    raise KeyboardInterrupt
                os.kill(os.getpid(), number)
                return step(*args, **options)

            torch.optim.Adam.step = stop
            steps.append(record)

    try:
        with interrupts.handled():
            cut = run("BPR", config_dict=brief, out="cut", on_epoch=interrupt)
    finally:
        torch.optim.Adam.step = step
    assert (cut.stopped, len(cut.history.records)) == ("interrupted", at + 1)
    assert json.loads((tmp_path / "cut" / "history.json").read_text())["stopped"] == "interrupted"
    assert cut.test_result is not None
    left = load_checkpoint(tmp_path / "cut" / "checkpoint.last.pth")["training"]["within"]
    assert left is None if number is None else left["batches"] == 1
    resumed = run(resume="cut", out="resumed" if number is None else None)
    name = resumed.folder.name
    assert name == ("resumed" if number is None else "cut")
    assert dict(resumed) == dict(whole)
    assert resumed.history.records == whole.history.records
    states = [load_checkpoint(tmp_path / name / "checkpoint.pth") for name in ("whole", name)]
    assert all(torch.equal(value, states[1]["state_dict"][key]) for key, value in states[0]["state_dict"].items())
    assert load_yaml(tmp_path / "cut" / "config.yaml") == load_yaml(tmp_path / name / "config.yaml")
    assert json.loads((tmp_path / name / "history.json").read_text())["stopped"] == "all epochs"


def test_ctrl_c_before_the_first_epoch_is_validated_leaves_nothing(brief, tmp_path, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.Adam, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        run("BPR", config_dict=brief, out="run")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        run_recbole("BPR", config_dict=brief)


def test_what_is_left_of_a_run_that_was_killed_goes_on(brief, tmp_path):
    brief["epochs"] = 4
    whole = run("BPR", config_dict=brief, out="whole")

    class Killed(BaseException):
        pass

    def kill(record) -> None:
        if record.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        run("BPR", config_dict=brief, out="run", on_epoch=kill)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.unfinished", "whole"]
    resumed = run(resume="run.unfinished", out="resumed")
    assert dict(resumed) == dict(whole)


def test_what_is_left_of_a_run_that_was_cut_off_before_an_epoch_was_validated_goes_on(brief, tmp_path):
    brief = {**brief, "epochs": 4, "eval_step": 3}
    whole = run("BPR", config_dict=brief, out="whole")

    def cut(record) -> None:
        if record.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("BPR", config_dict=brief, out="run", on_epoch=cut)
    assert [path.name for path in (tmp_path / "run.unfinished").glob("*.pth")] == ["checkpoint.last.pth"]
    assert dict(run(resume="run.unfinished", out="resumed")) == dict(whole)


def test_more_epochs_may_be_asked_for_and_nothing_else(brief, tmp_path):
    longer = run("BPR", config_dict={**brief, "epochs": 4}, out="longer")
    run("BPR", config_dict=brief, out="run")
    assert dict(run("BPR", config_dict={**brief, "epochs": 4}, resume="run", out="more")) == dict(longer)
    with pytest.raises(ConfigError, match=r"The run to be resumed had seed: 2020, and now it is 7"):
        run("BPR", config_dict={**brief, "seed": 7}, resume="run", out="other")
    with pytest.raises(ConfigError, match=r"had model: 'BPR', and now it is 'NeuMF'"):
        run("NeuMF", config_dict=brief, resume="run", out="other")
    with pytest.raises(ConfigError, match="no run to go on with at nowhere"):
        run(resume="nowhere", out="other")
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("recbole_as_it_was")
def test_what_recbole_trains_in_one_go_is_not_resumed(brief):
    tree = type("Tree", (BPR,), {"recbole_trainer": DecisionTreeTrainer})
    Path("tree.pth").touch()
    with pytest.raises(ConfigError, match="Training of Tree cannot be resumed: RecBole trains it in one go"):
        run(tree, config_dict=brief, resume="tree.pth")


def test_a_pre_training_that_was_cut_off_goes_on(brief, tmp_path):
    keys = {**brief, **SEQUENTIAL, "load_col": None, "item_attribute": "class", "train_stage": "pretrain"}
    keys = {**keys, "epochs": 1, "pretrain_epochs": 4, "save_step": 2}
    whole = run("S3Rec", config_dict=keys, out="whole")
    told = []

    def stop(record):
        told.append(record)
        if record.epoch == 2:
            raise OSError("cut off")

    with pytest.raises(OSError, match="cut off"):
        run("S3Rec", config_dict=keys, out="run", on_epoch=stop)
    rest = []
    again = run(resume="run", on_epoch=rest.append)
    assert [each.epoch for each in rest] == [3]
    assert again.history == whole.history
    last = [load_checkpoint(tmp_path / name / "S3Rec-toy-4.pth")["state_dict"] for name in ("whole", "run")]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])


def test_data_and_model_come_back_from_a_checkpoint(brief):
    result = run("BPR", config_dict=brief, out="run")
    before = torch.get_rng_state()
    config, model, dataset, train, valid, test = load_data_and_model(result.checkpoint)
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(config, Config)
    assert (config["model"], dataset.user_num, len(train._dataset)) == ("BPR", 61, result_size(result))
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.eval_collector.data_collect(train)
    assert trainer.evaluate(test, load_best_model=False) == result.test_result
    assert trainer.evaluate(valid, load_best_model=False) == result.best_valid_result


def result_size(result) -> int:
    return RunFolder.open(result.folder).read_json("metrics.json")["data"]["train"]["rows"]


def test_a_registered_data_set_is_written_again_for_a_checkpoint(tmp_path, monkeypatch):
    keys = {"epochs": 0, "show_progress": False, "embedding_size": 4, "dims": [8]}
    result = run("ESMM", "ml-100k-funnel", config_dict=keys, saved=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    (tmp_path / "cache").rename(tmp_path / "gone")
    config, *_ = load_data_and_model(result.checkpoint)
    assert Path(config["data_path"]).is_relative_to(tmp_path / "another")


def test_nothing_is_saved_where_that_is_asked_for(brief, tmp_path):
    result = run("BPR", config_dict=brief, saved=False)
    assert (result.checkpoint, result.folder) == (None, None)
    assert not list((tmp_path / "saved").iterdir())


# What they use of NumPy and SciPy is gone from today's; others run in compat/test_checkpoints.py.
OLDER = {
    "NGCF": {},
    "GCMC": {},
    "SpectralCF": {"embedding_size": 16},
    "MultiDAE": {},
    "SINE": SEQUENTIAL,
    "DIN": {
        "load_col": None,
        "MAX_ITEM_LIST_LENGTH": 8,
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1},
    },
    "FFM": {"threshold": {"rating": 3}, "load_col": None},
}


@pytest.mark.parametrize("model", OLDER)
def test_recboles_models_run_on_todays_packages(model, brief):
    keys = {**brief, "epochs": 1, **OLDER[model]}
    result = run(model, config_dict=keys, out="run")
    assert all(np.isfinite(value) for value in result.test_result.values())
    assert load_data_and_model("run")[1] is not None
    changed = bytearray(Path("run/checkpoint.pth").read_bytes())
    changed[-100] ^= 1
    Path("run/checkpoint.pth").write_bytes(changed)
    for read in (lambda: load_data_and_model("run"), lambda: run(resume="run", out="more")):
        with pytest.raises(RunFolderError, match=r"checkpoint.pth is not what was written"):
            read()


def test_pretrained_weights_are_read(brief, tmp_path):
    keys = {**brief, **SEQUENTIAL, "load_col": None, "item_attribute": "class"}
    stages = {"train_stage": "pretrain", "pretrain_epochs": 1, "save_step": 1}
    first = run("S3Rec", config_dict={**keys, **stages}, out="first")
    (weights,) = (tmp_path / "first").glob("S3Rec-*.pth")
    second = run("S3Rec", config_dict={**keys, "train_stage": "finetune", "pre_model_path": str(weights)}, out="second")
    assert first.history.records
    assert len(second.history.records) == 2


WRONG = [
    ("BPR", {"dataset": "toi"}, ConfigError, r"There is no data set 'toi': no file .*toi.inter"),
    ("BPR", {"dataset": "ml-10k", "data_path": None}, ConfigError, "Did you mean ml-100k"),
    ("LightGBM", {}, ConfigError, "needs the package lightgbm, which is not installed"),
    ("BPR", {"load_col": {"inter": ["user_id"]}}, ConfigError, "RecBole lacks 'item_id' in toy for BPR"),
    ("BPR", {"encoding": "latin-99"}, ConfigError, "Unknown encoding 'latin-99'"),
    ("BPR", {"threads": 0}, ConfigError, "threads must be a whole number of at least 1"),
    ("DeepFM", {"metrics": ["AUC"], "valid_metric": "LogLoss"}, ConfigError, "valid_metric 'LogLoss' is not among"),
]


@pytest.mark.parametrize(("model", "keys", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_what_is_wrong_is_said_in_a_sentence(model, keys, kind, message, brief, tmp_path):
    if model == "LightGBM" and __import__("importlib.util").util.find_spec("lightgbm") is not None:
        pytest.skip("lightgbm is installed")
    given = {key: value for key, value in {**brief, **keys}.items() if value is not None}
    with pytest.raises(kind, match=message) as caught:
        run(model, config_dict=given, out="run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("model", "keys"), [("FM", {"load_col": None}), ("PARS", SEQUENTIAL)])
def test_data_in_another_encoding_are_named_with_line_and_byte(model, keys, brief, tmp_path):
    (tmp_path / "shop").mkdir()
    rows = "user_id:token\titem_id:token\ttimestamp:float\n1\tKäse\t1\n"
    (tmp_path / "shop" / "shop.inter").write_bytes(rows.encode("cp1252"))
    with pytest.raises(DataError, match=r"shop.inter' is not utf-8 text: line 2 holds the byte 0xe4, .*Käse 1'."):
        run(model, "shop", config_dict={**brief, **keys, "dataset": "shop", "data_path": str(tmp_path)})


def test_a_configuration_may_be_given_whole(brief):
    whole = {**brief, "model": "BPR"}
    result = run(whole)
    assert dict(run(Config(config_dict=whole))) == dict(result)
    with pytest.raises(ConfigError, match="Give either a whole configuration"):
        run(whole, "toy")


@pytest.mark.parametrize("asked", [{"nproc": 2}, {"world_size": 2}, {"group_offset": 1}], ids=str)
def test_several_processes_are_refused(brief, asked):
    (key,) = asked
    with pytest.raises(ConfigError, match=f"{key}=.* several processes"):
        run("BPR", config_dict=brief, **asked)
