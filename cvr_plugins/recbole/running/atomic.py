"""A registered data set as RecBole reads one: a folder of atomic files, and the keys that name its fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from cvr_plugins.config import resolve
from cvr_plugins.data import write_atomic
from cvr_plugins.data.atomic import AtomicFile
from cvr_plugins.logs import field_keys, load_log
from cvr_plugins.plugins import registry
from cvr_plugins.recbole.context.fields import ROLES

_RECBOLES = ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")


class AtomicFolder(NamedTuple):
    """Where a data set's atomic files are, and what a configuration says of them.

    data_path: the folder in which the data set's own lies, RecBole's key of that name; keys: to be put below what the
    user gives: `data_path`, `dataset`, `CLICK_FIELD`, ...; notes: what reading and writing had to say.
    """

    data_path: Path
    keys: dict[str, Any]
    notes: tuple[str, ...] = ()


def atomic_folder(dataset: str, folder: str | Path, *, data_path: str | Path | None = None) -> AtomicFolder:
    """Write a registered data set's atomic files into `folder/NAME`, whole or not at all, unless they are there.

    dataset: a registered name; data_path: what its builder is given. Files that are there are taken as they are if
    they have the data set's fields. Labels, truth and timestamp are fields of the `.inter` file, named by the keys.
    Raises RegistryError for an unknown name, DataError if the log cannot be built or written, TargetError if the
    folder holds something else, OutputError if writing fails.
    """
    registry().find("dataset", dataset)
    given = {} if data_path is None else {"data_path": str(data_path)}
    log = load_log(resolve({"dataset": dataset, **given}, needs=("dataset",)))
    place = Path(folder) / log.name
    notes = log.notes
    if not _holds(place, log.name, log.schema.columns):
        notes = (*notes, *write_atomic(log, folder).notes)
    named = field_keys(log.schema)
    keys = {key: named.get(key) for key in (*_RECBOLES, *ROLES.values()) if named.get(key) is not None}
    return AtomicFolder(Path(folder), {"data_path": str(folder), "dataset": log.name, **keys}, notes)


def _holds(place: Path, name: str, columns: tuple[str, ...]) -> bool:
    files = [place / f"{name}.{suffix}" for suffix in ("inter", "user", "item")]
    if not files[0].is_file():
        return False
    found = {field for file in files if file.is_file() for field in AtomicFile.open(file).fields}
    return found == set(columns)
