"""The shipped configurations of session models: each runs, and says nothing that is read by nobody."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("recbole")

from cvr_plugins.cli.configs import find_config
from cvr_plugins.config import load_yaml
from cvr_plugins.plugins import registry

PUBLISHED = ["retailrocket", "taobao", "yoochoose"]
OURS = [entry.key for entry in registry().entries("recbole_model") if entry.plugin == "builtin"]
SMALL = {"epochs": 1, "hidden_size": 8, "inner_size": 8, "use_gpu": False, "show_progress": False}


def events(sessions=60, items=14):
    random, time = np.random.default_rng(0), 1_400_000_000
    for session in range(1, sessions + 1):
        for item in random.integers(1, items + 1, random.integers(2, 8)).tolist():
            time += 60
            yield session, item, time, random.random() < 0.2


@pytest.fixture
def raw(tmp_path):
    """Small made-up files of the three published layouts, in one folder."""
    files = {"yoochoose-clicks.dat": [], "yoochoose-buys.dat": [], "UserBehavior.csv": []}
    files["events.csv"] = ["timestamp,visitorid,event,itemid,transactionid"]
    for session, item, time, buys in events():
        moment = f"{np.datetime64(time, 's')}.000Z"
        files["yoochoose-clicks.dat"].append(f"{session},{moment},{item},0")
        files["events.csv"].append(f"{time}000,{session},view,{item},")
        files["UserBehavior.csv"].append(f"{session},{item},1,pv,{time}")
        if buys:
            files["yoochoose-buys.dat"].append(f"{session},{moment},{item},100,1")
            files["events.csv"].append(f"{time}500,{session},transaction,{item},1")
            files["UserBehavior.csv"].append(f"{session},{item},1,buy,{time}")
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path


def run(dataset, model, tmp_path, monkeypatch, **changes):
    from cvr_plugins.recbole import run

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return run(model, config_file_list=[find_config(dataset)], config_dict={**SMALL, **changes}, saved=False)


@pytest.mark.parametrize("dataset", PUBLISHED)
@pytest.mark.filterwarnings("error:RecBole knows no key")
def test_a_published_one_runs_on_files_of_the_published_layout(dataset, raw, tmp_path, monkeypatch):
    found = run(dataset, "PARS", tmp_path, monkeypatch, data_path=str(raw))
    result = found.test_result
    assert {"ndcg@10", "ndcgwithouthistory@10", "sessionauc", "sessionhr@1", "sessionf1@5", "random/sessionauc"} <= set(
        result
    )
    assert found.config["hidden_size"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("model", [*OURS, "BERT4Rec"])
@pytest.mark.filterwarnings("error:RecBole knows no key")
def test_that_of_ml_100k_runs_as_it_is_but_for_its_size(model, tmp_path, monkeypatch):
    # Popular items alone: BERT4Rec's row for every event of the log would take most of a minute.
    found = run("ml-100k-sessions", model, tmp_path, monkeypatch, item_inter_num_interval="[200,inf)")
    assert found.test_result["sessions/total"] > found.test_result["sessions/without_purchase"] > 0
    assert 0 < found.test_result["hit@10"] < 1


def test_the_published_settings_are_one_and_the_same():
    contents = [{**load_yaml(find_config(dataset)), "dataset": None} for dataset in PUBLISHED]
    assert contents == [contents[0]] * len(PUBLISHED)
