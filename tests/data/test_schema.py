"""A schema says which column plays which part, and no label is ever a feature."""

from __future__ import annotations

import dataclasses
import json
from itertools import product

import pytest

from cvr_plugins.data import Feature, Schema, SchemaError

ROLES = {"user": "u", "item": "i", "click": "c", "conversion": "v"}


def test_ids_are_token_features_and_come_first_and_once():
    user, item = Feature("u", "token", "user"), Feature("i", "token", "item")
    assert Schema(**ROLES, features=(Feature("x", "float"),)).features == (user, item, Feature("x", "float"))
    assert Schema(**ROLES, features=[Feature("x"), item]).features == (user, item, Feature("x"))


def test_ids_can_be_left_out_of_the_features_but_stay_columns():
    schema = Schema(**ROLES, features=(Feature("x"),), id_features=False)
    assert [feature.name for feature in schema.features] == ["x"]
    assert schema.columns == ("u", "i", "x", "c", "v")
    assert schema.kinds == {"u": "token", "i": "token", "x": "token"}


def test_columns_labels_and_truth(schema: Schema):
    assert schema.labels == {"click": ("click",), "conversion": ("conversion",), "action": ("cart",)}
    assert schema.label_columns == ("click", "conversion", "cart")
    assert schema.truth == {"counterfactual": "would_convert", "propensity": "propensity"}
    assert set(schema.columns) == {
        *("user_id", "item_id", "gender", "history", "price", "genres", "hour"),
        *("click", "conversion", "cart", "timestamp", "would_convert", "propensity", "part"),
    }
    assert len(schema.columns) == len(set(schema.columns))


def test_an_action_is_one_column_or_several_and_kept_as_a_tuple():
    one, two = Schema(**ROLES, action="cart"), Schema(**ROLES, action=["cart", "wish_list"])
    assert one.action == ("cart",)
    assert one == Schema(**ROLES, action=("cart",))
    assert hash(two) == hash(Schema(**ROLES, action=("cart", "wish_list")))
    assert two.labels == {"click": ("c",), "conversion": ("v",), "action": ("cart", "wish_list")}
    assert two.columns == ("u", "i", "c", "v", "cart", "wish_list")
    assert "action" not in Schema(**ROLES).labels
    for schema in (one, two, Schema(**ROLES)):
        assert dataclasses.replace(schema, timestamp="t").action == schema.action


@pytest.mark.parametrize("role", ["click", "conversion", "action", "timestamp", "counterfactual", "propensity", "part"])
def test_no_label_truth_or_timestamp_column_can_be_a_feature(role: str):
    roles = {**ROLES, "action": ("a", "b"), "timestamp": "t", "counterfactual": "f", "propensity": "p", "part": "w"}
    for name, kind, side in product(roles[role], ("token", "token_seq", "float"), ("user", "item", "context")):
        with pytest.raises(SchemaError, match=rf"Column '{name}' is .*cannot be a feature"):
            Schema(**roles, features=(Feature("x"), Feature(name, kind, side)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conversion": "c"}, "Column 'c' is named both as 'click' and as 'conversion'"),
        ({"action": "u"}, "Column 'u' is named both as 'user' and as 'action'"),
        ({"features": (Feature("x"), Feature("x", "float"))}, "More than one feature is named 'x'"),
        ({"features": (Feature("u", "float"),)}, "Column 'u' is the user id"),
        ({"features": (Feature("i", "token", "user"),)}, "Column 'i' is the item id"),
        ({"features": ("x",)}, "must be Feature"),
        ({"user": ""}, "'user' must be a column name, got ''"),
        ({"click": None}, "'click' must be a column name, got None"),
        ({"action": 3}, "'action' must be a column name or a list of them, got 3"),
        ({"action": ("a", "")}, "'action' must be a column name .*'a', ''"),
        ({"action": {"a", "b"}}, "'action' must be a column name .*{"),
        ({"action": []}, "'action' must name at least one column, or be None"),
        ({"action": ["a", "b", "a"]}, "'action' names 'a' more than once; name each column once."),
        ({"action": ["a", "v"]}, "Column 'v' is named both as 'conversion' and as 'action'"),
        ({"action": ["a", "t"], "timestamp": "t"}, "Column 't' is named both as 'action' and as 'timestamp'"),
    ],
)
def test_contradictions_are_refused(changes: dict, message: str):
    with pytest.raises(SchemaError, match=message):
        Schema(**{**ROLES, **changes})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x", "tokens"), "unknown kind 'tokens'; use 'token', 'token_seq', 'float'"),
        (("x", "token", "seller"), "unknown side 'seller'; use 'user', 'item', 'context'"),
        ((7,), "needs a column name"),
    ],
)
def test_an_impossible_feature_is_refused(arguments: tuple, message: str):
    with pytest.raises(SchemaError, match=message):
        Feature(*arguments)


def test_the_dictionary_round_trip_goes_through_json(schema: Schema):
    two = Schema(**ROLES, action=("cart", "wish_list"))
    for each in (schema, two, Schema(**ROLES), Schema(**ROLES, features=(Feature("x"),), id_features=False)):
        assert Schema.from_dict(each.to_dict()) == each
        assert json.loads(json.dumps(each.to_dict())) == each.to_dict()
    assert Schema.from_dict({**ROLES, "action": "cart"}).action == ("cart",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**ROLES, "clicks": "c"}, "Unknown schema key 'clicks'. Did you mean click"),
        ({"user": "u"}, "The schema is incomplete: .*item"),
        ({**ROLES, "features": [{"name": "x", "type": "float"}]}, "Unknown feature key 'type'"),
        ({**ROLES, "features": ["x"]}, "must be a list of"),
        ({**ROLES, "features": "x"}, "must be a list of"),
        ({**ROLES, "features": [{"name": "c"}]}, "cannot be a feature"),
        ({**ROLES, "action": {"cart": 1}}, "'action' must be a column name"),
    ],
)
def test_a_damaged_dictionary_is_refused(values: dict, message: str):
    with pytest.raises(SchemaError, match=message):
        Schema.from_dict(values)
