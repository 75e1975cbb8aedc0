"""NumPy and SciPy as RecBole's modules knew them, for those modules alone: the libraries stay as they are."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from scipy import sparse

_OLD_NAMES = {
    "bool": np.bool_,
    "int": np.int_,
    "float": np.float64,
    "complex": np.complex128,
    "object": np.object_,
    "str": np.str_,
    "long": np.int_,
    "unicode": np.str_,
}
"""What RecBole's own Config sets on numpy, for all of the process; on NumPy 2 it fails at that."""

_USERS = (
    "recbole.data.dataset.dataset",
    "recbole.data.interaction",
    "recbole.evaluator.metrics",
    "recbole.model.abstract_recommender",
    "recbole.model.layers",
    "recbole.trainer.hyper_tuning",
)
"""Modules of RecBole, other than single models, that use the old names."""


class _DictionaryOfKeys(sparse.dok_matrix):
    """SciPy's matrix with the method that its version 1.13 has dropped (LightGCN, NGCF, GCMC, KGIN and others)."""

    def _update(self, values: Mapping[tuple[int, int], float]) -> None:
        if values:
            rows, columns = zip(*values, strict=True)
            self[list(rows), list(columns)] = list(values.values())


class _Library(ModuleType):
    """A library with some names of its own; all others are looked up in the library itself."""

    def __init__(self, library: ModuleType, names: Mapping[str, Any]) -> None:
        super().__init__(library.__name__, library.__doc__)
        vars(self).update({**vars(library), **names})
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)


_INSTEAD = (
    ("np", np, _Library(np, _OLD_NAMES)),
    ("sp", sparse, _Library(sparse, {"dok_matrix": _DictionaryOfKeys})),
)
"""Name in RecBole's modules, the library it is, what they are to see."""


def numpy_with(**names: Any) -> ModuleType:
    """Return NumPy with its old names and these."""
    return _Library(np, {**_OLD_NAMES, **names})


def give_old_names() -> None:
    """Let the modules of RecBole that are loaded by now see the libraries as they were; may be repeated."""
    for name in _USERS:
        import_module(name)
    # A copy in one step: other threads, such as tensorboard's, go on importing.
    for name, module in sys.modules.copy().items():
        if name.split(".", 1)[0] == "recbole":
            for alias, library, old in _INSTEAD:
                if vars(module).get(alias) is library:
                    vars(module)[alias] = old
