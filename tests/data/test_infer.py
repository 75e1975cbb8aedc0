"""From a header to a schema, and the guard against labels among the features."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cvr_plugins.data import DataError, Feature, SchemaError, infer_schema

ROLES = {"user": "u", "item": "i", "click": "click", "conversion": "buy"}


def _frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"u": [1, 2], "i": ["a", "b"], "click": [1, 0], "buy": [1, 0], **columns})


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([3, 4], "token"),
        (["x", "y"], "token"),
        ([True, False], "token"),
        (pd.Categorical(["x", "y"]), "token"),
        (pd.array([1, None], dtype="Int64"), "token"),
        ([None, None], "token"),
        ([0.5, 1.0], "float"),
        (pd.Categorical([0.5, 1.5]), "float"),
        (pd.array([0.5, None], dtype="Float64"), "float"),
        ([["x"], ["y", "z"]], "token_seq"),
        ([(1,), ()], "token_seq"),
        ([np.array(["x"]), np.array([])], "token_seq"),
        (pd.array([["x"], []], dtype=pd.ArrowDtype(pa.list_(pa.string()))), "token_seq"),
    ],
)
def test_kinds_follow_the_types(values: object, kind: str):
    frame = _frame(x=pd.Series(values))
    assert infer_schema(frame, **ROLES).features[2:] == (Feature("x", kind),)


def test_the_header_of_a_file_is_enough():
    header = infer_schema(pa.Schema.from_pandas(_frame()).append(pa.field("x", pa.float32())), **ROLES)
    assert header.features[2:] == (Feature("x", "float"),)


def test_lists_overrule_the_types_and_give_the_sides():
    frame = _frame(a=[1.0, 2.0], b=[1, 2], c=["x y", "z"], d=["p", "q"], e=[0, 1])
    kinds = {"token_features": ["a"], "float_features": ["b"], "token_seq_features": ["c"]}
    sides = {"user_features": ["a"], "item_features": ["b", "c"]}
    schema = infer_schema(frame, **ROLES, **kinds, **sides, drop_columns=["e"])
    assert schema.features[2:] == (
        Feature("a", "token", "user"),
        Feature("b", "float", "item"),
        Feature("c", "token_seq", "item"),
        Feature("d", "token", "context"),
    )


def test_every_role_is_passed_on_and_none_is_a_feature():
    frame = _frame(a=[0, 1], t=[1, 2], f=[1, 0], p=[0.5, 0.5], w=["train", "test"])
    roles = {"action": ("a",), "timestamp": "t", "counterfactual": "f", "propensity": "p", "part": "w"}
    schema = infer_schema(frame, **ROLES, **roles, id_features=False)
    assert schema.features == ()
    assert {role: getattr(schema, role) for role in roles} == roles


def test_none_of_several_actions_is_a_feature():
    names = ["gift", "cart"]
    frame = _frame(cart=[0, 1], gift=[1, 0], x=[1, 2])
    schema = infer_schema(frame, **ROLES, action=names)
    assert schema.action == tuple(names)
    assert schema.features[2:] == (Feature("x"),)
    for name in names:
        with pytest.raises(SchemaError, match=f"Column '{name}' is a column of the action label and cannot be a feat"):
            infer_schema(frame, **ROLES, action=names, token_features=[name])
        with pytest.raises(DataError, match=f"'{name}' is both in drop_columns and in use"):
            infer_schema(frame, **ROLES, action=names, drop_columns=[name])


LABELS = "rating label purchase is_like Is_Click clicked conversion_label label_cvr wish_list long_view target"


@pytest.mark.parametrize("name", [*LABELS.split(), "is_profile_enter", "play_time_ms", "propensity"])
def test_a_column_that_looks_like_a_label_needs_a_decision(name: str):
    frame = _frame(**{name: [0, 1]})
    with pytest.raises(DataError, match=rf"Column '{name}' looks like a label"):
        infer_schema(frame, **ROLES)
    with pytest.raises(DataError, match="looks like a label"):
        infer_schema(frame, **ROLES, user_features=[name])
    assert len(infer_schema(frame, **ROLES, drop_columns=[name]).features) == 2
    assert infer_schema(frame, **ROLES, action=name).action == (name,)
    assert infer_schema(frame, **ROLES, token_features=[name]).features[2:] == (Feature(name),)


@pytest.mark.parametrize(
    ("name", "values"), [("timestamp", [1, 2]), ("time_ms", [1, 2]), ("seen", pd.to_datetime(["2020-01-01"] * 2))]
)
def test_a_timestamp_needs_a_decision(name: str, values: object):
    frame = _frame(**{name: values})
    with pytest.raises(DataError, match=f"Column '{name}' looks like a timestamp"):
        infer_schema(frame, **ROLES)
    assert infer_schema(frame, **ROLES, timestamp=name).timestamp == name


@pytest.mark.parametrize("name", ["clicks_7d", "user_ctr_bucket", "like_count", "category", "year"])
def test_ordinary_names_are_features(name: str):
    assert infer_schema(_frame(**{name: [1, 2]}), **ROLES).features[2:] == (Feature(name),)


BAD = {
    "missing role": ({"click": "clik"}, "lacks the column 'clik'. Did you mean click"),
    "missing action": ({"action": ["x", "gift"]}, "lacks the column 'gift'"),
    "two kinds": ({"token_features": ["x"], "float_features": ["x"]}, "'x' is listed both as 'token' and as 'float'"),
    "two sides": ({"user_features": ["x"], "item_features": ["x"]}, "'x' is listed both as 'user' and as 'item'"),
    "dropped role": ({"drop_columns": ["click"]}, "'click' is both in drop_columns and in use"),
    "dropped feature": ({"drop_columns": ["x"], "user_features": ["x"]}, "'x' is both in drop_columns and in use"),
    "text": ({"float_features": "x"}, r"float_features must be a list of column names, got the text 'x'"),
    "label of a side": ({"user_features": ["buy"]}, "Column 'buy' is the conversion label and cannot be a feature"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_refused(case: str):
    options, message = BAD[case]
    with pytest.raises(DataError, match=message):
        infer_schema(_frame(x=[1, 2]), **{**ROLES, **options})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.5], [1.0]], r"holds lists of double \(a float_seq\)"),
        ([b"x", b"y"], "has the type binary"),
        ([{"a": 1}, {"a": 2}], "has the type struct"),
    ],
)
def test_types_that_fit_no_kind_are_refused(values: list, message: str):
    with pytest.raises(DataError, match=message):
        infer_schema(_frame(x=values), **ROLES)
