"""Makes a model's trainer, dataset, defaults and metrics known to RecBole, which looks for them by name."""

from __future__ import annotations

import copy
import functools
import sys
import threading
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from cvr_plugins.plugins import recbole_problem

CARRIED = ("recbole_trainer", "recbole_dataset", "recbole_defaults", "recbole_metrics", "recbole_configure")
"""What a model class may carry."""


class BindingError(ValueError):
    """A model cannot be made known to RecBole: it is no model class, or a name that it needs is another's."""


def bind(model_class: type[Any], *, name: str | None = None) -> str:
    """Make what a model class carries known to RecBole, and return the name that RecBole has for the class.

    A class may carry `recbole_trainer`, which RecBole then finds as `recbole.trainer.<Name>Trainer`; `recbole_dataset`,
    found as `recbole.data.dataset.<Name>Dataset`; `recbole_defaults`, a mapping that `Config` applies after RecBole's
    internal defaults and before configuration files, dictionary and command line; `recbole_metrics`, classes that the
    key `metrics` then takes by their names; and `recbole_configure(config)`, a class method that `Config` calls with
    itself once the defaults are in `internal_config_dict` and what the user gave in `external_config_dict`, before it
    makes the final values of them. A class of RecBole's own is left alone.

    name: what RecBole is to call the class; its own name unless that is contested. A class keeps the name it was first
    bound under where none is given. Binding again does nothing.

    Raises BindingError, and changes nothing, if a name is RecBole's or another model's, or an attribute is not what it
    has to be.
    """
    with _lock:
        if not isinstance(model_class, type):
            raise BindingError(f"A RecBole model is a class; got {model_class!r:.60}.")
        bound = _names.get(model_class)
        if bound is not None and name in (None, bound):
            return bound
        name = name or model_class.__name__
        if model_class.__module__.startswith("recbole."):
            return name
        problem = recbole_problem(model_class)
        if problem:
            raise BindingError(problem)
        _enter(_entries(model_class, name), _full_name(model_class))
        _extend_loaded_config()
        _names[model_class] = name
        return name


def register_metrics(metrics: Iterable[type[Any]]) -> None:
    """Let RecBole's key `metrics` take each of these metric classes by its name, case aside.

    Raises BindingError, and changes nothing, if a name is that of RecBole's or of another metric.
    """
    with _lock:
        entries = [_metric_entry(metric) for metric in metrics]
        _enter(entries, "A plugin")


@dataclass(frozen=True)
class _Entry:
    """A value under a key of one of RecBole's tables."""

    table: MutableMapping[str, Any]
    key: str
    value: Any
    place: str

    def check(self, owner: str) -> None:
        there = self.table.get(self.key)
        if there is None or there is self.value or _full_name(there) == _full_name(self.value):
            return
        whose = "RecBole's own" if there.__module__.startswith("recbole.") else "another's"
        raise BindingError(
            f"{owner} brings {_full_name(self.value)} as {self.place} {self.key!r}, which is {whose} already, "
            f"{_full_name(there)}; rename one of them."
        )

    def make(self) -> None:
        self.table[self.key] = self.value


def _entries(model_class: type[Any], name: str) -> list[_Entry]:
    import recbole.data.dataset
    import recbole.trainer

    entries = []
    trainer = getattr(model_class, "recbole_trainer", None)
    if trainer is not None:
        entries.append(_Entry(vars(recbole.trainer), f"{name}Trainer", trainer, "the trainer"))
    dataset = getattr(model_class, "recbole_dataset", None)
    if dataset is not None:
        entries.append(_Entry(vars(recbole.data.dataset), f"{name}Dataset", dataset, "the dataset"))
    entries.extend(map(_metric_entry, getattr(model_class, "recbole_metrics", ())))
    return entries


def _metric_entry(metric: type[Any]) -> _Entry:
    from recbole.evaluator import register

    # The dictionary itself, which other modules of RecBole hold, too.
    return _MetricEntry(register.metrics_dict, metric.__name__.lower(), metric, "RecBole's metric")


def _enter(entries: Sequence[_Entry], owner: str) -> None:
    for entry in entries:
        entry.check(owner)
    for entry in entries:
        entry.make()


class _MetricEntry(_Entry):
    """A metric under its lower-case name, in all of RecBole's tables of metrics."""

    def make(self) -> None:
        from recbole.evaluator import register

        super().make()
        register.metric_information[self.key] = self.value.metric_need
        register.metric_types[self.key] = self.value.metric_type
        if self.value.smaller and self.key not in register.smaller_metrics:
            register.smaller_metrics.append(self.key)


def extend_config(config_class: Any) -> None:
    """Let RecBole's Config apply `recbole_defaults`, and bind the model when a pickled Config is read."""
    if _EXTENDED in vars(config_class):
        return
    load = config_class._load_internal_config_dict
    reduce = config_class.__reduce_ex__

    @functools.wraps(load)
    def _load_internal_config_dict(self: Any, model: str, model_class: type[Any], dataset: str) -> None:
        # RecBole looks for trainer and dataset by the spelling it was given.
        self.model = bind(model_class) if _concerns_us(model_class) else model
        load(self, self.model, model_class, dataset)
        self.internal_config_dict.update(copy.deepcopy(dict(getattr(model_class, "recbole_defaults", {}))))
        if hasattr(model_class, "recbole_configure"):
            model_class.recbole_configure(self)

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        model_class = vars(self).get("model_class")
        if not _concerns_us(model_class):
            return reduce(self, protocol)
        name, state = bind(model_class), dict(vars(self))
        if "<locals>" in model_class.__qualname__:
            # What is made inside a plugin's hook cannot be imported; it is found by its name.
            model_class = None
            del state["model_class"]
        return bound_config, (type(self), model_class, name), state

    config_class._load_internal_config_dict = _load_internal_config_dict
    config_class.__reduce_ex__ = __reduce_ex__
    setattr(config_class, _EXTENDED, True)


def bound_config(config_class: Any, model_class: type[Any] | None, name: str) -> Any:
    """Bind a model, None for the one that `name` finds, and return an empty configuration for it.

    Pickled configurations call this by its name.
    """
    config = config_class.__new__(config_class)
    if model_class is None:
        from recbole.utils import get_model

        # RecBole asks the import system, in which our finder knows the name.
        vars(config)["model_class"] = get_model(name)
    else:
        bind(model_class, name=name)
    return config


def _concerns_us(model_class: Any) -> bool:
    """Whether RecBole knows a model through us: it was looked up by its name, or brings what is to be bound."""
    return isinstance(model_class, type) and (model_class in _names or any(hasattr(model_class, a) for a in CARRIED))


def _extend_loaded_config() -> None:
    module = sys.modules.get("recbole.config.configurator")
    config_class = vars(module).get("Config") if module is not None else None
    if config_class is not None:
        extend_config(config_class)


def _full_name(value: Any) -> str:
    return f"{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


_EXTENDED = "_cvr_plugins_extended"
_lock = threading.RLock()
_names: WeakKeyDictionary[type[Any], str] = WeakKeyDictionary()
