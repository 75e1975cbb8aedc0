"""Run folders: their names, what is in them, and what is said of those that cannot be read."""

from __future__ import annotations

import json
import math
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cvr_plugins.cli.reseal import reseal
from cvr_plugins.rechub import TrainedRun
from cvr_plugins.training import run_folder
from cvr_plugins.training.checkpoint import CheckpointError, load_checkpoint
from cvr_plugins.training.manifest import seal
from cvr_plugins.training.run_folder import FORMAT, RunFolder, RunFolderError


@pytest.mark.parametrize(
    ("model", "dataset", "start"),
    [
        ("ESMM", "ml-100k-funnel", "ESMM-ml-100k-funnel-2"),
        ("acme:ESMM", "some/where/log.csv.gz", "acme.ESMM-log-2"),
        ("ESMM", "data/shop/", "ESMM-shop-2"),
        ("ESMM", "a b*c/d e", "ESMM-d.e-2"),
        ("ESMM", "Größe", "ESMM-Größe-2"),
    ],
)
def test_the_name_of_a_run_says_what_it_is_of(model: str, dataset: str, start: str):
    name = run_folder.default_name(model, dataset)
    assert name.startswith(start)
    assert Path(name).name == name


def test_the_working_directory_has_a_name(monkeypatch, tmp_path):
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    assert run_folder.default_name("ESMM", ".").startswith("ESMM-shop-2")


def test_json_holds_no_number_that_json_has_not(tmp_path: Path):
    value = {"a": [1.5, math.nan, (math.inf,)], "b": {"c": -math.inf}, "d": np.float32(0.5), "e": "ü", "f": True}
    run_folder.write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": [1.5, None, [None]],
        "b": {"c": None},
        "d": 0.5,
        "e": "ü",
        "f": True,
    }


def test_versions_tell_what_is_installed_and_what_is_not(monkeypatch):
    monkeypatch.setattr(run_folder, "_PACKAGES", ("torch", "no-such-package"))
    found = run_folder.versions()
    assert found["torch"] == version("torch")
    assert found["no-such-package"] is None
    assert found["python"].startswith("3.")


def test_a_finished_run_is_described(shop_run: Path):
    folder = RunFolder.open(shop_run)
    assert sorted(path.name for path in shop_run.iterdir()) == [
        "calibration.json",
        "checkpoint.pt",
        "config.yaml",
        "history.json",
        "manifest.json",
        "metrics.json",
        "run.json",
        "schema.json",
        "versions.json",
        "vocabulary.json",
    ]
    about = folder.about
    assert {key: about[key] for key in ("format", "framework", "method", "plugin")} == {
        "format": FORMAT,
        "framework": "torch-rechub",
        "method": "ESMM",
        "plugin": "builtin",
    }
    assert about["parameters"] > 100
    for path in shop_run.glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    metrics = folder.read_json("metrics.json")
    assert metrics["part"] == "test"
    assert set(metrics["data"]) == {"log", "train", "valid", "test"}
    assert sum(metrics["data"][part]["rows"] for part in ("train", "valid", "test")) == metrics["data"]["log"]["rows"]
    history = folder.read_json("history.json")
    assert [epoch["epoch"] for epoch in history["epochs"]] == [0, 1]
    best = history["epochs"][history["best_epoch"]]
    assert best["metrics"][history["valid_metric"]] == history["best_value"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "is not a run folder: it has no run.json. 'cvr-plugins run' writes one"),
        (lambda folder: (folder / "run.json").unlink(), "is not a run folder"),
        (
            lambda folder: (folder / "run.json").write_text(""),
            r"run.json cannot be read: .*\. The run folder is damaged",
        ),
        (lambda folder: (folder / "run.json").write_bytes(b"\xff"), "run.json cannot be read"),
        (lambda folder: (folder / "run.json").write_text("[" * 10**5), "run.json cannot be read"),
        (
            lambda folder: (folder / "run.json").write_text("[1]"),
            "run.json holds no mapping. The run folder is damaged",
        ),
        (
            lambda folder: (folder / "run.json").write_text("{}") and seal(folder),
            "has the run folder format None; this version .* reads 1",
        ),
        (
            lambda folder: (folder / "run.json").write_text('{"format": 2}') and seal(folder),
            "has the run folder format 2; this version of cvr-plugins reads 1. Use the version in its versions.json",
        ),
    ],
)
def test_a_folder_that_is_no_run_is_refused_on_one_line(damage, message, shop_run: Path, tmp_path: Path):
    folder = Path(shutil.copytree(shop_run, tmp_path / "run"))
    damage(folder)
    with pytest.raises(RunFolderError, match=message) as caught:
        RunFolder.open(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_missing_file_of_a_run_is_named(shop_run: Path, tmp_path: Path):
    folder = Path(shutil.copytree(shop_run, tmp_path / "run"))
    (folder / "metrics.json").unlink()
    with pytest.raises(
        RunFolderError, match=r"metrics.json cannot be read: No such file or directory\. The run folder"
    ):
        RunFolder.open(folder).read_json("metrics.json")


def read_all(folder: Path) -> None:
    run = RunFolder.open(folder)
    for file in folder.iterdir():
        if file.name != "manifest.json":
            run.file(file.name)


@pytest.mark.parametrize("name", ["checkpoint.pt", "vocabulary.json", "schema.json", "config.yaml", "manifest.json"])
def test_a_single_bit_that_flips_is_refused_by_the_file_s_name(name: str, shop_run: Path, tmp_path: Path):
    folder = Path(shutil.copytree(shop_run, tmp_path / "run"))
    whole = (folder / name).read_bytes()
    for position in np.random.default_rng(0).integers(0, 8 * len(whole), 5):
        changed = bytearray(whole)
        changed[position // 8] ^= 1 << int(position % 8)
        (folder / name).write_bytes(changed)
        with pytest.raises(RunFolderError, match="damaged" if name == "manifest.json" else name):
            read_all(folder)
    (folder / name).write_bytes(whole)
    TrainedRun.load(folder)


def test_an_edited_folder_is_read_once_it_is_sealed_anew(shop_run: Path, tmp_path: Path):
    folder = Path(shutil.copytree(shop_run, tmp_path / "run"))
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + "# mine\n")
    with pytest.raises(RunFolderError, match=r"config.yaml is not what was written: .* 'cvr-plugins reseal"):
        TrainedRun.load(folder)
    TrainedRun.load(folder, verify=False)
    assert CliRunner().invoke(reseal, [str(folder)]).output == f"{folder}: 9 files\n"
    TrainedRun.load(folder)


def test_a_checkpoint_s_own_checksums_are_read(shop_run: Path, tmp_path: Path):
    changed = bytearray((shop_run / "checkpoint.pt").read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / "checkpoint.pt").write_bytes(changed)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path / "checkpoint.pt")
