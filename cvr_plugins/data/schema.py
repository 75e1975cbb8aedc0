"""Which column of a funnel log plays which part, and the rule that no label is ever a feature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, get_args

from cvr_plugins.data.errors import SchemaError, quoted
from cvr_plugins.nearest import unknown

Kind = Literal["token", "token_seq", "float"]
Side = Literal["user", "item", "context"]

_ROLES = {
    "click": "the click label",
    "conversion": "the conversion label",
    "action": "a column of the action label",
    "timestamp": "the timestamp",
    "counterfactual": "a truth column (the counterfactual conversion)",
    "propensity": "a truth column (the true propensity)",
    "part": "the part of a published split",
}


@dataclass(frozen=True)
class Feature:
    """A model input: its column, its kind and the side it describes.

    Parameters
    ----------
    name
        The column.
    kind
        `"token"`: one id; `"token_seq"`: a list of ids; `"float"`: a number.
    side
        `"user"`, `"item"`, or `"context"` for what belongs to the exposure.

    Raises
    ------
    SchemaError
        If the kind or the side is unknown, or the name is empty.
    """

    name: str
    kind: Kind = "token"
    side: Side = "context"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise SchemaError(f"A feature needs a column name, got {self.name!r}.")
        for what, value, known in (("kind", self.kind, get_args(Kind)), ("side", self.side, get_args(Side))):
            if value not in known:
                raise SchemaError(f"Feature {self.name!r} has the unknown {what} {value!r}; use {quoted(known)}.")


@dataclass(frozen=True)
class Schema:
    """The columns of a funnel log: ids, labels, truth and features.

    No label, truth, timestamp or part column can be a feature.

    Parameters
    ----------
    user, item
        The ids.
    click, conversion
        The labels.
    action
        A label of one column or several (cart, wish list), kept as a tuple; it is their OR: 1 where any of them is.
    timestamp
        When the exposure was.
    counterfactual
        The conversion had the row been clicked: truth, known for simulated or randomised data only.
    propensity
        The probability of the click: truth, too.
    features
        What models see. The user and the item id come first, as tokens, unless `id_features` is false.
    id_features
        Whether the ids are features.
    part
        Says of each row whether a published split has it in `train`, `valid` or `test`.

    Raises
    ------
    SchemaError
        Naming the column, if one column plays two parts, an action is named twice or a feature leaks a label.
    """

    user: str
    item: str
    click: str
    conversion: str
    action: str | Sequence[str] | None = None
    timestamp: str | None = None
    counterfactual: str | None = None
    propensity: str | None = None
    features: tuple[Feature, ...] = ()
    id_features: bool = True
    part: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "action", action_columns(self.action) or None)
        for role in ("user", "item", *(role for role in _ROLES if role != "action")):
            name = getattr(self, role)
            optional = role not in ("user", "item", "click", "conversion")
            if not (name is None and optional) and (not isinstance(name, str) or not name):
                raise SchemaError(f"The schema's {role!r} must be a column name, got {name!r}.")
        if not all(isinstance(feature, Feature) for feature in self.features):
            raise SchemaError("The schema's features must be Feature(name, kind, side) objects.")
        features = tuple(self.features)
        self._check_features(features, self._roles())
        if self.id_features:
            ids = {self.user: Feature(self.user, "token", "user"), self.item: Feature(self.item, "token", "item")}
            features = (*ids.values(), *(feature for feature in features if feature.name not in ids))
        object.__setattr__(self, "features", features)

    def _roles(self) -> dict[str, str]:
        """Column -> the part that it plays, of those that are not a feature's."""
        roles: dict[str, str] = {}
        for role in ("user", "item", *_ROLES):
            found = getattr(self, role)
            for name in (found,) if isinstance(found, str) else found or ():
                if name in roles:
                    raise SchemaError(
                        f"Column {name!r} is named both as {roles[name]!r} and as {role!r}; name two columns."
                    )
                roles[name] = role
        return roles

    def _check_features(self, features: tuple[Feature, ...], roles: Mapping[str, str]) -> None:
        twice = _repeated(feature.name for feature in features)
        if twice:
            raise SchemaError(f"More than one feature is named {twice}; name each column once.")
        for feature in features:
            side = roles.get(feature.name)
            if side in _ROLES:
                raise SchemaError(
                    f"Column {feature.name!r} is {_ROLES[side]} and cannot be a feature: the model would see what it "
                    "has to predict. Take it out of the features."
                )
            if side is not None and (feature.kind, feature.side) != ("token", side):
                raise SchemaError(
                    f"Column {feature.name!r} is the {side} id: as a feature it is a 'token' of the {side!r} side, "
                    f"not a {feature.kind!r} of the {feature.side!r} side."
                )

    @cached_property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Label name -> its columns, of which it is the OR; `action` only if there is one."""
        labels: dict[str, tuple[str, ...]] = {"click": (self.click,), "conversion": (self.conversion,)}
        return labels if self.action is None else {**labels, "action": tuple(self.action)}

    @cached_property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of all labels, each once."""
        return tuple(name for names in self.labels.values() for name in names)

    @cached_property
    def truth(self) -> dict[str, str]:
        """Truth name -> column, for those present."""
        return {role: name for role in ("counterfactual", "propensity") if (name := getattr(self, role)) is not None}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """All columns of the log: ids, features, labels, timestamp, part, truth."""
        more = [name for name in (self.timestamp, self.part) if name is not None]
        return tuple(dict.fromkeys([*self.kinds, *self.label_columns, *more, *self.truth.values()]))

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """Column -> kind for the ids and the features."""
        return {self.user: "token", self.item: "token", **{feature.name: feature.kind for feature in self.features}}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        plain = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "features"}
        plain["action"] = None if self.action is None else list(self.action)
        return {**plain, "features": [{"name": f.name, "kind": f.kind, "side": f.side} for f in self.features]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Schema:
        """Return the schema that `to_dict` describes.

        Raises
        ------
        SchemaError
            On unknown or missing keys, and whatever the constructor refuses.
        """
        features = values.get("features", ())
        if isinstance(features, (str, Mapping)) or not all(isinstance(feature, Mapping) for feature in features):
            raise SchemaError("The schema's 'features' must be a list of {name, kind, side}.")
        made = tuple(_from_keywords(Feature, feature, "feature") for feature in features)
        schema: Schema = _from_keywords(cls, {**values, "features": made}, "schema")
        return schema


def action_columns(value: object) -> tuple[str, ...]:
    """Return the columns that `action` names, one name or a list of them; none for None.

    Raises
    ------
    SchemaError
        If the list is empty, names a column twice or holds anything else than names.
    """
    if value is None:
        return ()
    names = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not names:
        raise SchemaError(f"The schema's 'action' must name at least one column, or be None for none; got {value!r}.")
    if not all(isinstance(name, str) and name for name in names):
        raise SchemaError(f"The schema's 'action' must be a column name or a list of them, got {value!r}.")
    twice = _repeated(names)
    if twice:
        raise SchemaError(f"The schema's 'action' names {twice} more than once; name each column once.")
    return names


def _repeated(names: Iterable[str]) -> str:
    return quoted(name for name, count in Counter(names).items() if count > 1)


def _from_keywords(cls: Any, values: Mapping[str, Any], what: str) -> Any:
    known = [field.name for field in fields(cls)]
    strange = [key for key in values if key not in known]
    if strange:
        raise SchemaError(unknown(f"Unknown {what} key {quoted(strange)}.", strange, known))
    try:
        return cls(**values)
    except TypeError as error:
        raise SchemaError(f"The {what} is incomplete: {error}.") from error
