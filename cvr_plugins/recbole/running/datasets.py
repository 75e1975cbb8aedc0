"""Data sets by name, as RecBole reads them: registered ones, folders of atomic files, RecBole's own."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from cvr_plugins.config import KEYS, ConfigError, resolve
from cvr_plugins.data import write_atomic
from cvr_plugins.data.atomic import AtomicFile
from cvr_plugins.logs import field_keys, load_log
from cvr_plugins.nearest import unknown
from cvr_plugins.plugins import RegistryError, registry
from cvr_plugins.recbole.compat.process_state import cache_folder
from cvr_plugins.recbole.context.fields import ROLES
from cvr_plugins.training.manifest import RunFolderError, check_all, seal
from cvr_plugins.training.run_folder import RunFolder, write_json

RECBOLES_OWN = "ml-100k"
_RECBOLES_PATH = "dataset"
_COUNTS = "counts.json"
_ROLE_KEYS = ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")


class Place(NamedTuple):
    """Where RecBole finds a data set: `folder` holds `name.inter`; keys: what a configuration says of its fields."""

    folder: Path
    name: str
    keys: Mapping[str, Any]

    def load_col(self, labels: Iterable[Any]) -> dict[str, list[str]]:
        """Return RecBole's key of that name: every field, but of labels, truth and part only those named.

        Whatever RecBole's own models find beside user and item is a feature to them.
        """
        wanted = {label for label in labels if isinstance(label, str)}
        hidden = {name for role in ROLES.values() for name in _names(self.keys.get(role, KEYS[role].default))} - wanted
        found = {}
        for suffix in ("inter", "user", "item"):
            file = self.folder / f"{self.name}.{suffix}"
            if file.is_file():
                found[suffix] = [name for name in AtomicFile.open(file).fields if name not in hidden]
        return found


def find(dataset: str, data_path: str | None) -> Place | None:
    """Return where the data set is that RecBole would not find by itself, None for one that it is left to find.

    dataset: a registered name, whose atomic files are written into the user's cache if they are not there, or not as
    they were written (their hashes, and the counts of the log, are kept beside them); a folder with one `NAME.inter`,
    or that file. Atomic files below a `data_path` that was given win over a registered name,
    whose builder is handed `data_path` otherwise.
    Raises ConfigError for a folder of several data sets, DataError and others if a registered one cannot be built.
    """
    if dataset == RECBOLES_OWN or (data_path is not None and _is_below(data_path, dataset)):
        return None
    try:
        entry = registry().find("dataset", dataset)
    except RegistryError as error:
        return None if _is_below(_RECBOLES_PATH, dataset) else _folder(Path(dataset), error)
    cache = cache_folder() / "recbole" / _fingerprint(entry.value, entry.plugin, data_path)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):
        written = _atomic_folder(entry.qualified, cache, data_path, checked=True)
    keys = {key: value for key, value in written.keys.items() if key not in ("dataset", "data_path")}
    return Place(written.data_path / written.keys["dataset"], written.keys["dataset"], keys)


def _names(columns: Any) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns or ())


def check(folder: str, dataset: str, parts: Sequence[Any] | None = None, others: Sequence[Any] | None = None) -> None:
    """Raise ConfigError if a file is missing that RecBole would read, or download.

    Parameters
    ----------
    folder, dataset
        Where the data set is, and its name.
    parts
        RecBole's `benchmark_filename`: the parts it comes in, None for one file or several with one name.
    others
        RecBole's `additional_feat_suffix`: what its further files end in.
    """
    for key, given in (("benchmark_filename", parts), ("additional_feat_suffix", others)):
        if not (given is None or (isinstance(given, (list, tuple)) and all(map(_names_a_file, given)))):
            raise ConfigError(f"{key} must be a list of parts of a file's name, such as [train, valid]; got {given!r}.")
    if "://" in folder:
        raise ConfigError(f"data_path is a folder, and nothing is fetched; got the address {folder!r}.")
    if parts is not None:
        files = [f"{dataset}.{part}.inter" for part in parts]
        absent = ", ".join(file for file in files if not Path(folder, file).is_file())
        if absent:
            raise ConfigError(
                f"{folder} holds no {absent}, which benchmark_filename names. Give the folder that holds the data "
                "set's folder as data_path, or leave benchmark_filename out."
            )
        return
    if Path(folder, f"{dataset}.inter").is_file() or any(Path(folder).glob(f"{dataset}.*.inter")):
        return
    known = [RECBOLES_OWN, *(entry.key for entry in registry().entries("dataset"))]
    missing = f"There is no data set {dataset!r}: no file {Path(folder, f'{dataset}.inter')}."
    lists = (
        "Give the folder that holds the data set's folder as data_path, or the folder itself as dataset; "
        "'cvr-plugins datasets' lists those known by name."
    )
    raise ConfigError(unknown(missing, dataset, known, lists))


def _names_a_file(part: object) -> bool:
    return isinstance(part, str) and re.fullmatch(r"[^/\\\0]+", part) is not None


def _is_below(data_path: str, dataset: str) -> bool:
    return Path(data_path, dataset, f"{dataset}.inter").is_file()


def _folder(path: Path, unknown: RegistryError) -> Place | None:
    if path.is_file() and path.suffix == ".inter":
        return Place(path.parent.resolve(), path.stem, {})
    if not path.is_dir():
        if len(path.parts) > 1:
            raise ConfigError(f"There is no folder {str(path)!r} of atomic files, nor a file of that name.")
        return None
    found = sorted(path.glob("*.inter"))
    if len(found) != 1:
        what = (
            f"more than one data set: {', '.join(each.name for each in found)}; name one" if found else "no .inter file"
        )
        # A folder that happens to have the name of a data set of RecBole's is none of our business.
        if not found and len(path.parts) == 1:
            return None
        raise ConfigError(f"The folder {str(path)!r} holds {what}.")
    return Place(path.resolve(), found[0].stem, {})


def _fingerprint(builder: Any, plugin: str, data_path: str | None) -> str:
    """Return what changes when the builder's code, its package or its files do."""
    code = inspect.unwrap(builder)
    source = inspect.getsourcefile(code) if inspect.isfunction(code) or inspect.isclass(code) else None
    files = [Path(source)] if source else []
    if data_path is not None:
        base = Path(data_path)
        files += sorted(base.rglob("*")) if base.is_dir() else [base]
    states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    about = [plugin, version("cvr-plugins"), data_path, states]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


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
    return _atomic_folder(dataset, folder, data_path)


def _atomic_folder(
    dataset: str, folder: str | Path, data_path: str | Path | None, *, checked: bool = False
) -> AtomicFolder:
    registry().find("dataset", dataset)
    given = {} if data_path is None else {"data_path": str(data_path)}
    log = load_log(resolve({"dataset": dataset, **given}, needs=("dataset",)))
    place = Path(folder) / log.name
    notes = log.notes
    counts = {"columns": list(log.schema.columns), **log.summary()}
    if not (_fits(place, counts) if checked else _holds(place, log.name, log.schema.columns)):
        if checked:
            shutil.rmtree(place, ignore_errors=True)
        notes = (*notes, *write_atomic(log, folder).notes)
        if checked:
            write_json(place / _COUNTS, counts)
            seal(place)
    named = field_keys(log.schema)
    keys = {key: named.get(key) for key in (*_ROLE_KEYS, *ROLES.values()) if named.get(key) is not None}
    return AtomicFolder(Path(folder), {"data_path": str(folder), "dataset": log.name, **keys}, notes)


def _fits(place: Path, counts: Mapping[str, Any]) -> bool:
    try:
        check_all(place)
        return bool(RunFolder(place).read_json(_COUNTS) == counts)
    except RunFolderError:
        return False


def _holds(place: Path, name: str, columns: tuple[str, ...]) -> bool:
    files = [place / f"{name}.{suffix}" for suffix in ("inter", "user", "item")]
    if not files[0].is_file():
        return False
    found = {field for file in files if file.is_file() for field in AtomicFile.open(file).fields}
    return found == set(columns)
