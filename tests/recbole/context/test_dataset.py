"""Labels: found by the keys that name them, checked, cleaned, and never a feature."""

from __future__ import annotations

import numpy as np
import pytest
from recbole.data import create_dataset

from cvr_plugins.config import ConfigError
from cvr_plugins.data import DataError
from cvr_plugins.recbole import models

FEATURES = {"user_id", "age", "tags", "activity", "item_id", "hour", "price", "type", "vector"}
NO_FEATURE = {"click", "conversion", "cart", "wish", "truth", "timestamp"}


def test_labels_truth_and_timestamp_are_no_features(prepare, batch):
    run = prepare(models.ESMM)
    assert {field.name for field in run.model.core.encoder.fields} == FEATURES
    rows = batch(run.train)
    assert set(run.model.features(rows)) == FEATURES
    assert set(rows.columns) >= NO_FEATURE, "they are read, for training and evaluation"


def test_planted_leaks_under_any_names_teach_the_model_nothing(prepare, shop):
    # The columns tell the conversion of every row, unclicked ones included: a feature of them would give an AUC of 1.
    log = shop()
    coin = (np.random.default_rng(1).random(len(log.would)) < 0.5).astype(int)
    for name in ("hour:token", "price:float", "click:float", "conversion:float", "cart:float", "wish:float"):
        del log.columns["inter"][name]
    planted = {
        "CLICK_FIELD": "seen_it",
        "CONVERSION_FIELD": "took_it",
        "ACTION_FIELD": "held_it",
        "COUNTERFACTUAL_FIELD": "would_take_it",
    }
    for key, name in planted.items():
        log.columns["inter"][f"{name}:float"] = np.ones(len(coin), int) if key == "CLICK_FIELD" else coin
    keys = {"epochs": 3, "valid_metric": "ctcvr/entire/log_loss", "drop_columns": ["truth"]}
    run = prepare(models.Naive, log=log, **keys, **planted)
    assert not {field.name for field in run.model.core.encoder.fields} & {*planted.values()}
    run.trainer.fit(run.train, run.valid)
    auc = run.trainer.evaluate(run.test)["cvr/click/auc"]
    assert abs(auc - 0.5) < 0.15, "a coin that is thrown for every row cannot be told"


def test_the_planted_column_would_give_it_away_as_a_feature(prepare, shop):
    log = shop()
    log.columns["inter"]["given_away:float"] = log.columns["inter"]["conversion:float"]
    run = prepare(models.Naive, log=log, epochs=8, learning_rate=0.1)
    assert "given_away" in {field.name for field in run.model.core.encoder.fields}
    run.trainer.fit(run.train, run.valid)
    assert run.trainer.evaluate(run.test)["cvr/click/auc"] > 0.99


@pytest.mark.parametrize(
    ("suffix", "name", "kind", "like"),
    [
        ("inter", "is_click", "float", "label"),
        ("inter", "Conversions", "token", "label"),
        ("inter", "rating", "float_seq", "label"),
        ("user", "purchased", "float", "label"),
        ("inter", "time_ms", "float", "timestamp"),
    ],
)
def test_a_field_that_looks_like_a_label_is_refused_unless_a_key_says_what_it_is(
    suffix, name, kind, like, configure, shop
):
    log = shop()
    log.columns[suffix][f"{name}:{kind}"] = [1] * len(next(iter(log.columns[suffix].values())))
    with pytest.raises(DataError, match=f"'{name}' looks like a {like}"):
        create_dataset(configure(models.ESMM, log=log))
    if kind == "float":
        listed = create_dataset(configure(models.ESMM, log=log, float_features=[name]))
        assert name in {feature.name for feature in listed.schema.features}, "on purpose"
    dropped = create_dataset(configure(models.ESMM, log=log, drop_columns=[name]))
    assert name not in {feature.name for feature in dropped.schema.features}
    unread = create_dataset(configure(models.ESMM, log=log, unload_col={suffix: [name]}))
    assert name not in unread.field2type


MISSING = [
    ({"CLICK_FIELD": "clicks"}, r"'shop' has no field 'clicks', which CLICK_FIELD names. Did you mean click\?"),
    ({"CONVERSION_FIELD": "sale"}, r"no field 'sale', which CONVERSION_FIELD names. It has: user_id, item_id, hour, "),
    ({"ACTION_FIELD": ["cart", "fav"]}, "no field 'fav', which ACTION_FIELD names"),
    ({"COUNTERFACTUAL_FIELD": "would"}, "no field 'would', which COUNTERFACTUAL_FIELD names"),
    ({"CLICK_FIELD": "age"}, "CLICK_FIELD names 'age', which is not in its .inter file"),
    ({"load_col": {"inter": ["user_id", "item_id", "click"]}, "ACTION_FIELD": None, "COUNTERFACTUAL_FIELD": None},
     "no field 'conversion', which CONVERSION_FIELD names.* and load_col so that it is read"),
    ({"threshold": {"price": 0.5}}, "threshold .* makes one label out of a field; .* CLICK_FIELD and CONVERSION_FIELD"),
    ({"numerical_features": ["click"]}, "numerical_features names 'click', which is a label and no feature"),
    ({"normalize_field": ["cart"]}, "normalize_field names 'cart', which is a label"),
    ({"discretization": {"truth": {"method": "LD"}}}, "discretization names 'truth', which is a label"),
    ({"discretization": {"vector": {"method": "LD"}}}, "discretization names 'vector', a float_seq"),
    ({"token_features": ["price"]}, "token_features names 'price', whose type in the atomic file is float"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "message"), MISSING, ids=[str(sorted(keys)) for keys, _ in MISSING])
def test_wrong_keys_are_named(keys, message, configure):
    with pytest.raises(ConfigError, match=message):
        create_dataset(configure(models.ESMM, **keys))


SPOILT = [
    ("click", "", r"click column 'click' is missing \(NaN\) in 1 row"),
    ("click", "2", "click column 'click' must be 0 or 1; found"),
    ("conversion", "0.3", "conversion column 'conversion' must be 0 or 1; found"),
    ("conversion", "", r"conversion column 'conversion' is missing \(NaN\) in 1 row with a click"),
    ("wish", "-1", "action column 'wish' must be 0 or 1"),
    ("truth", "", "counterfactual column 'truth' is missing"),
]


@pytest.mark.parametrize(("field", "value", "message"), SPOILT)
def test_labels_that_are_not_0_or_1_are_refused_before_recbole_fills_them_in(field, value, message, configure, shop):
    log = shop()
    clicked = int(np.flatnonzero(log.click)[0])
    column = [str(each) for each in log.columns["inter"][f"{field}:float"]]
    column[clicked] = value
    log.columns["inter"][f"{field}:float"] = column
    with pytest.raises(DataError, match=f"Data set 'shop': {message}"):
        create_dataset(configure(models.ESMM, log=log))


def test_conversions_without_a_click_are_masked_and_unknown_ones_are_0(prepare, shop, batch):
    log = shop()
    unclicked = np.flatnonzero(log.click == 0)
    column = np.array(log.columns["inter"]["conversion:float"], dtype=object)
    column[unclicked[:3]], column[unclicked[3:5]] = 1, ""
    log.columns["inter"]["conversion:float"] = column
    run = prepare(models.ESMM, log=log)
    assert any("1 without a click in 3 rows; masked" in note for note in run.dataset.notes)
    assert any("missing in 2 rows without a click; set to 0" in note for note in run.dataset.notes)
    rows = batch(run.train)
    y = run.model.labels(rows)
    assert ((y.click == 0) & (y.conversion == 1)).sum() == 0


def test_labels_may_be_declared_as_tokens(prepare, shop, batch):
    log = shop()
    for name in ("click", "conversion", "cart"):
        log.columns["inter"][f"{name}:token"] = log.columns["inter"].pop(f"{name}:float")
    run = prepare(models.ESMM, log=log)
    rows = batch(run.train)
    assert set(rows["click"].tolist()) == {0.0, 1.0}
    parts = (run.train.dataset, run.valid.dataset, run.test.dataset)
    assert sum(part.inter_feat["click"].sum().item() for part in parts) == log.click.sum()


def test_several_actions_are_merged_with_or(prepare, batch):
    run = prepare(models.ESM2)
    rows = batch(run.train)
    y = run.model.labels(rows)
    expected = ((rows["cart"] > 0) | (rows["wish"] > 0)).float()
    assert y.action.tolist() == expected.tolist()
    assert (expected != rows["cart"]).any()
    frame = run.train.dataset.label_frame()
    assert int(frame["action"].sum()) == int(expected.sum())


def test_normalising_everything_leaves_labels_alone(prepare, shop, batch):
    log = shop()
    log.columns["inter"]["conversion:float"] = np.zeros(len(log.click), int)
    run = prepare(models.ESMM, log=log, normalize_all=True, valid_metric="ctr/entire/auc")
    rows = batch(run.train)
    assert rows["conversion"].sum() == 0, "RecBole would make a constant column 1"
    assert 0 <= rows["price"].min() < rows["price"].max() <= 1


def test_a_data_set_made_for_other_fields_is_refused(prepare):
    run = prepare(models.ESMM)
    run.config["CONVERSION_FIELD"] = "cart"
    with pytest.raises(ConfigError, match="ESMM needs a data set that was made for it and for the same fields"):
        models.ESMM(run.config, run.train.dataset)


def test_the_stock_context_aware_defaults_of_ml_100k_do_not_apply(configure):
    config = configure(models.ESMM, dataset="ml-100k")
    assert config["threshold"] is None
    assert config["load_col"] is None
    assert config["normalize_all"] is None
