"""Ask one plugin's hook at a time, and keep its answer apart from everyone else's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pluggy

from cvr_plugins.plugins._checks import Kind, Refused
from cvr_plugins.plugins._discovery import Plugin
from cvr_plugins.plugins._records import Failure

Ask = Callable[..., Any]
"""A hook of one plugin, called with the hook's arguments by name."""


def callers(manager: pluggy.PluginManager, plugins: Iterable[Plugin], hook: str) -> Iterator[tuple[Plugin, Ask]]:
    """Yield each loaded plugin that implements `hook`, with a function that calls it there alone."""
    implementing = [implementation.plugin for implementation in getattr(manager.hook, hook).get_hookimpls()]
    for plugin in plugins:
        for module in plugin.loaded:
            if module in implementing:
                yield plugin, _alone(manager, hook, [other for other in implementing if other is not module])


def _alone(manager: pluggy.PluginManager, hook: str, others: list[object]) -> Ask:
    def ask(**arguments: object) -> Any:
        # pluggy leaves out results that are None.
        results = manager.subset_hook_caller(hook, others)(**arguments)
        return results[0] if results else None

    return ask


def answer(plugin: Plugin, kind: Kind, ask: Ask) -> tuple[Mapping[str, Any], list[Failure]]:
    """Return what a plugin's hook offers, name -> value, and what failed; a refused answer offers nothing."""
    stage = kind.hook
    try:
        result = ask()
        stage = "validate"
        accepted = kind.accept(result)
    except Refused as error:
        reason = f"What {kind.hook} gave was refused: {error}"
        return {}, [Failure(plugin.name, stage, reason, kind=kind.name, names=error.names)]
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises stays with the plugin
        return {}, [Failure.of(plugin.name, stage, error, kind.name)]
    newer = [
        Failure(plugin.name, "api", reason, kind=kind.name, names=(name,)) for name, reason in accepted.skipped.items()
    ]
    return accepted.items, newer
