"""RecBole finds our models by name, and says what to do where it cannot run: two finders of the import system."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

KINDS = (
    "general_recommender",
    "context_aware_recommender",
    "sequential_recommender",
    "knowledge_aware_recommender",
    "exlib_recommender",
)
"""The packages of recbole.model, in the order in which RecBole looks for a model."""

WATCHED = {
    "recbole.config.configurator": "config",
    "recbole.model.sequential_recommender.sine": "sine",
    "recbole.quick_start": "quick_start",
    "recbole.quick_start.quick_start": "quick_start",
    "recbole.trainer.hyper_tuning": "hyper_tuning",
    "recbole.data.utils": "guarded",
    "recbole.model.context_aware_recommender.kd_dagfm": "guarded",
    "recbole.model.general_recommender.ldiffrec": "guarded",
    "recbole.utils.url": "guarded",
}
"""Modules of RecBole -> what `cvr_plugins.recbole.compat.messages` knows of them."""


class ModelFinder:
    """Answers `recbole.model.<kind>.<name>` where nobody else does; stands last in `sys.meta_path`.

    RecBole asks `find_spec` for this name, lower-cased, in each of its five packages, imports it and takes the
    attribute of the model's name. Names that RecBole has are not answered, whatever is registered.

    Parameters
    ----------
    names
        Returns the module that knows the names (its ``find`` and ``origin``), imported when it is first needed.
    """

    def __init__(self, names: Callable[[], Any]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module of a registered model, None for any other name.

        Raises ModuleNotFoundError for a model that is registered but cannot be used, saying why.
        """
        package, _, kind = fullname.rpartition(".")[0].rpartition(".")
        if package != "recbole.model" or kind not in KINDS:
            return None
        origin = self._names().origin(fullname.rpartition(".")[2], kind)
        # Neither loader here derives from importlib.abc.Loader: importing that takes as long as all the rest.
        loader: Any = ModelLoader(self._names)
        return None if origin is None else ModuleSpec(fullname, loader, origin=origin)


class ModelLoader:
    """Makes a module with one attribute, the model's class, under any spelling of its name."""

    def __init__(self, names: Callable[[], Any]) -> None:
        self._names = names

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        """Look the class up when it is asked for, so that the module never outlives a registration."""
        asked = module.__name__.rpartition(".")[2]

        def model_class(name: str) -> Any:
            if name.lower() != asked:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            return self._names().find(name)

        module.__getattr__ = model_class  # type: ignore[method-assign]


class Watcher:
    """Hands a few modules of RecBole, once they are loaded, to `cvr_plugins.recbole.compat.messages`; stands first.

    The modules are found and loaded by whoever else finds them. What they raise while loading is handed over too.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the watched module as the other finders find it, None for any other name."""
        if fullname not in WATCHED:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(fullname, path, target) if find is not None and finder is not self else None
            if spec is not None:
                if spec.loader is not None:
                    loader: Any = _WatchedLoader(spec.loader)
                    spec.loader = loader
                return spec
        return None


class _WatchedLoader:
    """Loads a module as its own loader does."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        # From here on everything is as it would be without us.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        subject = WATCHED[module.__name__]
        from cvr_plugins.recbole.compat import messages

        try:
            with messages.loading(subject):
                self._loader.exec_module(module)
        except Exception as error:
            messages.failed(subject, error)
            raise
        messages.loaded(subject, module)


def install(names: Callable[[], Any]) -> None:
    """Put the finders in their places, once in a process even if this package is imported anew.

    Parameters
    ----------
    names
        As of `ModelFinder`.
    """
    # By name: two watchers of two classes would each ask the other.
    there = {f"{type(finder).__module__}.{type(finder).__qualname__}" for finder in sys.meta_path}
    if f"{__name__}.Watcher" not in there:
        sys.meta_path.insert(0, Watcher())
    if f"{__name__}.ModelFinder" not in there:
        sys.meta_path.append(ModelFinder(names))
