"""A run that starts from the weights of another one: next week's data on last week's model."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from cvr_plugins.config import ConfigError
from cvr_plugins.plugins import registry
from cvr_plugins.rechub import run
from cvr_plugins.rechub.trained import TrainedRun
from cvr_plugins.training.checkpoint import load_checkpoint
from cvr_plugins.training.loop import Loop
from cvr_plugins.training.run_folder import RunFolder, RunFolderError

METHODS = [entry.key for entry in registry().entries("method") if entry.plugin == "builtin"]


class CutOff(BaseException):
    """Before the first step."""


def begun(monkeypatch, *args, **options):
    """Return the weights with which a run would make its first step."""
    found = {}

    def stop(loop, *_, **__):
        found.update({name: value.clone() for name, value in loop.model.state_dict().items()})
        raise CutOff

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "train_epoch", stop)
        with pytest.raises(CutOff):
            run(*args, **options)
    return found


@pytest.mark.parametrize("method", METHODS)
def test_on_the_same_data_every_method_begins_as_the_run_ended(method, shop, tmp_path, monkeypatch):
    folder = run({**shop.config, "model": method, "epochs": 1, "dense": "tanh"}, folder=tmp_path / "old").folder
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    found = begun(monkeypatch, {"learning_rate": 0.5}, init_from=folder)
    old = load_checkpoint(folder / "checkpoint.pt")["state_dict"]
    # The rows that IdeFN remembers are ids of the old vocabulary.
    assert not found.get("objective.memory.seen")
    kept = {name for name in old if not name.startswith("objective.memory.")}
    assert kept <= found.keys()
    assert all(torch.equal(old[name], found[name]) for name in kept)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def week(number: int, rows: int = 1500) -> pd.DataFrame:
    """Exposures whose clicks and conversions follow from user and item; a fifth of both is new each week."""
    rng = np.random.default_rng(number)
    user, item = rng.integers(10 * number, 10 * number + 50, rows), rng.integers(4 * number, 4 * number + 20, rows)
    click = rng.random(rows) < 0.15 + 0.7 * (user % 2)
    tags = [["even", f"t{i % 4}"] if i % 2 == 0 else [f"t{i % 4 + number}"] for i in item]
    return pd.DataFrame(
        {
            "user_id": [f"u{each}" for each in user],
            "item_id": [f"i{each}" for each in item],
            "tags": tags,
            "price": 100.0 * number + item + rng.random(rows),
            "click": click.astype(int),
            "conversion": (click & (rng.random(rows) < 0.1 + 0.8 * (item % 2))).astype(int),
        }
    )


@pytest.fixture(scope="module")
def weeks(tmp_path_factory):
    """The files of two weeks, and the folder of a run on the first."""
    folder = tmp_path_factory.mktemp("weeks")
    files = [str(folder / f"{number}.parquet") for number in (0, 1)]
    for number, file in enumerate(files):
        week(number).to_parquet(file, index=False)
    config = {
        "model": "ESMM",
        "dataset": files[0],
        "item_features": ["tags", "price"],
        "dims": [8],
        "dense": "tanh",
        "embedding_size": 4,
        "train_batch_size": 64,
        "epochs": 6,
        "learning_rate": 0.01,
        "show_progress": False,
        "checkpoint_dir": str(folder),
    }
    return files, run(config, folder=folder / "old").folder


def test_next_weeks_data_on_last_weeks_model(weeks, tmp_path, monkeypatch):
    (_, file), folder = weeks
    notes: list[str] = []
    keys = {"dataset": file, "epochs": 1}
    warm = run(keys, init_from=folder, folder=tmp_path / "warm", on_note=notes.append)
    cold = run({**TrainedRun.load(folder).config.to_dict(), **keys}, folder=tmp_path / "cold")
    for metric in ("ctr/entire/auc", "ctcvr/entire/auc"):
        assert warm.report[metric] > cold.report[metric] + 0.05
    counted = "user_id 40, 10, 10; item_id 16, 4, 4; tags 3, 1, 2."
    assert notes == [f"Starts from the weights of {folder}: tokens known, new, gone: {counted}"]
    assert list(warm.notes) == notes
    assert RunFolder.open(warm.folder).about["init_from"] == notes[0]

    old, new = TrainedRun.load(folder), TrainedRun.load(warm.folder)
    first, fresh = begun(monkeypatch, keys, init_from=folder), begun(monkeypatch, {**old.config.to_dict(), **keys})
    for number, name in enumerate(["user_id", "item_id", "tags"]):
        place = f"encoder.tables.{number}.weight"
        before = [None, None, *old.vocabulary.tokens[name]]
        for row, token in enumerate([None, None, *new.vocabulary.tokens[name]]):
            known = row if token is None else before.index(token) if token in before else None
            expected = fresh[place][row] if known is None else old.model.state_dict()[place][known]
            assert torch.equal(first[place][row], expected)
    # Prices are 100 higher: the layers behind were trained on values scaled by last week's mean.
    assert torch.equal(first["encoder.dense_mean"], old.model.state_dict()["encoder.dense_mean"])
    assert not torch.equal(first["encoder.dense_mean"], fresh["encoder.dense_mean"])


def test_what_was_made_in_the_old_training_is_made_anew(weeks, tmp_path):
    (_, file), folder = weeks
    keys = {"model": "AS_IPS", "warm_up": 1, "epochs": 2}
    old = run({**TrainedRun.load(folder).config.to_dict(), **keys}, folder=tmp_path / "old")
    assert TrainedRun.load(old.folder).model.objective.labelling is not None
    new = run({"dataset": file}, init_from=old.folder, folder=tmp_path / "new")
    assert new.notes[0].endswith("Begun anew, since it is of the old rows: objective.")
    assert [record.diagnostics.get("agreed") is None for record in new.history.records] == [True, False]


def test_it_is_taken_up_without_the_run_that_it_started_from(weeks, tmp_path, monkeypatch):
    (_, file), folder = weeks
    keys = {"dataset": file, "epochs": 2}
    whole = run(keys, init_from=folder, folder=tmp_path / "whole").folder
    copy = shutil.copytree(folder, tmp_path / "copy" / "old")
    train, calls = Loop.train_batch, itertools.count()

    def cut(*args):
        if next(calls) == 20:
            raise CutOff
        return train(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "train_batch", cut)
        with pytest.raises(CutOff):
            run({**keys, "checkpoint_minutes": 1e-9}, init_from=copy, folder=tmp_path / "cut")
    shutil.rmtree(copy)
    found = run(resume=tmp_path / "cut").folder
    weights = [load_checkpoint(each / "checkpoint.pt")["state_dict"] for each in (whole, found)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert [note.replace(str(copy), str(folder)) for note in RunFolder(found).read_json("metrics.json")["notes"]] == (
        RunFolder(whole).read_json("metrics.json")["notes"]
    )


REFUSED = {
    "model": ({"model": "Naive"}, "it trained builtin:ESMM, not builtin:Naive"),
    "backbone": ({"backbone": "ncf"}, "its backbone was 'mlp', not 'ncf'"),
    "architecture": ({"architecture": "mmoe"}, "its architecture was 'towers', not 'mmoe'"),
    "widths": ({"dims": [8, 8]}, r"its dims was \[8\], not \[8, 8\]"),
    "embeddings": ({"embedding_size": 8}, "its embedding_size was 4, not 8"),
    "dense": ({"dense": "raw"}, "its dense was 'tanh', not 'raw'"),
    "weighting": ({"weighting": "dtp"}, "its weighting was None, not 'dtp'"),
    "gone": ({"inputs": ["user_id", "item_id", "price"]}, "it saw the feature 'tags', which there is not now"),
    "kind": ({"token_features": ["price"]}, "the feature 'price' was float item, not token item"),
    "side": ({"item_features": ["price"], "user_features": ["tags"]}, "'tags' was token_seq item, not token_seq user"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_named(case, weeks, tmp_path, monkeypatch):
    keys, message = REFUSED[case]
    monkeypatch.setattr(Loop, "train_batch", lambda *_: pytest.fail("trained"))
    with pytest.raises(ConfigError, match=f"cannot start from the weights of .*old: .*{message}"):
        run({"dataset": weeks[0][1], **keys}, init_from=weeks[1], folder=tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_other_columns_and_their_order_are_named(weeks, tmp_path):
    for frame, message in (
        (week(1).assign(colour="red"), "did not see the feature 'colour'; inputs or drop_columns"),
        (week(1)[[*week(1).columns.drop("tags"), "tags"]], "in another order: 'tags' where 'price' is now"),
    ):
        frame.to_parquet(tmp_path / "other.parquet", index=False)
        with pytest.raises(ConfigError, match=message):
            run({"dataset": str(tmp_path / "other.parquet")}, init_from=weeks[1], folder=tmp_path / "new")


def test_a_run_that_is_not_whole_is_not_started_from(weeks, tmp_path):
    folder = shutil.copytree(weeks[1], tmp_path / "old.unfinished")
    with pytest.raises(RunFolderError, match=r"not finished: .*--resume"):
        run(init_from=folder)
    folder = folder.rename(tmp_path / "old")
    with (folder / "checkpoint.pt").open("r+b") as file:
        file.seek(-300, 2)
        file.write(b"?")
    with pytest.raises(RunFolderError, match=r"checkpoint.pt is not what was written"):
        run(init_from=folder)
    with pytest.raises(ConfigError, match="not both"):
        run(init_from=folder, resume=folder)
