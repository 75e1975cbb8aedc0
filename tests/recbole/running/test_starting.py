"""RecBole's own models start from another run's weights where it is known whose each row is, and say so where not."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("recbole")

import torch

from cvr_plugins.config import ConfigError
from cvr_plugins.recbole import load_data_and_model, run
from cvr_plugins.training.checkpoint import load_checkpoint

KEYS = {
    "load_col": None,
    "epochs": 1,
    "embedding_size": 6,
    "show_progress": False,
    "train_batch_size": 64,
    "use_gpu": False,
}
SEQUENCES = {"hidden_size": 6, "inner_size": 6, "n_heads": 1, "MAX_ITEM_LIST_LENGTH": 8, "train_neg_sample_args": None}


def week(folder, name, users, items, rows=900):
    """Write interactions of users and items with these numbers, in an order of their own."""
    rng = np.random.default_rng(len(name))
    (folder / name).mkdir()
    lines = [
        f"u{rng.integers(*users)}\ti{rng.integers(*items)}\t{time}.0\t{time % 2}" for time in rng.permutation(rows)
    ]
    (folder / name / f"{name}.inter").write_text(
        "\n".join(["user_id:token\titem_id:token\ttimestamp:float\tlabel:float", *lines])
    )


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Train a model on one week; return its folder and the keys of the next one."""
    monkeypatch.chdir(tmp_path)
    week(tmp_path, "old", (0, 40), (0, 23))
    week(tmp_path, "newer", (10, 52), (5, 31))

    def make(model, **keys):
        run({**KEYS, "model": model, "dataset": "old", "data_path": ".", **keys}, out="before")
        return {"dataset": "newer", "data_path": "."}

    return make


@pytest.mark.parametrize(
    ("model", "keys", "tables"),
    [
        ("BPR", {}, {"user_embedding": "user_id", "item_embedding": "item_id"}),
        ("SASRec", SEQUENCES, {"item_embedding": "item_id"}),
    ],
)
def test_known_tokens_keep_their_rows_and_new_ones_are_drawn(model, keys, tables, trained, monkeypatch):
    changed = trained(model, **keys)
    begun = []
    fit = "recbole.trainer.Trainer.fit"
    for start in ("before", None):
        with monkeypatch.context() as patch:

            def stop(trainer, *_, **__):
                begun.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
                raise KeyboardInterrupt

            patch.setattr(fit, stop)
            given = changed if start else {**KEYS, **keys, **changed, "model": model}
            with pytest.raises(KeyboardInterrupt):
                run(config_dict=given, init_from=start) if start else run(given)
    first, drawn = begun
    result = run(config_dict=changed, init_from="before", out="after")
    (note,) = result.notes
    old = load_checkpoint("before/checkpoint.pth")["state_dict"]
    tokens = [load_data_and_model(folder)[2].field2id_token for folder in ("before", "after")]
    for table, field in tables.items():
        before, now = (list(each[field]) for each in tokens)
        known = len({*before} & {*now}) - 1
        assert f"{field} {known}, {len(now) - 1 - known}, {len(before) - 1 - known}" in note
        assert 0 < known < len(now) - 1
        for row, token in enumerate(now):
            expected = old[f"{table}.weight"][before.index(token)] if token in before else drawn[f"{table}.weight"][row]
            assert torch.equal(first[f"{table}.weight"][row], expected)
    others = [name for name in first if name.removesuffix(".weight") not in tables]
    assert all(torch.equal(first[name], old[name]) for name in others)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("FM", "of the tables of FM it is not known whose a row is, and the tokens differ"),
        ("MultiVAE", r"of its encoder\..*it is not known whose each row is"),
        ("Pop", "Pop keeps what it has learnt beside its weights"),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_reason_and_equal_tokens_take_all(model, reason, trained, tmp_path):
    pairs = {"eval_args": {"mode": "labeled"}, "metrics": ["AUC"], "valid_metric": "AUC"} if model == "FM" else {}
    changed = trained(model, **({} if model == "Pop" else {"train_neg_sample_args": None}), **pairs)
    with pytest.raises(ConfigError, match=reason):
        run(config_dict=changed, init_from="before", out="after")
    assert not list(tmp_path.glob("after*"))
    if model != "Pop":
        run(config_dict={"epochs": 1}, init_from="before", out="again")
        names = load_checkpoint("again/checkpoint.pth")["state_dict"].keys()
        assert names == load_checkpoint("before/checkpoint.pth")["state_dict"].keys()


def test_another_model_is_refused(trained):
    trained("BPR")
    with pytest.raises(ConfigError, match="it trained BPR, not NeuMF"):
        run("NeuMF", init_from="before")
