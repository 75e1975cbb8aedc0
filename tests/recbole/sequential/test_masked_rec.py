"""MaskedRec as a RecBole model: that it learns what comes next, and what its options do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvr_plugins.config import ConfigError

OPTIONS = {
    "hidden_size": 12,
    "n_layers": 2,
    "n_heads": 1,
    "inner_size": 20,
    "hidden_dropout_prob": 0.5,
    "attn_dropout_prob": 0.5,
    "hidden_act": "relu",
    "layer_norm_eps": 0.1,
    "initializer_range": 0.1,
    "input_norm": False,
    "mask_ratio": 0.6,
    "ft_ratio": 0.0,
    "tie_mlm": False,
    "mlm_transform": False,
    "augmentation": "sessions",
    "length_buckets": 2,
    "MAX_ITEM_LIST_LENGTH": 4,
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none"},
}


def cyclic_events(sessions=60, items=5):
    """After item i comes item i + 1; where a session starts is random."""
    random, events, time = np.random.default_rng(0), [], 1_700_000_000
    for session in range(sessions):
        first, length = random.integers(0, items), random.integers(4, 9)
        for step in range(length):
            time += 1
            events.append((f"s{session}", f"i{(first + step) % items}", time, 0))
    return events


def trained(recbole, found, **options):
    run = recbole("MaskedRec", found, **{"epochs": 1, **options})
    run.trainer.fit(run.train, saved=False, show_progress=False)
    return {name: value.clone() for name, value in run.model.state_dict().items()}


@pytest.mark.parametrize("augmentation", ["sessions", "prefixes"])
def test_it_learns_what_comes_next(augmentation, write, recbole):
    run = recbole(
        "MaskedRec",
        write(cyclic_events()),
        augmentation=augmentation,
        eval_args={"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none"},
        MAX_ITEM_LIST_LENGTH=10,
        hidden_size=16,
        epochs=60 if augmentation == "sessions" else 15,
        train_batch_size=32,
        learning_rate=0.01,
        hidden_dropout_prob=0.0,
        attn_dropout_prob=0.0,
    )
    run.trainer.fit(run.train, saved=False, show_progress=False)
    assert run.trainer.evaluate(run.test, load_best_model=False)["hit@1"] > 0.9


def test_recboles_protocol_is_the_default(make_events, write, recbole):
    run = recbole("MaskedRec", write(make_events(shortest=4)))
    assert len(run.valid._dataset) == len(run.test._dataset) == 40
    assert run.config["eval_args"]["split"] == {"LS": "valid_and_test"}


def test_the_three_ways_to_score_agree(make_events, write, recbole):
    run = recbole("MaskedRec", write(make_events()))
    run.trainer.fit(run.train, saved=False, show_progress=False)
    run.model.eval()
    batch = next(iter(run.test))[0]
    scores = run.model.full_sort_predict(batch)
    assert (scores[:, 0] == -torch.inf).all()
    items = torch.randint(0, run.model.n_items, (len(batch), 4))
    torch.testing.assert_close(run.model.score_items(batch, items), scores.gather(1, items))
    torch.testing.assert_close(run.model.predict(batch), scores.gather(1, batch["item_id"][:, None])[:, 0])


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_what_is_trained(option, make_events, write, recbole):
    found = write(make_events(shortest=2))
    plain, changed = trained(recbole, found), trained(recbole, found, **{option: OPTIONS[option]})
    same = plain.keys() == changed.keys() and all(torch.equal(value, changed[name]) for name, value in plain.items())
    assert not same


def test_every_option_is_tried_above():
    from cvr_plugins.recbole.sequential import MaskedRec

    others = {"chunk_size", "detect_anomaly", "PURCHASE_FIELD", "train_neg_sample_args", "metrics", "valid_metric"}
    assert set(MaskedRec.recbole_defaults) - others <= set(OPTIONS)


def test_a_batch_with_nothing_to_mask_has_no_loss(make_events, write, recbole):
    run = recbole("MaskedRec", write(make_events()))
    batch = next(iter(run.train))
    batch["item_id_list"][:, 1:] = 0
    losses = run.model.calculate_loss(batch)
    assert losses._fields == ("mlm",)
    assert losses.mlm.item() == 0
    losses.mlm.backward()


def test_interrupted_training_ends_as_an_uninterrupted_one(make_events, write, recbole):
    found = write(make_events())
    whole = recbole("MaskedRec", found, epochs=3)
    whole.trainer.fit(whole.train, show_progress=False)
    first = recbole("MaskedRec", found, epochs=2)
    first.trainer.fit(first.train, show_progress=False)
    second = recbole("MaskedRec", found, epochs=3)
    second.trainer.resume_checkpoint(first.trainer.saved_model_file)
    second.trainer.fit(second.train, show_progress=False)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ft_ratio": 1.2}, "MaskedRec: ft_ratio must be a number in .0, 1.; got 1.2"),
        ({"mask_ratio": 1}, "mask_ratio must be a number in .0, 1."),
        ({"MAX_ITEM_LIST_LENGTH": 1}, "max_length must be at least 2"),
        ({"transform": "mask_itemseq"}, "MaskedRec does its own masking"),
        ({"loss_type": "BPR"}, "MaskedRec has a loss of its own"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options, message, make_events, write, recbole):
    with pytest.raises(ConfigError, match=message):
        recbole("MaskedRec", write(make_events(shortest=2)), **options)


def test_options_of_recboles_bert4rec_are_taken_by_name(make_events, write, recbole):
    """A configuration of BERT4Rec, with nothing but the model's name and the transform changed."""
    bert4rec = {"loss_type": "CE", "ft_ratio": 0.5, "mask_ratio": 0.2, "hidden_act": "gelu", "n_heads": 2}
    assert trained(recbole, write(make_events()), **bert4rec)
