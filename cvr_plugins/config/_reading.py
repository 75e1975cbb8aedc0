"""Reading and writing configurations: YAML and `key=value` pairs; nothing a user writes is ever executed."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from cvr_plugins.config._errors import ConfigError
from cvr_plugins.config._keys import KEYS
from cvr_plugins.wording import flat

_NULLS = ("", "~", "null", "Null", "NULL")


# Of YAML 1.2's core schema. PyYAML keeps to 1.1: 016 would be 14, 190:20 11420, 109_14 10914, and 1e-3 text.
_NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"),
    "tag:yaml.org,2002:float": re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
}


class Loader(yaml.SafeLoader):
    """SafeLoader that reads numbers as YAML 1.2 does, and refuses a key written twice."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in _NUMBERS]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

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
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


Loader.add_constructor("tag:yaml.org,2002:int", _int)
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
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"Cannot read the configuration file {path}: {reason}.") from error
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
    except (ValueError, RecursionError) as error:
        # From a date such as 2026-02-31, or brackets nested a thousand deep.
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def _problem(error: yaml.YAMLError) -> str:
    return flat(getattr(error, "problem", None) or error)
