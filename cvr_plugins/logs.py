"""From a configuration to a funnel log: registered data sets, tables, RecBole atomic files."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cvr_plugins.config import FIELD_KEYS, KEYS, Config, ConfigError
from cvr_plugins.data import FunnelLog, Schema
from cvr_plugins.data.atomic import AtomicFiles
from cvr_plugins.data.errors import quoted
from cvr_plugins.data.source import SUFFIXES, Source, is_hidden, parquet_files
from cvr_plugins.data.tables import read_source
from cvr_plugins.nearest import unknown

_ROLES = {
    "user": "USER_ID_FIELD",
    "item": "ITEM_ID_FIELD",
    "click": "CLICK_FIELD",
    "conversion": "CONVERSION_FIELD",
    "action": "ACTION_FIELD",
    "timestamp": "TIME_FIELD",
    "counterfactual": "COUNTERFACTUAL_FIELD",
    "propensity": "PROPENSITY_FIELD",
    "part": "PART_FIELD",
}
"""Part of a log's schema -> key that names its column, or its columns."""
_LISTS = tuple(key for key in FIELD_KEYS if list in KEYS[key].kinds and key not in _ROLES.values())


def load_log(config: Config) -> FunnelLog:
    """Read the log that `dataset` and `data_path` name.

    In this order: a registered data set (`data_path` is then handed to its builder); a table or a folder of atomic
    files at `dataset`; as in RecBole, atomic files or a table of that name in `data_path`.

    Parameters
    ----------
    config
        Says, for a file, how it is read, too.

    Raises
    ------
    ConfigError
        If nothing is found, more than one file may be meant, a file lacks a column that a key names, or a registered
        data set is given keys that say how a file is read; in place of whatever else a plugin's builder raises.
    DataError
        If a check of the data fails.
    """
    from cvr_plugins.plugins import RegistryError, registry
    from cvr_plugins.plugins.using import using

    name, data_path = config["dataset"], config["data_path"]
    try:
        entry = registry().find("dataset", name)
    except RegistryError as error:
        found = _find(name, data_path)
        if found is None:
            places = f"{name!r}, nor in {data_path!r}" if data_path else f"{name!r}"
            raise ConfigError(f"{error} And there is no file or folder {places}.") from error
        if config["dataset_params"]:
            raise ConfigError(f"dataset_params are for registered data sets; {name!r} is a file.") from None
        return _read(found, config)
    fields = [key for key in FIELD_KEYS if key in config.given]
    if fields:
        raise ConfigError(f"The data set {name} knows its columns; {', '.join(fields)} cannot be set for it.")
    params = _params(name, entry.value, config["dataset_params"])
    taken = inspect.signature(entry.value).parameters.values()
    if data_path is not None and not any(p.name == "path" or p.kind is p.VAR_KEYWORD for p in taken):
        raise ConfigError(f"The data set {name} is made here; leave data_path out.")
    with using(entry, "its builder", ConfigError):
        log = entry.value(**params) if data_path is None else entry.value(path=data_path, **params)
    if not isinstance(log, FunnelLog):
        raise ConfigError(
            f"The data set {name} of plugin {entry.plugin!r} is not a FunnelLog but a {type(log).__name__}; "
            "tell its author."
        )
    return log


def paths_read(config: Config) -> list[Path]:
    """Return the files, or the folder of Parquet files, that `load_log` reads, of a registered one all it is given.

    Parameters
    ----------
    config
        As there.
    """
    from cvr_plugins.plugins import RegistryError, registry

    name, data_path = config["dataset"], config["data_path"]
    try:
        registry().find("dataset", name)
    except RegistryError:
        found = _find(name, data_path)
        return [] if found is None else [found, *map(found.with_suffix, (".user", ".item"))]
    given = [] if data_path is None else [Path(data_path)]
    return [file for place in given for file in (place, *place.rglob("*")) if file.is_file()]


def _params(name: str, builder: Callable[..., FunnelLog], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a registered data set; raise ConfigError for one that it does not take."""
    known = [p.name for p in inspect.signature(builder).parameters.values() if p.kind is p.KEYWORD_ONLY]
    known = [option for option in known if option != "path"]
    for option in params:
        if option not in known:
            missing = f"dataset_params: the data set {name} has no option {option!r}."
            raise ConfigError(unknown(missing, option, known, f"It takes {', '.join(known) or 'no options'}."))
    return dict(params)


def field_keys(schema: Schema) -> dict[str, Any]:
    """Return the keys with which a log written to a file is read back with the same schema; columns as a list."""
    plain = schema.to_dict()
    keys: dict[str, Any] = {key: plain[role] for role, key in _ROLES.items()}
    for feature in schema.features:
        if feature.name in (schema.user, schema.item):
            continue
        keys.setdefault(f"{feature.kind}_features", []).append(feature.name)
        if feature.side != "context":
            keys.setdefault(f"{feature.side}_features", []).append(feature.name)
    return {key: value for key, value in keys.items() if value != KEYS[key].default}


def _find(name: str, data_path: str | None) -> Path | None:
    """Return the table, the folder of Parquet files or the `.inter` file that is meant, None if there is none."""
    places = [Path(name)] if data_path is None else [Path(data_path) / name, Path(data_path)]
    for place in places:
        if place.is_file() and place.name.lower().endswith((".inter", *SUFFIXES)):
            return place
        if place.is_dir():
            found = _in_folder(place.resolve(), Path(name).name)
            if found is not None:
                return found
        for suffix in (".inter", *SUFFIXES):
            table = place.with_name(place.name + suffix) if place.name else place
            if table.is_file():
                return table
    return None


def _in_folder(folder: Path, name: str) -> Path | None:
    named = [folder / f"{stem}.inter" for stem in (name, folder.name)]
    # What 'cvr-plugins export' and RecBole's data_path have: a folder of the data set's name within.
    within = [path for path in folder.glob("*/*.inter") if path.stem == path.parent.name]
    visible = [sorted(path for path in each if not is_hidden(path.stem)) for each in (folder.glob("*.inter"), within)]
    found = [path for path in named if path.is_file()][:1] or visible[0] or visible[1]
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise ConfigError(f"The folder {str(folder)!r} holds more than one data set: {names}. Name one of the files.")
    if found:
        return found[0]
    return folder if parquet_files(folder) else None


def _read(path: Path, config: Config) -> FunnelLog:
    roles: dict[str, Any] = {role: config[key] for role, key in _ROLES.items()}
    roles.update({key: tuple(config[key] or ()) for key in _LISTS})
    if path.suffix.lower() == ".inter":
        files = AtomicFiles.open(path.parent, path.stem, encoding=config["encoding"])
        _check_columns(path, list(files.fields), config)
        return files.read(**roles)
    table = Source.open(path, encoding=config["encoding"])
    _check_columns(path, table.header.names, config)
    return read_source(table, **roles)


def _check_columns(path: Path, present: Sequence[str], config: Config) -> None:
    """Say with which keys the columns are named, which the readers of the data package cannot know."""
    wanted = [(column, key) for key in _ROLES.values() for column in _columns(config[key])]
    missing = [(column, key) for column, key in wanted if column not in present]
    if missing:
        named = ", ".join(f"{column!r} ({key})" for column, key in missing)
        has = f"It has: {quoted(present, most=20)}. Name its columns with these keys, such as {missing[0][1]}=NAME."
        columns = [column for column, _ in missing]
        raise ConfigError(unknown(f"{str(path)!r} lacks the columns {named}.", columns, present, has))


def _columns(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []
