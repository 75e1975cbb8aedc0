"""YAML as RecBole reads it, without what makes objects of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cvr_plugins import config


class Loader(config.Loader):
    """The loader of all configurations, which also reads `!!python/tuple`, as RecBole does: it holds no code."""


def _tuple(loader: yaml.SafeLoader, node: yaml.Node) -> tuple[Any, ...]:
    assert isinstance(node, yaml.SequenceNode)
    return tuple(loader.construct_sequence(node, deep=True))


Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping in a RecBole configuration file, {} if it is empty.

    Raises ConfigError naming the file, and the line where it is broken or holds a tag that would make an object.
    """
    return config.read_mapping(path, Loader, "a RecBole configuration")
