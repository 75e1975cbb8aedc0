"""New logs scored by a finished run: nothing of them is lost, what is unknown is counted, memory stays bounded."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from cvr_plugins.config import load_yaml, resolve, split_arguments
from cvr_plugins.data import DataError, split, write_table
from cvr_plugins.files import OutputError, TargetError
from cvr_plugins.logs import load_log
from cvr_plugins.rechub import TrainedRun, evaluate_run, predict, scoring
from cvr_plugins.training.run_folder import RunFolder

TASKS = ["p_cvr", "p_ctr", "p_ctcvr"]


@pytest.fixture
def expected(shop, shop_run) -> np.ndarray:
    """The probabilities that the run gives the rows of its own log."""
    return TrainedRun.load(shop_run).score(load_log(resolve(shop.config)).frame)[0]


def _text(path: Path, **columns: object) -> pa.Table:
    """A delimited file as the text that stands there."""
    delimiter = "\t" if ".tsv" in path.name else ","
    names = pacsv.open_csv(path, parse_options=pacsv.ParseOptions(delimiter=delimiter)).schema.names
    return pacsv.read_csv(
        path,
        parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types={**dict.fromkeys(names, pa.string()), **columns}, strings_can_be_null=False
        ),
    )


@pytest.mark.parametrize("batch_rows", [7, 100_000])
def test_parquet_passes_through_with_its_types_and_values(shop, shop_run, expected, tmp_path, batch_rows):
    done = predict(shop_run, shop.path, tmp_path / "out.parquet", batch_rows=batch_rows)
    before, after = pq.read_table(shop.path), pq.read_table(tmp_path / "out.parquet")
    assert after.schema.names == [*before.schema.names, *TASKS]
    assert after.select(before.schema.names).equals(before.replace_schema_metadata(None))
    assert after.schema.field("item_id").type == pa.int64()
    assert after["item_id"].to_pylist()[0] > 2**60
    np.testing.assert_allclose(np.stack([after[task].to_numpy() for task in TASKS], axis=1), expected, rtol=2e-6)
    assert (done.rows, done.notes) == (600, ())


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".tsv.gz"])
def test_text_passes_through_verbatim(shop, shop_run, expected, tmp_path, suffix):
    frame = pq.read_table(shop.path).to_pandas()
    frame["tags"] = frame["tags"].map(" ".join)
    frame["price"] = [f"{price:.5f}" for price in frame["price"]]
    delimiter = "\t" if "tsv" in suffix else ","
    frame.to_csv(tmp_path / f"log{suffix}", index=False, sep=delimiter)
    predict(shop_run, tmp_path / f"log{suffix}", tmp_path / f"out{suffix}", batch_rows=50)
    before = _text(tmp_path / f"log{suffix}")
    after = _text(tmp_path / f"out{suffix}", **dict.fromkeys(TASKS, pa.float32()))
    assert after.select(before.schema.names).equals(before)
    scores = np.stack([after[task].to_numpy() for task in TASKS], axis=1)
    np.testing.assert_allclose(scores, expected, rtol=2e-6)
    if not suffix.endswith("gz"):
        lines = (tmp_path / f"log{suffix}").read_text().splitlines()
        for line, given in zip((tmp_path / f"out{suffix}").read_text().splitlines()[1:40], lines[1:40], strict=True):
            assert line.replace('"', "").startswith(given.replace('"', ""))


def test_parquet_becomes_csv_and_csv_becomes_parquet(shop, shop_run, expected, tmp_path):
    predict(shop_run, shop.path, tmp_path / "out.csv")
    text = _text(tmp_path / "out.csv")
    assert text["item_id"].to_pylist() == [str(item) for item in pq.read_table(shop.path)["item_id"].to_pylist()]
    assert text["tags"].to_pylist()[0] == " ".join(pq.read_table(shop.path)["tags"].to_pylist()[0])
    plain = pa.table({name: text[name] for name in text.schema.names if name not in TASKS})
    pacsv.write_csv(plain, tmp_path / "again.csv")
    predict(shop_run, tmp_path / "again.csv", tmp_path / "back.parquet")
    back = pq.read_table(tmp_path / "back.parquet")
    assert back.select(plain.schema.names).equals(plain)
    np.testing.assert_allclose(np.stack([back[task].to_numpy() for task in TASKS], axis=1), expected, rtol=2e-6)


def test_a_batch_of_gaps_does_not_break_the_file(shop, shop_run, tmp_path):
    table = pq.read_table(shop.path)
    gaps = {
        "big": pa.array([None] * 50 + [2**60 + 1] * 550, pa.int64()),
        "lists": pa.array([None] * 100 + [[1.5]] * 500, pa.list_(pa.float64())),
        "never": pa.nulls(600),
        "late": pa.array([1] + [None] * 599, pa.int16()),
    }
    for name, values in gaps.items():
        table = table.append_column(name, values)
    pq.write_table(table, tmp_path / "log.parquet")
    predict(shop_run, tmp_path / "log.parquet", tmp_path / "out.parquet", batch_rows=50)
    assert (
        pq.read_table(tmp_path / "out.parquet").select(table.schema.names).equals(table.replace_schema_metadata(None))
    )
    predict(shop_run, tmp_path / "log.parquet", tmp_path / "out.csv", batch_rows=50)
    assert _text(tmp_path / "out.csv")["big"].to_pylist() == [""] * 50 + [str(2**60 + 1)] * 550


def test_a_column_that_text_cannot_carry_is_refused_before_scoring(shop, shop_run, tmp_path, monkeypatch):
    table = pq.read_table(shop.path).append_column("odd", pa.array([{"a": 1}] * 600))
    pq.write_table(table, tmp_path / "log.parquet")
    predict(shop_run, tmp_path / "log.parquet", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["odd"].to_pylist() == [{"a": 1}] * 600
    monkeypatch.setattr(TrainedRun, "score", lambda *_: pytest.fail("scored"))
    with pytest.raises(DataError, match="'odd' is of a type that text files cannot carry"):
        predict(shop_run, tmp_path / "log.parquet", tmp_path / "out.csv")


def test_labels_are_not_needed_and_unknown_tokens_are_counted(shop_frame, shop_run, tmp_path):
    frame = shop_frame(50, 3)[["user_id", "item_id", "price", "tags", "hour"]]
    frame.loc[:9, "user_id"] = "nobody"
    frame.loc[0, "item_id"] = 5
    frame["tags"] = [["tea", "new", "newer"], *frame["tags"][1:]]
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    rows = []
    done = predict(shop_run, tmp_path / "log.parquet", tmp_path / "out.csv", batch_rows=20, on_rows=rows.append)
    assert done.unknown == {"user_id": 10, "item_id": 1, "tags": 2}
    assert (done.rows, rows) == (50, [20, 20, 10])
    scores = _text(tmp_path / "out.csv", **dict.fromkeys(TASKS, pa.float64()))
    assert all(0 < p < 1 for task in TASKS for p in scores[task].to_pylist())


def test_one_row_is_a_log(shop_frame, shop_run, tmp_path):
    shop_frame(1, 3).to_parquet(tmp_path / "log.parquet")
    assert predict(shop_run, tmp_path / "log.parquet", tmp_path / "out.parquet").rows == 1
    report, done = evaluate_run(shop_run, tmp_path / "log.parquet")
    assert done.rows == 1
    assert report.get("cvr/oracle/auc") is None


REFUSED = {
    "no rows": (lambda f: f.iloc[:0], {}, DataError, "has no rows; there is nothing to score"),
    "no column": (lambda f: f.drop(columns=["hour", "price"]), {}, DataError, "lacks the columns 'price', 'hour'"),
    "near column": (
        lambda f: f.rename(columns={"hour": "hours"}),
        {},
        DataError,
        r"lacks the column 'hour'. Did you mean hours\?",
    ),
    "taken column": (lambda f: f.assign(p_cvr=1), {}, DataError, "has the columns p_cvr already; rename or drop"),
    "no id": (lambda f: f.assign(user_id=None), {}, DataError, "id column 'user_id' is missing in 8 rows"),
    "no number": (
        lambda f: f.assign(price=np.nan),
        {},
        DataError,
        r"float column 'price' is missing \(NaN\) in 8 rows",
    ),
    "text for number": (lambda f: f.assign(price="much"), {}, DataError, "column 'price' .*cannot be read as double"),
    "out suffix": (lambda f: f, {"out": "out.xlsx"}, DataError, "Cannot tell the format of"),
    "out folder": (lambda f: f, {"out": "file/out.csv"}, TargetError, "file' is not a directory"),
    "out is log": (lambda f: f, {"out": "log.parquet"}, TargetError, "is read itself"),
    "no log": (lambda f: f, {"log": "none.csv"}, DataError, "There is no file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_log_that_cannot_be_scored_leaves_nothing(case: str, shop_frame, shop_run, tmp_path):
    change, names, error, message = REFUSED[case]
    (tmp_path / "file").write_text("")
    change(shop_frame(8, 3)).to_parquet(tmp_path / "log.parquet", index=False)
    with pytest.raises(error, match=message) as caught:
        predict(shop_run, tmp_path / names.get("log", "log.parquet"), tmp_path / names.get("out", "out.csv"))
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "log.parquet"]


def test_an_old_output_survives_a_failure(shop_frame, shop_run, tmp_path, monkeypatch):
    shop_frame(30, 3).to_parquet(tmp_path / "log.parquet")
    (tmp_path / "out.csv").write_text("old")
    calls = []

    def score(self, frame):
        calls.append(len(frame))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return np.zeros((len(frame), 3), np.float32), {}

    monkeypatch.setattr(TrainedRun, "score", score)
    with pytest.raises(KeyboardInterrupt):
        predict(shop_run, tmp_path / "log.parquet", tmp_path / "out.csv", batch_rows=10)
    assert calls == [10, 10, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.parquet", "out.csv"]
    assert (tmp_path / "out.csv").read_text() == "old"


def test_a_full_disk_is_said_on_one_line(shop_frame, shop_run, tmp_path, monkeypatch):
    shop_frame(30, 3).to_parquet(tmp_path / "log.parquet")

    def full(self, table) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scoring.TableWriter, "write", full)
    with pytest.raises(OutputError, match=r"out\.csv': No space left on device"):
        predict(shop_run, tmp_path / "log.parquet", tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


def test_the_output_is_not_written_into_the_log(shop_frame, shop_run, tmp_path):
    (tmp_path / "log").mkdir()
    shop_frame(30, 3).to_parquet(tmp_path / "log" / "part-0.parquet")
    with pytest.raises(TargetError, match="lies within"):
        predict(shop_run, tmp_path / "log", tmp_path / "log" / "out.parquet")
    assert predict(shop_run, tmp_path / "log", tmp_path / "out.parquet").rows == 30


@pytest.mark.parametrize("suffix", [".csv", ".tsv.gz", ".parquet"])
def test_evaluating_the_test_part_gives_the_metrics_of_the_run(shop, shop_run, tmp_path, suffix):
    config = resolve(load_yaml(shop_run / "config.yaml"))
    ratios, by = split_arguments(config["eval_args"])
    *_, test = split(load_log(config), ratios=ratios, by=by, seed=config["seed"])
    file = write_table(test, tmp_path / f"test{suffix}")
    rows = []
    report, done = evaluate_run(shop_run, file, batch_rows=23, on_rows=rows.append)
    kept = RunFolder.open(shop_run).read_json("metrics.json")
    found = report.to_dict()["support"]
    assert {key: pytest.approx(support, rel=1e-5) for key, support in found.items()} == kept["support"]
    assert report.values == pytest.approx(kept["values"], rel=1e-5)
    assert (done.rows, sum(rows)) == (len(test), len(test))


def test_labels_are_checked_over_the_whole_log(shop_frame, shop_run, tmp_path):
    frame = shop_frame(90, 3)
    frame["conversion"] = 1
    unclicked = int((frame["click"] == 0).sum())
    frame.drop(columns=["cart", "when", "truth"]).to_parquet(tmp_path / "log.parquet")
    report, done = evaluate_run(shop_run, tmp_path / "log.parquet", batch_rows=7)
    assert done.notes == (f"conversion column 'conversion': 1 without a click in {unclicked} rows; masked (set to 0).",)
    assert "cvr/oracle" not in report.support
    frame.loc[80:, "click"] = 2
    frame.to_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"click column 'click' must be 0 or 1; found 2.0 in 10 rows"):
        evaluate_run(shop_run, tmp_path / "log.parquet", batch_rows=7)
    frame.drop(columns="conversion").to_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match="lacks the column 'conversion'"):
        evaluate_run(shop_run, tmp_path / "log.parquet")


def test_an_empty_log_cannot_be_evaluated(shop_frame, shop_run, tmp_path):
    shop_frame(8, 3).iloc[:0].to_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match="has no rows"):
        evaluate_run(shop_run, tmp_path / "log.parquet")


def test_the_encoding_of_the_runs_log_is_that_of_later_ones(shop, tmp_path):
    from cvr_plugins.rechub import run

    lines = [f"ü{n % 7},{n % 5},{n % 2},{n % 2 * (n % 3 == 0)}" for n in range(200)]
    text = "\n".join(["user_id,item_id,click,conversion", *lines]) + "\n"
    (tmp_path / "log.csv").write_bytes(text.encode("latin-1"))
    keys = ("model", "dims", "embedding_size", "epochs", "show_progress")
    config = {**{key: shop.config[key] for key in keys}, "dataset": tmp_path / "log.csv", "encoding": "latin-1"}
    folder = run(config, folder=tmp_path / "run").folder
    done = predict(folder, tmp_path / "log.csv", tmp_path / "out.csv")
    assert (done.rows, done.unknown) == (200, {})
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()[1].startswith("ü0,0,0,0,")


MEMORY = """
import resource, sys
from cvr_plugins.data import source
from cvr_plugins.rechub import predict
# Arrow reads dozens of blocks ahead; with its own size they would hide what a small file holds.
source._BLOCK_BYTES = 1 << 18
predict(sys.argv[1], sys.argv[2], sys.argv[3], batch_rows=4096)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
predict(sys.argv[1], sys.argv[4], sys.argv[3], batch_rows=4096)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(shop_frame, shop_run, tmp_path):
    """Beyond what is read ahead, 200 MB more of a log take less than a third of that."""
    frame = shop_frame(100_000, 3)
    frame["ballast"] = [f"{n:0500d}" for n in range(len(frame))]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for name, copies in (("part", 1), ("whole", 5)):
        with gzip.open(tmp_path / f"{name}.csv.gz", "wb", compresslevel=1) as out:
            flat = table.set_column(3, "tags", pa.array([" ".join(tags) for tags in frame["tags"]]))
            for n in range(copies):
                pacsv.write_csv(flat, out, pacsv.WriteOptions(include_header=n == 0))
    paths = [tmp_path / "part.csv.gz", tmp_path / "out.csv", tmp_path / "whole.csv.gz"]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(shop_run), *map(str, paths)], capture_output=True, text=True, check=True
    )
    assert (tmp_path / "out.csv").stat().st_size > 250 * 2**20
    assert int(done.stdout) < 64 * 1024
    os.remove(tmp_path / "out.csv")
