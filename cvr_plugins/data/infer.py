"""From a header to a schema: whatever is given no role becomes a feature, unless it looks like a label."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pandas as pd
import pyarrow as pa

from cvr_plugins.data.errors import DataError, quoted, require_columns
from cvr_plugins.data.schema import Feature, Kind, Schema, Side, action_columns
from cvr_plugins.data.tokens import arrow_array, is_list, is_text, value_type
from cvr_plugins.nearest import unknown

# Names under which published logs keep what happened after the exposure: lower case, without "is_" and "_label".
_LABEL_WORDS = frozenset(
    word
    for line in (
        "action add_to_cart addtocart buy bought cart click clicked clicks comment comment_stay_time conversion",
        "conversions converted counterfactual counterfactual_conversion ctcvr ctr cvr dislike fav favorite favourite",
        "follow forward hate install installed label like liked long_view pay paid play_duration play_time",
        "play_time_ms profile_enter profile_stay_time propensity purchase purchased rating share shared stars target",
        "transaction watch_ratio watch_time wish wish_list wishlist y",
    )
    for word in line.split()
)
_TIME_WORDS = frozenset({"timestamp", "time_ms"})
_UNNAMED = re.compile(r"(Unnamed: \d+)?")
_OBJECT_SAMPLE = 1000


def infer_schema(
    columns: pd.DataFrame | pa.Schema,
    *,
    user: str,
    item: str,
    click: str,
    conversion: str,
    action: str | Sequence[str] | None = None,
    timestamp: str | None = None,
    counterfactual: str | None = None,
    propensity: str | None = None,
    token_features: Sequence[str] = (),
    token_seq_features: Sequence[str] = (),
    float_features: Sequence[str] = (),
    user_features: Sequence[str] = (),
    item_features: Sequence[str] = (),
    drop_columns: Sequence[str] = (),
    id_features: bool = True,
    part: str | None = None,
) -> Schema:
    """Return a schema in which every column without a role is a feature.

    Kinds follow the types: integers, text, booleans and categories are tokens, floats are floats, lists are token
    sequences.

    Parameters
    ----------
    columns
        A table or an Arrow header.
    user, item, click, conversion, action, timestamp, counterfactual, propensity, id_features, part
        As in `Schema`.
    token_features, token_seq_features, float_features
        Overrule what follows from the types.
    user_features, item_features
        Features of that side; all others are of the context.
    drop_columns
        Columns that are none.

    Raises
    ------
    DataError
        If a column is missing, listed twice or of a type that fits no kind, or if one without a role has the name of a
        label or a timestamp: it must be given a role, be dropped, or be listed as a feature on purpose.
    """
    lists = {
        "token_features": token_features,
        "token_seq_features": token_seq_features,
        "float_features": float_features,
        "user_features": user_features,
        "item_features": item_features,
        "drop_columns": drop_columns,
    }
    _refuse_text(lists)
    header = columns if isinstance(columns, pa.Schema) else _header(columns)
    roles: dict[str, Any] = {
        "user": user,
        "item": item,
        "click": click,
        "conversion": conversion,
        "action": action_columns(action) or None,
        "timestamp": timestamp,
        "counterfactual": counterfactual,
        "propensity": propensity,
        "part": part,
    }
    given = [role if isinstance(role, tuple) else (role,) for role in roles.values() if role is not None]
    named = [name for names in given for name in names]
    require_columns(header.names, [*named, *(name for names in lists.values() for name in names)], "The log")
    kinds = _listed({"token": token_features, "token_seq": token_seq_features, "float": float_features})
    sides = _listed({"user": user_features, "item": item_features})
    listed = set(kinds) | set(sides)
    clash = [name for name in drop_columns if name in listed or name in named]
    if clash:
        raise DataError(f"{quoted(clash)} is both in drop_columns and in use; take it out of one of them.")
    features = []
    for field in header:
        label = field.name in named and field.name not in (user, item)
        if field.name in drop_columns or (label and field.name not in listed):
            continue
        if field.name not in named and field.name not in kinds:
            _guard(field)
        own = "user" if field.name == user else "item" if field.name == item else None
        kind = kinds.get(field.name) or ("token" if own else _kind(field))
        features.append(Feature(field.name, cast(Kind, kind), cast(Side, sides.get(field.name, own or "context"))))
    if not id_features:
        features = [feature for feature in features if feature.name not in (user, item) or feature.name in listed]
    return Schema(**roles, features=tuple(features), id_features=id_features)


def check_options(options: Mapping[str, Any]) -> None:
    """Check keywords meant for `infer_schema`.

    Raises
    ------
    DataError
        On an unknown one, with the nearest known one, or if a role is missing.
    """
    known = inspect.signature(infer_schema).parameters
    names = [name for name in known if name != "columns"]
    strange = [name for name in options if name not in names]
    if strange:
        raise DataError(unknown(f"Unknown option {quoted(strange)}.", strange, names))
    missing = [name for name in names if known[name].default is inspect.Parameter.empty and name not in options]
    if missing:
        raise DataError(f"Say which columns play the roles {quoted(missing)}, or pass a schema.")
    _refuse_text({name: value for name, value in options.items() if name.endswith(("_features", "_columns"))})


def _refuse_text(lists: Mapping[str, object]) -> None:
    for option, names in lists.items():
        if isinstance(names, str):
            raise DataError(f"{option} must be a list of column names, got the text {names!r}; write [{names!r}].")


def _listed(lists: Mapping[str, Sequence[str]]) -> dict[str, str]:
    made: dict[str, str] = {}
    for value, names in lists.items():
        for name in names:
            if made.get(name, value) != value:
                raise DataError(f"Column {name!r} is listed both as {made[name]!r} and as {value!r}; list it once.")
            made[name] = value
    return made


def _header(frame: pd.DataFrame) -> pa.Schema:
    require_columns(list(frame.columns), (), "The log")
    fields = []
    for name in frame.columns:
        column = frame[name]
        column = column.dropna().head(_OBJECT_SAMPLE) if column.dtype == object else column.head(0)
        try:
            fields.append(pa.field(str(name), arrow_array(column).type))
        except pa.ArrowException:
            # Objects of several types; as tokens they are spelt one by one.
            fields.append(pa.field(str(name), pa.string()))
    return pa.schema(fields)


def _guard(field: pa.Field) -> None:
    if _UNNAMED.fullmatch(field.name):
        raise DataError(
            f"Column {field.name!r} has no name and is probably an index written with the table; write the table "
            "without it, or put it into drop_columns."
        )
    word = field.name.lower().removesuffix("_label").removeprefix("is_").removeprefix("label_")
    remedy = "put it into drop_columns, or list it in token_features or float_features on purpose."
    if word in _LABEL_WORDS:
        raise DataError(
            f"Column {field.name!r} looks like a label, and as a feature it would leak what is to be predicted; "
            f"give it a role (click, conversion, action, ...), {remedy}"
        )
    if field.name.lower() in _TIME_WORDS or pa.types.is_temporal(field.type):
        raise DataError(
            f"Column {field.name!r} looks like a timestamp, which is no feature; name it as the timestamp, {remedy}"
        )


def _kind(field: pa.Field) -> Kind:
    kind = value_type(field.type)
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind) or is_text(kind):
        return "token"
    if is_list(kind):
        if pa.types.is_integer(kind.value_type) or pa.types.is_null(kind.value_type) or is_text(kind.value_type):
            return "token_seq"
        raise DataError(
            f"Column {field.name!r} holds lists of {kind.value_type} (a float_seq), which cannot be a feature; put it "
            "into drop_columns, or into token_seq_features if its values are ids."
        )
    raise DataError(
        f"Column {field.name!r} has the type {field.type}, which fits no kind of feature; put it into drop_columns, "
        "or list it in token_features or float_features."
    )
