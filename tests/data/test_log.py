"""A funnel log is checked on the way in; what is wrong is named with column, rows and remedy."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cvr_plugins.data import DataError, Feature, FunnelLog, Schema

NAN = float("nan")


BAD = {
    "missing column": (
        lambda f: f.drop(columns="click").rename(columns={"cart": "clicks"}),
        ["lacks the columns 'click', 'cart'", "Did you mean clicks"],
    ),
    "doubled column": (lambda f: pd.concat([f, f[["price"]]], axis=1), ["more than one column named 'price'"]),
    "no rows": (lambda f: f.head(0), ["has no rows"]),
    "counts as click": ({"click": [0, 3, 2, 5, 7, 2]}, ["click column 'click'", "found 3, 2, 5, ... in 5 rows"]),
    "text as click": ({"click": ["1", "0", "no", "1", "0", "1"]}, ["found 'no' in 1 row"]),
    "missing click": ({"click": [1, NAN, NAN, 0, 0, 0]}, ["'click' is missing (NaN) in 2 rows of 6"]),
    "fraction as conversion": ({"conversion": 0.5}, ["conversion column 'conversion'", "found 0.5 in 6 rows"]),
    "missing conversion on a click": (
        {"conversion": [NAN, NAN, 0, 0, NAN, 1]},
        ["'conversion' is missing (NaN) in 2 rows with a click"],
    ),
    "missing float": ({"price": [1, NAN, 1, 1, None, 1]}, ["'price' is missing (NaN) in 2 rows of 6"]),
    "infinite float": ({"price": [1, np.inf, 1, 1, 1, -np.inf]}, ["'price' is infinite", "in 2 rows of 6"]),
    "beyond float32": ({"price": [1, 1e39, 1, 1, 1, 1]}, ["infinite (or beyond float32) in 1 row of 6"]),
    "text as float": ({"price": ["1", "2", "abc", "4", "5", "6"]}, ["text that is not a number in 1 row ('abc')"]),
    "missing user": ({"user_id": [1, None, 3, None, 5, 6]}, ["id column 'user_id' is missing in 2 rows of 6"]),
    "empty item": ({"item_id": ["a", "", "b", "c", "d", "e"]}, ["id column 'item_id' is missing in 1 row of 6"]),
    "lists as token": ({"hour": [[1]] * 6}, ["'hour' holds lists", "declare it as 'token_seq'"]),
    "numbers as sequence": ({"genres": 3}, ["'genres' holds int64 where 'token_seq' needs lists"]),
    "mixed sequence": ({"genres": ["a", ["b"], "c", "d", "e", "f"]}, ["'genres' mixes types"]),
    "missing timestamp": ({"timestamp": [1, 2, NAN, 4, 5, 6]}, ["'timestamp' is missing or infinite in 1 row"]),
    "text as timestamp": ({"timestamp": "soon"}, ["'timestamp' holds text that is not a number", "ISO 8601"]),
    "missing truth": ({"would_convert": [1, NAN, 0, 0, 0, 1]}, ["counterfactual column 'would_convert' is missing"]),
    "scores as truth": ({"would_convert": 0.3}, ["counterfactual column 'would_convert' must be 0 or 1"]),
    "zero propensity": (
        {"propensity": [0, 1, 1, 1, 1, 1.5]},
        ["propensity column 'propensity' must lie in (0, 1]; found 0.0, 1.5 in 2 rows"],
    ),
    "strange part": (
        {"part": ["train", "dev", "test", "train", None, "dev"]},
        ["part column 'part' must be 'train', 'valid' or 'test'; found 'dev', '' in 3 rows"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_refused_on_one_line(case: str, frame: pd.DataFrame, schema: Schema):
    spoil, parts = BAD[case]
    with pytest.raises(DataError) as caught:
        FunnelLog.from_frame(spoil(frame) if callable(spoil) else frame.assign(**spoil), schema, name="shop")
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for part in parts:
        assert part in message


def test_the_table_of_the_caller_is_not_changed(frame: pd.DataFrame, schema: Schema):
    frame = frame.assign(click=[1.0, 0, 0, 0, 0, 0], conversion=[1, 1, NAN, 0, 0, 0], extra="x").set_index(
        "hour", drop=False
    )
    before = frame.copy(deep=True)
    FunnelLog.from_frame(frame, schema)
    pd.testing.assert_frame_equal(frame, before)


def test_conversions_and_actions_without_a_click_are_masked_and_counted(frame: pd.DataFrame, schema: Schema):
    frame = frame.assign(conversion=[1, 1, 0, 1, 0, 1], cart=[1, 0, 1, 1, 0, 1])
    log = FunnelLog.from_frame(frame, schema)
    assert log.frame["conversion"].tolist() == [1, 0, 0, 0, 0, 1]
    assert log.frame["cart"].tolist() == [1, 0, 1, 0, 0, 1]
    assert log.notes == (
        "conversion column 'conversion': 1 without a click in 2 rows; masked (set to 0).",
        "action column 'cart': 1 without a click in 1 row; masked (set to 0).",
    )


TWO_ACTIONS = Schema("u", "i", "click", "buy", action=("cart", "wish_list"))


def test_several_actions_are_one_label_that_is_1_where_any_of_them_is():
    # Four exposures: neither action, the wish list alone, both, and both without a click.
    frame = pd.DataFrame({"u": [1, 2, 3, 4], "i": 1, "click": [1, 1, 1, 0], "buy": [0, 0, 1, 0]})
    log = FunnelLog.from_frame(frame.assign(cart=[0, 0, 1, 1], wish_list=[0, 1, 1, 1]), TWO_ACTIONS)
    assert log.labels()["action"].tolist() == [0, 1, 1, 0]
    assert log.labels()["action"].dtype == np.float32
    assert log.summary()["actions"] == 2
    assert list(log.frame.columns) == ["u", "i", "click", "buy", "cart", "wish_list"]
    assert log.frame[["cart", "wish_list"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 1], [0, 0]]
    assert log.notes == (
        "action column 'cart': 1 without a click in 1 row; masked (set to 0).",
        "action column 'wish_list': 1 without a click in 1 row; masked (set to 0).",
    )
    assert log.take(np.array([3, 1])).labels()["action"].tolist() == [0, 1]


def test_a_conversion_unknown_without_a_click_is_not_observed(frame: pd.DataFrame, schema: Schema):
    log = FunnelLog.from_frame(frame.assign(conversion=[1, NAN, 0, NAN, 0, 1]), schema)
    assert log.frame["conversion"].tolist() == [1, 0, 0, 0, 0, 1]
    assert log.notes == ("conversion column 'conversion': missing in 2 rows without a click; set to 0.",)


def test_missing_tokens_are_counted_and_columns_outside_the_schema_ignored(frame: pd.DataFrame, schema: Schema):
    log = FunnelLog.from_frame(frame.assign(gender=["F", None, "", NAN, "M", pd.NA], rating=5), schema)
    assert log.frame["gender"].isna().tolist() == [False, True, True, True, False, True]
    assert "rating" not in log.frame
    assert set(log.notes) == {
        "token column 'gender': missing in 4 rows; these get the id 0.",
        "Columns that are not in the schema are ignored: 'rating'.",
    }


def test_a_truth_that_contradicts_the_clicked_rows_is_reported(frame: pd.DataFrame, schema: Schema):
    log = FunnelLog.from_frame(frame.assign(would_convert=[0, 1, 0, 0, 1, 1]), schema)
    assert "differs from 'conversion' in 2 rows with a click" in log.notes[0]


@pytest.mark.parametrize(
    "click",
    [
        [True, False, True, False, True, True],
        ["1", "0", "1", "0", "1", "1"],
        ["true", "false", "true", "false", "true", "true"],
        pd.array([1, 0, 1, 0, 1, 1], dtype="Int64"),
        pd.array([True, False, True, False, True, True], dtype="boolean"),
        pd.array([1.0, 0, 1, 0, 1, 1], dtype=pd.ArrowDtype(pa.float64())),
    ],
)
def test_labels_may_come_in_any_type_that_holds_0_and_1(click: object, frame: pd.DataFrame, schema: Schema):
    log = FunnelLog.from_frame(frame.assign(click=click), schema)
    assert log.frame["click"].tolist() == [1, 0, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([196, 7, 196, 0, -3, 7], ["196", "7", "196", "0", "-3", "7"]),
        ([196.0, 7.0, 1e17, 0.0, -0.0, 0.5], ["196", "7", "100000000000000000", "0", "0", "0.5"]),
        (["007", "7", "NA", "null", "nan", " x"], ["007", "7", "NA", "null", "nan", " x"]),
        (pd.array([2**60 + 1, 1, 2, 3, 4, 5], dtype="Int64"), [str(2**60 + 1), "1", "2", "3", "4", "5"]),
        (pd.Categorical([7, 8, 7, 8, 7, 8], categories=[9, 8, 7]), ["7", "8"] * 3),
        (pd.Categorical(["x", "", "x", "x", "x", "x"]), ["x", None, "x", "x", "x", "x"]),
        ([1, "1", 1.0, True, "a", None], ["1", "1", "1", "1", "a", None]),
        (pd.array(["x", None, "z", "x", "y", "x"], dtype=pd.ArrowDtype(pa.string())), ["x", None, "z", "x", "y", "x"]),
    ],
)
def test_the_same_id_has_the_same_token_whatever_its_type(
    values: object, words: list, frame: pd.DataFrame, schema: Schema
):
    column = FunnelLog.from_frame(frame.assign(hour=values), schema).frame["hour"]
    assert [None if pd.isna(word) else word for word in column] == words
    assert column.cat.categories.is_unique


ONE = [["a", "b"], [], ["c"], ["a"], [], ["b"]]


@pytest.mark.parametrize(
    ("values", "lists"),
    [
        (["a b", "", "c", "a", None, "b"], ONE),
        ([" a  b ", NAN, "c", "a", "", "b"], ONE),
        ([["a", "b"], [], ["c"], ["a", None], None, ["b", ""]], ONE),
        ([np.array(["a", "b"]), np.array([]), np.array(["c"]), np.array(["a"]), None, np.array(["b"])], ONE),
        ([["x y"], [], [], [], [], []], [["x y"], [], [], [], [], []]),
        ([[1, 2], [3], [], [], [], []], [["1", "2"], ["3"], [], [], [], []]),
        ([[1.0, NAN], [3.5], [], [], [], []], [["1"], ["3.5"], [], [], [], []]),
        (pd.array(ONE, dtype=pd.ArrowDtype(pa.large_list(pa.string()))), ONE),
        (pd.array([[1, 2]] * 6, dtype=pd.ArrowDtype(pa.list_(pa.int64(), 2))), [["1", "2"]] * 6),
    ],
)
def test_sequences_may_come_as_lists_or_text(values: object, lists: list, frame: pd.DataFrame, schema: Schema):
    column = pd.Series(values, name="genres")
    log = FunnelLog.from_frame(frame.assign(genres=column), schema)
    assert [list(value) for value in log.frame["genres"]] == lists


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (pd.to_datetime(["1970-01-02"] * 6), 86400.0),
        (pd.to_datetime(["1970-01-02T01:00:00.25+01:00"] * 6), 86400.25),
        (["1970-01-02T00:00:00.5"] * 6, 86400.5),
        ([datetime.date(1970, 1, 2)] * 6, None),
        (pd.array([datetime.datetime(1970, 1, 2)] * 6, dtype=pd.ArrowDtype(pa.timestamp("ns"))), 86400.0),
        ([86400] * 6, 86400.0),
    ],
)
def test_timestamps_are_numbers_or_seconds_since_1970(values: object, seconds: float | None, frame, schema: Schema):
    log = FunnelLog.from_frame(frame.assign(timestamp=values), schema)
    assert log.frame["timestamp"].tolist() == [seconds or 86400.0] * 6


def test_labels_are_float32_arrays_named_by_role(log: FunnelLog, many: FunnelLog):
    labels = log.labels()
    assert list(labels) == ["click", "conversion", "action", "counterfactual"]
    assert all(values.dtype == np.float32 and values.shape == (6,) for values in labels.values())
    assert labels["action"].tolist() == [1, 0, 1, 0, 0, 1]
    assert list(many.labels()) == ["click", "conversion"]


def test_summary_against_hand_counts(log: FunnelLog):
    assert log.summary() == {
        "rows": 6,
        "users": 3,
        "items": 2,
        "clicks": 4,
        "conversions": 2,
        "actions": 3,
        "click_rate": 4 / 6,
        "click_conversion_rate": 2 / 4,
        "oracle_conversion_rate": 3 / 6,
    }


def test_an_undefined_rate_is_none(frame: pd.DataFrame):
    log = FunnelLog.from_frame(frame.assign(click=0), Schema("user_id", "item_id", "click", "conversion"))
    summary = log.summary()
    undefined = {"click_conversion_rate", "oracle_conversion_rate", "actions"}
    assert {name for name, value in summary.items() if value is None} == undefined
    assert summary["click_rate"] == 0


def test_take_selects_rows_in_order(log: FunnelLog, plain):
    part = log.take(np.array([4, 0]), name="part")
    assert {column: [values[4], values[0]] for column, values in plain(log).items()} == plain(part)
    assert part.name == "part"
    assert part.frame.index.tolist() == [0, 1]


def test_a_schema_without_id_features_still_needs_the_ids(frame: pd.DataFrame):
    schema = Schema("user_id", "item_id", "click", "conversion", features=(Feature("hour"),), id_features=False)
    assert FunnelLog.from_frame(frame, schema).summary()["users"] == 3
    with pytest.raises(DataError, match="id column 'user_id' is missing"):
        FunnelLog.from_frame(frame.assign(user_id=None), schema)
