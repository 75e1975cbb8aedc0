"""RecBole's atomic files: `NAME.inter`, `NAME.user` and `NAME.item` with `field:type` headers."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from cvr_plugins.data.errors import DataError, quoted, require_columns, rows
from cvr_plugins.data.infer import check_options, infer_schema
from cvr_plugins.data.log import FunnelLog
from cvr_plugins.data.schema import Schema, action_columns
from cvr_plugins.data.source import Source
from cvr_plugins.data.tables import column_types, joined_to, read_frame
from cvr_plugins.data.tokens import joined, refuse_separators
from cvr_plugins.files import whole_folder

FIELD_TYPES = {
    "token": pa.string(),
    "token_seq": pa.list_(pa.string()),
    "float": pa.float64(),
    "float_seq": pa.list_(pa.float64()),
}
SUFFIXES = ("inter", "user", "item")


# What pandas.read_csv, and with it RecBole, takes for missing; ours reads such a token as it stands.
_READ_AS_MISSING = frozenset(
    {"#N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)


class Written(NamedTuple):
    """What `write_atomic` made: the folder, and what its reader should know."""

    folder: Path
    notes: tuple[str, ...]


class AtomicFile(NamedTuple):
    """One atomic file and its fields, name -> type."""

    source: Source
    fields: dict[str, str]

    @classmethod
    def open(cls, path: Path, *, encoding: str = "utf-8") -> AtomicFile:
        """Read and check the header.

        Raises
        ------
        DataError
            If a field has no type, an unknown one, or occurs twice.
        """
        source = Source(path, "\t", encoding, quoting=False)
        fields: dict[str, str] = {}
        for field in source.header.names:
            name, colon, kind = field.rpartition(":")
            if not colon or kind not in FIELD_TYPES:
                raise DataError(
                    f"File {str(path)!r}: the header field {field!r} must read name:type with one of the types "
                    f"{quoted(FIELD_TYPES)}, fields separated by tabs."
                )
            if name in fields:
                raise DataError(f"File {str(path)!r} has more than one field named {name!r}; rename or remove one.")
            fields[name] = kind
        return cls(source, fields)

    def read(self, names: Sequence[str], types: Mapping[str, pa.DataType]) -> pd.DataFrame:
        """Return the named fields in the given Arrow types; raise DataError if one is missing or cannot be read."""
        require_columns(list(self.fields), names, f"File {str(self.source.path)!r}")
        heads = {name: f"{name}:{self.fields[name]}" for name in names}
        frame = read_frame(self.source, list(heads.values()), {heads[name]: types[name] for name in names})
        return frame.set_axis(list(names), axis=1)


@dataclass(frozen=True)
class AtomicFiles:
    """The atomic files of a data set, their headers read.

    Parameters
    ----------
    name
        Of the data set.
    files
        Suffix -> file; the `.inter` file is there.
    """

    name: str
    files: Mapping[str, AtomicFile]

    @classmethod
    def open(cls, directory: str | Path, name: str, *, encoding: str = "utf-8") -> AtomicFiles:
        """Open `NAME.inter` and, where they exist, `NAME.user`, `NAME.item` in `directory` or `directory/NAME`.

        Raises
        ------
        DataError
            If there is no `NAME.inter`, or a header is broken.
        """
        places = (Path(directory), Path(directory, name))
        folder = next((place for place in places if (place / f"{name}.inter").is_file()), None)
        if folder is None:
            raise DataError(
                f"There is no {name}.inter in {quoted(map(str, places))}; check the directory and the name."
            )
        paths = {suffix: folder / f"{name}.{suffix}" for suffix in SUFFIXES}
        return cls(name, {s: AtomicFile.open(path, encoding=encoding) for s, path in paths.items() if path.is_file()})

    @cached_property
    def fields(self) -> dict[str, str]:
        """All fields, name -> type, in the order .inter, .user, .item; the first where files disagree."""
        found: dict[str, str] = {}
        for file in self.files.values():
            found.update({name: kind for name, kind in file.fields.items() if name not in found})
        return found

    def read(self, schema: Schema | None = None, **roles: Any) -> FunnelLog:
        """Read the log; arguments and errors are those of `read_atomic`."""
        if schema is None:
            schema = self._infer(roles)
        elif roles:
            raise DataError(f"Give either a schema or roles, not both; got a schema and {quoted(roles)}.")
        where = f"The atomic files of {self.name!r}"
        require_columns(list(self.fields), schema.columns, where)
        sequences = [feature.name for feature in schema.features if self.fields[feature.name] == "float_seq"]
        if sequences:
            raise DataError(f"{where}: {quoted(sequences)} is a float_seq, which cannot be a feature; leave it out.")
        types = column_types(schema, pa.schema([]))
        keys = {"user": schema.user, "item": schema.item}
        notes: list[str] = []
        for suffix, file in self.files.items():
            wanted = [column for column in schema.columns if column in file.fields]
            if suffix == "inter":
                frame = file.read(list(dict.fromkeys([*keys.values(), *wanted])), types)
            elif wanted:
                key = keys[suffix]
                table = file.read(list(dict.fromkeys([key, *wanted])), types)
                frame = _join(frame, table, key, file.source.path, notes)
        return FunnelLog.from_frame(frame, schema, name=self.name, notes=notes)

    def _infer(self, roles: dict[str, Any]) -> Schema:
        check_options(roles)
        header = pa.schema([pa.field(field, FIELD_TYPES[kind]) for field, kind in self.fields.items()])
        named = [column for column in roles.values() if isinstance(column, str)]
        taken = {*named, *action_columns(roles.get("action")), *roles.get("drop_columns", ())}
        options = dict(roles)
        for side in ("user", "item"):
            own = [field for field in self.files[side].fields if field not in taken] if side in self.files else []
            options[f"{side}_features"] = [*roles.get(f"{side}_features", ()), *own]
        return infer_schema(header, **options)


def read_atomic(
    directory: str | Path, name: str, schema: Schema | None = None, *, encoding: str = "utf-8", **roles: Any
) -> FunnelLog:
    """Read `NAME.inter` and, where they exist, `NAME.user`, `NAME.item`.

    Fields are split at tabs, sequences at spaces; quotation marks are part of the text.

    Parameters
    ----------
    directory
        The folder of the files, or the one in which that of the name `name` lies.
    name
        Of the data set.
    schema
        Which field plays which part; None to infer it from `roles`: kinds then follow the headers, and fields of
        `.user` and `.item` are features of that side.
    encoding
        Of the files.
    **roles
        Keywords of `infer_schema`.

    Raises
    ------
    DataError
        If a file, header or row is broken, a field occurs in two files, a user or an item has two rows in its own file,
        a `float_seq` is asked for as a feature, or `FunnelLog.from_frame` refuses the log.
    """
    return AtomicFiles.open(directory, name, encoding=encoding).read(schema, **roles)


def write_atomic(log: FunnelLog, directory: str | Path) -> Written:
    """Write the folder `directory/NAME` (NAME: the log's) of `.inter`, `.user`, `.item`, whole or not at all.

    User features go to `.user`, item features to `.item`, everything else, truth included, to `.inter`. A feature that
    varies within a user (an item) cannot stand in `.user` (`.item`): it goes to `.inter`, with a note. Read the log
    back with `read_atomic(directory, NAME, log.schema)`.

    Raises
    ------
    DataError
        If a name or token holds what the format cannot carry (tab, line break, leading quotation mark, or a space
        within a sequence).
    TargetError
        If the folder exists.
    OutputError
        If writing fails.
    """
    schema, frame = log.schema, log.frame
    if not log.name or any(character in log.name for character in "/\\\0"):
        raise DataError(f"The log's name {log.name!r} cannot be the name of a folder; give it another one.")
    folder = Path(directory) / log.name
    notes: list[str] = []
    keys = {"user": schema.user, "item": schema.item}
    columns: dict[str, list[str]] = {"inter": [*keys.values()], "user": [schema.user], "item": [schema.item]}
    for feature in schema.features:
        if feature.name in keys.values():
            continue
        suffix: str = "inter" if feature.side == "context" else feature.side
        if suffix in keys and _varies(frame[feature.name], frame[keys[suffix]]):
            notes.append(f"{suffix} feature {feature.name!r} varies within a {suffix}; written to .inter.")
            suffix = "inter"
        columns[suffix].append(feature.name)
    columns["inter"] += [column for column in schema.columns if column not in schema.kinds]
    kinds = dict(schema.kinds) if schema.part is None else {**schema.kinds, schema.part: "token"}
    texts = {name: _text(frame[name], kinds.get(name), folder, notes) for name in schema.columns}
    with whole_folder(folder) as aside:
        for suffix, names in columns.items():
            table = pd.DataFrame({f"{name}:{kinds.get(name, 'float')}": texts[name] for name in names})
            if suffix in keys:
                table = table[~frame[keys[suffix]].duplicated().to_numpy()]
            if suffix == "inter" or len(names) > 1:
                # RecBole reads these files with "\n" only and without escapes.
                table.to_csv(
                    aside / f"{log.name}.{suffix}", sep="\t", index=False, quoting=csv.QUOTE_NONE, lineterminator="\n"
                )
    return Written(folder, tuple(notes))


def _join(frame: pd.DataFrame, table: pd.DataFrame, key: str, path: Path, notes: list[str]) -> pd.DataFrame:
    """Add the columns of `table` to the rows with the same key; missing where `table` has no such row."""
    clash = [column for column in table.columns if column != key and column in frame.columns]
    if clash:
        raise DataError(
            f"Field {quoted(clash)} occurs in {str(path)!r} and in another atomic file; rename or drop one."
        )
    columns, absent = joined_to(frame[key], table, path)
    if absent.any():
        distinct = frame[key][absent].nunique(dropna=False)
        notes.append(f"{rows(int(absent.sum()))} ({distinct:,} distinct {key!r}) without a row in {path.name}.")
    return frame.assign(**columns)


def _varies(column: pd.Series, key: pd.Series) -> bool:
    """Whether a column takes two values (missing counts as one) for one key."""
    values = joined(column).to_pandas() if isinstance(column.dtype, pd.ArrowDtype) else column
    codes = pd.Series(pd.factorize(values)[0])
    return bool((codes.groupby(key.cat.codes.to_numpy()).transform("first") != codes).any())


def _text(column: pd.Series, kind: str | None, folder: Path, notes: list[str]) -> pd.Series:
    """A column as it stands in the file, checked for what the format cannot carry."""
    name = str(column.name)
    where = f"Cannot write {str(folder)!r}"
    if any(character in name for character in "\t\r\n:"):
        raise DataError(f"{where}: the column name {name!r} holds a tab, line break or colon; rename it.")
    if kind is None or kind == "float":
        return column
    if kind == "token_seq":
        refuse_separators(column, name, folder)
        column = pd.Series(joined(column).to_pandas(), dtype="category", name=name)
    words = pd.Series(column.cat.categories, dtype=object)
    for bad, what in (
        (words.str.contains("[\t\r\n]"), "a tab or line break"),
        (words.str.startswith('"'), "a leading quotation mark"),
    ):
        if bad.any():
            raise DataError(
                f"{where}: {int(bad.sum()):,} tokens of column {name!r} hold {what} ({quoted(words[bad][:3])}), which "
                "atomic files cannot carry; replace them or use write_table."
            )
    lost = [word for word in words if word in _READ_AS_MISSING] if kind == "token" else []
    if lost:
        notes.append(f"token column {name!r}: RecBole reads the tokens {quoted(lost[:3])} as missing.")
    return column.astype(object).fillna("") if column.isna().any() else column.astype(object)
