"""RecBole's own models, read off its files: nothing of RecBole is imported to know their names."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cvr_plugins.recbole.compat.finder import KINDS


def model_files() -> Mapping[str, Path]:
    """Return name, as RecBole lower-cases it -> file, in RecBole's order of search; empty where it is not installed."""
    spec = find_spec("recbole")
    return _model_files(tuple(spec.submodule_search_locations or ()) if spec is not None else ())


@functools.lru_cache(maxsize=2)
def _model_files(folders: tuple[str, ...]) -> Mapping[str, Path]:
    files: dict[str, Path] = {}
    for kind in KINDS:
        for folder in folders:
            for path in sorted(Path(folder, "model", kind).glob("*.py")):
                if path.stem != "__init__":
                    files.setdefault(path.stem.lower(), path)
    return MappingProxyType(files)


@functools.cache
def class_name(path: Path) -> str:
    """Return the name of the model class in a file, which differs from the file's in case alone."""
    classes = re.findall(r"^class[ \t]+(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return next((name for name in classes if name.lower() == path.stem.lower()), path.stem)


def model_class(path: Path) -> type[Any]:
    """Import RecBole's model in a file; raises ImportError saying which package it needs, if that is missing."""
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
