"""The things of one kind by name: who gets a contested name, and what to say when a name finds nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from cvr_plugins.nearest import either, unknown
from cvr_plugins.plugins._checks import KINDS, Kind
from cvr_plugins.plugins._discovery import Plugin
from cvr_plugins.plugins._records import (
    BUILTIN,
    MORE,
    AmbiguousName,
    Failure,
    PluginFailed,
    Registered,
    UnknownName,
)
from cvr_plugins.wording import sentence


@dataclass(frozen=True)
class Shelf:
    """The things of one kind; `plain` and `contested` are keyed by the name, case folded."""

    kind: Kind
    entries: tuple[Registered, ...]
    plain: Mapping[str, Registered]
    contested: Mapping[str, tuple[Registered, ...]]

    @classmethod
    def of(
        cls, kind: Kind, offers: Iterable[Registered], reserved: Iterable[Registered] = ()
    ) -> tuple[Shelf, list[Failure]]:
        """Settle who gets which name.

        Parameters
        ----------
        kind : Kind
            What the shelf holds.
        offers : iterable of Registered
            What the plugins bring; the key of one that has already lost its plain name elsewhere is not that name.
        reserved : iterable of Registered
            Things whose names nobody else may have, not even as `plugin:Name`.

        Returns
        -------
        shelf : Shelf
            Everything that can be found, under its key.
        failures : list of Failure
            The clashes that were not told elsewhere.
        """
        owned = {each.name.casefold(): each for each in reserved}
        named: dict[str, list[Registered]] = {}
        for offer in offers:
            named.setdefault(offer.name.casefold(), []).append(offer)
        entries = list(owned.values())
        contested: dict[str, tuple[Registered, ...]] = {}
        failures: list[Failure] = []
        for folded, rivals in named.items():
            if folded in owned:
                whose = f"that of RecBole's own {kind.label} {owned[folded].name}"
                failures.extend(_refused(kind, rival, whose) for rival in rivals)
                continue
            if len(rivals) == 1:
                entries.append(replace(rivals[0], key=rivals[0].name))
                continue
            plugins = [rival.plugin for rival in rivals]
            twins = {rival.plugin: rival for rival in rivals if plugins.count(rival.plugin) > 1}
            failures.extend(_refused(kind, twin, "another's of the same plugin, too") for twin in twins.values())
            rivals = [rival for rival in rivals if rival.plugin not in twins]
            winner = next((each for each in rivals if each.plugin == BUILTIN), rivals[0] if len(rivals) == 1 else None)
            settled = [replace(each, key=each.name if each is winner else each.qualified) for each in rivals]
            entries.extend(settled)
            if winner is None and settled:
                contested[folded] = tuple(settled)
            failures.extend(
                _clash(kind, new, settled)
                for old, new in zip(rivals, settled, strict=True)
                if old is not winner and old.key == old.name
            )
        keyed = {(entry.key.casefold(), entry.key): entry for entry in entries}
        entries = [keyed[key] for key in sorted(keyed)]
        plain = {entry.key.casefold(): entry for entry in entries if entry.key == entry.name}
        return cls(kind, tuple(entries), plain, contested), failures


def _clash(kind: Kind, loser: Registered, rivals: Sequence[Registered]) -> Failure:
    others = [rival for rival in rivals if rival is not loser]
    if any(other.plugin == BUILTIN for other in others):
        reason = f"The {kind.label} name {loser.name!r} is a built-in's"
    else:
        owners = either([f"plugin {other.plugin!r}" for other in others], "and")
        reason = f"The {kind.label} name {loser.name!r} is used by {owners} too, so none of them gets it"
    return Failure(loser.plugin, "name", f"{reason}; ask for '{loser.key}'.", kind=loser.kind, names=(loser.name,))


def _refused(kind: Kind, loser: Registered, whose: str) -> Failure:
    reason = (
        f"The name of its {KINDS[loser.kind].label} {loser.name!r} is {whose}, so it is no {kind.label}; rename it."
    )
    return Failure(loser.plugin, "name", reason, kind=loser.kind, names=(loser.name,))


def find(name: str, shelf: Shelf, plugins: Sequence[Plugin], failures: Sequence[Failure]) -> Registered:
    """Return what `name` or `plugin:Name` means; raises UnknownName, AmbiguousName or PluginFailed."""
    kind = shelf.kind
    if not isinstance(name, str):
        raise UnknownName(f"The name of a {kind.label} is text; got {name!r}.")
    if ":" in name:
        return _find_qualified(name, shelf, plugins, failures)
    folded = name.casefold()
    if folded in shelf.plain:
        return shelf.plain[folded]
    if folded in shelf.contested:
        rivals = shelf.contested[folded]
        owners = either([repr(rival.plugin) for rival in rivals], "and")
        ways = either(rival.key for rival in rivals)
        raise AmbiguousName(f"The {kind.label} name {name!r} is used by the plugins {owners}; ask for {ways}.")
    _raise_if_refused(name, name, kind, failures)
    suspects = [failure for failure in failures if _may_be_why(failure, kind)]
    causes = "; ".join(f"plugin {each.plugin!r}, which failed: {each.message.rstrip('.')}" for each in suspects)
    left_out = [repr(plugin.name) for plugin in plugins if plugin.skipped]
    lists = [
        f"It may belong to {causes} ({MORE.rstrip('.')})." if suspects else "",
        f"CVR_PLUGINS_LOAD leaves out {either(left_out, 'and')}." if left_out else "",
        _listing(shelf),
    ]
    known = [entry.key for entry in shelf.entries]
    raise UnknownName(unknown(f"Unknown {kind.label} {name!r}.", name, known, " ".join(filter(None, lists))))


def _find_qualified(name: str, shelf: Shelf, plugins: Sequence[Plugin], failures: Sequence[Failure]) -> Registered:
    kind = shelf.kind
    owner, _, own_name = name.partition(":")
    plugin = next((each for each in plugins if each.name.casefold() == owner.casefold()), None)
    if plugin is None:
        known = [each.name for each in plugins]
        raise UnknownName(
            unknown(f"Unknown plugin {owner!r} in {name!r}.", owner, known, "'cvr-plugins plugins' lists all.")
        )
    offered = [entry for entry in shelf.entries if entry.plugin == plugin.name]
    for entry in offered:
        if entry.name.casefold() == own_name.casefold():
            return entry
    if plugin.skipped:
        raise UnknownName(f"The {kind.label} {name!r} is not available: CVR_PLUGINS_LOAD leaves out {plugin.name!r}.")
    own_failures = [failure for failure in failures if failure.plugin == plugin.name]
    _raise_if_refused(name, own_name, kind, own_failures)
    suspects = [failure for failure in own_failures if _may_be_why(failure, kind)]
    if suspects:
        _raise_failed(f"The {kind.label} {name!r} is not available", suspects)
    names = [entry.name for entry in offered]
    has = f"It has {', '.join(names)}." if names else f"It has no {kind.label} at all."
    raise UnknownName(unknown(f"Plugin {plugin.name!r} has no {kind.label} {own_name!r}.", own_name, names, has))


def _may_be_why(failure: Failure, kind: Kind) -> bool:
    """Whether something unknown of this kind may have been lost to `failure`."""
    lost = failure.stage not in ("select", "state") and not failure.names
    return lost and failure.kind in (None, kind.name, *kind.joins)


def _raise_if_refused(asked: str, name: str, kind: Kind, failures: Sequence[Failure]) -> None:
    folded = name.casefold()
    lost = [
        failure
        for failure in failures
        if failure.kind in (kind.name, *kind.joins) and any(each.casefold() == folded for each in failure.names)
    ]
    if lost:
        _raise_failed(f"The {kind.label} {asked!r} is not available", lost)


def _raise_failed(what: str, failures: Sequence[Failure]) -> NoReturn:
    reasons = " ".join(sentence(str(failure)) for failure in failures)
    raise PluginFailed(f"{what}. {reasons} {MORE}", tuple(failures))


def _listing(shelf: Shelf) -> str:
    if shelf.kind.listing:
        return f"{shelf.kind.listing} lists all."
    return f"Known: {', '.join(entry.key for entry in shelf.entries)}." if shelf.entries else "None is registered."
