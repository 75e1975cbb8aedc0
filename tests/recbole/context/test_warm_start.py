"""A CVR method's run in RecBole that starts from the weights of another one, row by row of its token maps."""

from __future__ import annotations

import pytest
import torch

from cvr_plugins.config import ConfigError
from cvr_plugins.recbole import load_data_and_model, run
from cvr_plugins.training.loop import Loop
from cvr_plugins.training.run_folder import RunFolder, RunFolderError


@pytest.fixture
def old(configure):
    """The folder of a run."""
    return run(configure("ESMM", dense="tanh"), out="old").folder


@pytest.fixture
def first(monkeypatch):
    """The weights before the first step of each epoch that is trained."""
    found, train = [], Loop.train_epoch

    def remembered(loop, *args, **options):
        found.append({f"core.{name}": value.clone() for name, value in loop.model.state_dict().items()})
        return train(loop, *args, **options)

    monkeypatch.setattr(Loop, "train_epoch", remembered)
    return found


def test_on_the_same_data_it_begins_as_the_run_ended(old, first):
    before = {file.name: file.read_bytes() for file in old.iterdir()}
    found = run(init_from=old, config_dict={"epochs": 1}, out="new")
    weights = load_data_and_model(old)[1].state_dict()
    assert weights.keys() == first[0].keys()
    assert all(torch.equal(weights[name], first[0][name]) for name in weights)
    assert "user_id 40, 0, 0; age 6, 0, 0;" in found.notes[-1]
    assert RunFolder.open("new").about["init_from"] == found.notes[-1]
    assert {file.name: file.read_bytes() for file in old.iterdir()} == before


def test_known_tokens_keep_their_rows_and_new_ones_are_drawn(old, first, shop, configure):
    _, was, before, *_ = load_data_and_model(old)
    log = shop(seed=1)
    for suffix, name in (("inter", "item_id:token"), ("item", "item_id:token")):
        log.columns[suffix][name] = [f"i{int(item[1:]) + 6}" for item in log.columns[suffix][name]]
    for options in ({"init_from": old}, {}):
        run(
            configure("ESMM", log=log, dense="tanh", epochs=1, learning_rate=0.001),
            out="new" if options else "cold",
            **options,
        )
    warm, cold = first
    _, _, now, *_ = load_data_and_model("new")
    assert torch.equal(warm["core.encoder.dense_mean"], was.core.encoder.dense_mean)
    names = [field.name for field in was.core.encoder.embedded]
    weights = was.state_dict()
    for number, name in enumerate(names):
        place = f"core.encoder.tables.{number}.weight"
        known = before.field2token_id[name]
        for row, token in enumerate(now.field2id_token[name]):
            expected = weights[place][known[token]] if token in known else cold[place][row]
            assert torch.equal(warm[place][row], expected)
    values = {name: RunFolder.open(name).read_json("history.json")["best_value"] for name in ("new", "cold")}
    assert values["new"] > values["cold"] + 0.1


def test_it_is_taken_up_without_the_run_that_it_started_from(old, configure, monkeypatch):
    whole = run(init_from=old, config_dict={"epochs": 2}, out="whole")
    train = Loop.train_epoch

    def killed(loop, batches, epoch, **options):
        if epoch == 1:
            raise SystemExit
        return train(loop, batches, epoch, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "train_epoch", killed)
        with pytest.raises(SystemExit):
            run(init_from=old, config_dict={"epochs": 2}, out="cut")
    old.rename("elsewhere")
    found = run(resume="cut")
    assert found.notes == whole.notes
    assert found.history == whole.history
    assert RunFolder.open("cut").about == RunFolder.open("whole").about


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        ("Naive", {}, "it trained builtin:ESMM, not builtin:Naive"),
        ("ESMM", {"dims": [4, 4]}, r"its dims was \[8\], not \[4, 4\]"),
        ("ESMM", {"inputs": ["user_id", "item_id"]}, "it saw the feature 'age', which there is not now"),
        ("ESMM", {"normalize_all": True}, "normalize_all scales numbers by the range of each data set"),
        ("FM", {}, "it trained ESMM, not FM"),
    ],
)
def test_what_does_not_fit_is_named(model, keys, message, old, tmp_path):
    with pytest.raises(ConfigError, match=message):
        run(init_from=old, model=model, config_dict=keys, out="new")
    assert not list(tmp_path.glob("new*"))


def test_a_run_of_recboles_own_model_or_of_the_other_side_is_not_started_from(old, configure):
    from cvr_plugins.rechub import run as run_rechub

    with pytest.raises(RunFolderError, match="a run of recbole; one of torch-rechub starts from"):
        run_rechub(init_from=old)
    (old / "vocabulary.json").unlink()
    with pytest.raises(RunFolderError, match=r"no vocabulary.json"):
        run(init_from=old)
