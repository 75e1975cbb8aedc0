"""The classes of RecBole's models: its own, read off its files, and of every registered method one: `models.NISE`, ...

A method's class is made when it is asked for and is this module's attribute of its name, so that pickles refer to it;
one whose name is contested or another plugin's is the attribute `plugin:Name`. Asked for as an attribute it is made
known to RecBole (`binding.bind`). Neither torch nor RecBole is imported before a class is asked for.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cvr_plugins.plugins import Registered, Registry, RegistryError, registry
from cvr_plugins.recbole.compat.finder import KINDS

if TYPE_CHECKING:
    from cvr_plugins.method_classes import MethodClasses
    from cvr_plugins.recbole.context.model import MethodRecommender

RECBOLE = "recbole"
"""The owner of RecBole's own names."""


def model_class(name: str) -> type[MethodRecommender]:
    """Return the RecBole model class of a registered method, the same class at each call.

    Parameters
    ----------
    name
        A method's name, in any case, or `plugin:Name`.

    Raises
    ------
    RegistryError
        For an unknown or contested name, and one whose plugin failed.
    """
    return _classes().of(name)


def __getattr__(name: str) -> Any:
    found = _classes().attribute(name)
    # A pickle refers to the class alone, and RecBole asks for its trainer and data set by its name.
    try:
        return class_of(shelf().find("model", found.qualified))
    except RegistryError as error:
        raise ImportError(str(error), name=f"{__name__}.{name}") from error


def __dir__() -> list[str]:
    return sorted(["model_class", *(entry.key for entry in registry().entries("method"))])


@functools.cache
def _classes() -> MethodClasses[MethodRecommender]:
    from cvr_plugins.method_classes import MethodClasses
    from cvr_plugins.recbole.context.model import MethodRecommender

    return MethodClasses(MethodRecommender, __name__)


def class_of(entry: Registered) -> type[Any]:
    """Return the class of a registered method or RecBole model, made known to RecBole.

    Parameters
    ----------
    entry
        Of the shelf "model".
    """
    from cvr_plugins.recbole.compat.binding import bind

    found: type[Any] = entry.value if entry.kind == "recbole_model" else model_class(entry.qualified)
    bind(found, name=entry.key)
    return found


_settled: Registry | None = None


def shelf() -> Registry:
    """Return the registry, whose shelf "model" holds RecBole's own models (their files), too."""
    global _settled
    known = registry()
    if known is not _settled:
        known.reserve(RECBOLE, {class_name(path): path for path in own_files().values()})
        _settled = known
    return known


def own_files() -> Mapping[str, Path]:
    """Return RecBole's models, name in lower case -> file, in its order of search; none where it is not installed."""
    spec = find_spec("recbole")
    return _own_files(tuple(spec.submodule_search_locations or ()) if spec is not None else ())


@functools.lru_cache(maxsize=2)
def _own_files(folders: tuple[str, ...]) -> Mapping[str, Path]:
    files: dict[str, Path] = {}
    for kind in KINDS:
        for folder in folders:
            for path in sorted(Path(folder, "model", kind).glob("*.py")):
                if path.stem != "__init__":
                    files.setdefault(path.stem.lower(), path)
    return MappingProxyType(files)


@functools.cache
def class_name(path: Path) -> str:
    """Return the name of the model class in a file of RecBole's, which differs from the file's in case alone."""
    text = path.read_text(encoding="utf-8")
    found = re.search(rf"^class[ \t]+({re.escape(path.stem)})\b", text, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else path.stem


def own_class(path: Path) -> type[Any]:
    """Import RecBole's model in a file.

    Raises
    ------
    ModuleNotFoundError
        Saying which package the model needs, if that is missing.
    """
    name = class_name(path)
    try:
        module = import_module(f"recbole.model.{path.parent.name}.{path.stem}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "recbole", "cvr_plugins"):
            raise
        raise ModuleNotFoundError(
            f"RecBole's model {name} needs the package {missing}, which is not installed: pip install {missing}.",
            name=error.name,
        ) from error
    found: type[Any] = getattr(module, name)
    return found


def importable(kind: str) -> bool:
    """Whether RecBole's package of a kind can be imported, without doing so for what it needs."""
    return kind != KINDS[-1] or all(find_spec(name) is not None for name in ("lightgbm", "xgboost"))
