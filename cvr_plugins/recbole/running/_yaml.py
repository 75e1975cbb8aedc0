"""YAML as RecBole reads it, without what makes objects of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from cvr_plugins.config import read_mapping


class Loader(yaml.SafeLoader):
    """SafeLoader that takes 1e-3 for a number, as RecBole does, and reads `!!python/tuple`, which holds no code."""


def _tuple(loader: yaml.SafeLoader, node: yaml.Node) -> tuple[Any, ...]:
    assert isinstance(node, yaml.SequenceNode)
    return tuple(loader.construct_sequence(node, deep=True))


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)
Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping in a RecBole configuration file, {} if it is empty.

    Raises ConfigError naming the file, and the line where it is broken or holds a tag that would make an object.
    """
    return read_mapping(path, Loader, "a RecBole configuration")
