"""Conversion-rate (CVR) prediction methods as plugins for torch-rechub and RecBole."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cvr_plugins.recbole.compat.finder import install as _install

_HOMES = {
    "API_VERSION": "contracts",
    "Architecture": "contracts",
    "Backbone": "contracts",
    "CVRModel": "model",
    "Labels": "contracts",
    "Layout": "contracts",
    "Mechanism": "contracts",
    "Method": "contracts",
    "Objective": "contracts",
    "Outputs": "contracts",
    "Phase": "contracts",
    "Weighting": "contracts",
    "hookimpl": "hookspecs",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cvr-plugins")
    if name in _HOMES:
        return getattr(import_module(f"cvr_plugins.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'cvr_plugins' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


_install(lambda: import_module("cvr_plugins.recbole.names"))
