"""Which framework a run is for: what the configuration says, else the one that has the model."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

RECHUB, RECBOLE = "torch-rechub", "recbole"
FRAMEWORKS = (RECHUB, RECBOLE)


def framework_of(config: Mapping[str, Any]) -> str:
    """Return the framework a configuration is for: its key `framework`; RecBole for a model that is no method.

    Raises ConfigError for an unknown framework, RegistryError for a model that neither has.
    """
    from cvr_plugins.config import ConfigError
    from cvr_plugins.nearest import unknown
    from cvr_plugins.plugins import UnknownName, registry

    chosen, model = config.get("framework"), config.get("model")
    if chosen is not None:
        if chosen not in FRAMEWORKS:
            allowed = f"framework must be {' or '.join(FRAMEWORKS)}; got {chosen!r}."
            raise ConfigError(unknown(allowed, chosen, FRAMEWORKS, ""))
        if chosen == RECHUB and isinstance(model, str):
            check_method(model)
        return str(chosen)
    if not isinstance(model, str):
        return RECHUB
    try:
        registry().find("method", model)
    except UnknownName as error:
        if not _in_recbole(model, error):
            raise
        return RECBOLE
    return RECHUB


def check_method(name: str) -> None:
    """Raise UnknownName for a name that is no method's; it says so where RecBole has a model of that name."""
    from cvr_plugins.plugins import UnknownName, registry
    from cvr_plugins.recbole import names

    try:
        registry().find("method", name)
    except UnknownName as error:
        if name.casefold() not in {each.key.casefold() for each in names.available()}:
            raise
        raise UnknownName(f"{error} RecBole has a model of that name; 'cvr-plugins models' lists those.") from error


def _in_recbole(model: str, unknown: Exception) -> bool:
    """Whether RecBole has the model; if neither side has, raise the error that knows a near name."""
    from cvr_plugins.nearest import nearest
    from cvr_plugins.plugins import UnknownName, registry
    from cvr_plugins.recbole import names

    if find_spec("recbole") is None:
        raise UnknownName(f"{unknown} If it is a model of RecBole: that is not installed.") from unknown
    known = {each.key for each in names.available()}
    folded = {name.casefold() for name in known}
    if model.casefold() in folded or ":" in model:
        return model.casefold() in folded
    if nearest(model, known) and not nearest(model, [entry.key for entry in registry().entries("method")]):
        names.find(model)
    return False
