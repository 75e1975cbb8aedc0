"""Whether what a hook returned can be used: accepted whole, or refused whole with the reason."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from cvr_plugins.nearest import unknown
from cvr_plugins.plugins._records import valid_name
from cvr_plugins.wording import flat


@dataclass(frozen=True)
class Accepted:
    """name -> value of what can be used, and name -> reason of what has to wait for a newer version of ours."""

    items: Mapping[str, Any]
    skipped: Mapping[str, str] = field(default_factory=dict)


class Refused(ValueError):
    """The reason why a hook's result is refused, and the names in it as far as they can be told."""

    def __init__(self, reason: str, names: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.names = tuple(names)


@dataclass(frozen=True)
class Kind:
    """A kind of thing.

    Attributes
    ----------
    name, label : str
        What it is called in code and in messages.
    accept : callable
        The check of what the hook returned.
    listing : str
        What shows them all, "" if nothing does.
    joins : tuple of str
        Kinds that share their names in a framework; nothing is registered as such a kind itself.
    """

    name: str
    label: str
    accept: Callable[[Any], Accepted] = Accepted
    listing: str = ""
    joins: tuple[str, ...] = ()

    @property
    def hook(self) -> str:
        """The hook that registers things of it."""
        return f"cvr_register_{self.name}s"


def _listed(result: object, what: str, name_of: Callable[[Any], str | None], problem: Callable[[Any], str]) -> Accepted:
    """Accept a list; name_of: what an item is called, None if it is none of `what`; problem: what is wrong with it."""
    if not isinstance(result, (list, tuple)):
        raise Refused(f"it must return a list of {what}; got {_shown(result)}.")
    named = [(name_of(value), value) for value in result]
    names = [name for name, _ in named if name]
    for position, (name, value) in enumerate(named):
        if name is None:
            raise Refused(f"it must return a list of {what}; item {position} is {_shown(value)}.", names)
        reason = problem(value)
        if reason:
            raise Refused(reason, names)
    _refuse_twins(names)
    return Accepted(dict(zip(names, result, strict=True)))


def _methods(result: object) -> Accepted:
    if isinstance(result, (list, tuple)) and not result:
        return Accepted({})
    from cvr_plugins.contracts import API_VERSION, Method

    found = _listed(result, "Method", lambda value: value.name if isinstance(value, Method) else None, _problem).items
    return Accepted(
        {name: method for name, method in found.items() if method.api <= API_VERSION},
        {
            name: f"Method {name} is written for version {method.api} of the contracts; "
            f"this cvr-plugins has version {API_VERSION}. Upgrade cvr-plugins to use it."
            for name, method in found.items()
            if method.api > API_VERSION
        },
    )


_FIELDS: tuple[tuple[str, Any, str], ...] = (
    ("architecture", str, "be the name of a registered one"),
    ("backbone", str, "be the name of a registered one"),
    ("weighting", (str, type(None)), "be None or the name of a registered one"),
    ("defaults", Mapping, "map names of options to values"),
    ("summary", str, "be text"),
    ("reference", str, "be text"),
)
"""Field of a method, its type, and what it must."""


def _problem(method: Any) -> str:
    from cvr_plugins.contracts import API_VERSION, Objective

    if not isinstance(method.api, int) or isinstance(method.api, bool) or method.api < 1:
        return f"{method.name}: 'api' must be a positive whole number; got {_shown(method.api)}."
    if method.api > API_VERSION:
        return ""  # What a method for newer contracts must look like is not known here.
    for attribute, kind, wanted in _FIELDS:
        value = getattr(method, attribute)
        sound = isinstance(value, kind) and (kind is not Mapping or _are_texts(value))
        if not sound or (value == "" and "name" in wanted):
            return f"{method.name}: {attribute!r} must {wanted}; got {_shown(value)}."
    objective = method.objective
    while isinstance(objective, functools.partial):
        objective = objective.func
    if not isinstance(objective, type):
        return ""
    if not issubclass(objective, Objective):
        return f"{method.name}: its objective {objective.__name__} is not a subclass of cvr_plugins.Objective."
    for attribute in ("heads", "tasks", "needs", "ctr_terms", "cvr_terms"):
        value, loss = getattr(objective, attribute), " of loss terms" if "terms" in attribute else ""
        if not isinstance(value, tuple) or not (value or loss) or not _are_texts(value):
            return (
                f"{method.name}: {objective.__name__}.{attribute} must be a tuple of names{loss}; got {_shown(value)}."
            )
    undefined = _undefined(objective)
    return undefined and f"{method.name}: {undefined}"


def _are_texts(values: Iterable[object]) -> bool:
    return all(map(isinstance, values, repeat(str)))


def _mapping_of(what: str, problem: Callable[[str, Any], str]) -> Callable[[object], Accepted]:
    """Return the check of a mapping name -> `what`; problem: what is wrong with an item, "" if nothing."""

    def accept(result: object) -> Accepted:
        items = _mapping(result, what)
        for name, value in items.items():
            reason = problem(name, value)
            if reason:
                raise Refused(reason, items)
        return Accepted(items)

    return accept


def _subclasses(base: str) -> Callable[[object], Accepted]:
    def problem(name: str, value: Any) -> str:
        from cvr_plugins import contracts

        if not isinstance(value, type) or not issubclass(value, getattr(contracts, base)):
            return f"{name!r} must be a subclass of cvr_plugins.{base}; got {_shown(value)}."
        undefined = _undefined(value)
        return undefined and f"{name!r}: {undefined}"

    return _mapping_of(f"{base} class", problem)


def _callable(name: str, value: object) -> str:
    return "" if callable(value) else f"{name!r} must be callable; got {_shown(value)}."


def _metric(name: str, value: object) -> str:
    from cvr_plugins.metrics import Metric

    if not isinstance(value, Metric):
        return f"{name!r} must be a cvr_plugins.metrics.Metric; got {_shown(value)}."
    return "" if value.name == name else f"{name!r} holds a Metric named {value.name!r}; give both one name."


def _command(name: str, value: object) -> str:
    import click

    return "" if isinstance(value, click.Command) else f"{name!r} must be a click command; got {_shown(value)}."


def _recbole_models(result: object) -> Accepted:
    def problem(value: type[Any]) -> str:
        is_model = _derives(value, "recbole.model.abstract_recommender.AbstractRecommender")
        return recbole_problem(value) if is_model else f"{_shown(value)} is no RecBole model class."

    names = "RecBole model classes"
    return _listed(result, names, lambda value: value.__name__ if isinstance(value, type) else None, problem)


_RECBOLE_BASES = {
    "recbole_trainer": ("recbole.trainer.trainer.AbstractTrainer", "a RecBole trainer class"),
    "recbole_dataset": ("recbole.data.dataset.dataset.Dataset", "a RecBole dataset class"),
}
_RECBOLE_ATTRIBUTES = (*_RECBOLE_BASES, "recbole_defaults", "recbole_metrics", "recbole_configure")


def recbole_problem(model: type[Any]) -> str:
    """Return why RecBole could not use this model class and the `recbole_*` attributes it carries; "" if it can."""
    name = model.__name__
    if type(getattr(model, "type", None)).__name__ != "ModelType":
        return f"{name} has no 'type', RecBole's ModelType; derive it from SequentialRecommender or one of its kind."
    for attribute in dir(model):
        if attribute.startswith("recbole_") and attribute not in _RECBOLE_ATTRIBUTES:
            return unknown(f"{name} has an unknown attribute {attribute!r}.", attribute, _RECBOLE_ATTRIBUTES)
    for attribute, (base, what) in _RECBOLE_BASES.items():
        value = getattr(model, attribute, None)
        if value is not None and not _derives(value, base):
            return f"{name}.{attribute} must be {what}; got {_shown(value)}."
    defaults = getattr(model, "recbole_defaults", {})
    if not isinstance(defaults, Mapping) or not _are_texts(defaults):
        return f"{name}.recbole_defaults must map RecBole's parameters to values; got {_shown(defaults)}."
    metrics = getattr(model, "recbole_metrics", ())
    if not isinstance(metrics, (list, tuple)):
        return f"{name}.recbole_metrics must be a tuple of RecBole metric classes; got {_shown(metrics)}."
    for metric in metrics:
        if not _derives(metric, "recbole.evaluator.base_metric.AbstractMetric"):
            return f"{name}.recbole_metrics must hold RecBole metric classes; got {_shown(metric)}."
        for attribute in ("metric_need", "metric_type"):
            if not hasattr(metric, attribute):
                return f"{name}.recbole_metrics: {metric.__name__} has no {attribute!r}, which RecBole asks it for."
    if not callable(getattr(model, "recbole_configure", callable)):
        return f"{name}.recbole_configure must be a class method; got {_shown(model.recbole_configure)}."
    return ""


def _derives(value: object, base: str) -> bool:
    # By name: recbole itself is imported on the RecBole side only.
    for each in value.__mro__ if isinstance(value, type) else ():
        if f"{each.__module__}.{each.__qualname__}" == base:
            return True
    return False


def _mapping(result: object, what: str) -> dict[str, Any]:
    if not isinstance(result, Mapping):
        raise Refused(f"it must return a mapping of name -> {what}; got {_shown(result)}.")
    items = dict(result)
    names = [name for name in items if isinstance(name, str)]
    for name in items:
        if not valid_name(name):
            raise Refused(f"a name is letters, digits and '_', '-', '.', '+'; got {_shown(name)}.", names)
    _refuse_twins(names)
    return items


def _refuse_twins(names: list[str]) -> None:
    first: dict[str, str] = {}
    for name in names:
        if name.casefold() in first:
            twins = dict.fromkeys([first[name.casefold()], name])
            raise Refused(f"two of them are named {' and '.join(map(repr, twins))} (case aside).", names)
        first[name.casefold()] = name


def _undefined(cls: type) -> str:
    # nn.Module has no ABCMeta, so that a missing method would only show in training.
    missing = [name for name in dir(cls) if getattr(getattr(cls, name, None), "__isabstractmethod__", False)]
    return f"{cls.__name__} does not define {' and '.join(missing)}." if missing else ""


def _shown(value: object) -> str:
    """Return a short description of any value, even of one whose own `repr` fails."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    try:
        text = flat(repr(value))
    except Exception:  # noqa: BLE001 - a plugin's object may be broken in any way
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"a {type(value).__name__}"


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("method", "method", _methods, "'cvr-plugins methods'"),
        Kind("architecture", "architecture", _subclasses("Architecture")),
        Kind("backbone", "backbone", _mapping_of("callable (layout, **options)", _callable)),
        Kind("weighting", "weighting", _subclasses("Weighting")),
        Kind("metric", "metric", _mapping_of("Metric", _metric)),
        Kind("dataset", "data set", _mapping_of("callable", _callable), "'cvr-plugins datasets'"),
        Kind("recbole_model", "RecBole model", _recbole_models),
    )
}
"""Kind of thing -> how it is registered, checked and listed."""

COMMAND = Kind("command", "command", _mapping_of("click command", _command))
"""Commands are added to the command line rather than returned."""

MODEL = Kind("model", "model", listing="cvr_plugins.recbole.names.available()", joins=("method", "recbole_model"))
"""What RecBole takes for a model: registered methods, registered RecBole models, and its own (`Registry.reserve`)."""
