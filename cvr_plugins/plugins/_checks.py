"""Whether what a hook returned can be used: accepted whole, or refused whole with the reason."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
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
    hook : str
        The hook that registers things of it.
    accept : callable
        The check of what the hook returned.
    listing : str
        What shows them all, "" if nothing does.
    joins : tuple of str
        Kinds that share their names in a framework; such a kind has no hook of its own.
    """

    name: str
    label: str
    hook: str = ""
    accept: Callable[[Any], Accepted] = Accepted
    listing: str = ""
    joins: tuple[str, ...] = ()


def _methods(result: object) -> Accepted:
    if not isinstance(result, (list, tuple)):
        raise Refused(f"it must return a list of Method; got {_shown(result)}.")
    if not result:
        return Accepted({})
    from cvr_plugins.contracts import API_VERSION, Method

    names = [method.name for method in result if isinstance(method, Method)]
    for position, method in enumerate(result):
        if not isinstance(method, Method):
            raise Refused(f"it must return a list of Method; item {position} is {_shown(method)}.", names)
        if not isinstance(method.api, int) or isinstance(method.api, bool) or method.api < 1:
            raise Refused(f"{method.name}: 'api' must be a positive whole number; got {_shown(method.api)}.", names)
        # What a method for newer contracts must look like is not known here.
        problem = _problem(method) if method.api <= API_VERSION else ""
        if problem:
            raise Refused(f"{method.name}: {problem}", names)
    _refuse_twins(names)
    return Accepted(
        {method.name: method for method in result if method.api <= API_VERSION},
        {
            method.name: f"Method {method.name} is written for version {method.api} of the contracts; "
            f"this cvr-plugins has version {API_VERSION}. Upgrade cvr-plugins to use it."
            for method in result
            if method.api > API_VERSION
        },
    )


def _problem(method: Any) -> str:
    from cvr_plugins.contracts import Objective

    for option in ("architecture", "backbone"):
        value = getattr(method, option)
        if not isinstance(value, str) or not value:
            return f"{option!r} must be the name of a registered one; got {_shown(value)}."
    if not isinstance(method.defaults, Mapping) or not all(isinstance(key, str) for key in method.defaults):
        return f"'defaults' must map names of options to values; got {_shown(method.defaults)}."
    if method.weighting is not None and (not isinstance(method.weighting, str) or not method.weighting):
        return f"'weighting' must be None or the name of a registered one; got {_shown(method.weighting)}."
    for text in ("summary", "reference"):
        if not isinstance(getattr(method, text), str):
            return f"{text!r} must be text; got {_shown(getattr(method, text))}."
    objective = method.objective
    while isinstance(objective, functools.partial):
        objective = objective.func
    if not isinstance(objective, type):
        return ""
    if not issubclass(objective, Objective):
        return f"its objective {objective.__name__} is not a subclass of cvr_plugins.Objective."
    for attribute in ("heads", "tasks", "needs"):
        value = getattr(objective, attribute)
        if not isinstance(value, tuple) or not value or not all(isinstance(each, str) for each in value):
            return f"{objective.__name__}.{attribute} must be a tuple of names; got {_shown(value)}."
    for attribute in ("ctr_terms", "cvr_terms"):
        value = getattr(objective, attribute)
        if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
            return f"{objective.__name__}.{attribute} must be a tuple of names of loss terms; got {_shown(value)}."
    return _undefined(objective)


def _subclasses(base: str) -> Callable[[object], Accepted]:
    def accept(result: object) -> Accepted:
        items = _mapping(result, f"{base} class")
        if not items:
            return Accepted({})
        from cvr_plugins import contracts

        for name, value in items.items():
            if not isinstance(value, type) or not issubclass(value, getattr(contracts, base)):
                raise Refused(f"{name!r} must be a subclass of cvr_plugins.{base}; got {_shown(value)}.", items)
            undefined = _undefined(value)
            if undefined:
                raise Refused(f"{name!r}: {undefined}", items)
        return Accepted(items)

    return accept


def _callables(what: str) -> Callable[[object], Accepted]:
    def accept(result: object) -> Accepted:
        items = _mapping(result, what)
        for name, value in items.items():
            if not callable(value):
                raise Refused(f"{name!r} must be callable; got {_shown(value)}.", items)
        return Accepted(items)

    return accept


def _metrics(result: object) -> Accepted:
    items = _mapping(result, "Metric")
    if not items:
        return Accepted({})
    from cvr_plugins.metrics import Metric

    for name, value in items.items():
        if not isinstance(value, Metric):
            raise Refused(f"{name!r} must be a cvr_plugins.metrics.Metric; got {_shown(value)}.", items)
        if value.name != name:
            raise Refused(f"{name!r} holds a Metric named {value.name!r}; give both one name.", items)
    return Accepted(items)


def _recbole_models(result: object) -> Accepted:
    if not isinstance(result, (list, tuple)):
        raise Refused(f"it must return a list of RecBole model classes; got {_shown(result)}.")
    names = [value.__name__ for value in result if isinstance(value, type)]
    for position, value in enumerate(result):
        if not _derives(value, _RECBOLE_MODEL):
            raise Refused(f"item {position} must be a RecBole model class; got {_shown(value)}.", names)
        problem = recbole_problem(value)
        if problem:
            raise Refused(problem, names)
    _refuse_twins(names)
    return Accepted({value.__name__: value for value in result})


_RECBOLE_MODEL = "recbole.model.abstract_recommender.AbstractRecommender"
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
    if not isinstance(defaults, Mapping) or not all(isinstance(key, str) for key in defaults):
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
    ancestors = getattr(value, "__mro__", ()) if isinstance(value, type) else ()
    return base in [f"{each.__module__}.{each.__qualname__}" for each in ancestors]


def _commands(added: object) -> Accepted:
    import click

    items = _mapping(added, "click command")
    for name, value in items.items():
        if not isinstance(value, click.Command):
            raise Refused(f"{name!r} must be a click command; got {_shown(value)}.", items)
    return Accepted(items)


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
        Kind("method", "method", "cvr_register_methods", _methods, "'cvr-plugins methods'"),
        Kind("architecture", "architecture", "cvr_register_architectures", _subclasses("Architecture")),
        Kind("backbone", "backbone", "cvr_register_backbones", _callables("callable (layout, **options)")),
        Kind("weighting", "weighting", "cvr_register_weightings", _subclasses("Weighting")),
        Kind("metric", "metric", "cvr_register_metrics", _metrics),
        Kind("dataset", "data set", "cvr_register_datasets", _callables("callable"), "'cvr-plugins datasets'"),
        Kind("recbole_model", "RecBole model", "cvr_register_recbole_models", _recbole_models),
    )
}
"""Kind of thing -> how it is registered, checked and listed."""

COMMAND = Kind("command", "command", "cvr_register_commands", _commands)
"""Commands are added to the command line rather than returned."""

MODEL = Kind(
    "model",
    "model",
    listing="cvr_plugins.recbole.names.available()",
    joins=("method", "recbole_model"),
)
"""What RecBole takes for a model: registered methods, registered RecBole models, and its own (`Registry.reserve`)."""
