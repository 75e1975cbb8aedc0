"""From a method, an architecture, a backbone, a weighting and flat options to the parts of a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cvr_plugins.contracts import Architecture, Backbone, Layout, Method, Objective, Weighting
from cvr_plugins.nearest import unknown
from cvr_plugins.plugins import registry
from cvr_plugins.weightings import terms_by_task, unbalanced
from cvr_plugins.wording import one_line, sentence

HEAD_SUFFIX = "_params"
"""Option `<head>_params`: a mapping that replaces the backbone's options for that head."""

WEIGHTING_PARAMS = "weighting_params"
"""Option that holds the weighting's options, needed only where another part has one of the same name."""

PARTS = ("objective", "architecture", "backbone", "weighting")
"""Parts of a model that take options, in the order in which they are shown."""

_NOT_OPTIONS = frozenset({"self", "layout", "heads", "backbone", "head_options"})


class OptionError(ValueError):
    """An option is unknown, belongs to two parts, or has a value its part refuses."""


def options_of(part: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the keyword options of a class or factory; a `**kwargs` is followed to the base classes."""
    if inspect.isclass(part):
        found: dict[str, inspect.Parameter] = {}
        for cls in part.__mro__:
            init = cls.__dict__.get("__init__")
            if init is None:
                continue
            parameters = inspect.signature(init).parameters.values()
            found = {**{p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}, **found}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    else:
        found = {p.name: p for p in inspect.signature(part).parameters.values() if p.kind is p.KEYWORD_ONLY}
    return {name: p for name, p in found.items() if name not in _NOT_OPTIONS}


@dataclass(frozen=True)
class Part:
    """A part of a model: what makes it, and its options.

    Attributes
    ----------
    name : str
        As it was asked for.
    make : callable
        The class or factory.
    accepted : mapping of str to inspect.Parameter
        Every option that it takes, the method's defaults filled in.
    options : mapping of str to object
        Those that differ from its own defaults.
    """

    name: str
    make: Callable[..., Any]
    accepted: Mapping[str, inspect.Parameter]
    options: Mapping[str, Any]

    def settings(self) -> dict[str, Any]:
        """Return every option with its value; a default that cannot be written down (a function, say) is left out."""
        values = {name: self.options.get(name, parameter.default) for name, parameter in self.accepted.items()}
        return {name: value for name, value in values.items() if name in self.options or _is_plain(value)}


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A method on an architecture and a backbone, its options sorted to the parts that take them.

    Attributes
    ----------
    method : Method
        Whose parts these are.
    objective, architecture, backbone : Part
        As they will be built.
    weighting : Part or None
        None where the losses are summed as they are.
    head_options : mapping of str to mapping
        Head -> the options that replace the backbone's there.
    weighting_asked : bool
        Whether the weighting or an option of it was given, as opposed to the method's own, which gives way where there
        is only one loss.
    """

    method: Method
    objective: Part
    architecture: Part
    backbone: Part
    weighting: Part | None = None
    head_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    weighting_asked: bool = False

    @property
    def accepted(self) -> dict[str, Mapping[str, inspect.Parameter]]:
        """Part -> the options that it takes: `objective`, `architecture`, `backbone` and, if any, `weighting`."""
        return {part: getattr(self, part).accepted for part in PARTS if getattr(self, part) is not None}

    @property
    def option_names(self) -> set[str]:
        """Every option that a part takes, `weighting_params` too where there is a weighting."""
        names = {name for part in self.accepted.values() for name in part}
        return names if self.weighting is None else names | {WEIGHTING_PARAMS}

    def build(self, layout: Layout) -> tuple[Architecture, Objective, Weighting | None]:
        """Build what a CVRModel takes after its encoder.

        Parameters
        ----------
        layout : Layout
            Of the inputs.

        Raises
        ------
        OptionError
            Naming the method and the part, if its constructor refuses a value; for `<head>_params` of a head that the
            method does not have; for a weighting that cannot balance the method's losses.
        """
        objective = self.new_objective()
        architecture = self._construct(
            f"architecture {self.architecture.name!r} on backbone {self.backbone.name!r}",
            lambda: self.architecture.make(
                layout,
                objective.heads,
                backbone=self._new_backbone,
                head_options=self.head_options,
                **self.architecture.options,
            ),
        )
        return architecture, objective, self._new_weighting(objective)

    def new_objective(self) -> Objective:
        """Build the objective alone, for which no data are needed. Raises OptionError as `build` does."""
        objective: Objective = self._construct("objective", lambda: self.objective.make(**self.objective.options))
        for head in self.head_options:
            if head not in objective.heads:
                heads = ", ".join(head + HEAD_SUFFIX for head in objective.heads)
                raise OptionError(
                    f"{self.method.name} has no head {head!r}, so it takes no {head + HEAD_SUFFIX!r}; it takes {heads}."
                )
        return objective

    def settings(self) -> dict[str, Any]:
        """Return what `assemble` takes to make this again, whatever the defaults of the parts are by then.

        The names of the parts and every option with its value. Raises OptionError as `build` does for the objective
        and the weighting.
        """
        found: dict[str, Any] = {"architecture": self.architecture.name, "backbone": self.backbone.name}
        for part in (self.objective, self.architecture, self.backbone):
            found.update(part.settings())
        found.update({head + HEAD_SUFFIX: dict(options) for head, options in self.head_options.items()})
        if self.weighting is not None and self._new_weighting(self.new_objective()) is not None:
            found["weighting"] = self.weighting.name
            found[WEIGHTING_PARAMS] = self.weighting.settings()
        return found

    def _new_weighting(self, objective: Objective) -> Weighting | None:
        part = self.weighting
        if part is None:
            return None
        weighting: Weighting = self._construct(f"weighting {part.name!r}", lambda: part.make(**part.options))
        if not self.weighting_asked and not all(terms_by_task(objective).values()):
            return None
        reason = unbalanced(objective, weighting)
        if reason:
            given = ", ".join(["weighting", *part.options])
            raise OptionError(f"{self.method.name}, weighting {part.name!r}: {reason} Leave out {given}.")
        return weighting

    def _new_backbone(self, layout: Layout, **overrides: Any) -> Backbone:
        for name in overrides:
            if name not in self.backbone.accepted:
                raise OptionError(_unknown(name, f"for backbone {self.backbone.name!r}", self.backbone.accepted))
        made: Backbone = self.backbone.make(layout, **{**self.backbone.options, **overrides})
        return made

    def _construct(self, part: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except (TypeError, ValueError) as error:
            raise OptionError(f"{self.method.name}{self._owner()}, {part}: {error}") from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            reason = sentence(one_line(error))
            raise OptionError(f"{self.method.name}{self._owner()}, {part}: its constructor raised {reason}") from error

    def _owner(self) -> str:
        """Say whose code it is that fails, if it is not ours alone."""
        parts = {"method": self.method, **{part: getattr(self, part).make for part in self.accepted}}
        del parts["objective"]
        entries = [e for kind, value in parts.items() for e in registry().entries(kind) if e.value is value]
        others = dict.fromkeys(entry.plugin for entry in entries if entry.plugin != "builtin")
        return f" (plugin {', '.join(others)})" if others else ""


def assemble(
    method: str | Method,
    *,
    architecture: str | None = None,
    backbone: str | None = None,
    weighting: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Assembly:
    """Look the parts up in the registry and sort flat options to them.

    Parameters
    ----------
    method : str or Method
        A registered name, or the method itself.
    architecture, backbone, weighting : str, optional
        Registered names, None for the method's own.
    options : mapping of str to object, optional
        Of the objective, the architecture, the backbone and the weighting, and `<head>_params`; with
        `weighting_params` all options of the weighting come from there. A default of the method that no part takes
        belongs to another architecture or weighting than the chosen one, and is left out.

    Raises
    ------
    OptionError
        For an option that no part takes (with the nearest that exists), one that two parts take, and `<head>_params`
        that are no mapping.
    RegistryError
        For unknown names.
    """
    known = registry()
    if isinstance(method, str):
        method = known.method(method)
    names = {
        "objective": method.name,
        "architecture": architecture or method.architecture,
        "backbone": backbone or method.backbone,
        "weighting": weighting or method.weighting,
    }
    makers = {part: known.find(part, name).value for part, name in names.items() if name and part != "objective"}
    makers = {"objective": method.objective, **makers}
    accepted = {part: _with_defaults(options_of(make), method.defaults) for part, make in makers.items()}
    given = dict(options or {})
    chosen, head_options = _sorted(method, names, accepted, given)
    parts = {part: Part(str(names[part]), makers[part], accepted[part], chosen[part]) for part in makers}
    asked = {"weighting": weighting, WEIGHTING_PARAMS: given.get(WEIGHTING_PARAMS)}
    return Assembly(
        method=method,
        objective=parts["objective"],
        architecture=parts["architecture"],
        backbone=parts["backbone"],
        weighting=parts.get("weighting"),
        head_options=head_options,
        weighting_asked=any(value is not None for value in asked.values())
        or any(name in given for name in chosen.get("weighting", ())),
    )


def _with_defaults(
    accepted: Mapping[str, inspect.Parameter], defaults: Mapping[str, Any]
) -> dict[str, inspect.Parameter]:
    return {name: p.replace(default=defaults[name]) if name in defaults else p for name, p in accepted.items()}


def _sorted(
    method: Method,
    names: Mapping[str, str | None],
    accepted: Mapping[str, Mapping[str, inspect.Parameter]],
    given: Mapping[str, Any],
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return part -> its options, and head -> those that replace the backbone's, of a method's defaults and `given`."""
    chosen: dict[str, dict[str, Any]] = {part: {} for part in accepted}
    head_options: dict[str, dict[str, Any]] = {}
    open_to = dict(accepted)
    flat = {**method.defaults, **given}
    apart = flat.pop(WEIGHTING_PARAMS, None)
    if apart is not None:
        chosen["weighting"] = _weighting_params(method, names["weighting"], accepted, apart)
        del open_to["weighting"]
    for name, value in flat.items():
        owners = [part for part, options in open_to.items() if name in options]
        if len(owners) > 1:
            cure = f"give the weighting's in {WEIGHTING_PARAMS}" if "weighting" in owners else "one must rename it"
            raise OptionError(f"Option {name!r} of {method.name} is taken by its {' and its '.join(owners)}; {cure}.")
        if owners:
            chosen[owners[0]][name] = value
        elif name.endswith(HEAD_SUFFIX):
            head_options[name.removesuffix(HEAD_SUFFIX)] = _mapping(name, value, "{'dims': [64, 32]}")
        elif name in given:
            where = f"for {method.name} on {names['architecture']}/{names['backbone']}"
            where += f" with weighting {names['weighting']}" if names["weighting"] else ""
            raise OptionError(
                _unknown(name, where, sorted(option for options in open_to.values() for option in options))
            )
    return chosen, head_options


def _weighting_params(
    method: Method, weighting: str | None, accepted: Mapping[str, Mapping[str, inspect.Parameter]], apart: object
) -> dict[str, Any]:
    """Return the weighting's options: the method's defaults that no other part takes, and those given apart."""
    if "weighting" not in accepted:
        raise OptionError(f"{method.name} has no weighting that {WEIGHTING_PARAMS} could be for; choose a weighting.")
    own = accepted["weighting"]
    others = {name for part, options in accepted.items() if part != "weighting" for name in options}
    given = _mapping(WEIGHTING_PARAMS, apart, "{'alpha': 0.5}")
    for name in given:
        if name not in own:
            raise OptionError(_unknown(name, f"for weighting {weighting!r}", own))
    return {**{n: v for n, v in method.defaults.items() if n in own and n not in others}, **given}


def _mapping(name: str, value: object, example: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise OptionError(f"{name} must be a mapping such as {example}; got {value!r}.")
    return dict(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(map(_is_plain, [*value, *value.values()]))
    return value is None or isinstance(value, (str, int, float))


def _unknown(name: str, where: str, known: Iterable[str]) -> str:
    known = list(known)
    takes = f"It takes: {', '.join(known) or 'no options'}."
    return unknown(f"Unknown option {name!r} {where}.", name, known, takes)
