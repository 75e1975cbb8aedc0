"""CSV and Parquet: read whole, written whole, streamed in bounded memory."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvr_plugins.data import DataError, Feature, FunnelLog, Schema, open_batches, read_table, write_table
from cvr_plugins.data import source as source_module

ROLES = {"user": "u", "item": "i", "click": "click", "conversion": "buy"}
HEAD = "u,i,click,buy"


def _write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("which", ["log", "two_actions"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet"])
def test_a_written_log_is_read_back_equal(suffix: str, which: str, request, tmp_path: Path, plain):
    log = request.getfixturevalue(which)
    path = write_table(log, tmp_path / "new" / f"log{suffix}")
    back = read_table(path, log.schema)
    assert plain(back) == plain(log)
    assert (back.name, back.notes) == ("log", ())
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_several_actions_named_by_their_role_are_read_as_labels_of_any_spelling(tmp_path: Path):
    text = f"{HEAD},cart,wish_list\n1,a,1,1,true,0\n2,b,1,0,false,1\n3,b,1,0,false,0\n4,b,0,0,,1\n"
    log = read_table(_write(tmp_path / "log.csv", text), **ROLES, action=["cart", "wish_list"], name="mine")
    assert log.name == "mine"
    assert log.labels()["action"].tolist() == [1, 1, 0, 0]
    assert [feature.name for feature in log.schema.features] == ["u", "i"]


def test_missing_tokens_and_tricky_text_survive(frame: pd.DataFrame, schema: Schema, tmp_path: Path, plain):
    tricky = frame.assign(hour=["NA", 'say "hi"', "a,b\tc", None, "null", "007"])
    log = FunnelLog.from_frame(tricky, schema)
    for suffix in (".csv", ".tsv", ".parquet"):
        assert plain(read_table(write_table(log, tmp_path / f"log{suffix}"), schema)) == plain(log)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10\n20", [10.0, 20.0]),
        ("1970-01-01\n1970-01-02", [0.0, 86400.0]),
        ("1970-01-01 00:00:01\n1970-01-01 00:00:02", [1.0, 2.0]),
        ("1970-01-01T01:00:00+01:00\n1970-01-01T00:00:02Z", [0.0, 2.0]),
    ],
)
def test_timestamps_as_numbers_and_dates(text: str, seconds: list, tmp_path: Path):
    body = "".join(f"1,a,0,0,{stamp}\n" for stamp in text.split("\n"))
    path = _write(tmp_path / "log.csv", f"{HEAD},t\n{body}")
    assert read_table(path, **ROLES, timestamp="t").frame["t"].tolist() == seconds
    batch = next(open_batches(path))
    schema = Schema("u", "i", "click", "buy", timestamp="t")
    assert FunnelLog.from_frame(batch, schema).frame["t"].tolist() == seconds


GOOD = f"{HEAD}\n1,2,0,0\n"
BAD_FILES = {
    "no file": ("none.csv", None, {}, "There is no file"),
    "empty directory": (".", None, {}, "holds no .parquet file"),
    "unknown suffix": ("log.xlsx", "x", {}, "Cannot tell the format"),
    "nothing in it": ("log.csv", "", {}, "Empty CSV file"),
    "header only": ("log.csv", f"{HEAD}\n", {}, "has no rows"),
    "short row": ("log.csv", f"{HEAD}\n1,2,0\n", {}, "Expected 4 columns, got 3"),
    "text in a label": ("log.csv", f"x,{HEAD}\n0,1,2,0,yes\n", {}, "column 'buy'.*invalid value 'yes'"),
    "doubled name": ("log.csv", f"{HEAD},i\n1,2,0,0,1\n", {}, "more than one column named 'i'"),
    "missing role": ("log.csv", "u,i,clicked,buy\n1,2,0,0\n", {}, "lacks the column 'click'. Did you mean clicked"),
    "wrong encoding": (
        "log.csv",
        f"{HEAD},c\n1,2,0,0,ü\n".encode("cp1252"),
        {},
        "is not utf-8 text: line 2 holds the byte 0xfc, in what cp1252 reads as .*,ü'. Give .* encoding=cp1252, or",
    ),
    "wrong encoding of a name": ("log.csv", f"{HEAD},cü\n{'1,2,0,0,u' * 9}\n".encode("cp1252"), {}, "line 1 holds.*cü"),
    "wrong encoding far below": (
        "log.csv.gz",
        gzip.compress((f"{HEAD},c\n" + "1,2,0,0,u\n" * 900_000 + "1,2,0,0,ü\n").encode("cp1252")),
        {},
        "line 900002 holds the byte 0xfc",
    ),
    "UTF-16": ("log.csv", GOOD.encode("utf-16"), {}, "is not utf-8 text: it begins as utf-16 does"),
    "no UTF-16": ("log.csv", GOOD, {"encoding": "utf-16"}, "is not utf-16 text: .* BOM"),
    "unknown encoding": ("log.csv", HEAD, {"encoding": "latin-99"}, "Unknown encoding 'latin-99'"),
    "damaged gzip": ("log.csv.gz", gzip.compress(b"u,i\n" + b"1,2\n" * 100_000)[:-200], {}, "cannot be read"),
    "not Parquet": ("log.parquet", "text", {}, "cannot be read"),
    "unknown option": ("log.csv", GOOD, {"token_feature": []}, "Unknown option 'token_feature'. Did you mean"),
    "text for a list": ("log.csv", GOOD, {"drop_columns": "u"}, r"write \['u'\]"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_on_one_line(case: str, tmp_path: Path):
    name, content, options, message = BAD_FILES[case]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        read_table(path, **ROLES, **options)
    assert "\n" not in str(caught.value)


def test_roles_are_asked_for_and_not_mixed_with_a_schema(log: FunnelLog, tmp_path: Path):
    path = write_table(log, tmp_path / "log.csv")
    with pytest.raises(DataError, match="which columns play the roles 'item', 'conversion'"):
        read_table(path, user="user_id", click="click")
    with pytest.raises(DataError, match="Give either a schema or roles, not both"):
        read_table(path, log.schema, user="user_id")


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path):
    assert len(read_table(_write(tmp_path / "log.csv", f"\ufeff{HEAD}\n1,2,0,0\n"), **ROLES)) == 1


def test_a_directory_of_parquet_files_is_one_log_in_the_order_of_their_names(log: FunnelLog, tmp_path: Path, plain):
    folder = tmp_path / "log"
    for name, rows in (("part-1", [4, 5]), ("part-0", [0, 1, 2, 3])):
        write_table(log.take(np.array(rows)), folder / f"{name}.parquet")
    (folder / "_SUCCESS").write_text("")
    for hidden in (".ipynb_checkpoints/part-0-checkpoint", "_temporary/0/part-1", "a/_b/part-2", ".part-3", "_part-4"):
        write_table(log, folder / f"{hidden}.parquet")
    assert plain(read_table(folder, log.schema)) == plain(log)
    pq.write_table(pa.table({"user_id": ["1"]}), folder / "part-2.parquet")
    with pytest.raises(DataError, match=r"part-2.parquet' lacks the columns 'item_id'"):
        open_batches(folder, log.schema.columns)


def test_a_missing_id_in_parquet_never_turns_ids_into_floats(tmp_path: Path):
    path = tmp_path / "log.parquet"
    big = 2**60 + 1
    pq.write_table(pa.table({"u": [1, 2], "i": [1, 2], "click": [0, 1], "buy": [0, 1], "x": [big, None]}), path)
    log = read_table(path, **ROLES)
    assert log.frame["x"].tolist()[0] == str(big)
    batch = next(open_batches(path))
    assert batch["x"].tolist()[0] == str(big)
    assert batch["x"].isna().tolist() == [False, True]
    assert batch["u"].tolist() == ["1", "2"]


def test_booleans_and_dictionaries_in_parquet_give_the_tokens_of_a_frame(tmp_path: Path, plain):
    columns = {"u": [1, 2], "i": pa.array(["a", "b"]).dictionary_encode(), "click": [True, False], "buy": [True, False]}
    pq.write_table(pa.table({**columns, "new": [True, None]}), tmp_path / "log.parquet")
    log = read_table(tmp_path / "log.parquet", **ROLES)
    assert log.frame["new"].tolist()[0] == "1"
    frame = pd.DataFrame({"u": [1, 2], "i": ["a", "b"], "click": [1, 0], "buy": [1, 0], "new": [True, None]})
    assert plain(log) == plain(FunnelLog.from_frame(frame, log.schema))
    assert plain(log) == plain(FunnelLog.from_frame(next(open_batches(tmp_path / "log.parquet")), log.schema))


def test_an_index_stored_by_pandas_is_no_column(tmp_path: Path):
    frame = pd.DataFrame({"u": [7, 7, 1], "i": 1, "click": [0, 1, 0], "buy": [0, 1, 0]}, index=[5, 9, 2])
    frame.to_parquet(tmp_path / "log.parquet")
    assert list(next(open_batches(tmp_path / "log.parquet")).columns) == ["u", "i", "click", "buy"]
    assert len(read_table(tmp_path / "log.parquet", **ROLES).schema.features) == 2
    frame.set_index("u").to_parquet(tmp_path / "log.parquet")
    assert read_table(tmp_path / "log.parquet", **ROLES).frame["u"].tolist() == ["7", "7", "1"]
    frame.to_csv(tmp_path / "log.csv")
    with pytest.raises(DataError, match="Column '' has no name and is probably an index"):
        read_table(tmp_path / "log.csv", **ROLES)
    assert len(read_table(tmp_path / "log.csv", **ROLES, drop_columns=[""])) == 3


def test_a_sequence_with_a_space_in_a_token_is_refused_by_text_files_only(frame, schema, tmp_path, plain):
    log = FunnelLog.from_frame(frame.assign(history=[["a b", "c"]] * 6), schema)
    with pytest.raises(DataError, match=r"6 tokens of the sequence column 'history' contain a space"):
        write_table(log, tmp_path / "log.csv")
    assert list(tmp_path.iterdir()) == []
    assert plain(read_table(write_table(log, tmp_path / "log.parquet"), schema)) == plain(log)


def _many_rows(n: int) -> pd.DataFrame:
    random = np.random.default_rng(0)
    word = random.choice(["007", "NA", "x y", 'q"uote'], n)
    return pd.DataFrame({"id": np.arange(n), "word": word, "value": random.random(n).round(3)})


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
@pytest.mark.parametrize("batch_rows", [1, 7, 1000, 5000])
def test_batches_give_every_row_once_and_in_order(suffix, batch_rows, tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "_BLOCK_BYTES", 4096)
    table = _many_rows(1000 if batch_rows > 1 else 30)
    path = tmp_path / f"log{suffix}"
    if suffix == ".parquet":
        table.to_parquet(path, index=False, row_group_size=300)
    else:
        table.to_csv(path, index=False)
    batches = list(open_batches(path, features=[Feature("value", "float")], batch_rows=batch_rows))
    assert [len(batch) for batch in batches[:-1]] == [batch_rows] * (len(batches) - 1)
    whole = pd.concat(batches, ignore_index=True)
    assert whole.to_dict("list") == table.assign(id=table["id"].astype(str)).to_dict("list")


def test_streaming_holds_a_small_part_of_the_row_groups(tmp_path: Path):
    n = 400_000
    table = pa.table({"a": np.arange(n), "b": np.random.default_rng(0).random(n), "c": np.arange(n).astype(str)})
    path = tmp_path / "log.parquet"
    pq.write_table(table, path, row_group_size=5000)
    whole = table.nbytes
    del table
    before = pa.total_allocated_bytes()
    most = total = 0
    for batch in open_batches(path, batch_rows=2000):
        most = max(most, pa.total_allocated_bytes() - before)
        total += len(batch)
    assert total == n
    assert most < whole / 3


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_are_chosen_ordered_and_checked_before_any_row_is_read(suffix: str, tmp_path: Path):
    path = tmp_path / f"log{suffix}"
    table = _many_rows(10)
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path, index=False)
    assert list(next(open_batches(path, ["value", "id"])).columns) == ["value", "id"]
    with pytest.raises(DataError, match=r"lacks the column 'words'. Did you mean word"):
        open_batches(path, ["id", "words"])
    with pytest.raises(DataError, match="batch_rows must be a whole number of at least 1"):
        open_batches(path, batch_rows=0)


def test_a_row_broken_far_down_is_reported_while_iterating(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(source_module, "_BLOCK_BYTES", 4096)
    path = _write(tmp_path / "log.csv", "b,a\n" + "1,2\n" * 10_000 + "1,2,3\n")
    batches = open_batches(path, batch_rows=1000)
    assert len(next(batches)) == 1000
    with pytest.raises(DataError, match="Expected 2 columns, got 3"):
        list(batches)


def test_a_broken_value_is_reported_with_its_column(tmp_path: Path):
    path = _write(tmp_path / "log.csv", "b,a,c\n1,2,3\n1,x,3\n")
    with pytest.raises(DataError, match=r"column 'a'.*'x'"):
        list(open_batches(path, ["c", "a"], features=[Feature("a", "float")]))
    pq.write_table(pa.table({"a": ["1", "x"]}), tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"column 'a' \(string\) cannot be read as double"):
        list(open_batches(tmp_path / "log.parquet", features=[Feature("a", "float")]))
