"""Reading and writing funnel logs as CSV and Parquet, whole or as a stream of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cvr_plugins.data.errors import DataError, quoted, require_columns, rows
from cvr_plugins.data.infer import check_options, infer_schema
from cvr_plugins.data.log import FunnelLog
from cvr_plugins.data.schema import Feature, Schema
from cvr_plugins.data.source import BATCH_ROWS, Source, TableWriter, table_suffix
from cvr_plugins.data.tokens import as_tokens, value_type
from cvr_plugins.files import whole_file

_TYPES = {"token": pa.string(), "token_seq": pa.string(), "float": pa.float64()}
_ROWS_AT_ONCE = 1 << 20


def read_table(
    path: str | Path,
    schema: Schema | None = None,
    *,
    name: str | None = None,
    encoding: str = "utf-8",
    **roles: Any,
) -> FunnelLog:
    """Read a funnel log from `.csv`, `.csv.gz`, `.tsv`, `.tsv.gz`, `.parquet` or a directory of Parquet files.

    Token columns are read as text, so an id 007 stays `"007"`; a `token_seq` in a text file is separated by spaces.

    Parameters
    ----------
    path
        The file or the directory.
    schema
        Which column plays which part; None to infer it from the header and `roles`.
    name
        Of the log, the file's if None.
    encoding
        Of a text file.
    **roles
        Keywords of `infer_schema` (`user=`, `item=`, `click=`, ...).

    Raises
    ------
    DataError
        If the file cannot be read or the log fails a check (see `FunnelLog.from_frame`).
    """
    return read_source(Source.open(path, encoding=encoding), schema, name=name, **roles)


def read_source(source: Source, schema: Schema | None = None, *, name: str | None = None, **roles: Any) -> FunnelLog:
    """Read a funnel log from a table that is open already; all else is as of `read_table`."""
    if schema is None:
        check_options(roles)
        schema = infer_schema(source.header, **roles)
    elif roles:
        raise DataError(f"Give either a schema or roles, not both; got a schema and {quoted(roles)}.")
    frame = read_frame(source, schema.columns, column_types(schema, source.header))
    return FunnelLog.from_frame(frame, schema, name=name or source.path.name.split(".")[0])


def open_batches(
    path: str | Path,
    columns: Sequence[str] | None = None,
    *,
    features: Iterable[Feature] = (),
    batch_rows: int = BATCH_ROWS,
    encoding: str = "utf-8",
) -> Iterator[pd.DataFrame]:
    """Stream a table that need not fit into memory, in file order, `batch_rows` rows at a time.

    Everything but float features arrives as text, so that a missing value never turns the id 196 into 196.0. The
    header is checked in this call, before any row is read.

    Parameters
    ----------
    path
        As for `read_table`.
    columns
        Those wanted, None for all.
    features
        Says which of them are floats.
    batch_rows
        Rows of a batch; the last one may be shorter.
    encoding
        Of a text file.

    Raises
    ------
    DataError
        On a missing or doubled column now; on a row that cannot be read while iterating.
    """
    source = Source.open(path, encoding=encoding)
    wanted = list(source.header.names) if columns is None else list(columns)
    types = {**dict.fromkeys(wanted, pa.string()), **_feature_types(features)}
    tables = source.tables({column: types[column] for column in wanted}, wanted, batch_rows)
    return map(to_pandas, tables)


@dataclass(frozen=True)
class RawLog:
    """A log to be scored: its rows as they stand, beside its features.

    Parameters
    ----------
    source
        The table, with the columns of the features and any others.
    features
        What a model sees of it.
    """

    source: Source
    features: tuple[Feature, ...]

    @classmethod
    def open(cls, path: str | Path, features: Sequence[Feature], *, encoding: str = "utf-8") -> RawLog:
        """Open a log and check its header.

        Raises
        ------
        DataError
            If it cannot be read, or a column is missing or doubled.
        """
        log = cls(Source.open(path, encoding=encoding), tuple(features))
        require_columns(log.source.header.names, [feature.name for feature in features], f"File {str(path)!r}")
        return log

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns and their types: as stored in Parquet (dictionaries decoded), all text in text files."""
        header = self.source.header
        text = self.source.delimiter is not None
        return pa.schema([(field.name, pa.string() if text else value_type(field.type)) for field in header])

    def batches(self, batch_rows: int = BATCH_ROWS, *, rows: bool = True) -> Iterator[tuple[pa.Table, pd.DataFrame]]:
        """Return pairs of rows as they stand, in `schema`, and of their features as `Vocabulary.transform` takes them.

        What is held in memory at a time is `batch_rows` rows and what `Source.tables` reads ahead.

        Parameters
        ----------
        batch_rows
            Rows of a pair; the last one may have fewer.
        rows
            False gives tables of the feature columns only, and reads no others.

        Raises
        ------
        DataError
            While iterating, on rows that cannot be read.
        """
        names = [feature.name for feature in self.features]
        stored = {field.name: field.type for field in self.schema}
        for table in self.source.tables(stored, self.schema.names if rows else names, batch_rows):
            yield table, to_pandas(self.source.convert(table, _feature_types(self.features), names))


def write_table(log: FunnelLog, path: str | Path) -> Path:
    """Write a log, whole or not at all, and return the path; an existing file is replaced.

    Parameters
    ----------
    log
        In text files a `token_seq` is joined by spaces.
    path
        Ends in `.csv`, `.csv.gz`, `.tsv`, `.tsv.gz` or `.parquet`.

    Raises
    ------
    DataError
        If the suffix is unknown or a token of a sequence holds a space (text files).
    OutputError
        If writing fails.
    """
    path = Path(path)
    table_suffix(path)
    table = pa.table({name: pa.array(log.frame[name]) for name in log.schema.columns})
    plain = pa.schema([(field.name, value_type(field.type)) for field in table.schema])
    with whole_file(path) as aside, TableWriter(aside, plain, name=path) as writer:
        for start in range(0, len(log), _ROWS_AT_ONCE):
            writer.write(table.slice(start, _ROWS_AT_ONCE))
    return path


def read_frame(source: Source, columns: Sequence[str], types: Mapping[str, pa.DataType]) -> pd.DataFrame:
    """Return all rows of a source; text columns as categoricals, one copy of each distinct text."""
    tables = [with_dictionaries(table) for table in source.tables(types, columns)]
    if not tables:
        return pd.DataFrame({column: pd.Series(dtype=object) for column in columns})
    try:
        whole = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    except pa.ArrowException as error:
        raise DataError(f"The files of {str(source.path)!r} disagree in their column types: {error}.") from error
    return to_pandas(whole)


def with_dictionaries(table: pa.Table) -> pa.Table:
    """Return a table whose text columns hold one copy of each distinct text."""
    for position, field in enumerate(table.schema):
        if field.type == pa.string():
            table = table.set_column(position, field.name, table.column(position).dictionary_encode())
    return table


def joined_to(keys: pd.Series, table: pd.DataFrame, path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Look up rows of users or items.

    Parameters
    ----------
    keys
        A column of ids, `[N]`, of the same name as the table's.
    table
        One row for each id.
    path
        Its file, for messages.

    Returns
    -------
    columns : dict
        Each other column of the table for the rows of `keys`, missing where the table has no such row.
    absent : np.ndarray
        Where it has none, `[N]`.

    Raises
    ------
    DataError
        If the table lacks an id or repeats one.
    """
    key = str(keys.name)
    own, asked = as_tokens(table[key]), as_tokens(keys)
    unnamed = int((own.codes < 0).sum())
    if unnamed:
        raise DataError(f"File {str(path)!r} lacks the {key!r} in {rows(unnamed)}; fill or drop them.")
    doubled = int(pd.Series(own.codes).duplicated().sum())
    if doubled:
        raise DataError(f"File {str(path)!r} repeats a {key!r} in {rows(doubled)}; keep one row for each.")
    row_of = np.full(len(own.categories) + 1, -1)
    row_of[own.codes] = np.arange(len(own))
    positions = np.append(row_of[own.categories.get_indexer(asked.categories)], -1)[asked.codes]
    columns = {
        column: pd.api.extensions.take(table[column].values, positions, allow_fill=True)
        for column in table.columns
        if column != key
    }
    return columns, positions < 0


def column_types(schema: Schema, header: pa.Schema) -> dict[str, pa.DataType]:
    """Return the Arrow type in which each column of a log is read; the timestamp keeps its type if it is a date."""
    types = {column: _TYPES[kind] for column, kind in schema.kinds.items()}
    for column in (*schema.label_columns, *schema.truth.values()):
        logical = column in header.names and pa.types.is_boolean(header.field(column).type)
        types[column] = pa.bool_() if logical else pa.float64()
    if schema.part is not None:
        types[schema.part] = pa.string()
    stamp = schema.timestamp
    if stamp is not None:
        found = header.field(stamp).type if stamp in header.names else pa.float64()
        dated = pa.types.is_timestamp(found) or pa.types.is_date(found)
        types[stamp] = pa.timestamp("us", tz=getattr(found, "tz", None)) if dated else pa.float64()
    return types


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow table as a frame; lists stay Arrow lists instead of one NumPy array a row."""

    def keep_lists(kind: pa.DataType) -> pd.ArrowDtype | None:
        return pd.ArrowDtype(kind) if pa.types.is_nested(kind) else None

    # pandas' own notes in a file would turn columns into an index, and older versions fail on their list types.
    frame: pd.DataFrame = table.to_pandas(types_mapper=keep_lists, ignore_metadata=True)
    return frame


def _feature_types(features: Iterable[Feature]) -> dict[str, pa.DataType]:
    """Feature -> the Arrow type in which it is read; lists and floats asked for as text are left as they are."""
    return {feature.name: _TYPES[feature.kind] for feature in features}
