"""Which field of a RecBole data set plays which part: labels and truth apart, everything else a feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from recbole.utils import FeatureSource, FeatureType

from cvr_plugins.config import ConfigError
from cvr_plugins.data import Schema, infer_schema
from cvr_plugins.encoder import Field, normal_table
from cvr_plugins.nearest import unknown
from cvr_plugins.training.columns import seen_features

ROLES = {
    "click": "CLICK_FIELD",
    "conversion": "CONVERSION_FIELD",
    "action": "ACTION_FIELD",
    "counterfactual": "COUNTERFACTUAL_FIELD",
    "propensity": "PROPENSITY_FIELD",
    "part": "PART_FIELD",
}
"""Part of the schema that RecBole has no key for -> our key."""

LISTS = (
    "token_features",
    "token_seq_features",
    "float_features",
    "user_features",
    "item_features",
    "drop_columns",
)

_TYPES = {
    FeatureType.TOKEN: pa.string(),
    FeatureType.TOKEN_SEQ: pa.list_(pa.string()),
    FeatureType.FLOAT: pa.float64(),
    # Guarded as a number is; its width is known by the encoder alone.
    FeatureType.FLOAT_SEQ: pa.float64(),
}
_SIDES = {
    FeatureSource.INTERACTION: "context",
    FeatureSource.USER: "user",
    FeatureSource.USER_ID: "user",
    FeatureSource.ITEM: "item",
    FeatureSource.ITEM_ID: "item",
}


def schema_of(config: Any, types: Mapping[str, Any], sources: Mapping[str, Any], name: str) -> Schema:
    """Return the part of each field of a data set: a feature unless a key gives it another part or drops it.

    Parameters
    ----------
    config
        RecBole's.
    types, sources
        A data set's `field2type` and `field2source`.
    name
        Its name, for messages.

    Raises
    ------
    ConfigError
        If a field that a key names is missing or not in the .inter file.
    DataError
        If one that no key names looks like a label or a timestamp, or if one field plays two parts.
    """
    header = [(field, types[field], _SIDES[source]) for field, source in sources.items() if source in _SIDES]
    roles = {role: config[key] for role, key in ROLES.items() if config[key] is not None}
    _check_present(roles, [field for field, *_ in header], sources, name)
    timestamp = config["TIME_FIELD"] if config["TIME_FIELD"] in types else None
    lists: dict[str, list[str]] = {key: _names(key, config[key]) for key in LISTS}
    taken = {
        *(name for value in roles.values() for name in names_of(value)),
        timestamp,
        config["USER_ID_FIELD"],
        config["ITEM_ID_FIELD"],
    }
    taken.update(lists["drop_columns"])
    for side in ("user", "item"):
        own = [field for field, _, its in header if its == side and field not in taken]
        lists[f"{side}_features"] = list(dict.fromkeys([*lists[f"{side}_features"], *own]))
    _check_kinds(lists, types)
    given: dict[str, Any] = {**roles, **lists, "timestamp": timestamp}
    return infer_schema(
        pa.schema([pa.field(field, _TYPES[kind]) for field, kind, _ in header]),
        user=config["USER_ID_FIELD"],
        item=config["ITEM_ID_FIELD"],
        **given,
    )


def feature_fields(dataset: Any, inputs: Sequence[str] | None, *, width: int, std: float) -> list[Field]:
    """Return the inputs of a model in their order: the user's side first, then items and context.

    A token's id 0, a missing token, has an embedding of its own; at a position of a sequence it counts for nothing.

    Parameters
    ----------
    dataset
        A MethodDataset.
    inputs
        Names of the features that the model sees, None for all.
    width
        Of every embedding.
    std
        Standard deviation of the initial embeddings, of mean 0.

    Raises
    ------
    ConfigError
        For a name that is no feature.
    """
    seen = seen_features(dataset.schema.features, inputs, dataset.dataset_name)
    ordered = sorted(seen, key=lambda feature: feature.side != "user")
    return [_field(feature.name, dataset, width, partial(normal_table, std=std)) for feature in ordered]


def _field(name: str, dataset: Any, width: int, initializer: Any) -> Field:
    kind = dataset.field2type[name].value
    if name in buckets(dataset.config):
        return Field(name, "token", width, dataset.field2bucketnum[name], initializer=initializer)
    if kind == "token":
        return Field(name, kind, width, len(dataset.field2id_token[name]), initializer=initializer)
    if kind == "token_seq":
        return Field(name, kind, width, len(dataset.field2id_token[name]), padding=0, initializer=initializer)
    return Field(name, "dense", dataset.field2seqlen[name])


def names_of(value: Any) -> list[str]:
    """Return the names that a key holds: one, several or none."""
    return [value] if isinstance(value, str) else list(value or ())


def label_fields(schema: Schema) -> dict[str, tuple[str, ...]]:
    """Return label -> the fields that it is the OR of: click, conversion, and what there is of action and truth."""
    truth = schema.counterfactual
    return dict(schema.labels) if truth is None else {**schema.labels, "counterfactual": (truth,)}


def buckets(config: Any) -> frozenset[str]:
    """Return the discretised floats, whose values RecBole holds as `[B, 2]`: 1 and the bucket."""
    return frozenset(config["discretization"] or ())


def _check_present(roles: Mapping[str, Any], header: Sequence[str], sources: Mapping[str, Any], name: str) -> None:
    for role, value in roles.items():
        for field in names_of(value):
            if field not in header:
                missing = f"Data set {name!r} has no field {field!r}, which {ROLES[role]} names."
                found = f"It has: {', '.join(header)}."
                cure = f"Set {ROLES[role]} to one of them, and load_col so that it is read."
                raise ConfigError(unknown(missing, field, header, f"{found} {cure}"))
            if sources[field] is not FeatureSource.INTERACTION:
                raise ConfigError(
                    f"Data set {name!r}: {ROLES[role]} names {field!r}, which is not in its .inter file; labels are of "
                    "an exposure, not of a user or an item."
                )


def _check_kinds(lists: Mapping[str, Sequence[str]], types: Mapping[str, Any]) -> None:
    for kind in ("token", "token_seq", "float"):
        for field in lists[f"{kind}_features"]:
            found = types[field].value if field in types else kind
            if found not in (kind, f"{kind}_seq" if kind == "float" else kind):
                raise ConfigError(
                    f"{kind}_features names {field!r}, whose type in the atomic file is {found}; change it in "
                    "the file's first line."
                )


def _names(key: str, value: Any) -> list[str]:
    names = names_of(value)
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{key} must be a list of field names; got {value!r}.")
    return names
