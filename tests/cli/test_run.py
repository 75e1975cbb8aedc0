"""`cvr-plugins run`, `predict`, `evaluate` and `export` as a user types them."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from cvr_plugins.cli._group import run
from cvr_plugins.config import load_yaml
from cvr_plugins.rechub import TrainedRun


@pytest.fixture
def typed(capsys, monkeypatch, tmp_path):
    """Type a command line in a folder of the test's own; return exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def make(*arguments: object) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return make


def test_a_run_prints_epochs_metrics_and_where_it_is_kept(typed, shop):
    code, out, err = typed("run", "-c", shop.file, "-o", "mine")
    assert code == 0
    assert re.findall(r"(?m)^epoch +\d+  loss: ctr \d\.\d{4} ctcvr \d\.\d{4}  cvr/click/auc \d\.\d{4}(?: \*)?$", out)
    assert f"{shop.path}: rows 600, users 30, items 20, clicks" in out
    assert "Training ran all 2 epochs; kept the weights of epoch" in out
    assert f"ESMM on the test part of {shop.path}" in out
    kept = json.loads(Path("mine/metrics.json").read_text())
    for metric in ("auc", "gauc", "log_loss"):
        values = [f"{kept['values'][f'{target}/{metric}']:.4f}" for target in kept["support"]]
        assert re.search(rf"(?m)^{metric} +{' +'.join(values)}$", out)
    assert out.endswith("Run folder: mine\n")
    assert "Note: token column 'hour': missing in" in err
    assert "Error" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
@pytest.mark.parametrize(
    ("line", "stands"),
    [
        ("run -c {shop.file} --json -o mine", "The run is finished, and in mine."),
        ("predict {run} {shop.path} scores.csv", "scores.csv is written."),
        ("export -c {shop.file} {shop.path} log.csv", "log.csv is written."),
        ("weights {run} weights.pt", "weights.pt is written."),
    ],
)
def test_an_output_that_is_full_when_the_work_is_done_is_told_what_stands(line, stands, typed, shop, shop_run):
    with open("/dev/full", "wb", buffering=0) as full, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(full, write_through=True))
        code, _, err = typed(*line.format(shop=shop, run=shop_run).split())
    assert (code, err.splitlines()[-1]) == (1, f"Error: No space left on device. {stands}")
    assert Path(line.split()[-1]).exists()


def test_later_settings_win_in_either_spelling(typed, shop, tmp_path):
    (tmp_path / "more.yaml").write_text("epochs: 5\nseed: 3\nmodel: Naive\n")
    code, out, _ = typed("run", "-c", shop.file, "-c", "more.yaml", "-m", "ESM2", "--epochs=1", "seed=4", "-o", "mine")
    assert code == 0
    assert "ESM2 on the test part" in out
    written = load_yaml("mine/config.yaml")
    assert {key: written[key] for key in ("model", "epochs", "seed")} == {"model": "ESM2", "epochs": 1, "seed": 4}


def test_another_runs_weights_and_settings_are_started_from(typed, shop_run, shop):
    code, _, err = typed("run", "--init-from", shop_run, "-d", shop.path, "epochs=1", "-o", "mine")
    assert code == 0
    assert f"Note: Starts from the weights of {shop_run}: tokens known, new, gone: user_id 30, 0, 0; " in err
    before, written = load_yaml(shop_run / "config.yaml"), load_yaml("mine/config.yaml")
    assert written == {**before, "epochs": 1}
    code, _, err = typed("run", "--init-from", shop_run, "dims=[9]", "-o", "other")
    assert (code, err.splitlines()[-1]) == (
        2,
        f"Error: A run cannot start from the weights of {shop_run}: its dims was [4], not [9].",
    )


def test_no_file_is_needed(typed, shop):
    pairs = [f"{key}={json.dumps(value)}" for key, value in shop.config.items() if key not in ("model", "dataset")]
    code, _, _ = typed("run", "-m", "esmm", "-d", shop.path, *pairs, "checkpoint_dir=runs")
    assert code == 0
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("esmm-shop-2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["epohcs=3"], "Unknown key 'epohcs'. Did you mean epochs? 'cvr-plugins show ESMM' lists the options of ESMM"),
        (["--epochs", "3"], "Expected key=value, such as learning_rate=0.01; got '--epochs'."),
        (["eval_args={order: TO}", "TIME_FIELD=", "drop_columns=[note, when]"], "Log 'shop' has no timestamp column"),
        (["dims=[0]"], "ESMM, architecture 'towers' on backbone 'mlp': dims must be"),
        (["-o", "taken"], "'taken' exists already; remove it or name another place."),
    ],
)
def test_mistakes_are_answered_on_one_line_and_nothing_is_written(typed, shop, arguments, message, tmp_path):
    (tmp_path / "taken").mkdir()
    code, _, err = typed("run", "-c", shop.file, *arguments)
    assert code == 2
    assert err.splitlines()[-1].startswith(f"Error: {message}")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_loss_that_is_not_finite_fails_the_work(typed, shop, tmp_path):
    code, _, err = typed("run", "-c", shop.file, "learning_rate=1e30", "learner=sgd", "epochs=9", "-o", "mine")
    assert code == 1
    assert re.search(r"Error: ESMM.*: the loss term '\w+' became nan in epoch", err)
    assert "became nan" in json.loads((tmp_path / "mine.unfinished" / "run.json").read_text())["error"]


def test_predict_and_evaluate(typed, shop, shop_run, tmp_path):
    code, out, err = typed("predict", shop_run, shop.path, "scored.csv")
    assert (code, out, err) == (0, "Scored 600 rows: scored.csv\n", "")
    assert list(pd.read_csv("scored.csv").columns[-3:]) == ["p_cvr", "p_ctr", "p_ctcvr"]
    code, out, err = typed("evaluate", shop_run, shop.path)
    assert (code, err) == (0, "")
    assert out.startswith(f"{shop_run} on {shop.path}\n")
    code, text, _ = typed("evaluate", shop_run, shop.path, "--json", "--device", "cpu")
    found = json.loads(text, parse_constant=pytest.fail)
    assert set(found) == {"values", "support", "rows", "unknown", "notes"}
    assert (found["rows"], found["unknown"], found["notes"]) == (600, {}, [])
    assert f"{found['values']['cvr/oracle/auc']:.4f}" in out


def test_what_is_unknown_and_what_was_masked_is_said(typed, shop_frame, shop_run):
    frame = shop_frame(40, 3).assign(conversion=1)
    frame.loc[:3, "user_id"] = "nobody"
    frame.loc[0, "item_id"] = 5
    frame.to_parquet("log.parquet")
    code, _, err = typed("evaluate", shop_run, "log.parquet")
    assert code == 0
    assert "Note: conversion column 'conversion': 1 without a click in" in err
    assert "Note: column 'user_id': 4 tokens not in the run's vocabulary, scored as the unknown id.\n" in err
    assert "Note: column 'item_id': 1 token not in the run's vocabulary" in err


def test_what_cannot_be_scored_is_said_on_one_line(typed, shop, shop_run, tmp_path):
    shutil.copytree(shop_run, "broken")
    Path("broken/checkpoint.pt").write_bytes(b"")
    for arguments, message in (
        (["predict", "broken", shop.path, "out.csv"], "broken/checkpoint.pt is not what was written"),
        (["predict", shop_run, "none.csv", "out.csv"], "There is no file 'none.csv'; check the path."),
        (["predict", shop_run, shop.path, "out.txt"], "Cannot tell the format of 'out.txt'"),
        (["predict", shop_run, shop.path, "out.csv", "--device", "cuda:77"], "The device 'cuda:77' cannot be used"),
    ):
        code, _, err = typed(*arguments)
        assert code == 2
        assert err.startswith(f"Error: {message}")
        assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


@pytest.mark.parametrize("out", ["copy.csv", "copy"])
def test_an_exported_log_gives_the_same_run_with_the_keys_it_is_exported_with(typed, shop, shop_run, out):
    code, text, _ = typed("export", shop.path, out, "-c", shop.file)
    assert code == 0
    assert text.startswith(f"{out if '.' in out else 'copy/shop'}: rows 600, users 30")
    Path("keys.yaml").write_text(text.partition("Configuration to read it with:\n")[2])
    model = {key: value for key, value in shop.config.items() if not key.endswith(("_FIELD", "features", "columns"))}
    pairs = [f"{key}={json.dumps(value)}" for key, value in model.items() if key not in ("dataset", "model")]
    code, _, _ = typed("run", "-m", "ESMM", *pairs, "-c", "keys.yaml", "-o", "again")
    assert code == 0
    kept, again = (json.loads((folder / "metrics.json").read_text()) for folder in (shop_run, Path("again")))
    assert again["values"] == kept["values"]
    assert TrainedRun.load("again").vocabulary.tokens == TrainedRun.load(shop_run).vocabulary.tokens


def test_an_export_does_not_overwrite_a_folder_and_knows_its_formats(typed, shop, tmp_path):
    (tmp_path / "copy" / "shop").mkdir(parents=True)
    (tmp_path / "link.parquet").hardlink_to(shutil.copyfile(shop.path, tmp_path / "shop.parquet"))
    for out, message in (
        ("copy", "'copy/shop' exists already"),
        ("link.parquet", "'link.parquet' is read itself"),
        ("copy.xlsx", "Cannot tell the format of 'copy.xlsx'"),
    ):
        # A data set's name may leave the suffix out.
        code, _, err = typed("export", "shop", out, "-c", shop.file)
        assert code == 2
        assert message in err
