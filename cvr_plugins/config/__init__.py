"""Flat RecBole-style configuration: known keys, files, `key=value` pairs, merged and checked."""

from cvr_plugins.config._errors import ConfigError
from cvr_plugins.config._keys import FIELD_KEYS, KEYS, Key
from cvr_plugins.config._reading import Loader, dump_yaml, load_yaml, parse_pairs, read_mapping
from cvr_plugins.config._resolve import Config, refuse_processes, refuse_unknown, resolve, split_arguments

__all__ = [
    "FIELD_KEYS",
    "KEYS",
    "Config",
    "ConfigError",
    "Key",
    "Loader",
    "dump_yaml",
    "load_yaml",
    "parse_pairs",
    "read_mapping",
    "refuse_processes",
    "refuse_unknown",
    "resolve",
    "split_arguments",
]
