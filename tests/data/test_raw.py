"""A log as it stands beside its features: nothing of the rows is lost, and features are read as in training."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvr_plugins.data import DataError, Feature, RawLog, TableWriter, open_batches

BIG = 2**60 + 1
COLUMNS = {
    "u": pa.array([BIG, BIG + 2, None], pa.int64()),
    "i": pa.array(["007", None, "x,y"]),
    "price": pa.array([0.1, 1e-3, 3.0]),
    "clicked": pa.array([True, None, False]),
    "genres": pa.array([["a", "b"], [], None], pa.list_(pa.string())),
    "codes": pa.array([[1, None], None, [2]], pa.list_(pa.int32())),
    "kind": pa.array(["p", "q", "p"]).dictionary_encode(),
    "when": pa.array([datetime(2026, 1, 2, 3, 4, 5, 6), None, datetime(1969, 1, 1)], pa.timestamp("us")),
    "small": pa.array([1, None, -1], pa.int8()),
    "nothing": pa.nulls(3),
}
FEATURES = (
    Feature("u", "token", "user"),
    Feature("i", "token", "item"),
    Feature("price", "float"),
    Feature("genres", "token_seq", "item"),
    Feature("codes", "token_seq", "item"),
)


def _whole(batches) -> tuple[pa.Table, pd.DataFrame]:
    tables, frames = zip(*batches, strict=True)
    return pa.concat_tables(tables), pd.concat(frames, ignore_index=True)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table(COLUMNS), path, row_group_size=2)
    return path


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_parquet_rows_keep_their_types_and_values(stored: Path, batch_rows: int, tmp_path: Path):
    log = RawLog.open(stored, FEATURES)
    assert log.schema.types == [COLUMNS[n].type if n != "kind" else pa.string() for n in COLUMNS]
    with TableWriter(tmp_path / "copy.parquet", log.schema) as writer:
        for rows, _ in log.batches(batch_rows):
            writer.write(rows)
    assert pq.read_table(tmp_path / "copy.parquet").to_pylist() == pa.table(COLUMNS).to_pylist()
    assert pq.read_schema(tmp_path / "copy.parquet").types == log.schema.types


def test_features_of_parquet_are_those_that_training_reads(stored: Path):
    _, frame = _whole(RawLog.open(stored, FEATURES).batches(2))
    expected = pd.concat(
        open_batches(stored, [f.name for f in FEATURES], features=FEATURES, batch_rows=2), ignore_index=True
    )
    pd.testing.assert_frame_equal(frame, expected)
    assert frame["u"].tolist() == [str(BIG), str(BIG + 2), None]


CSV = """u,i,price,genres,codes,note
007,a,0.1,a b,1 2,1.50
8,NA, 1e-3 ,,,"say ""hi"", x"
9,,  3,b,2,
"""


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_csv_rows_are_copied_verbatim_while_features_are_read_as_in_training(tmp_path: Path, encoding: str):
    (tmp_path / "log.csv").write_bytes(CSV.replace("hi", "hü").encode(encoding))
    log = RawLog.open(tmp_path / "log.csv", FEATURES, encoding=encoding)
    assert set(log.schema.types) == {pa.string()}
    rows, frame = _whole(log.batches())
    assert rows["note"].to_pylist() == ["1.50", 'say "hü", x', ""]
    assert rows["price"].to_pylist() == ["0.1", " 1e-3 ", "  3"]
    assert frame["price"].tolist() == [0.1, 1e-3, 3.0]
    assert frame["u"].tolist() == ["007", "8", "9"]
    (batch,) = open_batches(tmp_path / "log.csv", [f.name for f in FEATURES], features=FEATURES, encoding=encoding)
    pd.testing.assert_frame_equal(frame, batch)


SPELT = ["-0", "1e400", "+1.5", ".5", "5.", " 7 ", "nan", "NA", "", "0.30000000000000004", "inf", "1_0"]


@pytest.mark.parametrize("text", SPELT)
def test_a_number_is_read_from_text_as_arrow_reads_it_from_csv(tmp_path: Path, text: str):
    (tmp_path / "log.csv").write_text(f"price,x\n0.5,0\n{text},1\n")
    features = (Feature("price", "float"),)

    def outcome(batches) -> str:
        try:
            batch = next(batches)
        except DataError:
            return "refused"
        return str((batch[1] if isinstance(batch, tuple) else batch)["price"].tolist())

    outcomes = [
        outcome(RawLog.open(tmp_path / "log.csv", features).batches()),
        outcome(open_batches(tmp_path / "log.csv", ["price"], features=features)),
    ]
    assert outcomes[0] == outcomes[1]
    assert (outcomes[0] == "refused") == (text == "1_0")


def test_files_of_a_folder_that_differ_in_their_types_are_refused(tmp_path: Path):
    pq.write_table(pa.table({"u": ["1"], "x": pa.array([2**40])}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"x": pa.array([1], pa.int32()), "u": ["2"]}), tmp_path / "1.parquet")
    log = RawLog.open(tmp_path, (Feature("u"),))
    assert pa.concat_tables(rows for rows, _ in log.batches(1)).to_pylist() == [
        {"u": "1", "x": 2**40},
        {"u": "2", "x": 1},
    ]
    with pytest.raises(DataError, match="cannot be read: Schema at index 1 was different"):
        list(log.batches(5))
    pq.write_table(pa.table({"u": ["2"], "x": ["many"]}), tmp_path / "1.parquet")
    with pytest.raises(DataError, match=r"column 'x' \(string\) cannot be read as int64"):
        list(log.batches(1))
