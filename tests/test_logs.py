"""What `dataset` and `data_path` mean, and that a log that was written is read back as it was."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from cvr_plugins import plugins
from cvr_plugins.config import FIELD_KEYS, ConfigError, resolve
from cvr_plugins.data import FunnelLog, Schema, write_atomic, write_table
from cvr_plugins.logs import field_keys, load_log
from cvr_plugins.plugins import Registered

HEAD = "user_id,item_id,click,conversion\n"
ROWS = "7,a,1,0\n8,b,0,0\n"


@pytest.fixture
def load(monkeypatch, tmp_path):
    """Load a log by its keys, from a working directory of the test's own."""
    monkeypatch.chdir(tmp_path)

    def make(dataset: object, **keys: object) -> FunnelLog:
        return load_log(resolve({"dataset": dataset, **keys}, needs=("dataset",)))

    return make


@pytest.fixture
def small() -> FunnelLog:
    frame = pd.DataFrame({"user_id": [7, 8], "item_id": ["a", "b"], "click": [1, 0], "conversion": [0, 0]})
    return FunnelLog.from_frame(frame, Schema("user_id", "item_id", "click", "conversion"), name="shop")


def _users(log: FunnelLog) -> list[str]:
    return log.frame["user_id"].tolist()


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet"])
def test_a_table_is_found(suffix: str, load, small, tmp_path):
    file = write_table(small, tmp_path / "data" / f"shop{suffix}")
    for dataset, data_path in (
        (f"data/shop{suffix}", None),
        (file, None),
        ("data/shop", None),
        ("shop", "data"),
        (f"shop{suffix}", "data"),
        ("anything", str(file)),
    ):
        found = load(dataset, data_path=data_path)
        assert (_users(found), found.name) == (["7", "8"], "shop")


def test_atomic_files_are_found_as_in_recbole_and_otherwise(load, small, monkeypatch, tmp_path):
    write_atomic(small, "out")
    for dataset, data_path in (
        *((path, None) for path in ("out", "out/shop", "out/shop/", "out/shop/shop.inter", "out/shop/shop")),
        *(("shop", path) for path in ("out", "out/shop", "out/shop/shop.inter")),
    ):
        log = load(dataset, data_path=data_path)
        assert (_users(log), log.name) == (["7", "8"], "shop")
    monkeypatch.chdir(tmp_path / "out" / "shop")
    assert _users(load(".")) == ["7", "8"]


def test_a_folder_of_parquet_files_is_a_log_and_what_is_hidden_is_none_of_it(load, small):
    write_table(small, Path("parts") / "day=1" / "part-0.parquet")
    write_table(small, Path("parts") / "day=1" / ".ipynb_checkpoints" / "part-0-checkpoint.parquet")
    write_table(small, Path("hidden") / "_temporary" / "part-0.parquet")
    assert _users(load("parts")) == ["7", "8"]
    with pytest.raises(ConfigError, match="no file or folder 'hidden'"):
        load("hidden")
    write_atomic(FunnelLog(small.frame, small.schema, ".shop"), "out")
    write_atomic(small, "out")
    assert load("out").name == "shop"


def test_a_folder_with_two_data_sets_asks_which(load, small):
    write_atomic(small, "out")
    write_atomic(FunnelLog(small.frame, small.schema, "other"), "out")
    with pytest.raises(ConfigError, match=r"more than one data set: other/other.inter, shop/shop.inter. Name one"):
        load("out")
    assert load("shop", data_path="out").name == "shop"


@pytest.mark.parametrize(
    ("dataset", "data_path", "message"),
    [
        ("nowhere", None, "Unknown data set 'nowhere'.* And there is no file or folder 'nowhere'.$"),
        ("ml-100k", None, r"Unknown data set 'ml-100k'. Did you mean ml-100k-funnel or ml-100k-sessions\?"),
        ("log.csv", "data", "And there is no file or folder 'log.csv', nor in 'data'"),
        ("empty", None, "no file or folder 'empty'"),
        ("log.xlsx", None, "no file or folder 'log.xlsx'"),
        ("", None, "Unknown data set ''"),
    ],
)
def test_what_is_not_found_is_said_on_one_line(dataset, data_path, message, load, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "log.xlsx").write_text("")
    with pytest.raises(ConfigError, match=message) as caught:
        load(dataset, data_path=data_path)
    assert "\n" not in str(caught.value)


def test_the_keys_of_a_file_name_its_columns(load, tmp_path):
    (tmp_path / "log.csv").write_bytes(
        "u,i,o,r,a,t,p,city,id\n1,2,1,1,1,5,train,Münster,3\n2,3,0,0,0,6,test,Rom,4\n".encode("latin-1")
    )
    fields = {"USER_ID": "u", "ITEM_ID": "i", "CLICK": "o", "CONVERSION": "r", "ACTION": "a", "TIME": "t", "PART": "p"}
    keys = {f"{role}_FIELD": column for role, column in fields.items()}
    log = load("log.csv", encoding="latin-1", **keys, user_features=["city"], drop_columns="id")
    assert log.schema.labels == {"click": ("o",), "conversion": ("r",), "action": ("a",)}
    assert (log.schema.timestamp, log.schema.part) == ("t", "p")
    assert [(f.name, f.side) for f in log.schema.features] == [("u", "user"), ("i", "item"), ("city", "user")]
    assert log.frame["city"].tolist() == ["Münster", "Rom"]


@pytest.mark.parametrize("atomic", [False, True])
def test_columns_that_a_file_lacks_are_named_with_their_keys(atomic, load, small, tmp_path):
    written = write_atomic(small, "out").folder if atomic else write_table(small, "out.csv")
    with pytest.raises(ConfigError) as caught:
        load(written, CLICK_FIELD="clicks", ACTION_FIELD=["cart", "gift"])
    message = str(caught.value)
    assert "lacks the columns 'clicks' (CLICK_FIELD), 'cart' (ACTION_FIELD), 'gift' (ACTION_FIELD)." in message
    assert "It has: 'user_id', 'item_id', 'click', 'conversion'." in message
    assert "\n" not in message


@pytest.mark.parametrize("key", ["USER_ID_FIELD", "ACTION_FIELD", "token_features", "drop_columns", "encoding"])
def test_a_registered_data_set_knows_its_columns(key, load):
    with pytest.raises(ConfigError, match=f"The data set ml-100k-funnel knows its columns; {key} cannot be set for it"):
        load("ml-100k-funnel", **{key: "x"})


def test_a_key_set_to_nothing_is_not_set(load, registered, small):
    registered(lambda: small)
    assert load("mine", ACTION_FIELD=None, drop_columns=None) is small


@pytest.fixture
def registered(monkeypatch, small):
    """Replace the builder behind every registered name."""

    def make(builder) -> None:
        found = Registered("dataset", "mine", builder, "acme", "mine")
        monkeypatch.setattr(plugins.registry(), "find", lambda kind, name: found)

    return make


def test_a_builder_gets_the_path_only_where_one_is_given(load, registered, small):
    asked = []

    def builder(**options: object) -> FunnelLog:
        asked.append(options)
        return small

    registered(builder)
    assert load("mine") is small
    assert load("mine", data_path="data") is small
    assert asked == [{}, {"path": "data"}]


def test_a_builder_that_gives_something_else_is_named(load, registered):
    registered(lambda: pd.DataFrame())
    with pytest.raises(ConfigError, match="The data set mine of plugin 'acme' is not a FunnelLog but a DataFrame"):
        load("mine")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ""])
def test_a_written_log_is_read_back_with_its_keys(suffix, shop, shop_frame, load, tmp_path):
    shop_frame(100, 0).assign(gift=1).to_parquet(tmp_path / "log.parquet")
    keys = {key: value for key, value in shop.config.items() if key in FIELD_KEYS}
    log = load(tmp_path / "log.parquet", **{**keys, "ACTION_FIELD": ["cart", "gift"]})
    written = write_table(log, tmp_path / f"copy{suffix}") if suffix else write_atomic(log, tmp_path / "copy").folder
    assert field_keys(log.schema)["ACTION_FIELD"] == ["cart", "gift"]
    back = load(written, **field_keys(log.schema))
    assert set(back.schema.features) == set(log.schema.features)
    assert (back.schema.labels, back.schema.truth) == (log.schema.labels, log.schema.truth)
    for column in log.schema.columns:
        assert _values(back, column) == _values(log, column)


def _values(log: FunnelLog, column: str) -> list[object]:
    array = pa.array(log.frame[column])
    return (array.cast(pa.string()) if pa.types.is_dictionary(array.type) else array).to_pylist()
