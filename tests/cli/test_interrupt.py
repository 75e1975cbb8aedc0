"""A real Ctrl-C, sent to a process of its own while it trains and writes, and to this one while it predicts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from cvr_plugins.cli._group import run
from cvr_plugins.rechub import TrainedRun
from cvr_plugins.training.checkpoint import load_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="sends SIGINT"),
]

PAUSES = """
import sys, time
from cvr_plugins.cli._group import run
from cvr_plugins.training import loop, run_folder

def paused(owner, name, mark):
    original = getattr(owner, name)
    def call(*arguments, **options):
        print(mark, flush=True)
        # Longer than a signal takes that is waited for, and begun anew where it is not.
        time.sleep(2 if mark in sys.argv[1].split(",") else 0)
        return original(*arguments, **options)
    setattr(owner, name, call)

paused(loop.Loop, "train_batch", "TRAINING")
paused(run_folder, "write", "WRITING")
sys.exit(run(sys.argv[2:]))
"""


def _interrupted(sleeps: str, marks: list[str], *arguments: object) -> tuple[int, str, str]:
    """Type a command line and send SIGINT each time one of the marks is printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", PAUSES, sleeps, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    waiting, lines = list(marks), []
    try:
        for line in process.stdout:
            lines.append(line)
            if waiting and line.startswith(waiting[0]):
                waiting.pop(0)
                process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert waiting == []
    return process.returncode, "".join(lines), errors


@pytest.fixture
def line(shop, tmp_path) -> list[object]:
    """A run of the shop's configuration that does not end by itself."""
    return ["run", "-c", shop.file, "epochs=5000", "-o", tmp_path / "runs" / "mine"]


def test_in_training_it_keeps_the_best_weights(line, tmp_path):
    code, out, errors = _interrupted("", ["epoch   1"], *line)
    assert code == 1
    assert "Training was interrupted after epoch" in out
    assert f"Run folder: {tmp_path / 'runs' / 'mine'}" in out
    assert "Error" not in errors
    assert json.loads((tmp_path / "runs" / "mine" / "history.json").read_text())["stopped"] == "interrupted"
    TrainedRun.load(tmp_path / "runs" / "mine")


@pytest.mark.parametrize(
    ("sleeps", "marks"),
    [("TRAINING", ["TRAINING"]), ("WRITING", ["epoch   1", "WRITING"])],
    ids=["before an epoch is finished", "a second one while it writes"],
)
def test_without_a_run_folder_it_says_how_to_go_on(sleeps, marks, line, tmp_path):
    code, _, errors = _interrupted(sleeps, marks, *line)
    assert code == 1
    left = tmp_path / "runs" / "mine.unfinished"
    assert errors.splitlines()[-1] == f"Error: Interrupted; 'cvr-plugins run --resume {left}' goes on."
    assert [path.name for path in left.parent.iterdir()] == [left.name]
    assert load_checkpoint(left / "training.pt")["model"] == "ESMM"


def test_of_predict_leaves_no_file(shop, shop_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(TrainedRun, "score", lambda *_: signal.raise_signal(signal.SIGINT))
    assert run(["predict", str(shop_run), str(shop.path), str(tmp_path / "out.csv")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "Error: Interrupted; nothing was written."
    assert list(tmp_path.iterdir()) == []
