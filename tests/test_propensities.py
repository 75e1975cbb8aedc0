"""Propensity models: against a regression made by hand, and what they refuse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cvr_plugins.data import DataError, Feature, FunnelLog, Schema
from cvr_plugins.propensities import PROPENSITIES, describe, fit_propensity

FEATURES = (Feature("town", "token", "user"), Feature("tags", "token_seq", "item"), Feature("price", "float", "item"))
SCHEMA = Schema("user", "item", "click", "conversion", propensity="truth", features=FEATURES)
TAGS = np.array(["tea", "mug", "pot"], dtype=object)


def make_log(rows=3000, seed=0):
    """Clicks drawn from additive effects of town, tags and price; the ids have no effect of their own."""
    rng = np.random.default_rng(seed)
    town, bits, price = rng.integers(0, 3, rows), rng.integers(0, 2, (rows, 3)), rng.normal(3, 2, rows)
    truth = 1 / (1 + np.exp(-(np.array([-1.5, 0.0, 1.0])[town] + bits @ [0.8, -0.5, 0.3] - 0.4 * (price - 3))))
    click = (rng.random(rows) < truth).astype(int)
    frame = pd.DataFrame(
        {
            "user": rng.integers(0, 20, rows).astype(str),
            "item": rng.integers(0, 15, rows).astype(str),
            "click": click,
            "conversion": click * rng.integers(0, 2, rows),
            "truth": truth,
            "town": np.array(["a", "b", "c"], dtype=object)[town],
            "tags": [list(TAGS[row == 1]) for row in bits],
            "price": price,
        }
    )
    return FunnelLog.from_frame(frame, SCHEMA)


@pytest.mark.parametrize("crossed", [False, True])
def test_logistic_features_are_the_regression_on_the_design_made_by_hand(crossed):
    """Crossed, with every product of a user's and an item's column."""
    from sklearn.linear_model import LogisticRegression

    log = make_log(400)
    price = log.frame["price"].to_numpy()
    users = np.column_stack([(log.frame["town"] == name).astype(float) for name in ("a", "b", "c")])
    tags = [np.array([float(tag in row) for row in log.frame["tags"]]) for tag in TAGS]
    items = np.column_stack([*tags, (price - price.mean()) / price.std()])
    products = [user * item for user in users.T for item in items.T]
    design = np.column_stack([users, items, *(products if crossed else [])])
    theirs = LogisticRegression(C=0.3, max_iter=1000).fit(design, log.frame["click"]).predict_proba(design)[:, 1]
    found = fit_propensity("logistic_features", log, C=0.3, crossed=crossed).predict(log)
    np.testing.assert_allclose(found, theirs, atol=2e-4)
    other = fit_propensity("logistic_features", log, C=0.3, crossed=not crossed).predict(log)
    assert np.abs(found - other).max() > 0.01


def test_crossed_without_features_of_both_sides_is_the_regression_without():
    log = make_log(300)
    one_side = FunnelLog(log.frame, Schema("user", "item", "click", "conversion", features=(SCHEMA.features[2],)))
    alone, crossed = (fit_propensity("logistic_features", one_side, crossed=each) for each in (False, True))
    np.testing.assert_array_equal(alone.predict(one_side), crossed.predict(one_side))


def test_logistic_ids_reads_the_ids_alone():
    log = make_log(500)
    other = log.frame.assign(price=0.0, town="a")
    found = fit_propensity("logistic_ids", log).predict(log)
    again = fit_propensity("logistic_ids", FunnelLog.from_frame(other, SCHEMA)).predict(log)
    np.testing.assert_array_equal(found, again)
    by_pair = pd.DataFrame({"user": log.frame["user"], "item": log.frame["item"], "p": found})
    assert by_pair.groupby(["user", "item"], observed=True)["p"].nunique().max() == 1
    assert len(set(found)) > 100


def test_an_unknown_user_gets_a_propensity_between_those_of_known_ones():
    log = make_log(500)
    model = fit_propensity("logistic_ids", log)
    stranger = FunnelLog.from_frame(log.frame.assign(user="nobody"), SCHEMA)
    assert model.predict(log).min() < model.predict(stranger).min()
    assert model.predict(stranger).max() < model.predict(log).max()


def test_uniform_is_the_click_rate_and_column_the_column():
    log = make_log(200)
    assert set(fit_propensity("uniform", log).predict(log)) == {log.frame["click"].mean()}
    np.testing.assert_array_equal(fit_propensity("column", log).predict(log), log.frame["truth"])


@pytest.mark.parametrize("name", PROPENSITIES)
def test_every_model_gives_a_probability_per_row(name):
    log = make_log(200)
    found = fit_propensity(name, log).predict(make_log(50, seed=2))
    assert found.shape == (50,)
    assert found.dtype == np.float64
    assert ((found > 0) & (found < 1)).all()


def test_what_a_log_lacks_is_said_by_name():
    log = make_log(50)
    bare = FunnelLog(log.frame, Schema("user", "item", "click", "conversion"), "bare")
    with pytest.raises(DataError, match=r"Log 'bare' has no feature besides .* choose 'logistic_ids'"):
        fit_propensity("logistic_features", bare)
    with pytest.raises(DataError, match=r"Log 'bare' has no propensity column, .*PROPENSITY_FIELD"):
        fit_propensity("column", bare)
    clicked = FunnelLog.from_frame(log.frame.assign(click=1), SCHEMA, name="all")
    with pytest.raises(DataError, match=r"Log 'all': click is 1 in all 50 rows"):
        fit_propensity("logistic_ids", clicked)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("logistic_id", {}, "Unknown propensity model 'logistic_id'. Did you mean logistic_ids"),
        ("ctr_tower", {}, "Unknown propensity model 'ctr_tower'.*Known: logistic_ids"),
        ("uniform", {"C": 1}, "Propensity 'uniform' does not take the options"),
        ("logistic_ids", {"C": -1}, r"LogisticIds\(C=-1"),
        ("logistic_ids", {"crossed": True}, "Propensity 'logistic_ids' does not take the options"),
        ("logistic_features", {"crossed": 1}, "crossed must be true or false; got 1"),
    ],
)
def test_names_and_options_that_make_no_sense_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        fit_propensity(name, make_log(50), **options)


def test_the_remark_counts_what_the_floor_raises():
    assert describe("uniform", np.array([0.001, 0.2, 0.3]), 0.01) == (
        "Propensity uniform: mean 0.1670, from 0.0010 to 0.3000; 1 of 3 rows are below the floor 0.01."
    )
