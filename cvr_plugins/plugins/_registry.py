"""The registry: each plugin's things by kind, collected when first asked for, and found by name."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from cvr_plugins.plugins._checks import COMMAND, KINDS, MODEL, Kind, Refused
from cvr_plugins.plugins._discovery import Discovery, Plugin, discover
from cvr_plugins.plugins._isolation import isolated
from cvr_plugins.plugins._lookup import Shelf, find
from cvr_plugins.plugins._records import (
    BUILTIN,
    MORE,
    Failure,
    PluginInfo,
    PluginWarning,
    Registered,
    RegistryBusy,
    UnknownName,
)
from cvr_plugins.plugins.blame import blamed

if TYPE_CHECKING:
    import click

    from cvr_plugins.contracts import Architecture, Backbone, Method, Weighting
    from cvr_plugins.data import FunnelLog
    from cvr_plugins.metrics import Metric, Sample

Ask = Callable[..., Any]
"""A hook of one plugin, called with the hook's arguments by name."""


class MetricFailed(ValueError):
    """A plugin's metric raised while it was computed; the message names both."""


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
        self._reserved: tuple[Registered, ...] = ()
        self._commands: tuple[Registered, ...] = ()
        self._collecting: set[str] = set()
        self._lock = threading.RLock()

    @classmethod
    def load(cls, selection: str | None = None) -> Registry:
        """Import the built-ins and the installed plugins that `selection` names, and warn of those that fail.

        Parameters
        ----------
        selection : str, optional
            As in CVR_PLUGINS_LOAD, names separated by commas ("": none; None: all).

        Returns
        -------
        Registry
            With every plugin that could be imported; nothing is asked of them yet.
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
        from cvr_plugins.metrics import find_metric

        try:
            return find_metric(name)
        except ValueError as error:
            unknown = error
        try:
            entry = self.find("metric", name)
        except UnknownName as error:
            ours_alone = not self.failures and all(each.plugin == BUILTIN for each in self.entries("metric"))
            raise UnknownName(str(unknown)) if ours_alone else error from None
        if name.rpartition(":")[2] != entry.name:
            reason = f"Did you mean {entry.key}? In the names of metrics case counts."
            raise UnknownName(f"Unknown metric {name!r}. {reason}")
        return replace(entry.value, name=name, compute=partial(_computed, entry))

    def dataset(self, name: str) -> Callable[..., FunnelLog]:
        """Return the builder of the data set called `name`; raises RegistryError."""
        return cast("Callable[..., FunnelLog]", self.find("dataset", name).value)

    def recbole_model(self, name: str) -> type[Any]:
        """Return the RecBole model class called `name`; raises RegistryError."""
        return cast("type[Any]", self.find("recbole_model", name).value)

    def find(self, kind: str, name: str) -> Registered:
        """Return what is registered under `name` or `plugin:Name`, case aside, with its owner.

        Parameters
        ----------
        kind : str
            One of `Registered`'s, or "model": everything that RecBole takes for one, see `reserve`.
        name : str
            What is looked for.

        Raises
        ------
        UnknownName
            Nothing has this name.
        AmbiguousName
            Two plugins use it.
        PluginFailed
            What is asked for belongs to a plugin that failed or was refused. All three are RegistryError.
        """
        return find(name, self._shelf(kind), self._plugins, self.failures)

    def entries(self, kind: str) -> tuple[Registered, ...]:
        """Return everything of a kind, by key; the kinds are those of `find`."""
        return self._shelf(kind).entries

    def reserve(self, owner: str, models: Mapping[str, Any]) -> None:
        """Put the models that a framework has itself on the shelf "model", beside methods and RecBole models.

        Their names are nobody else's there: a plugin's thing of such a name is refused on that shelf, not on its own.

        Parameters
        ----------
        owner : str
            The framework, as messages and `Registered.plugin` name it.
        models : mapping of str to object
            Name -> what `find` is to give as its value. Given again, they replace those given before.
        """
        reserved = tuple([Registered(MODEL.name, name, value, owner, name) for name, value in models.items()])
        with self._lock:
            if reserved != self._reserved:
                self._reserved = reserved
                self._shelves.pop(MODEL.name, None)

    def collect(self) -> None:
        """Ask every plugin for every kind, so that `plugins` and `failures` are complete."""
        for kind in KINDS:
            self._shelf(kind)

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """The plugins, built-ins first; of the kinds collected so far (`collect` for all)."""
        return tuple(map(self._info, self._plugins))

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What failed so far, of any plugin, also of one named by CVR_PLUGINS_LOAD that is not installed."""
        return tuple(self._failures)

    def add_commands(self, cli: click.Group) -> None:
        """Let each plugin add commands to `cli`; one that fails adds none, and none replaces another's.

        A command whose name `cli` or another plugin uses is added as `plugin:name`.
        """
        import click

        with self._lock:
            present = [_offer(COMMAND, BUILTIN, name, None) for name in cli.list_commands(click.Context(cli))]
            shelf, failures = self._collect(COMMAND, present, lambda ask: _added(cli, ask))
            self._commands = tuple(entry for entry in shelf.entries if entry.value is not None)
            for entry in self._commands:
                cli.add_command(entry.value, entry.key)
            self._record(failures)

    def _shelf(self, name: str) -> Shelf:
        if name not in (*KINDS, MODEL.name):
            raise ValueError(f"There is no kind {name!r}; the kinds are {', '.join([*KINDS, MODEL.name])}.")
        with self._lock:
            if name not in self._shelves:
                shelf, failures = self._joined() if name == MODEL.name else self._asked_for(KINDS[name])
                self._shelves[name] = shelf
                self._record(failures)
            return self._shelves[name]

    def _joined(self) -> tuple[Shelf, list[Failure]]:
        return Shelf.of(MODEL, [entry for kind in MODEL.joins for entry in self.entries(kind)], self._reserved)

    def _asked_for(self, kind: Kind) -> tuple[Shelf, list[Failure]]:
        if kind.name in self._collecting:
            raise RegistryBusy(
                f"A plugin's {kind.hook} asks the registry for the very kind it registers; "
                "ask when the thing is used instead."
            )
        self._collecting.add(kind.name)
        try:
            return self._collect(kind)
        finally:
            self._collecting.discard(kind.name)

    def _collect(
        self, kind: Kind, offers: Iterable[Registered] = (), give: Callable[[Ask], object] = lambda ask: ask()
    ) -> tuple[Shelf, list[Failure]]:
        """Settle the names of `offers` and of what every plugin's hook gives; a refused answer offers nothing."""
        offered = list(offers)
        failures: list[Failure] = []
        for plugin, ask in self._hooks(kind):
            stage = kind.hook
            with isolated(plugin.name, kind.hook, failures):
                try:
                    answer = give(ask)
                    stage = "validate"
                    accepted = kind.accept(answer)
                except Refused as error:
                    reason = f"What {kind.hook} gave was refused: {error}"
                    failures.append(Failure(plugin.name, stage, reason, kind=kind.name, names=error.names))
                except BaseException as error:  # noqa: BLE001 - whatever a plugin raises stays with the plugin
                    failures.append(Failure.of(plugin.name, stage, error, kind.name))
                else:
                    offered += [_offer(kind, plugin.name, name, value) for name, value in accepted.items.items()]
                    failures += [
                        Failure(plugin.name, "api", reason, kind=kind.name, names=(name,))
                        for name, reason in accepted.skipped.items()
                    ]
        shelf, clashes = Shelf.of(kind, offered)
        return shelf, failures + clashes

    def _hooks(self, kind: Kind) -> Iterator[tuple[Plugin, Ask]]:
        """Yield each loaded plugin that implements a kind's hook, with its own function alone to be called."""
        implementations = getattr(self._manager.hook, kind.hook).get_hookimpls()
        for plugin in self._plugins:
            for module in plugin.loaded:
                for each in implementations:
                    if each.plugin is module:
                        yield plugin, partial(_ask, each)

    def _record(self, failures: Iterable[Failure]) -> None:
        known = {(failure.plugin, failure.stage, failure.message) for failure in self._failures}
        new = [failure for failure in failures if (failure.plugin, failure.stage, failure.message) not in known]
        self._failures.extend(new)
        _warn(new)

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
            if kind in KINDS
        }
        commands = tuple(entry.name for entry in self._commands if entry.plugin == plugin.name)
        if commands:
            contributed[COMMAND.name] = commands
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


def _offer(kind: Kind, plugin: str, name: str, value: object) -> Registered:
    return Registered(kind.name, name, value, plugin, name)


def _ask(implementation: Any, **arguments: object) -> Any:
    return implementation.function(*(arguments[name] for name in implementation.argnames))


def _added(cli: click.Group, ask: Ask) -> dict[str, click.Command]:
    """Return what a hook adds to `cli`, which is left as it was."""
    before = dict(cli.commands)
    try:
        ask(cli=cli)
        return {name: command for name, command in cli.commands.items() if command is not before.get(name)}
    finally:
        cli.commands.clear()
        cli.commands.update(before)


def _computed(entry: Registered, sample: Sample) -> float | None:
    """Compute a registered metric; one that raises in the midst of a run is told with its plugin."""
    with blamed(f"Metric {entry.name!r}", entry.plugin, "its computation", MetricFailed):
        return cast("float | None", entry.value.compute(sample))


def _warn(failures: Iterable[Failure]) -> None:
    for failure in failures:
        # No file and line: which line of ours warns helps nobody, and its text would be a second line of output.
        warnings.warn_explicit(f"{failure} {MORE}", PluginWarning, "<cvr_plugins>", 0, module=__package__)
