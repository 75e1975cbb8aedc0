"""The registry: each plugin's things by kind, collected when first asked for, and found by name."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from cvr_plugins.plugins._asking import answer, callers
from cvr_plugins.plugins._checks import COMMAND, KINDS, Kind
from cvr_plugins.plugins._commands import add_commands
from cvr_plugins.plugins._discovery import Discovery, Plugin, discover
from cvr_plugins.plugins._lookup import Shelf, find
from cvr_plugins.plugins._metrics import metric_of
from cvr_plugins.plugins._records import BUILTIN, MORE, Failure, PluginInfo, PluginWarning, Registered, RegistryBusy

if TYPE_CHECKING:
    import click

    from cvr_plugins.contracts import Architecture, Backbone, Method, Weighting
    from cvr_plugins.data import FunnelLog
    from cvr_plugins.metrics import Metric


class Registry:
    """Everything the built-ins and the installed plugins register.

    A kind's hook is called, once per plugin, when something of the kind is first asked for: whoever wants a data set
    does not wait for torch. Names compare without case. A built-in wins over a plugin's thing of the same name; of two
    plugins with one name neither gets it; `plugin:Name` always finds it.
    """

    def __init__(self, found: Discovery) -> None:
        self._manager = found.manager
        self._plugins: tuple[Plugin, ...] = tuple(found.plugins)
        self._failures: list[Failure] = list(found.failures)
        self._shelves: dict[str, Shelf] = {}
        self._commands: list[Registered] = []
        self._collecting: set[str] = set()
        self._lock = threading.RLock()

    @classmethod
    def load(cls, selection: str | None = None) -> Registry:
        """Import the built-ins and the installed plugins that `selection` names, and warn of those that fail.

        selection: as in CVR_PLUGINS_LOAD, names separated by commas ("": none; None: all).
        """
        registry = cls(discover(selection))
        _warn(registry._failures)
        return registry

    def method(self, name: str) -> Method:
        """Return the method called `name`; raises RegistryError."""
        return cast("Method", self.find("method", name).value)

    def architecture(self, name: str) -> type[Architecture]:
        """Return the architecture class called `name`; raises RegistryError."""
        return cast("type[Architecture]", self.find("architecture", name).value)

    def backbone(self, name: str) -> Callable[..., Backbone]:
        """Return the backbone called `name`, `(layout, **options) -> Backbone`; raises RegistryError."""
        return cast("Callable[..., Backbone]", self.find("backbone", name).value)

    def weighting(self, name: str) -> type[Weighting]:
        """Return the weighting class called `name`; raises RegistryError."""
        return cast("type[Weighting]", self.find("weighting", name).value)

    def metric(self, name: str) -> Metric:
        """Return the metric called `name`, built-in families such as "f1@10%" included; raises RegistryError.

        A report's keys compare as text, so here case counts, and the metric is called as it was asked for.
        """
        return metric_of(name, partial(self.find, "metric"), ours_alone=self._ours_alone)

    def dataset(self, name: str) -> Callable[..., FunnelLog]:
        """Return the builder of the data set called `name`; raises RegistryError."""
        return cast("Callable[..., FunnelLog]", self.find("dataset", name).value)

    def recbole_model(self, name: str) -> type[Any]:
        """Return the RecBole model class called `name`; raises RegistryError."""
        return cast("type[Any]", self.find("recbole_model", name).value)

    def find(self, kind: str, name: str) -> Registered:
        """Return what is registered under `name` or `plugin:Name`, case aside, with its owner.

        Raises UnknownName, AmbiguousName if two plugins use the name, PluginFailed if what is asked for belongs to a
        plugin that failed or was refused; all are RegistryError.
        """
        return find(name, self._shelf(kind), self._plugins, self.failures)

    def entries(self, kind: str) -> tuple[Registered, ...]:
        """Return everything of a kind, by key; the kinds are those of `Registered`."""
        return self._shelf(kind).entries

    def collect(self) -> None:
        """Ask every plugin for every kind, so that `plugins` and `failures` are complete."""
        for kind in KINDS:
            self._shelf(kind)

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """The plugins, built-ins first; of the kinds collected so far (`collect` for all)."""
        return tuple(self._info(plugin) for plugin in self._plugins)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What failed so far, of any plugin, also of one named by CVR_PLUGINS_LOAD that is not installed."""
        return tuple(self._failures)

    def report(self, failures: Iterable[Failure]) -> None:
        """Add what a framework's side found wrong with what plugins registered; each is warned about once."""
        with self._lock:
            self._record(failures)

    def add_commands(self, cli: click.Group) -> None:
        """Let each plugin add commands to `cli`; one that fails adds none, and none replaces another's.

        A command whose name `cli` or another plugin uses is added as `plugin:name`.
        """
        with self._lock:
            self._commands, failures = add_commands(cli, callers(self._manager, self._plugins, COMMAND.hook))
            self._record(failures)

    def _shelf(self, kind: str) -> Shelf:
        if kind not in KINDS:
            raise ValueError(f"There is no kind {kind!r}; the kinds are {', '.join(KINDS)}.")
        with self._lock:
            if kind not in self._shelves:
                if kind in self._collecting:
                    raise RegistryBusy(
                        f"A plugin's {KINDS[kind].hook} asks the registry for the very kind it registers; "
                        "ask when the thing is used instead."
                    )
                self._collecting.add(kind)
                try:
                    shelf, failures = self._collect(KINDS[kind])
                finally:
                    self._collecting.discard(kind)
                self._shelves[kind] = shelf
                self._record(failures)
            return self._shelves[kind]

    def _collect(self, kind: Kind) -> tuple[Shelf, list[Failure]]:
        offers: list[tuple[str, str, Any]] = []
        failures: list[Failure] = []
        for plugin, ask in callers(self._manager, self._plugins, kind.hook):
            items, failed = answer(plugin, kind, ask)
            offers.extend((plugin.name, name, value) for name, value in items.items())
            failures.extend(failed)
        shelf, clashes = Shelf.of(kind, offers)
        return shelf, failures + clashes

    def _record(self, failures: Iterable[Failure]) -> None:
        known = {(failure.plugin, failure.stage, failure.message) for failure in self._failures}
        new = [failure for failure in failures if (failure.plugin, failure.stage, failure.message) not in known]
        self._failures.extend(new)
        _warn(new)

    def _ours_alone(self) -> bool:
        return not self.failures and all(entry.plugin == BUILTIN for entry in self.entries("metric"))

    def _info(self, plugin: Plugin) -> PluginInfo:
        failures = tuple(failure for failure in self._failures if failure.plugin.casefold() == plugin.name.casefold())
        if plugin.skipped:
            status = "skipped"
        elif not plugin.loaded:
            status = "failed"
        else:
            status = "partial" if failures else "ok"
        contributed = {
            kind: tuple(entry.name for entry in shelf.entries if entry.plugin == plugin.name)
            for kind, shelf in self._shelves.items()
        }
        commands = tuple(entry.name for entry in self._commands if entry.plugin == plugin.name)
        if commands:
            contributed["command"] = commands
        return PluginInfo(
            plugin.name, plugin.module, plugin.distribution, plugin.version, status, contributed, failures
        )


_lock = threading.RLock()
_registry: Registry | None = None
_loading = False


def registry() -> Registry:
    """Return this process's registry; the first call imports the plugins that CVR_PLUGINS_LOAD allows (unset: all)."""
    global _registry, _loading
    with _lock:
        if _registry is None:
            if _loading:
                raise RegistryBusy("A plugin asks for the registry while it is imported; ask inside a hook or later.")
            _loading = True
            try:
                _registry = Registry.load(os.environ.get("CVR_PLUGINS_LOAD"))
            finally:
                _loading = False
        return _registry


def reset() -> None:
    """Forget this process's registry: the next call of `registry` builds it anew (modules stay imported)."""
    global _registry
    with _lock:
        _registry = None


def _warn(failures: Iterable[Failure]) -> None:
    for failure in failures:
        # No file and line: which line of ours warns helps nobody, and its text would be a second line of output.
        warnings.warn_explicit(f"{failure} {MORE}", PluginWarning, "<cvr_plugins>", 0, module="cvr_plugins.plugins")
