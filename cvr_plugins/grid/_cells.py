"""Cells of a grid: what tells them apart, what they are called, and what makes two configurations the same."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cvr_plugins.assembly import OptionError, assemble
from cvr_plugins.config import FIELD_KEYS, KEYS, Config, resolve
from cvr_plugins.plugins import registry

WITHOUT_EFFECT = ("checkpoint_dir", "show_progress")
"""Keys of a configuration that change nothing about a run's result."""

PARTS = ("architecture", "backbone", "weighting")
"""Keys that name the parts of a method, its own if not given."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_.+]+")
_LONGEST = 80


class GridError(ValueError):
    """A grid's file, its folder or what is asked of a report cannot be used; the message says what to change."""


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Parameters
    ----------
    name : str
        Its folder's name.
    dimensions : mapping
        Dimension -> value.
    config : Config
        Resolved.
    identity : mapping
        What `identity_of` says of it.
    """

    name: str
    dimensions: Mapping[str, Any]
    config: Config
    identity: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with anything that may change the result."""
        return _digest(self.identity, 12)

    @property
    def about(self) -> dict[str, Any]:
        """What a run folder keeps of its cell."""
        return {"dimensions": dict(self.dimensions), "identity": dict(self.identity)}

    def __str__(self) -> str:
        return described(self.dimensions)


def identity_of(config: Config) -> dict[str, Any]:
    """Return everything that may change a run's result, each thing in one spelling.

    Parameters
    ----------
    config : Config
        Of a run.

    Returns
    -------
    dict
        Method, architecture and backbone become `plugin:Name`, and every option of theirs is there with its value,
        also where it is a default.

    Raises
    ------
    RegistryError
        For unknown names.
    OptionError
        For options that no part takes.
    """
    assembly = assemble(config["model"], **{part: config[part] for part in PARTS}, options=config.options)
    values = config.to_dict()
    keys = {key: value for key, value in values.items() if key not in config.options}
    # A combination that makes no sense has no settings; its run will fail and say why.
    with suppress(OptionError):
        values = resolve(keys, assembly.settings()).to_dict()
    found = {key: value for key, value in values.items() if key not in WITHOUT_EFFECT}
    names = {"model": config["model"], "architecture": assembly.architecture.name, "backbone": assembly.backbone.name}
    kinds = {"model": "method"}
    found.update({key: registry().find(kinds.get(key, key), name).qualified for key, name in names.items()})
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return `key: old -> new` for every key in which two identities differ; an older one lacks keys made since."""
    defaults = {key: KEYS[key].default for key in new if key in KEYS and key not in FIELD_KEYS}
    old = {**{key: value for key, value in defaults.items() if key not in old}, **old}
    keys = [*new, *(key for key in old if key not in new)]
    return [
        f"{key}: {_shown(old, key)} -> {_shown(new, key)}"
        for key in keys
        if canonical(old.get(key)) != canonical(new.get(key))
    ]


def canonical(value: Any) -> str:
    """Return JSON in which equal values are equal text, 1 and 1.0 too."""
    return json.dumps(_whole(value), sort_keys=True, ensure_ascii=False)


def text_of(value: Any) -> str:
    """Return a dimension's value as the results table shows it: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def described(dimensions: Mapping[str, Any]) -> str:
    """Return `name=value` of each dimension, for messages."""
    return ", ".join(f"{name}={text_of(value)}" for name, value in dimensions.items())


def cell_name(dimensions: Mapping[str, Any]) -> str:
    """Return a name for a cell's folder: its values joined by hyphens, and a digest where these do not say it all."""
    parts = []
    exact = True
    for value in dimensions.values():
        text = text_of(value)
        part = _UNSAFE.sub("_", text).strip("._")
        exact = exact and part == text and text_of(_read(text)) == text and _read(text) == value
        parts.append(part)
    name = "-".join(parts)
    if exact and 0 < len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{_digest(dimensions, 8)}".lstrip("-")


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, (list, tuple)) else value


def _shown(values: Mapping[str, Any], key: str) -> str:
    return text_of(values[key]) if key in values else "not set"


def _digest(value: Any, digits: int) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:digits]
