"""A run that was cut off goes on to the bit: from an epoch's end, from within one, in validation, in evaluation."""

from __future__ import annotations

import dataclasses
import errno
import io
import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from cvr_plugins.cli._group import run as command
from cvr_plugins.config import ConfigError, load_yaml, resolve
from cvr_plugins.data import DataError
from cvr_plugins.files import OutputError, TargetError
from cvr_plugins.logs import load_log
from cvr_plugins.plugins import registry
from cvr_plugins.rechub import CVRTrainer, run, runner
from cvr_plugins.training import interrupts, run_folder
from cvr_plugins.training.checkpoint import CheckpointError, load_checkpoint
from cvr_plugins.training.loop import Loop
from cvr_plugins.training.run_folder import RunFolder, RunFolderError
from cvr_plugins.training.working import TRAINING, work_folder

METHODS = [entry.key for entry in registry().entries("method") if entry.plugin == "builtin"]
BATCHES = 5
"""Of an epoch of the shop's log."""


class CutOff(BaseException):
    """In place of a kill."""


def cut(target: object, name: str, calls: int, kill: Callable[[], None] | None = None):
    """Return a patch that ends the process's work at a call of a function, the first so many calls going well."""

    def stop() -> None:
        raise CutOff

    patch = pytest.MonkeyPatch()
    whole, counted = getattr(target, name), itertools.count()

    def counting(*args, **options):
        if next(counted) == calls:
            (kill or stop)()
        return whole(*args, **options)

    patch.setattr(target, name, counting)
    return patch


def same(first: Path, second: Path) -> None:
    """Two run folders hold the same history, metrics and weights."""
    for name in ("history.json", "metrics.json", "calibration.json", "vocabulary.json"):
        assert (first / name).read_text() == (second / name).read_text(), name
    weights = [load_checkpoint(folder / "checkpoint.pt")["state_dict"] for folder in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


@pytest.fixture
def cut_off(shop, tmp_path):
    """Run the shop's configuration twice, the second time cut off; return the whole run's folder and the name."""

    def make(patch_of, **keys) -> tuple[Path, Path]:
        config = {**shop.config, "epochs": 4, "train_batch_size": 96, "checkpoint_minutes": 1e-9, **keys}
        whole = run(config, folder=tmp_path / "whole").folder
        patch = patch_of()
        try:
            with pytest.raises((CutOff, KeyboardInterrupt)):
                run(config, folder=tmp_path / "cut")
        finally:
            patch.undo()
        assert not (tmp_path / "cut").exists()
        assert whole is not None
        return whole, tmp_path / "cut"

    return make


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_on_within_an_epoch(method, cut_off):
    whole, name = cut_off(lambda: cut(Loop, "train_batch", 2 * BATCHES + 3), model=method)
    same(whole, run(resume=name).folder)
    assert not name.with_name("cut.unfinished").exists()


CUTS = {
    "before the first batch": lambda: cut(Loop, "train_batch", 0),
    "in the first epoch": lambda: cut(Loop, "train_batch", 2),
    "at an epoch's end": lambda: cut(CVRTrainer, "_report", 1),
    "at the last epoch's end": lambda: cut(CVRTrainer, "_report", 3),
    "in validation": lambda: cut(CVRTrainer, "scored", 2),
    "in the last evaluation": lambda: cut(CVRTrainer, "scored", 4),
    "in writing a checkpoint": lambda: cut(torch, "save", 3),
    "in writing the run folder": lambda: cut(run_folder, "write_json", 11),
}


@pytest.mark.parametrize("where", CUTS)
@pytest.mark.parametrize("minutes", [1e-9, 10], ids=["each batch", "each epoch"])
def test_a_run_goes_on_wherever_it_was_cut_off(where, minutes, cut_off):
    keys = {"checkpoint_minutes": minutes, "scheduler": "ExponentialLR", "scheduler_params": {"gamma": 0.5}}
    whole, name = cut_off(CUTS[where], weighting="dwa", non_click_fraction=0.5, dropout=0.2, **keys)
    same(whole, run(resume=name).folder)


def test_a_run_that_has_stopped_early_is_only_evaluated(cut_off, monkeypatch):
    keys = {"epochs": 30, "stopping_step": 2, "learning_rate": 0.1}
    whole, name = cut_off(lambda: cut(run_folder, "write", 0), **keys)
    assert RunFolder(whole).read_json("history.json")["stopped"] == "early"
    monkeypatch.setattr(Loop, "train_batch", lambda *_: pytest.fail("trained"))
    same(whole, run(resume=name).folder)


def test_it_finishes_elsewhere_and_with_more_epochs_or_fewer_than_are_trained(shop, cut_off, tmp_path):
    whole, name = cut_off(CUTS["in validation"])
    before = {file.name: file.read_bytes() for file in work_folder(name).iterdir() if file.is_file()}
    same(whole, run(resume=work_folder(name), folder=tmp_path / "deep" / "other").folder)
    assert {file.name: file.read_bytes() for file in work_folder(name).iterdir() if file.is_file()} == before
    assert run({"epochs": 1}, resume=work_folder(name), folder=tmp_path / "fewer").stopped == "all epochs"
    longer = run({"epochs": 6}, resume=name)
    assert longer.folder == name
    assert len(longer.history.records) == 6


def test_what_may_not_differ_is_named(shop, cut_off):
    whole, name = cut_off(CUTS["in validation"])
    for keys, message in (
        ({"learning_rate": 0.5}, "learning_rate: 0.02, and now it is 0.5"),
        ({"model": "Naive"}, "model: 'ESMM', and now it is 'Naive'"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(keys, resume=name)
    frame = pd.read_parquet(shop.path)
    # The last rows are tested on, so that the trained and validated ones are the same.
    data = {"dataset": str(written(frame.iloc[[*range(len(frame) - 2), -1, -2]], name.with_name("other.parquet")))}
    before = {file.name: file.read_bytes() for file in work_folder(name).iterdir()}
    for folder in (None, name.with_name("elsewhere")):
        with pytest.raises(CheckpointError, match="another data"):
            run(data, resume=name, folder=folder)
    settings = work_folder(name) / "config.yaml"
    settings.write_text(settings.read_text().replace("learning_rate: 0.02", "learning_rate: 0.5"))
    for folder in (None, name.with_name("elsewhere")):
        with pytest.raises(ConfigError, match=r"learning_rate: 0\.02, and now it is 0\.5"):
            run(resume=name, folder=folder)
    settings.write_bytes(before["config.yaml"])
    assert {file.name: file.read_bytes() for file in work_folder(name).iterdir()} == before
    assert not list(name.parent.glob("elsewhere*"))
    same(whole, run(resume=name).folder)


def written(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_parquet(path)
    return path


# Both the system and the shell say that a terminal is closed.
@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP, signal.SIGHUP]])
def test_a_signal_ends_training_after_the_batch_and_what_is_kept_goes_on(numbers, shop, tmp_path, cut_off):
    config = {**shop.config, "epochs": 4, "train_batch_size": 96}
    whole = run(config, folder=tmp_path / "whole").folder
    patch = cut(Loop, "train_batch", 2 * BATCHES + 2, lambda: [*map(signal.raise_signal, numbers)])
    with interrupts.handled():
        found = run(config, folder=tmp_path / "cut")
    patch.undo()
    assert found.history.stopped == "interrupted"
    assert load_checkpoint(tmp_path / "cut" / TRAINING)["training"]["position"]["sums"]["batches"] == 3
    assert not work_folder(tmp_path / "cut").exists()
    assert RunFolder.open(tmp_path / "cut").about["method"] == "ESMM"
    same(whole, run(resume=tmp_path / "cut").folder)
    assert not (tmp_path / "cut" / TRAINING).exists()


def test_a_signal_that_comes_when_all_epochs_are_trained_is_not_lost(shop, tmp_path):
    config = {**shop.config, "epochs": 2, "train_batch_size": 96}
    whole = run(config, folder=tmp_path / "whole").folder
    patch = cut(CVRTrainer, "_report", 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with interrupts.handled():
        found = run(config, folder=tmp_path / "cut")
    patch.undo()
    assert found.stopped == "interrupted"
    same(whole, run(resume=tmp_path / "cut").folder)


def test_a_second_signal_ends_it_at_once_and_loses_nothing(shop, tmp_path):
    config = {**shop.config, "epochs": 4, "train_batch_size": 96}
    whole = run(config, folder=tmp_path / "whole").folder

    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    patch = cut(Loop, "train_batch", 2 * BATCHES + 2, twice)
    # The first one ends training with epoch 1's weights; this one comes while they are evaluated.
    last = cut(CVRTrainer, "scored", 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with interrupts.handled(), pytest.raises(KeyboardInterrupt):
        run(config, folder=tmp_path / "cut")
    patch.undo()
    last.undo()
    same(whole, run(resume=tmp_path / "cut").folder)


class Full(io.StringIO):
    """A standard output that leads to a full disk."""

    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "line", [["-m", "ESMM"], ["-m", "BPR", "-d", "ml-100k", "epochs=2"]], ids=["ours", "RecBole's"]
)
def test_an_output_that_is_full_ends_a_run_that_goes_on(line, shop, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["-c", str(shop.file)] if "ESMM" in line else []
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Full())
        assert command(["run", *given, *line, "-o", "run"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("Error: No space left on device.")
    assert told.endswith("'cvr-plugins run --resume run.unfinished' goes on.")
    assert list(Path("run.unfinished").glob("*.pt*"))
    assert "error" not in RunFolder(Path("run.unfinished"), verify=False).about


def test_ignored_signals_stay_ignored_and_handlers_are_put_back():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.handled():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_that_is_cut_off_or_finished_says_so(cut_off):
    whole, name = cut_off(CUTS["in validation"])
    with pytest.raises(RunFolderError, match=r"not finished: 'cvr-plugins run --resume .*cut.unfinished'"):
        RunFolder.open(name)
    with pytest.raises(TargetError, match=r"cut.unfinished' is of a run that .* --resume"):
        run(load_yaml(whole / "config.yaml"), folder=name)
    with pytest.raises(ConfigError, match=r"finished.*--init-from"):
        run(resume=whole)
    with pytest.raises(ConfigError, match="no run to go on with"):
        run(resume=whole.with_name("none"))
    torch.save([Path()], whole.with_name("stock.pth"))
    with pytest.raises(CheckpointError, match="gets its weights out"):
        run(resume=whole.with_name("stock.pth"))


def test_a_name_that_a_run_left_before_it_had_begun_is_taken_again(shop, tmp_path):
    left = work_folder(tmp_path / "run")
    left.mkdir()
    (left / "run.json").write_text('{"form')
    with pytest.raises(ConfigError, match=r"run\.unfinished was cut off before it had begun"):
        run(resume=tmp_path / "run")
    assert run(shop.config, folder=tmp_path / "run").folder == tmp_path / "run"
    assert not left.exists()


def test_a_failing_loss_leaves_what_was_trained(shop, tmp_path):
    def fail() -> None:
        raise RuntimeError("the loss")

    config = {**shop.config, "epochs": 4, "train_batch_size": 96}
    whole = run(config, folder=tmp_path / "whole").folder
    patch = cut(Loop, "train_batch", 2 * BATCHES + 2, fail)
    with pytest.raises(RuntimeError, match="the loss"):
        run(config, folder=tmp_path / "cut")
    patch.undo()
    with pytest.raises(RunFolderError, match=r"failed.*the loss"):
        RunFolder.open(work_folder(tmp_path / "cut"))
    same(whole, run(resume=tmp_path / "cut").folder)


def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_it_stays(cut_off, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    whole, name = cut_off(CUTS["in validation"])
    for place in (torch, "save"), (run_folder, "write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(*place, full)
            with pytest.raises((OutputError, TargetError), match=r"cut.*No space left on device"):
                run(resume=name)
    same(whole, run(resume=name).folder)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="asks the system for space")
def test_a_disk_without_space_for_a_checkpoint_is_found_before_training(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(Loop, "train_batch", lambda *_: pytest.fail("trained"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(TargetError, match=r"no space for a checkpoint of about .* MB in '.*run.unfinished'"):
        run(shop.config, folder=tmp_path / "run")
    assert not list(tmp_path.glob("run*"))


@pytest.mark.parametrize("name", ["n" * 250, "n" * 300, "sur\ud800gate", "/proc/run"])
def test_a_name_that_cannot_be_written_is_found_before_the_data_are_read(name, shop, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "load_log", lambda *_: pytest.fail("read"))
    with pytest.raises(TargetError):
        run(shop.config, folder=tmp_path / name)


def test_a_place_that_cannot_be_written_is_found_before_that_too(shop):
    with pytest.raises(TargetError):
        run({**shop.config, "checkpoint_dir": "/proc/runs"})


def test_text_that_no_file_can_hold_is_found_before_training(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(Loop, "train_batch", lambda *_: pytest.fail("trained"))
    log = load_log(resolve(shop.config))
    log = dataclasses.replace(log, frame=log.frame.assign(hour=pd.Categorical(["\ud800"] * len(log.frame))))
    with pytest.raises(DataError, match="UTF-8"):
        run(shop.config, folder=tmp_path / "run", log=log)
    assert not list(tmp_path.glob("run*"))
