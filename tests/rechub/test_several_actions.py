"""ESM2 on a log with several action columns: the action of a row is their OR, from training to scoring."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cvr_plugins.config import load_yaml, parse_pairs
from cvr_plugins.data import Schema
from cvr_plugins.rechub import TrainedRun, evaluate_run, predict, run
from cvr_plugins.training.checkpoint import load_checkpoint
from cvr_plugins.training.manifest import seal

NAMES = ["cart", "wish_list"]


def _actions(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the cart to a part of who has it, and a wish list to others; some of both, some of neither."""
    rng = np.random.default_rng(1)
    frame = frame.assign(cart=frame["cart"] * (rng.random(len(frame)) < 0.6))
    return frame.assign(wish_list=frame["click"] * (rng.random(len(frame)) < 0.3))


@pytest.fixture(scope="module")
def runs(shop, shop_frame, tmp_path_factory) -> SimpleNamespace:
    """A run on two columns, and one on a log of the same name that holds their OR in one."""
    made = SimpleNamespace()
    for kind in ("two", "one"):
        folder = tmp_path_factory.mktemp(kind)
        frame = _actions(shop_frame(600, 0))
        if kind == "one":
            frame = frame.assign(cart=((frame["cart"] == 1) | (frame["wish_list"] == 1)).astype(int))
            frame = frame.drop(columns="wish_list")
        frame.to_parquet(folder / "shop.parquet", index=False)
        columns = "ACTION_FIELD=[cart, wish_list]" if kind == "two" else "ACTION_FIELD=cart"
        keys = {"model": "ESM2", "dataset": str(folder / "shop.parquet"), "valid_metric": "ctavr/entire/auc"}
        config = {**shop.config, **keys, **parse_pairs([columns])}
        result = run(config, folder=folder / "run")
        setattr(made, kind, SimpleNamespace(config=config, result=result, folder=result.folder, frame=frame))
    return made


def test_a_run_on_two_columns_is_that_on_their_or_to_the_last_digit(runs):
    both = (runs.two.frame[NAMES] == 1).all(axis=1)
    assert both.any()
    assert 0 < runs.two.frame["cart"].sum() < runs.one.frame["cart"].sum() == runs.two.result.log["actions"]
    assert runs.two.result.report == runs.one.result.report
    assert runs.two.result.history == runs.one.result.history
    assert runs.two.result.report.get("ctavr/entire/auc") is not None
    assert runs.two.result.history.best_value is not None, "the action is what was watched"
    for file in ("metrics.json", "history.json", "calibration.json", "vocabulary.json"):
        assert (runs.two.folder / file).read_bytes() == (runs.one.folder / file).read_bytes(), file
    two, one = (load_checkpoint(each.folder / "checkpoint.pt")["state_dict"] for each in (runs.two, runs.one))
    assert two.keys() == one.keys()
    assert all(value.equal(one[name]) for name, value in two.items())


def test_the_run_folder_names_both_columns(runs):
    assert load_yaml(runs.two.folder / "config.yaml")["ACTION_FIELD"] == NAMES
    schema = Schema.from_dict(json.loads((runs.two.folder / "schema.json").read_text()))
    assert schema.labels["action"] == tuple(NAMES)
    trained = TrainedRun.load(runs.two.folder)
    assert not set(NAMES) & set(trained.columns)


def test_a_run_folder_that_names_its_one_action_as_text_is_read(runs, tmp_path):
    folder = Path(shutil.copytree(runs.one.folder, tmp_path / "run"))
    schema = json.loads((folder / "schema.json").read_text())
    assert schema["action"] == ["cart"]
    (folder / "schema.json").write_text(json.dumps({**schema, "action": "cart"}))
    seal(folder)
    assert TrainedRun.load(folder).schema == TrainedRun.load(runs.one.folder).schema


def test_a_new_log_is_scored_and_evaluated_against_the_or(runs, shop_frame, tmp_path):
    from sklearn.metrics import roc_auc_score

    frame = _actions(shop_frame(300, 5))
    frame.to_parquet(tmp_path / "new.parquet", index=False)
    predict(runs.two.folder, tmp_path / "new.parquet", tmp_path / "scored.parquet")
    scored = pd.read_parquet(tmp_path / "scored.parquet")
    report, done = evaluate_run(runs.two.folder, tmp_path / "new.parquet", batch_rows=70)
    either = (scored["cart"] == 1) | (scored["wish_list"] == 1)
    assert report.support["ctavr/entire"].positives == int(either.sum())
    assert report.get("ctavr/entire/auc") == pytest.approx(roc_auc_score(either, scored["p_ctavr"]), abs=1e-12)
    assert not any("action" in note for note in done.notes)
    merged = frame.assign(cart=either.astype(int).to_numpy())
    merged.to_parquet(tmp_path / "merged.parquet", index=False)
    assert evaluate_run(runs.one.folder, tmp_path / "merged.parquet", batch_rows=70)[0] == report


def test_a_new_log_without_all_of_the_columns_is_evaluated_without_the_action(runs, shop_frame, tmp_path):
    frame = _actions(shop_frame(300, 5))
    frame.to_parquet(tmp_path / "whole.parquet")
    whole, _ = evaluate_run(runs.two.folder, tmp_path / "whole.parquet")
    note = "The log lacks 'wish_list' of the action columns 'cart', 'wish_list'; the action is left out."
    for absent, notes in ((["wish_list"], (note,)), (NAMES, ())):
        frame.drop(columns=absent).to_parquet(tmp_path / "part.parquet")
        report, done = evaluate_run(runs.two.folder, tmp_path / "part.parquet")
        assert done.notes == notes
        assert "ctavr/entire" not in report.support
        assert report.values == {key: value for key, value in whole.values.items() if not key.startswith("ctavr/")}
    frame.assign(wish_list=2).to_parquet(tmp_path / "part.parquet")
    with pytest.raises(ValueError, match="action column 'wish_list' must be 0 or 1; found 2"):
        evaluate_run(runs.two.folder, tmp_path / "part.parquet")
