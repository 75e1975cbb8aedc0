"""MaskedRec as a RecBole model: that it learns what comes next, and what its options do."""

from __future__ import annotations

import numpy as np
import pytest


def cyclic_events(sessions=60, items=5):
    """After item i comes item i + 1; where a session starts is random."""
    random, events, time = np.random.default_rng(0), [], 1_700_000_000
    for session in range(sessions):
        first, length = random.integers(0, items), random.integers(4, 9)
        for step in range(length):
            time += 1
            events.append((f"s{session}", f"i{(first + step) % items}", time, 0))
    return events


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


def test_options_of_recboles_bert4rec_are_taken_by_name(make_events, write, recbole):
    """A configuration of BERT4Rec, with nothing but the model's name and the transform changed."""
    bert4rec = {"loss_type": "CE", "ft_ratio": 0.5, "mask_ratio": 0.2, "hidden_act": "gelu", "n_heads": 2}
    run = recbole("MaskedRec", write(make_events()), **bert4rec)
    run.trainer.fit(run.train, saved=False, show_progress=False)
