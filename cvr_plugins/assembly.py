"""From a method, an architecture, a backbone, a weighting and flat options to the parts of a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cvr_plugins.contracts import Architecture, Backbone, Layout, Method, Objective, Weighting
from cvr_plugins.nearest import did_you_mean
from cvr_plugins.plugins import registry
from cvr_plugins.weightings import terms_by_task, unbalanced

HEAD_SUFFIX = "_params"
"""Option `<head>_params`: a mapping that replaces the backbone's options for that head."""

WEIGHTING_PARAMS = "weighting_params"
"""Option that holds the weighting's options, needed only where another part has one of the same name."""

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
class Assembly:
    """A method on an architecture and a backbone, its options sorted to the parts that take them.

    weighting: None where the losses are summed as they are; weighting_asked: whether it or an option of it was given,
    as opposed to the method's own, which gives way where there is only one loss.
    """

    method: Method
    architecture: type[Architecture]
    architecture_name: str
    backbone: Callable[..., Backbone]
    backbone_name: str
    objective_options: Mapping[str, Any]
    architecture_options: Mapping[str, Any]
    backbone_options: Mapping[str, Any]
    head_options: Mapping[str, Mapping[str, Any]]
    weighting: type[Weighting] | None = None
    weighting_name: str | None = None
    weighting_options: Mapping[str, Any] = field(default_factory=dict)
    weighting_asked: bool = False

    def build(self, layout: Layout) -> tuple[Architecture, Objective, Weighting | None]:
        """Build what a CVRModel takes after its encoder, for inputs of `layout`.

        Raises OptionError naming the method and the part whose constructor refuses a value, for `<head>_params` of a
        head that the method does not have, and for a weighting that cannot balance the method's losses.
        """
        objective = self.new_objective()
        architecture = self._construct(
            f"architecture {self.architecture_name!r} on backbone {self.backbone_name!r}",
            lambda: self.architecture(
                layout,
                objective.heads,
                backbone=self._new_backbone,
                head_options=self.head_options,
                **self.architecture_options,
            ),
        )
        return architecture, objective, self._new_weighting(objective)

    def new_objective(self) -> Objective:
        """Build the objective alone, for which no data are needed. Raises OptionError as `build` does."""
        objective: Objective = self._construct("objective", lambda: self.method.objective(**self.objective_options))
        for head in self.head_options:
            if head not in objective.heads:
                heads = ", ".join(head + HEAD_SUFFIX for head in objective.heads)
                raise OptionError(
                    f"{self.method.name} has no head {head!r}, so it takes no {head + HEAD_SUFFIX!r}; it takes {heads}."
                )
        return objective

    def settings(self) -> dict[str, Any]:
        """Return what `assemble` takes to make this again, whatever the defaults of the parts are by then.

        The names of the parts and every option with its value, defaults included; a default that cannot be written
        down (a function, say) is left out. Raises OptionError as `build` does for the objective and the weighting.
        """
        chosen = {**self.objective_options, **self.architecture_options, **self.backbone_options}
        found: dict[str, Any] = {"architecture": self.architecture_name, "backbone": self.backbone_name}
        for options in options_by_part(self.method, self.architecture, self.backbone).values():
            found.update(_values(options, chosen))
        found.update({head + HEAD_SUFFIX: dict(options) for head, options in self.head_options.items()})
        if self.weighting is not None and self._new_weighting(self.new_objective()) is not None:
            found["weighting"] = self.weighting_name
            found[WEIGHTING_PARAMS] = _values(options_of(self.weighting), self.weighting_options)
        return found

    def _new_weighting(self, objective: Objective) -> Weighting | None:
        make = self.weighting
        if make is None:
            return None
        weighting: Weighting = self._construct(
            f"weighting {self.weighting_name!r}", lambda: make(**self.weighting_options)
        )
        if not self.weighting_asked and not all(terms_by_task(objective).values()):
            return None
        reason = unbalanced(objective, weighting)
        if reason:
            given = ", ".join(["weighting", *self.weighting_options])
            raise OptionError(f"{self.method.name}, weighting {self.weighting_name!r}: {reason} Leave out {given}.")
        return weighting

    def _new_backbone(self, layout: Layout, **overrides: Any) -> Backbone:
        accepted = options_of(self.backbone)
        for name in overrides:
            if name not in accepted:
                raise OptionError(_unknown(name, f"for backbone {self.backbone_name!r}", accepted))
        return self.backbone(layout, **{**self.backbone_options, **overrides})

    def _construct(self, part: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except (TypeError, ValueError) as error:
            raise OptionError(f"{self.method.name}{self._owner()}, {part}: {error}") from error
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".:")
            raise OptionError(f"{self.method.name}{self._owner()}, {part}: its constructor raised {reason}.") from error

    def _owner(self) -> str:
        """Say whose code it is that fails, if it is not ours alone."""
        parts = (
            ("method", self.method),
            ("architecture", self.architecture),
            ("backbone", self.backbone),
            ("weighting", self.weighting),
        )
        entries = [e for kind, value in parts for e in registry().entries(kind) if e.value is value]
        others = dict.fromkeys(entry.plugin for entry in entries if entry.plugin != "builtin")
        return f" (plugin {', '.join(others)})" if others else ""


def options_by_part(
    method: Method,
    architecture: type[Architecture],
    backbone: Callable[..., Backbone],
    weighting: type[Weighting] | None = None,
) -> dict[str, dict[str, inspect.Parameter]]:
    """Return part -> its options, the method's defaults filled in.

    The parts are `objective`, `architecture`, `backbone` and, where there is one, `weighting`.
    """
    parts = {
        "objective": options_of(method.objective),
        "architecture": options_of(architecture),
        "backbone": options_of(backbone),
    }
    if weighting is not None:
        parts["weighting"] = options_of(weighting)
    return {
        part: {
            name: p.replace(default=method.defaults[name]) if name in method.defaults else p
            for name, p in options.items()
        }
        for part, options in parts.items()
    }


def assemble(
    method: str | Method,
    *,
    architecture: str | None = None,
    backbone: str | None = None,
    weighting: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Assembly:
    """Look the parts up in the registry and sort flat `options` to them.

    method: a registered name or a Method; architecture, backbone, weighting: registered names, None for the method's
    own; options: of the objective, the architecture, the backbone and the weighting, and `<head>_params`; with
    `weighting_params` all options of the weighting come from there. A default of the method that no part takes belongs
    to another architecture or weighting than the chosen one, and is left out.
    Raises OptionError for an option no part takes (with the nearest that exists), one that two parts take, and
    `<head>_params` that are no mapping; what the registry raises for unknown names.
    """
    known = registry()
    if isinstance(method, str):
        method = known.method(method)
    architecture_name = architecture or method.architecture
    backbone_name = backbone or method.backbone
    architecture_class, backbone_factory = known.architecture(architecture_name), known.backbone(backbone_name)
    weighting_name = weighting or method.weighting
    weighting_class = None if weighting_name is None else known.weighting(weighting_name)
    parts = options_by_part(method, architecture_class, backbone_factory, weighting_class)

    sorted_options: dict[str, dict[str, Any]] = {part: {} for part in parts}
    head_options: dict[str, Mapping[str, Any]] = {}
    given = dict(options or {})
    apart = given.pop(WEIGHTING_PARAMS, None)
    if apart is not None:
        sorted_options["weighting"] = _weighting_params(method, weighting_name, parts, apart)
        del parts["weighting"]
    for name in {**method.defaults, **given}:
        value = given[name] if name in given else method.defaults[name]
        owners = [part for part, accepted in parts.items() if name in accepted]
        if len(owners) > 1:
            cure = f"give the weighting's in {WEIGHTING_PARAMS}" if "weighting" in owners else "one must rename it"
            raise OptionError(f"Option {name!r} of {method.name} is taken by its {' and its '.join(owners)}; {cure}.")
        if owners:
            sorted_options[owners[0]][name] = value
        elif name.endswith(HEAD_SUFFIX):
            head_options[name.removesuffix(HEAD_SUFFIX)] = _mapping(name, value, "{'dims': [64, 32]}")
        elif name in given:
            names = sorted(name for accepted in parts.values() for name in accepted)
            where = f"for {method.name} on {architecture_name}/{backbone_name}"
            where += f" with weighting {weighting_name}" if weighting_name else ""
            raise OptionError(_unknown(name, where, names))
    weighting_options = sorted_options.get("weighting", {})
    return Assembly(
        method,
        architecture_class,
        architecture_name,
        backbone_factory,
        backbone_name,
        sorted_options["objective"],
        sorted_options["architecture"],
        sorted_options["backbone"],
        head_options,
        weighting_class,
        weighting_name,
        weighting_options,
        weighting is not None or apart is not None or any(name in given for name in weighting_options),
    )


def _weighting_params(
    method: Method, weighting_name: str | None, parts: Mapping[str, Mapping[str, Any]], apart: object
) -> dict[str, Any]:
    """Return the weighting's options: the method's defaults that no other part takes, and those given apart."""
    if "weighting" not in parts:
        raise OptionError(f"{method.name} has no weighting that {WEIGHTING_PARAMS} could be for; choose a weighting.")
    accepted = parts["weighting"]
    others = {name for part, options in parts.items() if part != "weighting" for name in options}
    given = _mapping(WEIGHTING_PARAMS, apart, "{'alpha': 0.5}")
    for name in given:
        if name not in accepted:
            raise OptionError(_unknown(name, f"for weighting {weighting_name!r}", accepted))
    return {**{n: v for n, v in method.defaults.items() if n in accepted and n not in others}, **given}


def _mapping(name: str, value: object, example: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise OptionError(f"{name} must be a mapping such as {example}; got {value!r}.")
    return dict(value)


def _values(options: Mapping[str, inspect.Parameter], chosen: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: chosen.get(name, parameter.default) for name, parameter in options.items()}
    return {name: value for name, value in values.items() if name in chosen or _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(map(_is_plain, [*value, *value.values()]))
    return value is None or isinstance(value, (str, int, float))


def _unknown(name: str, where: str, known: Iterable[str]) -> str:
    known = list(known)
    takes = f"It takes: {', '.join(known) or 'no options'}."
    return " ".join(filter(None, [f"Unknown option {name!r} {where}.", did_you_mean(name, known), takes]))
