"""A registered thing's code, run as a hook of its plugin is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cvr_plugins.plugins._isolation import isolated
from cvr_plugins.plugins._records import Failure, Registered
from cvr_plugins.plugins._registry import registry
from cvr_plugins.plugins.blame import blamed


@contextmanager
def using(entry: Registered, doing: str, kind: type[Exception]) -> Iterator[None]:
    """Say whose an error of the block is, and put back, and tell, what its code leaves changed in the process.

    Parameters
    ----------
    entry
        Whose code runs in the block.
    doing, kind
        As of `blamed`.
    """
    failures: list[Failure] = []
    try:
        with isolated(entry.plugin, doing, failures), blamed(entry.name, entry.plugin, doing, kind):
            yield
    finally:
        registry()._record(failures)
