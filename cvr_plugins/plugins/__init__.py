"""Plugins: found through entry points, loaded apart from each other, checked, and looked up by name."""

from cvr_plugins.plugins._checks import recbole_problem
from cvr_plugins.plugins._records import (
    AmbiguousName,
    Failure,
    PluginFailed,
    PluginInfo,
    PluginWarning,
    Registered,
    RegistryBusy,
    RegistryError,
    UnknownName,
)
from cvr_plugins.plugins._registry import Registry, registry, reset

__all__ = [
    "AmbiguousName",
    "Failure",
    "PluginFailed",
    "PluginInfo",
    "PluginWarning",
    "Registered",
    "Registry",
    "RegistryBusy",
    "RegistryError",
    "UnknownName",
    "recbole_problem",
    "registry",
    "reset",
]
