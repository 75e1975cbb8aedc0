"""PARS as a RecBole model: what it is trained on, what its options do, and that training can be interrupted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvr_plugins.config import ConfigError


def state(run):
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def differences(one, other):
    return {name for name, value in one.items() if not torch.equal(value, other[name])}


@pytest.mark.parametrize("poison", ["other purchases", "no column"])
def test_training_is_the_same_whatever_was_purchased(poison, make_events, write, recbole):
    events = make_events()
    coin = np.random.default_rng(1).integers(0, 2, len(events))
    poisoned = [
        (*event[:3], int(bit) if poison == "other purchases" else 0) for event, bit in zip(events, coin, strict=True)
    ]
    columns = ["session_id", "item_id", "timestamp", *(["purchase"] if poison != "no column" else [])]
    honest = recbole("PARS", write(events))
    honest.trainer.fit(honest.train, saved=False)
    run = recbole("PARS", write(poisoned, name="poisoned"), load_col={"inter": columns})
    started = state(run)
    run.trainer.fit(run.train, saved=False)
    assert_equal(state(run), state(honest))
    # Everything that is trained was: the test would show it.
    assert differences(started, state(run)) >= {"core.encoder.item_embedding.weight", "core.labels.value"}


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("PARS", {"hidden_dropout_prob": 0.3, "attn_dropout_prob": 0.3}),
        ("PARS", {"length_buckets": 3}),
        ("MaskedRec", {}),
    ],
    ids=["dropout", "buckets", "MaskedRec"],
)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(model, options, make_events, write, recbole):
    found = write(make_events())
    options = {**options, "epochs": 4, "stopping_step": 9}
    whole = recbole(model, found, **options)
    started = state(whole)
    whole.trainer.fit(whole.train, whole.valid, show_progress=False)

    class Interrupted(Exception):
        pass

    def interrupt(epoch, _score):
        if epoch == 1:
            raise Interrupted

    first = recbole(model, found, **options)
    with pytest.raises(Interrupted):
        first.trainer.fit(first.train, first.valid, show_progress=False, callback_fn=interrupt)
    second = recbole(model, found, **options)
    second.trainer.resume_checkpoint(first.trainer.saved_model_file)
    assert second.trainer.start_epoch in (1, 2)
    second.trainer.fit(second.train, second.valid, show_progress=False)
    assert_equal(state(second), state(whole))
    if model == "PARS":
        assert "core.labels.value" in differences(started, state(second))


@pytest.mark.parametrize("learner", ["adam", "adamw", "sgd"])
def test_the_optimiser_is_recboles(learner, make_events, write, recbole):
    from recbole.trainer import Trainer

    found, ends = write(make_events()), []
    for stock in (False, True):
        run = recbole("PARS", found, learner=learner, weight_decay=0.1, learning_rate=0.01)
        run.model.double()
        if stock:
            run.trainer.optimizer = Trainer._build_optimizer(run.trainer)
        assert run.trainer.optimizer.defaults.get("fused") == ((not stock and learner.startswith("adam")) or None)
        run.trainer.fit(run.train, saved=False, show_progress=False)
        ends.append(state(run))
    for name in ends[0]:
        one, other = (end[name] for end in ends)
        if name.endswith("query_key_value.bias"):
            # A softmax does not see the keys' bias: its gradient is rounding, which Adam scales up to a step.
            one, other = (each.view(3, -1)[[0, 2]] for each in (one, other))
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8, msg=name)


def batches_of(run, monkeypatch):
    seen, step = [], run.model.core.step
    monkeypatch.setattr(run.model.core, "step", lambda ids, rows: (seen.append((ids, rows)), step(ids, rows))[1])
    run.trainer.fit(run.train, saved=False, show_progress=False)
    return seen


def test_length_buckets_hold_sessions_of_like_length_and_each_once_an_epoch(make_events, write, recbole, monkeypatch):
    found = write(make_events(sessions=90, longest=30, shortest=2))
    padding = {}
    for window in (None, 100):
        run = recbole("PARS", found, MAX_ITEM_LIST_LENGTH=30, length_buckets=window, epochs=2)
        batches = batches_of(run, monkeypatch)
        half = len(batches) // 2
        orders = [torch.cat([ids for ids, _ in part]).tolist() for part in (batches[:half], batches[half:])]
        assert [sorted(order) for order in orders] == [list(range(len(run.train._dataset)))] * 2
        assert orders[0] != orders[1]
        lengths = [(rows != 0).sum(1) for _, rows in batches]
        padding[window] = sum(int((each.max() - each).sum()) for each in lengths)
    assert padding[100] < padding[None] / 3


def test_every_session_is_trained_on_with_its_own_labels(make_events, write, recbole, monkeypatch):
    run = recbole("PARS", write(make_events()))
    labels, sessions = run.model.core.labels, run.train._dataset.sessions()
    assert len(labels) == len(run.train._dataset)
    for ids, rows in batches_of(run, monkeypatch):
        for session, row in zip(ids.tolist(), rows, strict=True):
            events = sessions.item[sessions.ptr[session] : sessions.ptr[session + 1]]
            assert row[row != 0].tolist() == events.tolist()
            assert labels.item[labels.ptr[session] : labels.ptr[session + 1]].tolist() == sorted(set(events.tolist()))


@pytest.mark.parametrize("model", ["PARS", "MaskedRec"])
def test_the_three_ways_to_score_agree(model, make_events, write, recbole):
    run = recbole(model, write(make_events()))
    run.trainer.fit(run.train, saved=False, show_progress=False)
    run.model.eval()
    batch = next(iter(run.test))[0]
    scores = run.model.full_sort_predict(batch)
    assert scores.shape == (len(batch), run.model.n_items)
    assert (scores[:, 0] == -torch.inf).all()
    items = torch.randint(0, run.model.n_items, (len(batch), 4))
    torch.testing.assert_close(run.model.score_items(batch, items), scores.gather(1, items))
    torch.testing.assert_close(run.model.predict(batch), scores.gather(1, batch["item_id"][:, None])[:, 0])


@pytest.mark.parametrize(("model", "mode"), [("PARS", "uni5"), ("MaskedRec", "full")])
def test_recboles_own_protocols_run(mode, model, make_events, write, recbole):
    run = recbole(model, write(make_events()), eval_args={"mode": mode}, metrics=["NDCG", "MRR"])
    best, valid = run.trainer.fit(run.train, run.valid, show_progress=False)
    assert best == valid["ndcg@3"]
    assert set(run.trainer.evaluate(run.test)) == {"ndcg@1", "ndcg@3", "mrr@1", "mrr@3"}


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
    "length_buckets": 2,
    "MAX_ITEM_LIST_LENGTH": 4,
}
OF_PARS = {
    "eval_args": {"split": {"LS": "valid_and_test"}},
    "tie_mlm": True,
    "mlm_transform": True,
    "projection_size": 5,
    "mlm_weight": 0.3,
    "alpha_new": 0.7,
    "pll_order": "code",
    "train_batch_size": 5,
    "learner": "sgd",
    "learning_rate": 0.05,
    "weight_decay": 0.5,
    "clip_grad_norm": {"max_norm": 0.01},
}
OF_MASKED_REC = {
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none"},
    "tie_mlm": False,
    "mlm_transform": False,
    "ft_ratio": 0.0,
    "augmentation": "sessions",
}
TRIED = {"PARS": {**OPTIONS, **OF_PARS}, "MaskedRec": {**OPTIONS, **OF_MASKED_REC}}


def trained(recbole, found, model, **options):
    run = recbole(model, found, **{"epochs": 1, **options})
    run.trainer.fit(run.train, saved=False, show_progress=False)
    return state(run)


@pytest.mark.parametrize("model", TRIED)
def test_every_option_changes_what_is_trained(model, make_events, write, recbole):
    from cvr_plugins.recbole import sequential

    others = {"chunk_size", "detect_anomaly", "PURCHASE_FIELD", "train_neg_sample_args", "metrics", "valid_metric"}
    assert set(getattr(sequential, model).recbole_defaults) - others <= set(TRIED[model])
    found = write(make_events(sessions=20, shortest=2))
    plain = trained(recbole, found, model)
    for option, value in TRIED[model].items():
        changed = trained(recbole, found, model, **{option: value})
        shapes = [{name: tuple(each.shape) for name, each in weights.items()} for weights in (plain, changed)]
        assert shapes[0] != shapes[1] or differences(plain, changed), option


def test_the_losses_have_names_and_recbole_adds_them_up(make_events, write, recbole):
    found = write(make_events())
    run = recbole("PARS", found, mlm_weight=2.0)
    batch = next(iter(run.train))
    losses = run.model.calculate_loss(batch)
    assert losses._fields == ("pll", "mlm")
    assert isinstance(losses, tuple)
    alone = recbole("PARS", found, mlm_weight=0)
    assert alone.model.calculate_loss(batch)._fields == ("pll",)
    assert recbole("MaskedRec", found).model.calculate_loss(batch)._fields == ("mlm",)
    assert len(run.trainer._train_epoch(run.train, 0)) == 2


BAD = [
    ({"hidden_size": 9}, "PARS: hidden_size must be a multiple of n_heads; got 9 and 2"),
    ({"n_layers": 0}, "n_layers must be a whole number of at least 1; got 0"),
    ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob must be a number in .0, 1."),
    ({"hidden_act": "elu"}, "hidden_act must be one of 'gelu', 'relu', 'swish', 'tanh', 'sigmoid'; got 'elu'"),
    ({"input_norm": "yes"}, "input_norm must be true or false; got 'yes'"),
    ({"projection_size": 0}, "projection_size must be a whole number of at least 1; got 0"),
    ({"mask_ratio": 0}, "mask_ratio must be a number in .0, 1.; got 0"),
    ({"mlm_weight": -1}, "mlm_weight must be a finite number of at least 0; got -1"),
    ({"tie_mlm": 1}, "tie_mlm must be true or false; got 1"),
    ({"mlm_transform": 0}, "mlm_transform must be true or false; got 0"),
    ({"alpha_new": 1.1}, "alpha_new must be a number in .0, 1.; got 1.1"),
    ({"pll_order": "program"}, "pll_order must be one of 'paper', 'code'; got 'program'"),
    ({"chunk_size": -3}, "chunk_size must be a whole number of at least 1; got -3"),
    ({"MAX_ITEM_LIST_LENGTH": 0}, "max_length must be a whole number of at least 1; got 0"),
    ({"length_buckets": 0}, "length_buckets must be a whole number of at least 1; got 0"),
    ({"detect_anomaly": "no"}, "detect_anomaly must be true or false; got 'no'"),
    ({"learner": "lion"}, "learner must be one of adam, adamw, sgd, adagrad, rmsprop; got 'lion'"),
    ({"loss_type": "BPR", "train_neg_sample_args": None}, "PARS has a loss of its own; leave out loss_type: BPR"),
    ({"transform": "mask_itemseq"}, "PARS does its own masking; leave out transform: mask_itemseq"),
    ({"train_neg_sample_args": {"distribution": "uniform"}}, "PARS trains without negative samples"),
    ({"model": "MaskedRec", "ft_ratio": 1.2}, "MaskedRec: ft_ratio must be a number in .0, 1.; got 1.2"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message for _, message in BAD])
def test_an_option_that_cannot_be_is_refused(options, message, make_events, write, recbole):
    with pytest.raises(ConfigError, match=message):
        recbole(**{"model": "PARS", "found": write(make_events(shortest=2)), **options})


@pytest.mark.parametrize("model", ["PARS", "MaskedRec"])
def test_mixed_precision_trains_about_the_same(model, make_events, write, recbole):
    found, losses = write(make_events()), []
    for mixed in (False, True):
        run = recbole(model, found, enable_amp=mixed, hidden_dropout_prob=0.0, attn_dropout_prob=0.0)
        run.trainer.fit(run.train, saved=False, show_progress=False)
        losses.append(list(run.trainer.train_loss_dict.values()))
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


def test_batches_of_another_data_set_are_refused(make_events, write, recbole):
    run = recbole("PARS", write(make_events()))
    batch = next(iter(run.train))
    batch.drop("session_row")
    with pytest.raises(ConfigError, match="needs the field 'session_row' of SessionDataset"):
        run.model.calculate_loss(batch)


def test_recboles_own_data_set_is_refused(make_events, write, recbole):
    from recbole.data.dataset import SequentialDataset

    run = recbole("PARS", write(make_events()))
    with pytest.raises(ConfigError, match="PARS needs a SessionDataset, not SequentialDataset"):
        type(run.model)(run.config, SequentialDataset(run.config).build()[0])


def test_gradients_are_not_searched_for_nan_unless_asked(make_events, write, recbole, monkeypatch):
    found = write(make_events())
    for wanted in (False, True):
        run = recbole("PARS", found, epochs=1, detect_anomaly=wanted)
        seen, step = [], run.model.core.step
        monkeypatch.setattr(
            run.model.core,
            "step",
            lambda *a, step=step, seen=seen: (seen.append(torch.is_anomaly_enabled()), step(*a))[1],
        )
        with torch.autograd.set_detect_anomaly(True):
            run.trainer.fit(run.train, saved=False, show_progress=False)
            assert torch.is_anomaly_enabled()
        assert set(seen) == {wanted}
