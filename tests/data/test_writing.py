"""Arrow tables as delimited text and Parquet: what stands in the file, and what a file cannot carry."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from cvr_plugins.data import DataError, TableWriter

TABLE = pa.table(
    {
        "id": pa.array([1, None, 3], pa.int64()),
        "p": pa.array([0.1, 1e-20, 1.0], pa.float32()),
        "tokens": pa.array([["a", None, "b"], [], None], pa.list_(pa.string())),
        "codes": pa.array([[1, 2], None, [3]], pa.large_list(pa.int16())),
        "text": ["plain", "", None],
        "done": [True, False, None],
    }
)


def _write(path: Path, *tables: pa.Table) -> Path:
    with TableWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write(table)
    return path


def test_text_stands_as_it_is(tmp_path: Path):
    path = _write(tmp_path / "out.csv", TABLE, TABLE.slice(2))
    assert path.read_text() == (
        "id,p,tokens,codes,text,done\n1,0.1,a  b,1 2,plain,true\n,1e-20,,,,false\n3,1,,3,,\n3,1,,3,,\n"
    )


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".tsv.gz"])
def test_structural_characters_survive(suffix: str, tmp_path: Path):
    texts = ["a,b", "c\td", 'say "hi"', "two\nlines", "carriage\rreturn", " padded ", "", "ü"]
    table = pa.table({"x, y": texts, 'q"': [str(n) for n in range(len(texts))]})
    path = _write(tmp_path / f"out{suffix}", table.slice(0, 3), table.slice(3))
    text = (gzip.decompress(path.read_bytes()) if suffix.endswith("gz") else path.read_bytes()).decode()
    delimiter = "\t" if "tsv" in suffix else ","
    assert next(csv.reader(text.splitlines(keepends=True), delimiter=delimiter)) == ["x, y", 'q"']
    back = pacsv.read_csv(
        path,
        parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(column_types={"x, y": pa.string(), 'q"': pa.string()}),
    )
    assert back.to_pydict() == table.to_pydict()


def test_a_batch_without_a_value_does_not_change_the_type_of_a_column(tmp_path: Path):
    schema = pa.schema([("x", pa.int64()), ("l", pa.list_(pa.string()))])
    with TableWriter(tmp_path / "out.parquet", schema) as writer:
        writer.write(pa.table({"x": pa.nulls(2), "l": pa.nulls(2)}))
        writer.write(pa.table({"x": pa.array([2**60 + 1], pa.int64()), "l": [["a"]]}))
    back = pq.read_table(tmp_path / "out.parquet")
    assert back.schema.types == schema.types
    assert back.to_pydict() == {"x": [None, None, 2**60 + 1], "l": [None, None, ["a"]]}


def test_no_table_at_all_is_a_header(tmp_path: Path):
    with TableWriter(tmp_path / "out.csv", TABLE.schema):
        pass
    assert (tmp_path / "out.csv").read_text() == "id,p,tokens,codes,text,done\n"
    with TableWriter(tmp_path / "out.parquet", TABLE.schema):
        pass
    assert pq.read_table(tmp_path / "out.parquet").schema == TABLE.schema


@pytest.mark.parametrize(
    "column",
    [pa.array([{"a": 1}]), pa.array([[["a"]]]), pa.array([b"\xff"]), pa.array([[b"\xff"]])],
    ids=lambda column: str(column.type),
)
def test_types_that_text_cannot_carry_are_refused_by_name(column: pa.Array, tmp_path: Path):
    with pytest.raises(DataError, match=r"'odd' is of a type that text files cannot carry; write Parquet or drop it"):
        TableWriter(tmp_path / "out.csv", pa.schema([("x", pa.int64()), ("odd", column.type)]))
    assert list(tmp_path.iterdir()) == []
    _write(tmp_path / "out.parquet", pa.table({"odd": column}))
