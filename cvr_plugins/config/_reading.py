"""Reading and writing configurations: YAML and `key=value` pairs; nothing a user writes is ever executed."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from cvr_plugins.config._errors import ConfigError
from cvr_plugins.config._keys import KEYS
from cvr_plugins.files import undecodable
from cvr_plugins.wording import flat

_NULLS = ("", "~", "null", "Null", "NULL")


# Of YAML 1.2's core schema. PyYAML keeps to 1.1: 016 would be 14, 190:20 11420, 109_14 10914, and 1e-3 text.
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_NUMBERS = {
    _INT: re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"),
    _FLOAT: re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
}


_MOST_NODES, _MOST_DEPTH, _MOST_CHARACTERS = 100_000, 64, 4_000_000
"""Bounds of what a file holds, every alias standing for all that it names, and of its text."""
_MOST_DIGITS = 200
_MANY = f"it holds more than {_MOST_NODES:,} values, counting what each alias stands for"
_DEEP = f"it is nested more than {_MOST_DEPTH} levels deep"


class Loader(yaml.SafeLoader):
    """SafeLoader that reads numbers as YAML 1.2 does, and refuses a key written twice and what is beyond its bounds.

    Aliases are counted and never written out: ten lines that name each other can mean billions of values.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in _NUMBERS]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._measured: dict[yaml.Node, list[int]] = {}
        # Nodes and levels found so far below each node that is being composed, the outermost first.
        self._composing: list[list[int]] = []

    def get_single_data(self) -> Any:
        """Return what the text holds; whatever is wrong with it is a YAMLError."""
        try:
            return super().get_single_data()
        except (ValueError, OverflowError) as error:
            # From a date such as 2026-02-31.
            raise yaml.YAMLError(str(error)) from error

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node, another one's where an alias names it; raise ComposerError beyond the bounds."""
        event = self.peek_event()
        self._composing.append([1, 1])
        self._bound(len(self._composing) <= _MOST_DEPTH, _DEEP, event)
        node = super().compose_node(parent, index)
        assert node is not None
        own = self._composing.pop()
        closed = not isinstance(event, yaml.AliasEvent) or node in self._measured
        self._bound(closed, "it holds a part that contains itself", event)
        nodes, levels = self._measured.setdefault(node, own)
        if self._composing:
            around = self._composing[-1]
            around[:] = around[0] + nodes, max(around[1], 1 + levels)
            self._bound(around[0] <= _MOST_NODES, _MANY, event)
            self._bound(len(self._composing) + levels <= _MOST_DEPTH, _DEEP, event)
        return node

    def _bound(self, kept: bool, problem: str, event: Any) -> None:
        if not kept:
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping node as a dictionary; raise ConstructorError for a key that stands in it twice."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands here a second time", key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that puts text which Loader would take for a number in quotation marks."""


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = _written(loader, node, _INT)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    _written(loader, node, _FLOAT, _INT)
    return float(loader.construct_yaml_float(node))


def _written(loader: yaml.SafeLoader, node: yaml.ScalarNode, *kinds: str) -> str:
    """Return the text of a number; a tag that stands before it, as in `!!int 1:30`, makes no other text one."""
    text: str = loader.construct_scalar(node)
    if len(text) > _MOST_DIGITS or not any(_NUMBERS[kind].match(text) for kind in kinds):
        raise yaml.constructor.ConstructorError(None, None, f"{text!r:.80} is no number", node.start_mark)
    return text


Loader.add_constructor(_INT, _int)
Loader.add_constructor(_FLOAT, _float)
for _kind in (Loader, _Dumper):
    for _tag, _pattern in _NUMBERS.items():
        _kind.add_implicit_resolver(_tag, _pattern, list("-+.0123456789"))


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; numbers are those of YAML 1.2's core schema.

    Raises ConfigError naming the file, and the line where the YAML is broken or a key stands twice.
    """
    return read_mapping(path, Loader, "valid YAML")


def read_mapping(path: str | Path, loader: type[yaml.SafeLoader], what: str) -> dict[str, Any]:
    """Read a configuration file by a kind of SafeLoader, {} if there is nothing in it.

    Raises ConfigError naming the file, and the line where it is not `what`.
    """
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            text = file.read(_MOST_CHARACTERS + 1)
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration file {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The configuration file {undecodable(path, 'utf-8')} Save it as UTF-8.") from error
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(f"{path} is no configuration: it holds more than {_MOST_CHARACTERS:,} characters.")
    try:
        loaded = _load(text, loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not {what}: {_problem(error)}.") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise ConfigError(f"{path}: a configuration file holds 'key: value' lines; got {loaded!r:.80}.")
    return loaded


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Return YAML, keys in the order given, from which `load_yaml` reads equal values."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def parse_pairs(pairs: Iterable[str]) -> dict[str, Any]:
    """Read `key=value` pairs, also written `--key=value`.

    Values are YAML: `dims=[64, 32]`, `cvr_params={dims: [8]}`, nothing for null. The value of a key that takes text or
    names is that text, whatever YAML makes of it, unless it stands in quotation marks or is a list in brackets.
    Raises ConfigError for anything else.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip().removeprefix("--")
        if not equals or not key:
            raise ConfigError(f"Expected key=value, such as learning_rate=0.01; got {pair!r}.")
        found[key] = _value(key, text.strip())
    return found


def _value(key: str, text: str) -> Any:
    kinds = KEYS[key].kinds if key in KEYS else ()
    if text[:1] not in ("'", '"') and (str in kinds or (list in kinds and text[:1] != "[")):
        return None if text in _NULLS else text
    try:
        return _load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value of {key} is not valid YAML: {text!r} ({_problem(error)}).") from error


def _load(text: str, kind: type[yaml.SafeLoader] = Loader) -> Any:
    loader = kind(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _problem(error: yaml.YAMLError) -> str:
    return flat(getattr(error, "problem", None) or error)
