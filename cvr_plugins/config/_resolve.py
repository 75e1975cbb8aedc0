"""Merging and checking configurations."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, cast

from cvr_plugins.config._errors import ConfigError
from cvr_plugins.config._keys import FIELD_KEYS, KEYS, ORDERS, Key
from cvr_plugins.nearest import nearest, unknown

_FLAGS = {"model": "-m METHOD", "dataset": "-d DATASET"}
_EVAL_ARGS = ("split", "order", "group_by", "mode")
_ONE_PROCESS = {
    "nproc": (1,),
    "world_size": (-1, 0, 1),
    "local_rank": (0,),
    "offset": (0,),
    "group_offset": (0,),
}
"""RecBole's keys for training in several processes -> their values that mean one."""
_KIND_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of names",
    dict: "a mapping",
    type(None): "null",
}


@dataclass(frozen=True)
class Config:
    """A resolved configuration: every known key, the method's options, and which keys were given a value."""

    values: Mapping[str, Any]
    options: Mapping[str, Any]
    given: frozenset[str] = field(default=frozenset(), compare=False)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def to_dict(self) -> dict[str, Any]:
        """Return one flat dictionary, from which `resolve` makes an equal configuration.

        Keys that say what a file's columns are and were not given are left out: a registered data set refuses them.
        """
        idle = {key for key in FIELD_KEYS if key not in self.given}
        values = {key: value for key, value in self.values.items() if key not in idle}
        return copy.deepcopy({**values, **self.options})


def resolve(*layers: Mapping[str, Any], needs: Iterable[str] = ("model", "dataset")) -> Config:
    """Merge layers, later ones win (`eval_args` key by key), check every known key, fill in defaults.

    Keys that are not known here are the method's options; whoever assembles the method refuses those it lacks.
    needs: keys that must have a value. Raises ConfigError for a value of the wrong kind, one that cannot be written
    down (anything but numbers, text, lists and mappings), and for a key without the value that it needs.
    """
    merged = _merged(layers)
    refuse_processes(merged)
    values = {key: copy.deepcopy(spec.default) for key, spec in KEYS.items()}
    for key in filter(KEYS.__contains__, merged):
        value = _checked(key, KEYS[key], merged[key])
        values[key] = {**values[key], **value} if key == "eval_args" else value
    options = {key: value for key, value in merged.items() if key not in KEYS}
    for key in needs:
        if values[key] is None:
            meant = nearest(key, options, limit=1)
            hint = f" Is {meant[0]!r} meant to be it?" if meant else ""
            raise ConfigError(f"No {key} given: say {_FLAGS[key]}, or '{key}: ...' in the configuration file.{hint}")
    # Last: without a model it is not known that the values are not meant for RecBole, which takes more of them.
    _check_eval_args(values["eval_args"])
    return Config(values, options, frozenset(key for key, value in merged.items() if value is not None))


def refuse_processes(values: Mapping[str, Any]) -> None:
    """Refuse what asks for training in several processes.

    Parameters
    ----------
    values
        Keys of a configuration of either side.

    Raises
    ------
    ConfigError
        If a key asks for more than one process, or for a place among several.
    """
    for key, alone in _ONE_PROCESS.items():
        if values.get(key) is not None and values[key] not in alone:
            raise ConfigError(
                f"{key}={values[key]!r} asks for several processes, and models are trained in one alone; leave out "
                f"{', '.join(_ONE_PROCESS)}."
            )


def refuse_unknown(config: Config, accepted: Iterable[str], method: str) -> None:
    """Raise ConfigError for an option that neither the configuration nor the method knows."""
    accepted = set(accepted)
    for key in config.options:
        if key not in accepted:
            lists = f"'cvr-plugins show {method}' lists the options of {method}, 'cvr-plugins keys' all others."
            raise ConfigError(unknown(f"Unknown key {key!r}.", key, [*KEYS, *sorted(accepted)], lists))


def split_arguments(
    eval_args: Mapping[str, Any],
) -> tuple[tuple[float, float, float] | float, Literal["random", "time", "user"]]:
    """Return what `cvr_plugins.data.split` takes: ratios (train, valid, test) of sum 1, or one ratio; and `by`."""
    by = cast(Literal["random", "time", "user"], ORDERS[eval_args["order"]])
    if "PS" in eval_args["split"]:
        return float(eval_args["split"]["PS"]), by
    ratios = [float(ratio) for ratio in eval_args["split"]["RS"]]
    total = sum(ratios)
    # As in RecBole, 8:1:1 may be written so; what adds up to 1 is left to the last digit as it is.
    train, valid, test = ratios if math.isclose(total, 1, abs_tol=1e-6) else [ratio / total for ratio in ratios]
    return (train, valid, test), by


def _merged(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        if not isinstance(layer, Mapping):
            raise ConfigError(f"A configuration is a mapping of keys to values; got {type(layer).__name__}.")
        for key, value in layer.items():
            if not isinstance(key, str):
                raise ConfigError(f"Keys of a configuration are text; got {key!r}.")
            try:
                value = _plain(value, key)
            except RecursionError as error:
                raise ConfigError(f"{key} contains itself; give a value that can be written down.") from error
            if key == "eval_args" and isinstance(value, dict):
                value = {**merged.get(key, {}), **value}
            merged[key] = value
    return merged


def _plain(value: Any, key: str) -> Any:
    """Return a copy of a value as YAML would hold it."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _plain(each, key) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each, key) for each in value]
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Path):
        return str(value)
    raise ConfigError(
        f"{key} must be made of numbers, text, lists and mappings, so that it can be written down; got {value!r:.80}."
    )


def _checked(key: str, spec: Key, value: Any) -> Any:
    if float in spec.kinds and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if list in spec.kinds and isinstance(value, str):
        value = [value]
    fits = isinstance(value, spec.kinds) and not (isinstance(value, bool) and bool not in spec.kinds)
    if not fits or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
        kinds = " or ".join(_KIND_NAMES[kind] for kind in spec.kinds)
        raise ConfigError(f"{key} must be {kinds} ({spec.help}); got {value!r}.{_quoting(spec, value)}")
    if spec.choices and value is not None and value not in spec.choices:
        allowed = f"{key} must be one of {', '.join(spec.choices)}; got {value!r}."
        raise ConfigError(unknown(allowed, value, spec.choices, ""))
    if isinstance(value, (int, float)):
        _check_bounds(key, spec, value)
    if spec.distinct and isinstance(value, list):
        _check_distinct(key, value)
    return value


def _quoting(spec: Key, value: Any) -> str:
    names = value if isinstance(value, list) else [value]
    if not {str, list} & set(spec.kinds) or not any(isinstance(name, (int, float)) for name in names):
        return ""
    return " Put a name that YAML takes for something else in quotation marks, such as '101'."


def _check_bounds(key: str, spec: Key, value: float) -> None:
    for right, bound in (
        (math.isfinite(value), "finite"),
        (spec.least is None or value >= spec.least, f"at least {spec.least}"),
        (spec.above is None or value > spec.above, f"above {spec.above}"),
        (spec.most is None or value <= spec.most, f"at most {spec.most}"),
    ):
        if not right:
            raise ConfigError(f"{key} must be {bound}; got {value!r}.")


def _check_distinct(key: str, names: list[str]) -> None:
    if not names:
        raise ConfigError(f"{key} must name at least one column, or be null for none; got [].")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{key} names {twice!r} more than once; name each column once. Got {names!r}.")


def _check_eval_args(eval_args: Mapping[str, Any]) -> None:
    for key in eval_args:
        if key not in _EVAL_ARGS:
            raise ConfigError(unknown(f"Unknown key {key!r} in eval_args.", key, _EVAL_ARGS))
    _check_split(eval_args["split"])
    if eval_args["order"] not in list(ORDERS):
        raise ConfigError(
            f"eval_args.order must be RO (random), TO (by time) or UO (whole users); got {eval_args['order']!r}."
        )
    if eval_args["group_by"] not in ("none", None):
        raise ConfigError(
            "eval_args.group_by other than none (RecBole's splitting within each user) is not offered for funnel logs; "
            f"order: UO gives whole users to one part. Got {eval_args['group_by']!r}."
        )
    if eval_args.get("mode", "labeled") not in ("labeled", None):
        raise ConfigError(
            "eval_args.mode other than labeled (RecBole's ranking among sampled or all items) is not offered for "
            f"funnel logs, whose exposures are labelled. Got {eval_args['mode']!r}."
        )


def _check_split(split: Any) -> None:
    kind = next(iter(split)) if isinstance(split, dict) and len(split) == 1 else None
    ratios = split[kind] if kind == "RS" and isinstance(split[kind], list) else [split[kind]] if kind == "PS" else []
    numbers = all(isinstance(r, (int, float)) and not isinstance(r, bool) and 0 < r < math.inf for r in ratios)
    if not numbers or len(ratios) != (3 if kind == "RS" else 1) or (kind == "PS" and ratios[0] >= 1):
        raise ConfigError(
            "eval_args.split must be {RS: [train, valid, test]}, three ratios, or {PS: valid}, a share below 1 of the "
            f"training rows of a published split; got {split!r}."
        )
