"""The RecBole side: any RecBole model run safely on today's packages, and every CVR method as a RecBole model.

`run`, `run_recbole`, `load_data_and_model` and `Config` are for use in place of RecBole's own; CVR methods, `PARS` and
`MaskedRec` are attributes by their names. Names are imported when they are asked for.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvr_plugins.recbole.compat.checkpoints import CheckpointError, SafeCheckpoints, load_checkpoint
    from cvr_plugins.recbole.running.config import Config
    from cvr_plugins.recbole.running.runner import load_data_and_model, run, run_recbole
    from cvr_plugins.recbole.sequential import PARS, MaskedRec
    from cvr_plugins.training.results import RunResult

_HOMES = {
    "CheckpointError": "compat.checkpoints",
    "Config": "running.config",
    "MaskedRec": "sequential",
    "PARS": "sequential",
    "RunResult": "running.runner",
    "SafeCheckpoints": "compat.checkpoints",
    "load_checkpoint": "compat.checkpoints",
    "load_data_and_model": "running.runner",
    "run": "running.runner",
    "run_recbole": "running.runner",
}

__all__ = [
    "PARS",
    "CheckpointError",
    "Config",
    "MaskedRec",
    "RunResult",
    "SafeCheckpoints",
    "load_checkpoint",
    "load_data_and_model",
    "run",
    "run_recbole",
]


def __getattr__(name: str) -> Any:
    # A module of this package, which `from ... import` goes on to import itself.
    if name.startswith("_") or find_spec(f"{__name__}.{name}") is not None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cvr_plugins.recbole.compat.messages import require_recbole

    require_recbole()
    home = _HOMES.get(name, "models")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    if home != "models":
        # A method may be registered, or be contested, later on.
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
