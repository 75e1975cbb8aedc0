"""The funnel log: what it is made of, how it is checked, read, written, split and turned into arrays."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvr_plugins.data.atomic import Written, read_atomic, write_atomic
    from cvr_plugins.data.encoding import Encoded, Vocabulary
    from cvr_plugins.data.errors import DataError, SchemaError
    from cvr_plugins.data.infer import infer_schema
    from cvr_plugins.data.log import FunnelLog
    from cvr_plugins.data.movielens import ml_100k_funnel
    from cvr_plugins.data.schema import Feature, Schema
    from cvr_plugins.data.simulated import simulated_funnel
    from cvr_plugins.data.source import TableWriter
    from cvr_plugins.data.splits import check_parts, split
    from cvr_plugins.data.tables import RawLog, open_batches, read_table, write_table

__all__ = [
    "DataError",
    "Encoded",
    "Feature",
    "FunnelLog",
    "RawLog",
    "Schema",
    "SchemaError",
    "TableWriter",
    "Vocabulary",
    "Written",
    "check_parts",
    "infer_schema",
    "ml_100k_funnel",
    "open_batches",
    "read_atomic",
    "read_table",
    "simulated_funnel",
    "split",
    "write_atomic",
    "write_table",
]

_HOMES = {
    "atomic": ("Written", "read_atomic", "write_atomic"),
    "encoding": ("Encoded", "Vocabulary"),
    "errors": ("DataError", "SchemaError"),
    "infer": ("infer_schema",),
    "log": ("FunnelLog",),
    "movielens": ("ml_100k_funnel",),
    "schema": ("Feature", "Schema"),
    "simulated": ("simulated_funnel",),
    "source": ("TableWriter",),
    "splits": ("check_parts", "split"),
    "tables": ("RawLog", "open_batches", "read_table", "write_table"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
