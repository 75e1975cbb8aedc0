"""This package's own RecBole models, registered through the hook."""

from __future__ import annotations

from typing import Any

from cvr_plugins.hookspecs import hookimpl


@hookimpl
def cvr_register_recbole_models() -> list[type[Any]]:
    """Return our sequential models, where RecBole is installed."""
    from cvr_plugins.recbole.compat.messages import missing

    if missing():
        return []
    from cvr_plugins.recbole.sequential import PARS, MaskedRec

    return [PARS, MaskedRec]
