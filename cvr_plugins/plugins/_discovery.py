"""Find the plugins through their entry points, import each on its own, and see that its hooks fit."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module, metadata
from types import ModuleType

import pluggy

from cvr_plugins import hookspecs
from cvr_plugins.nearest import did_you_mean, either, nearest
from cvr_plugins.plugins._checks import COMMAND, KINDS
from cvr_plugins.plugins._isolation import isolated
from cvr_plugins.plugins._records import BUILTIN, Failure, valid_name
from cvr_plugins.wording import flat, sentence

GROUP = hookspecs.PROJECT
BUILTIN_MODULES = ("cvr_plugins.builtin", "cvr_plugins.recbole.hooks")
"""Where this package's own hooks are, by name as any plugin's are: they stand above this module."""

_KIND_OF_HOOK = {kind.hook: kind.name for kind in (*KINDS.values(), COMMAND)}


@dataclass(frozen=True)
class Plugin:
    """A plugin found; `loaded` are its modules (of others than ours one), none if it failed or was left out."""

    name: str
    module: str
    distribution: str | None = None
    version: str | None = None
    loaded: tuple[ModuleType, ...] = ()
    skipped: bool = False


@dataclass
class Discovery:
    """What was found: the manager with every plugin that loaded, all plugins, and what failed."""

    manager: pluggy.PluginManager
    plugins: list[Plugin] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


class _Unfit(Exception):
    """A plugin whose entry point or hooks cannot be used."""


def discover(selection: str | None = None) -> Discovery:
    """Load the built-ins, then the installed plugins that `selection` names (comma-separated; None: all).

    One plugin's failure, whatever it raises, is recorded and does not touch the others.
    """
    found = Discovery(pluggy.PluginManager(hookspecs.PROJECT))
    found.manager.add_hookspecs(hookspecs)
    modules = tuple(map(import_module, BUILTIN_MODULES))
    for module in modules:
        found.manager.register(module, BUILTIN if module is modules[0] else module.__name__)
    found.plugins.append(Plugin(BUILTIN, modules[0].__name__, "cvr-plugins", _own_version(), modules))
    points: dict[str, dict[str, metadata.EntryPoint]] = {}
    for point in _entry_points(found.failures):
        # Keyed by value: a stale second metadata folder of one plugin is no clash.
        points.setdefault(point.name.casefold(), {}).setdefault(point.value, point)
    wanted = None if selection is None else {name.casefold(): name for name in map(str.strip, selection.split(","))}
    for name, rivals in sorted(points.items()):
        skipped = wanted is not None and name not in wanted
        _add(found, [rivals[value] for value in sorted(rivals)], skipped=skipped)
    for name, spelling in sorted((wanted or {}).items()):
        if name and name != BUILTIN and name not in points:
            installed = [plugin.name for plugin in found.plugins]
            hint = did_you_mean(spelling, installed) or f"Installed: {', '.join(installed)}."
            message = f"CVR_PLUGINS_LOAD names it, but no installed plugin has this name. {hint}"
            found.failures.append(Failure(spelling, "select", message))
    return found


def _entry_points(failures: list[Failure]) -> Iterable[metadata.EntryPoint]:
    try:
        return metadata.entry_points(group=GROUP)
    except Exception:  # noqa: BLE001 - any distribution with unreadable metadata, be it a plugin or not
        return list(_readable_entry_points(failures))


def _readable_entry_points(failures: list[Failure]) -> Iterator[metadata.EntryPoint]:
    seen = set()
    for distribution in metadata.distributions():
        name = "?"
        try:
            name = distribution.metadata["Name"] or name
            if name in seen:
                continue
            seen.add(name)
            points = [point for point in distribution.entry_points if point.group == GROUP]
        except Exception as error:  # noqa: BLE001
            failures.append(Failure.of(name, "discover", error, note="its metadata cannot be read"))
        else:
            yield from points


def _add(found: Discovery, rivals: list[metadata.EntryPoint], *, skipped: bool) -> None:
    point = rivals[0]
    distribution, version = _distribution(point) if len(rivals) == 1 else (None, None)
    # What a plugin with our own plugin's name did wrong must not be put down to ours.
    name = point.name if point.name.casefold() != BUILTIN else f"{distribution}/{point.name}"
    stage = "discover"
    loaded: tuple[ModuleType, ...] = ()
    with isolated(name, "its import", found.failures):
        try:
            if not skipped:
                _check_name(rivals)
                stage = "import"
                module = _import(point)
                stage = "register"
                _register(found, name, module)
                loaded = (module,)
        except _Unfit as error:
            found.failures.append(Failure(name, stage, str(error)))
        except BaseException as error:  # noqa: BLE001 - whatever an import raises stays with the plugin
            found.failures.append(Failure.of(name, stage, error))
    values = ", ".join(rival.value for rival in rivals)
    found.plugins.append(Plugin(name, values, distribution, version, loaded, skipped))


def _check_name(rivals: list[metadata.EntryPoint]) -> None:
    name = rivals[0].name
    if name.casefold() == BUILTIN:
        raise _Unfit(f"The name {name!r} is this package's own; {_described(rivals[0])} must choose another.")
    if not valid_name(name):
        raise _Unfit(f"A plugin's name is letters, digits and '_', '-', '.', '+'; got {name!r}.")
    if len(rivals) > 1:
        claims = either(map(_described, rivals), "and")
        raise _Unfit(f"{len(rivals)} plugins have this name, so none of them is loaded: {claims}. Keep one, or rename.")


def _import(point: metadata.EntryPoint) -> ModuleType:
    expected = f'An entry point of group {GROUP!r} names a module, as in {point.name} = "my_package.my_module"'
    if point.pattern.match(point.value) is None:
        raise _Unfit(f"{expected}; got {point.value!r}.")
    value = point.load()
    if not isinstance(value, ModuleType):
        raise _Unfit(f"{expected}; {point.value!r} is a {type(value).__name__}.")
    return value


def _register(found: Discovery, name: str, module: ModuleType) -> None:
    manager = found.manager
    other = manager.get_name(module)
    if other is not None:
        raise _Unfit(f"Its module {module.__name__!r} is already registered as plugin {other!r}.")
    hooks = sorted(hook for hook, caller in vars(manager.hook).items() if caller.has_spec())
    marked = 0
    misspelt: list[Failure] = []
    for attribute in dir(module):
        options = manager.parse_hookimpl_opts(module, attribute)
        if options is None:
            problem = _unmarked(module, attribute, hooks)
        else:
            marked += 1
            if options.get("wrapper") or options.get("hookwrapper") or options.get("specname"):
                raise _Unfit(
                    f"{attribute}: each plugin is asked alone, so a hook is a plain function of the hook's name; "
                    "leave out 'wrapper', 'hookwrapper' and 'specname'."
                )
            known = attribute in hooks or options.get("optionalhook")
            problem = "" if known else f"There is no hook {attribute!r}. {_hint(attribute, hooks)}"
        if problem:
            near = nearest(attribute, hooks, limit=1)
            misspelt.append(Failure(name, "register", problem, kind=_KIND_OF_HOOK.get(near[0]) if near else None))
    found.failures.extend(misspelt)
    if not marked and not misspelt:
        raise _Unfit(f"{module.__name__!r} has no function marked with @hookimpl. {_hint('', hooks)}")
    try:
        manager.register(module, name)
    except pluggy.PluginValidationError as error:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        raise _Unfit(sentence(flat(error))) from error


def _unmarked(module: ModuleType, attribute: str, hooks: list[str]) -> str:
    if attribute in hooks:
        return f"{attribute} is not a function marked with @hookimpl, so it is never called; mark it."
    like_a_hook = attribute.startswith("cvr_register") or difflib.get_close_matches(attribute, hooks, 1, 0.85)
    if like_a_hook and inspect.isfunction(getattr(module, attribute)):
        return f"There is no hook {attribute!r}, and it is not marked with @hookimpl. {_hint(attribute, hooks)}"
    return ""


def _hint(name: str, hooks: list[str]) -> str:
    return did_you_mean(name, hooks) or f"The hooks are {either(hooks, 'and')}."


def _described(point: metadata.EntryPoint) -> str:
    distribution, version = _distribution(point)
    return f"{distribution or 'an unnamed distribution'} {version or ''}".strip() + f" ({point.value})"


def _distribution(point: metadata.EntryPoint) -> tuple[str | None, str | None]:
    try:
        assert point.dist is not None
        return point.dist.metadata["Name"], point.dist.version
    except Exception:  # noqa: BLE001 - a folder without METADATA; the plugin can be used all the same
        return None, None


def _own_version() -> str | None:
    try:
        return metadata.version("cvr-plugins")
    except metadata.PackageNotFoundError:
        return None
