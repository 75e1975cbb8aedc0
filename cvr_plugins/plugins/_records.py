"""What the registry hands out: things plugins registered, plugins, failures, and the errors of a look-up."""

from __future__ import annotations

import re
import traceback as tracebacks
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cvr_plugins.wording import one_line, sentence

BUILTIN = "builtin"
"""The name of this package's own plugin; no other may have it."""

MORE = "'cvr-plugins plugins --debug' shows more."

_NAME = re.compile(r"\w[\w.+-]*")


def valid_name(name: object) -> bool:
    """Whether `name` may name a plugin or a thing: letters, digits, `_ . + -`; a colon parts the two."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class Registered:
    """One thing a plugin registered.

    kind: "method", "architecture", "backbone", "weighting", "metric", "dataset", "recbole_model" or "command"; name: as
    registered; plugin: its owner; key: the shortest name that finds it, `plugin:Name` where the plain name is another's
    or contested.
    """

    kind: str
    name: str
    value: Any
    plugin: str
    key: str

    @property
    def qualified(self) -> str:
        """`plugin:Name`, which finds it whoever else uses the name."""
        return f"{self.plugin}:{self.name}"


@dataclass(frozen=True)
class Failure:
    """Something of a plugin that could not be used.

    stage: "discover" (its name or metadata), "select" (CVR_PLUGINS_LOAD), "import", "register" (its hooks do not fit
    the specifications), the name of the hook that raised, "validate" (what a hook returned was refused), "api" (a
    method for newer contracts), "name" (another has the name) or "state" (what it changed in the process was put back,
    and nothing is lost); message: one line; traceback: "" where nothing was raised; kind: of the things lost, None if
    any may be; names: of the things lost, where they are known.
    """

    plugin: str
    stage: str
    message: str
    traceback: str = ""
    kind: str | None = None
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, plugin: str, stage: str, error: BaseException, kind: str | None = None, *, note: str = "") -> Failure:
        """Record a raised `error`, in one line (after `note`) and with its traceback."""
        message = f"{note}: {one_line(error)}" if note else one_line(error)
        return cls(plugin, stage, message, "".join(tracebacks.format_exception(error)), kind)

    def __str__(self) -> str:
        return f"Plugin {self.plugin!r} ({self.stage}): {sentence(self.message)}"


@dataclass(frozen=True)
class PluginInfo:
    """A plugin as it stands now.

    status: "ok", "partial" (loaded, but some of it cannot be used), "failed" (not loaded) or "skipped" (left out by
    CVR_PLUGINS_LOAD); contributed: kind -> names, for the kinds collected so far; module: the entry point's value;
    distribution, version: None where unknown.
    """

    name: str
    module: str
    distribution: str | None
    version: str | None
    status: str
    contributed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()


class RegistryError(LookupError, ValueError):
    """A name finds nothing that can be used; the message is one line that says what to do."""


class UnknownName(RegistryError):
    """Nothing has this name."""


class AmbiguousName(RegistryError):
    """Two plugins use this name; `plugin:Name` says which is meant."""


class PluginFailed(RegistryError):
    """The thing belongs to a plugin that failed, or was refused; `failures` says why."""

    # The default lets the error be pickled, as from a worker process.
    def __init__(self, message: str, failures: tuple[Failure, ...] = ()) -> None:
        super().__init__(message)
        self.failures = failures


class RegistryBusy(RuntimeError):
    """A plugin asks the registry for what is being collected from it."""


class PluginWarning(UserWarning):
    """Something of a plugin cannot be used; everything else can."""
