"""`cvr-plugins run` of RecBole models: which framework a run is for, what it says and leaves, resuming, refusals."""

from __future__ import annotations

import json
import re
import signal
import sys

import pytest

pytest.importorskip("recbole")

import yaml
from recbole.trainer import Trainer

from cvr_plugins.cli._group import run

FOLDER = [
    *("checkpoint.pth", "config.yaml", "history.json", "manifest.json", "metrics.json", "run.json", "versions.json"),
    "vocabulary.json",
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def file(tmp_path):
    """A RecBole configuration of a run on a few ratings."""
    folder = tmp_path / "data" / "toy"
    folder.mkdir(parents=True)
    rows = [f"{user}\t{(7 * user + 3 * n) % 40}\t{user + 10 * n}" for user in range(60) for n in range(15)]
    (folder / "toy.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows, ""]))
    keys = {
        "model": "BPR",
        "dataset": "toy",
        "data_path": str(tmp_path / "data"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "epochs": 2,
        "train_batch_size": 256,
        "embedding_size": 8,
    }
    path = tmp_path / "bpr.yaml"
    path.write_text(yaml.safe_dump(keys))
    return path


def test_a_recbole_model_runs_from_a_recbole_file(file, tmp_path, capsys):
    assert run(["run", "-c", str(file), "-o", "mine"]) == 0
    out, err = capsys.readouterr()
    assert "Error" not in err
    lines = out.splitlines()
    assert lines[0].startswith("epoch   0  loss ")
    assert "MRR@10" in lines[0]
    assert lines[0].endswith(" *")
    assert any(line.startswith("Training ran all 2 epochs; kept the weights of epoch") for line in lines)
    metrics = json.loads((tmp_path / "mine" / "metrics.json").read_text())
    assert any(line.split() == ["ndcg@10", f"{metrics['values']['full/ndcg@10']:.4f}"] for line in lines)
    assert lines[-1] == "Run folder: mine"
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == FOLDER
    assert json.loads((tmp_path / "mine" / "run.json").read_text())["framework"] == "recbole"


def test_json_is_all_that_is_printed_where_it_is_asked_for_and_other_logs_are_not_scored(file, tmp_path, capsys):
    assert run(["run", "-c", str(file), "-o", "mine", "--json", "epochs=1"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown.pop("folder"), shown.pop("stopped")) == ("mine", "all epochs")
    assert shown == json.loads((tmp_path / "mine" / "metrics.json").read_text())
    for command in (["evaluate", "mine", "log.csv"], ["predict", "mine", "log.csv", "out.csv"]):
        assert run(command) == 2
        _, err = capsys.readouterr()
        assert err.startswith("Error: mine is a run of RecBole, whose ids are those of its own data set")
        assert err.count("\n") == 1


def test_a_method_is_for_torch_rechub_unless_recbole_is_asked_for(tmp_path, capsys):
    small = ["-d", "ml-100k-funnel", "epochs=1", "embedding_size=4", "dims=[8]"]
    assert run(["run", "-m", "ESMM", *small, "-o", "one"]) == 0
    assert run(["run", "-m", "ESMM", *small, "-o", "two", "--framework", "recbole"]) == 0
    (tmp_path / "esmm.yaml").write_text("model: esmm\nframework: recbole\n")
    assert run(["run", "-c", "esmm.yaml", *small, "-o", "three"]) == 0
    about = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two", "three")]
    assert [each["framework"] for each in about] == ["torch-rechub", "recbole", "recbole"]
    assert {(each["method"], each["plugin"]) for each in about} == {("ESMM", "builtin")}
    values = [set(json.loads((tmp_path / name / "metrics.json").read_text())["values"]) for name in ("one", "two")]
    assert values[0] == values[1]
    assert "cvr     cvr     cvr" in capsys.readouterr().out
    assert run(["run", "--init-from", "two", "-o", "four"]) == 0
    assert "user_id 943, 0, 0; " in json.loads((tmp_path / "four" / "run.json").read_text())["init_from"]
    assert run(["run", "--resume", "one"]) == 2
    assert "The run in one is finished" in capsys.readouterr().err


def test_our_sequential_models_are_recboles(tmp_path, capsys):
    small = ["epochs=1", "hidden_size=8", "inner_size=8", "n_layers=1", "n_heads=1"]
    watched = ["metrics=[NDCG,SessionAUC]", "valid_metric=NDCG@10"]
    assert run(["run", "-m", "PARS", "-d", "ml-100k-sessions", *small, *watched, "-o", "mine"]) == 0
    shown = capsys.readouterr().out
    assert "model  random  popularity  in_session_count  recency\n" in shown
    (left_out,) = re.findall(r"^sessions/without_purchase: (\d+)$", shown, re.MULTILINE)
    values = json.loads((tmp_path / "mine" / "metrics.json").read_text())["values"]
    assert 0 < int(left_out) == values["sessions/without_purchase"] < values["sessions/total"]
    about = json.loads((tmp_path / "mine" / "run.json").read_text())
    assert (about["framework"], about["method"], about["plugin"]) == ("recbole", "PARS", "builtin")


WRONG = [
    (["-m", "BPR", "-d", "ml-100k", "nproc=2"], "nproc=2 asks for several processes"),
    (["-m", "BPRR", "-d", "ml-100k"], "Unknown model 'BPRR'. Did you mean BPR?"),
    (["-m", "ESMN", "-d", "ml-100k-funnel"], "Unknown method 'ESMN'. Did you mean ESM2 or ESMM?"),
    (["-m", "BPR", "-d", "ml-100k", "--framework", "rechub"], "framework must be torch-rechub or recbole; got"),
    (["-m", "BPR", "-d", "ml-100k", "--framework", "torch-rechub"], "'cvr-plugins models' lists"),
    (["-m", "BPR"], "No dataset given"),
    (["-m", "BPR", "-d", "ml-10k"], "Did you mean ml-100k?"),
    (["-m", "BPR", "-d", "ml-100k", "epochs=many"], "epochs must be a number; got 'many'."),
    (["-m", "BPR", "-d", "ml-100k", "metrics=[NDGC]"], "There is no metric named 'NDGC'"),
    (["-m", "ESMM", "-d", "ml-100k-funnel", "--resume", "nowhere"], "no run to go on with at nowhere"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_is_said_on_one_line(arguments, message, capsys, tmp_path):
    assert run(["run", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "runs").exists()


def test_show_says_where_a_model_that_is_no_method_stands(capsys):
    assert run(["show", "pars"]) == 2
    assert "Unknown method 'pars'" in (err := capsys.readouterr().err)
    assert "'cvr-plugins models' lists" in err


def test_models_are_listed_with_their_owners(capsys):
    assert run(["models"]) == 0
    rows = {line.split()[0]: line.split()[1:3] for line in capsys.readouterr().out.splitlines()[1:]}
    assert rows["PARS"] == rows["MaskedRec"] == ["builtin", "sequential"]
    assert rows["NISE"] == ["builtin", "context_aware"]
    assert rows["BERT4Rec"] == ["recbole", "sequential"]
    assert run(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {each["name"]: each["plugin"] for each in listed} == {name: row[0] for name, row in rows.items()}
    assert {each["origin"] for each in listed} == {"method", "RecBole model", "RecBole"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "BPR", "-d", "ml-100k"], "Unknown method 'BPR'"),
        (["-m", "ESMM", "-d", "ml-100k-funnel", "--framework", "recbole"], "RecBole is not installed"),
    ],
)
def test_without_recbole_it_says_so(arguments, message, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "recbole", None)
    assert run(["run", *arguments]) != 0
    err = capsys.readouterr().err
    assert err.startswith(f"Error: {message}")
    assert "not installed" in err
    assert err.count("\n") == 1


def test_ctrl_c_keeps_the_run_and_resume_goes_on_with_it(file, tmp_path, monkeypatch, capsys):
    def interrupted(self, data, epoch, *args, **options):
        if epoch == 2:
            signal.raise_signal(signal.SIGINT)
        return original(self, data, epoch, *args, **options)

    original = Trainer._train_epoch
    line = ["run", "-c", str(file), "epochs=4", "-o"]
    assert run([*line, "whole"]) == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_epoch", interrupted)
        assert run([*line, "cut"]) == 1
    out, err = capsys.readouterr()
    assert "Error" not in err
    assert out.startswith("epoch   0  loss ")
    assert "Training was interrupted after epoch 1; kept the weights of epoch" in out
    assert out.endswith("Run folder: cut\n'cvr-plugins run --resume cut' goes on.\n")
    assert run(["run", "--resume", "cut", "-o", "resumed"]) == 0
    assert capsys.readouterr().out.startswith("epoch   2  loss ")
    for name in ("metrics.json", "history.json", "config.yaml"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "resumed" / name).read_text()
