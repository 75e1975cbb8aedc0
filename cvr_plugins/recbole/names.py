"""Every name that RecBole takes for a model: its own, the registered methods and the registered RecBole models.

RecBole's own names win, then a built-in's; of two plugins with one name neither gets it. `plugin:Name` says whose.
Names compare without case.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from cvr_plugins.plugins import Registered, Registry, RegistryBusy, RegistryError, UnknownName, registry
from cvr_plugins.recbole import _own
from cvr_plugins.recbole._table import LABELS, Table
from cvr_plugins.recbole.compat.finder import KINDS

RECBOLE = "recbole"
"""The owner of RecBole's own names."""

_PACKAGES = {"CONTEXT": KINDS[1], "DECISIONTREE": KINDS[1], "SEQUENTIAL": KINDS[2], "KNOWLEDGE": KINDS[3]}
"""RecBole's ModelType -> the package it is to find the model in. Its configuration treats decision trees as it does
context-aware models; their own package cannot be imported without lightgbm and xgboost."""


@dataclass(frozen=True)
class ModelName:
    """A name that RecBole takes for a model.

    name: of the class; key: the shortest name that finds it, `plugin:Name` where the plain name is another's or
    contested; owner: the plugin that registers it, "builtin" or "recbole"; kind: "general", "context_aware",
    "sequential", "knowledge_aware" or "exlib"; origin: "RecBole", or what it is registered as with cvr-plugins,
    "method" or "RecBole model".
    """

    name: str
    key: str
    owner: str
    kind: str
    origin: str


def find(name: str) -> type[Any]:
    """Return the model class that `name` or `plugin:Name` means, in any case, made known to RecBole (`binding.bind`).

    Raises UnknownName with the nearest names, AmbiguousName if two plugins use the name, PluginFailed if it belongs to
    a plugin that failed or clashes with RecBole's (all are RegistryError), ImportError if RecBole or a package that
    one of its models needs is missing.
    """
    from cvr_plugins.recbole.compat import messages as compatibility

    compatibility.require_recbole()
    if not isinstance(name, str):
        raise UnknownName(f"The name of a model is text; got {name!r}.")
    own = _own.model_files().get(name.lower())
    if own is not None:
        return _own.model_class(own)
    from cvr_plugins.recbole.compat.binding import bind

    table = _table()
    entry = table.find(name)
    model_class = _class_of(entry)
    bind(model_class, name=table.key(entry))
    return model_class


def available() -> tuple[ModelName, ...]:
    """Return every name that finds a model, by key; none of RecBole's own modules is imported for it."""
    own = [
        ModelName(_own.class_name(path), _own.class_name(path), RECBOLE, _short(path.parent.name), "RecBole")
        for path in _own.model_files().values()
    ]
    table = _table()
    ours = [
        ModelName(entry.name, table.key(entry), entry.plugin, _short(_package(entry)), LABELS[entry.kind])
        for entry in table.entries
    ]
    return tuple(sorted([*own, *ours], key=lambda each: (each.key.casefold(), each.key)))


def owner(key: str) -> str | None:
    """Return whose the model of a key is, a plugin's, "builtin" or "recbole"; None if nobody's."""
    return next((each.owner for each in available() if each.key == key), None)


def origin(name: str, kind: str) -> str | None:
    """Return whose the registered model called `name` is if RecBole is to find it in its package `kind`, else None.

    Raises ModuleNotFoundError for a model that is registered but cannot be used, and for a name that nobody knows
    where RecBole would go on to ask for lightgbm.
    """
    if name.lower() in _own.model_files():
        return None
    try:
        entry = _table().find(name)
    except RegistryBusy:
        return None
    except RegistryError as error:
        asked_last = kind == KINDS[-2] and not _own.importable(KINDS[-1])
        if isinstance(error, UnknownName) and not asked_last:
            return None
        raise ModuleNotFoundError(str(error), name=f"recbole.model.{kind}.{name}") from error
    return f"{LABELS[entry.kind]} {entry.qualified} of cvr-plugins" if _package(entry) == kind else None


def _class_of(entry: Registered) -> type[Any]:
    if entry.kind == "recbole_model":
        registered: type[Any] = entry.value
        return registered
    made: type[Any] = getattr(import_module("cvr_plugins.recbole.models"), entry.key)
    return made


def _package(entry: Registered) -> str:
    if entry.kind == "method":
        return KINDS[1]
    return _PACKAGES.get(entry.value.type.name, KINDS[0])


def _short(kind: str) -> str:
    return kind.removesuffix("_recommender")


_current: tuple[Registry, Table] | None = None


def _table() -> Table:
    global _current
    known = registry()
    if _current is None or _current[0] is not known:
        _current = (known, Table.of(known))
    return _current[1]
