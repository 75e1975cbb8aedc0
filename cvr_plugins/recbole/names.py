"""Every name that RecBole takes for a model: its own, the registered methods and the registered RecBole models.

RecBole's own names win, then a built-in's; of two plugins with one name neither gets it. `plugin:Name` says whose.
Names compare without case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cvr_plugins.plugins import Registered, RegistryBusy, RegistryError, UnknownName
from cvr_plugins.recbole import models
from cvr_plugins.recbole.compat import messages
from cvr_plugins.recbole.compat.finder import KINDS

RECBOLE = models.RECBOLE
"""The owner of RecBole's own names."""

_ORIGINS = {"recbole_model": "RecBole model", "method": "method", "model": "RecBole"}
_PACKAGES = {"CONTEXT": KINDS[1], "DECISIONTREE": KINDS[1], "SEQUENTIAL": KINDS[2], "KNOWLEDGE": KINDS[3]}
"""RecBole's ModelType -> the package it is to find the model in. Its configuration treats decision trees as it does
context-aware models; their own package cannot be imported without lightgbm and xgboost."""


@dataclass(frozen=True)
class ModelName:
    """A name that RecBole takes for a model.

    Parameters
    ----------
    name
        Of the class.
    key
        The shortest name that finds it, `plugin:Name` where the plain name is another's or contested.
    owner
        The plugin that registers it, "builtin" or "recbole".
    kind
        "general", "context_aware", "sequential", "knowledge_aware" or "exlib".
    origin
        "RecBole", or what it is registered as with cvr-plugins, "method" or "RecBole model".
    """

    name: str
    key: str
    owner: str
    kind: str
    origin: str


def find(name: str) -> type[Any]:
    """Return the model class that a name means, made known to RecBole (`binding.bind`).

    Parameters
    ----------
    name
        A model's name or `plugin:Name`, in any case.

    Raises
    ------
    RegistryError
        UnknownName with the nearest names, AmbiguousName if two plugins use the name, PluginFailed if it belongs to a
        plugin that failed or clashes with RecBole's.
    ImportError
        If RecBole, or a package that one of its models needs, is missing.
    """
    messages.require_recbole()
    own = models.own_files().get(name.lower()) if isinstance(name, str) else None
    return models.own_class(own) if own is not None else models.class_of(models.shelf().find("model", name))


def available() -> tuple[ModelName, ...]:
    """Return every name that finds a model, by key; none of RecBole's own modules is imported for it."""
    return tuple(
        ModelName(each.name, each.key, each.plugin, _package(each).removesuffix("_recommender"), _ORIGINS[each.kind])
        for each in models.shelf().entries("model")
    )


def owner(key: str) -> str | None:
    """Return whose the model of a key is, a plugin's, "builtin" or "recbole"; None if nobody's."""
    return next((each.plugin for each in models.shelf().entries("model") if each.key == key), None)


def origin(name: str, kind: str) -> str | None:
    """Return whose a registered model is if RecBole is to find it in its package `kind`, else None.

    Raises
    ------
    ModuleNotFoundError
        For a model that is registered but cannot be used, and for a name that nobody knows where RecBole would go on to
        ask for lightgbm.
    """
    if name.lower() in models.own_files():
        return None
    try:
        entry = models.shelf().find("model", name)
    except RegistryBusy:
        return None
    except RegistryError as error:
        asked_last = kind == KINDS[-2] and not models.importable(KINDS[-1])
        if isinstance(error, UnknownName) and not asked_last:
            return None
        raise ModuleNotFoundError(str(error), name=f"recbole.model.{kind}.{name}") from error
    return f"{_ORIGINS[entry.kind]} {entry.qualified} of cvr-plugins" if _package(entry) == kind else None


def _package(entry: Registered) -> str:
    if entry.kind == "method":
        return KINDS[1]
    if entry.plugin == RECBOLE:
        return str(entry.value.parent.name)
    return _PACKAGES.get(entry.value.type.name, KINDS[0])
