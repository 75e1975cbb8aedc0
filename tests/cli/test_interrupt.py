"""Real signals, sent to a process of its own while it trains and writes, and to this one while it predicts."""

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
    pytest.mark.skipif(os.name != "posix", reason="sends signals"),
]

PAUSES = """
import sys, time
from cvr_plugins.cli._group import run
from cvr_plugins import files
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
paused(files, "put_in_place", "PLACING")
sys.exit(run(sys.argv[2:]))
"""


def _interrupted(
    sleeps: str, marks: list[str], *arguments: object, number: int = signal.SIGINT
) -> tuple[int, str, str]:
    """Type a command line and send a signal each time one of the marks is printed."""
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
                process.send_signal(number)
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_of_predict_leaves_no_file(number, shop, shop_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(TrainedRun, "score", lambda *_: signal.raise_signal(number))
    assert run(["predict", str(shop_run), str(shop.path), str(tmp_path / "out.csv")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "Error: Interrupted; nothing is left half written."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["predict", "export"])
def test_a_kill_leaves_nothing_half_written_and_what_it_leaves_is_gone_with_the_next(command, shop, shop_run, tmp_path):
    given = {"predict": [shop_run, shop.path], "export": ["-c", shop.file, shop.path]}[command]
    line = [command, *map(str, given), str(tmp_path / "out.csv")]
    code, _, _ = _interrupted("PLACING", ["PLACING"], *line, number=signal.SIGKILL)
    assert code == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".out.csv")
    whole = left.read_bytes()
    assert run(line) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert (tmp_path / "out.csv").read_bytes() == whole


def test_with_its_outputs_closed_a_run_trains_and_finishes(shop, tmp_path):
    line = f"exec '{sys.executable}' -c 'from cvr_plugins.cli import main; main()' run -c {shop.file} -o run >&- 2>&-"
    assert subprocess.run(["sh", "-c", line], cwd=tmp_path).returncode == 0
    TrainedRun.load(tmp_path / "run")
