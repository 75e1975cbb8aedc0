"""CSV and Parquet files as streams of Arrow tables of bounded size, read and written, checked before the first row."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from cvr_plugins.data.errors import DataError, quoted, require_columns
from cvr_plugins.data.tokens import is_list, is_text, joined, refuse_separators
from cvr_plugins.files import undecodable
from cvr_plugins.options import check_count
from cvr_plugins.wording import first_line

ENCODING = "Give the encoding that it is in, such as encoding=cp1252, or save it anew as UTF-8."
"""What to do about a text that is not in its encoding."""
BATCH_ROWS = 65536
_BLOCK_BYTES = 8 << 20
_DELIMITERS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
SUFFIXES = (*_DELIMITERS, ".parquet")
"""What the name of a table's file may end in."""

_CSV_COLUMN = re.compile(r"CSV column #(\d+)")
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_MISSING_NUMBERS = pa.array(pacsv.ConvertOptions().null_values)
_READ_ERRORS = (pa.ArrowException, OSError, UnicodeError)


@dataclass(frozen=True)
class Source:
    """A table on disk: one text file, one Parquet file or a directory of Parquet files.

    Parameters
    ----------
    path
        The file or the directory.
    delimiter
        What separates the columns of a text file, None for Parquet.
    encoding
        Of a text file.
    quoting
        False takes quotation marks as part of the text.
    names
        The columns of a text file that has no header, in their order.
    skipped
        How many of its lines come before the first row.

    Raises
    ------
    DataError
        If the encoding is unknown.
    """

    path: Path
    delimiter: str | None
    encoding: str = "utf-8"
    quoting: bool = True
    names: tuple[str, ...] = ()
    skipped: int = 0

    def __post_init__(self) -> None:
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            raise DataError(f"Unknown encoding {self.encoding!r}; use 'utf-8', 'latin-1' or the like.") from error

    @classmethod
    def open(cls, path: str | Path, *, encoding: str = "utf-8") -> Source:
        """Recognise the format by the suffix.

        Parameters
        ----------
        path
            A file, or a directory of Parquet files, in which what is hidden is passed over.
        encoding
            Of a text file.

        Raises
        ------
        DataError
            If there is no such file, or it is neither CSV nor Parquet.
        """
        path = Path(path)
        if not path.exists():
            raise DataError(f"There is no file {str(path)!r}; check the path.")
        if path.is_dir():
            if not parquet_files(path):
                raise DataError(f"The directory {str(path)!r} holds no .parquet file; give a CSV file or Parquet data.")
            return cls(path, None)
        return cls(path, _DELIMITERS.get(table_suffix(path)), encoding)

    @cached_property
    def header(self) -> pa.Schema:
        """Names and stored types, without an index that pandas stored; a text file's are guessed from its first 8 MB.

        Raises
        ------
        DataError
            If the file cannot be read or a name occurs twice.
        """
        if self.names:
            return pa.schema([(name, pa.string()) for name in self.names])
        try:
            found = self._csv({}, None).schema if self.delimiter else pq.read_schema(self._files()[0])
            found = pa.schema([field for field in found if not _PANDAS_INDEX.fullmatch(field.name)])
        except _READ_ERRORS as error:
            raise self._unreadable(error) from error
        require_columns(found.names, (), f"File {str(self.path)!r}")
        if self.delimiter and any(pa.types.is_binary(field.type) for field in found):
            raise self._unreadable(DataError("it holds what is no text"))
        return found

    def tables(
        self, types: Mapping[str, pa.DataType], columns: Sequence[str], batch_rows: int = BATCH_ROWS
    ) -> Iterator[pa.Table]:
        """Return tables of `batch_rows` rows (the last one may be shorter) in file order.

        All headers are checked now, before anything is asked of the iterator. What is held in memory at a time is some
        blocks of 8 MB of a text file, or a row group of a Parquet file as it is stored.

        Parameters
        ----------
        types
            Column -> type in which it is delivered; integers become text without passing through floats.
        columns
            The columns wanted, in that order.
        batch_rows
            Rows of a table.

        Raises
        ------
        DataError
            On missing or doubled columns; while iterating, on rows that cannot be read or converted.
        """
        check_count("batch_rows", batch_rows, error=DataError)
        if self.delimiter:
            require_columns(self.header.names, columns, f"File {str(self.path)!r}")
        else:
            for file in self._files():
                try:
                    names = pq.read_schema(file).names
                except _READ_ERRORS as error:
                    raise self._unreadable(error) from error
                require_columns(names, columns, f"File {str(file)!r}")
        return self._read(types, list(columns), batch_rows)

    def _read(self, types: Mapping[str, pa.DataType], columns: list[str], batch_rows: int) -> Iterator[pa.Table]:
        try:
            batches = iter(self._csv(types, columns)) if self.delimiter else self._parquet(columns, batch_rows)
            for table in _cut(batches, batch_rows):
                yield self.convert(table, types, columns)
        except _READ_ERRORS as error:
            raise self._unreadable(error) from error

    def _files(self) -> list[Path]:
        return parquet_files(self.path) if self.path.is_dir() else [self.path]

    def _csv(self, types: Mapping[str, pa.DataType], columns: list[str] | None) -> pacsv.CSVStreamingReader:
        return pacsv.open_csv(
            self.path,
            read_options=pacsv.ReadOptions(
                block_size=_BLOCK_BYTES,
                encoding=self.encoding,
                column_names=list(self.names) or None,
                skip_rows=self.skipped,
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=self.delimiter,
                quote_char='"' if self.quoting else False,
                newlines_in_values=self.quoting,
            ),
            # Text is never taken for "missing" here: a token may well be called NA (Namibia) or null.
            convert_options=pacsv.ConvertOptions(
                column_types=types, include_columns=columns, strings_can_be_null=False
            ),
        )

    def _parquet(self, columns: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        for file in self._files():
            with pq.ParquetFile(file) as parquet:
                # Asked for all row groups at once, it would hold the whole file in memory.
                for group in range(parquet.num_row_groups):
                    for batch in parquet.iter_batches(batch_size=batch_rows, row_groups=[group], columns=columns):
                        yield batch.select(columns)

    def convert(self, table: pa.Table, types: Mapping[str, pa.DataType], columns: Sequence[str]) -> pa.Table:
        """Return the named columns of a table of this source, those in `types` in that type.

        Text becomes floats as in reading a text file. Floats and lists are never made text: their spelling is not
        known here.

        Raises
        ------
        DataError
            Naming the column that cannot be converted.
        """
        table = table.select(columns)
        for position, field in enumerate(table.schema):
            column = table.column(position)
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            wanted = types.get(field.name, column.type)
            try:
                column = _as_type(column, wanted)
            except pa.ArrowException as error:
                raise DataError(
                    f"File {str(self.path)!r}: column {field.name!r} ({field.type}) cannot be read as {wanted}: "
                    f"{first_line(error)}. Correct it or declare it as another kind."
                ) from error
            table = table.set_column(position, field.name, column)
        return table

    def _unreadable(self, error: BaseException) -> DataError:
        reason = self.delimiter and undecodable(self.path, self.encoding)
        if reason:
            return DataError(f"File {reason} {ENCODING}")
        text = _CSV_COLUMN.sub(lambda found: f"column {self.header.names[int(found[1])]!r}", first_line(error))
        return DataError(f"File {str(self.path)!r} cannot be read: {text}. Correct the file.")


class TableWriter:
    """Write tables of one form, one after another, to a text file or a Parquet file; closes it.

    In text files lists are joined by spaces and a missing value is empty; text stands as it is, in quotation marks
    where the format needs them.

    Parameters
    ----------
    path
        Ends in `.csv`, `.csv.gz`, `.tsv`, `.tsv.gz` or `.parquet`.
    schema
        Of every table that is written.
    name
        The file that messages speak of, `path` if None.

    Raises
    ------
    DataError
        For a column whose type a text file cannot carry; on writing, for a token of a list that holds a space.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, name: Path | None = None) -> None:
        self._name, self._schema = name or path, schema
        suffix = table_suffix(path)
        self._delimiter = _DELIMITERS.get(suffix)
        if self._delimiter is None:
            self._out: Any = pq.ParquetWriter(path, schema)
            return
        unfit = [field.name for field in schema if not _fits_text(field.type)]
        if unfit:
            raise DataError(
                f"Cannot write {str(self._name)!r}: {quoted(unfit)} is of a type that text files cannot carry; "
                "write Parquet or drop it."
            )
        header = io.StringIO()
        csv.writer(header, delimiter=self._delimiter, lineterminator="\n").writerow(schema.names)
        self._out = gzip.open(path, "wb") if suffix.endswith(".gz") else path.open("wb")  # noqa: SIM115 - see __exit__
        self._out.write(header.getvalue().encode())

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._out.close()

    def write(self, table: pa.Table) -> None:
        """Append the rows of a table, which has the columns of the schema."""
        table = table.cast(self._schema)
        if self._delimiter is None:
            self._out.write_table(table)
            return
        structural = f'["\r\n{self._delimiter}]'
        needs_quotes = False
        for position, field in enumerate(table.schema):
            column = table.column(position)
            if is_list(field.type):
                refuse_separators(column, field.name, self._name)
                column = joined(column)
                table = table.set_column(position, field.name, column)
            if is_text(column.type):
                needs_quotes |= bool(pc.any(pc.match_substring_regex(column, structural)).as_py())
        # Arrow quotes all text or none; a log without such characters is written as it was.
        options = pacsv.WriteOptions(
            include_header=False, delimiter=self._delimiter, quoting_style="needed" if needs_quotes else "none"
        )
        pacsv.write_csv(table, self._out, options)


def table_suffix(path: Path) -> str:
    """Return which of `SUFFIXES` the name of a file ends in, by which its format is known.

    Raises
    ------
    DataError
        If it is none of them.
    """
    found = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if found is None:
        raise DataError(f"Cannot tell the format of {str(path)!r} by its name; end it in {quoted(SUFFIXES)}.")
    return found


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files in a folder and those below, but for what is hidden: a name with `_` or `.` first."""
    found = [path for path in folder.rglob("*.parquet") if path.is_file()]
    return sorted(path for path in found if not any(map(is_hidden, path.relative_to(folder).parts)))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the data: `_SUCCESS`, `_temporary`, `.ipynb_checkpoints`."""
    return name.startswith(("_", "."))


def _cut(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    pending: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        pending.append(batch)
        count += batch.num_rows
        while count >= size:
            table = pa.Table.from_batches(pending)
            yield table.slice(0, size)
            pending, count = table.slice(size).to_batches(), count - size
    if count:
        yield pa.Table.from_batches(pending)


def _as_type(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    kind = column.type
    if wanted == pa.string() and pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    if wanted == pa.float64() and pa.types.is_string(kind):
        trimmed = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.is_in(trimmed, value_set=_MISSING_NUMBERS), pa.scalar(None, pa.string()), trimmed)
    keeps = wanted == pa.string() and (pa.types.is_floating(kind) or pa.types.is_nested(kind))
    return column if keeps or kind == wanted else column.cast(wanted)


def _fits_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if is_list(kind) else kind
    return not (pa.types.is_nested(inner) or pa.types.is_binary(inner) or pa.types.is_large_binary(inner))
