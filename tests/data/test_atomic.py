"""RecBole's atomic files: written so that RecBole reads them, read so that nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvr_plugins.data import DataError, Feature, FunnelLog, Schema, read_atomic, write_atomic

ROLES = {"user": "user_id", "item": "item_id", "click": "click", "conversion": "buy"}
INTER = "user_id:token\titem_id:token\tclick:float\tbuy:float\n"


def _files(folder: Path, **contents: str) -> Path:
    folder.mkdir(exist_ok=True)
    for suffix, text in contents.items():
        (folder / f"shop.{suffix}").write_bytes(text.encode())
    return folder


@pytest.mark.parametrize("which", ["log", "two_actions"])
def test_a_written_log_is_read_back_equal(which: str, request, tmp_path: Path, plain):
    log = request.getfixturevalue(which)
    written = write_atomic(log, tmp_path)
    assert written == (tmp_path / "shop", ())
    assert sorted(path.name for path in written.folder.iterdir()) == ["shop.inter", "shop.item", "shop.user"]
    for directory in (tmp_path, tmp_path / "shop"):
        back = read_atomic(directory, "shop", log.schema)
        assert plain(back) == plain(log)
        assert (back.name, back.notes) == ("shop", ())


def test_every_field_goes_into_the_file_of_its_side(log: FunnelLog, tmp_path: Path):
    folder = write_atomic(log, tmp_path).folder
    assert (folder / "shop.user").read_text() == (
        "user_id:token\tgender:token\thistory:token_seq\n196\tF\ta\n7\tM\t\n3\tM\tb a c\n"
    )
    assert (folder / "shop.item").read_text() == (
        "item_id:token\tprice:float\tgenres:token_seq\na\t1.5\tSci-Fi\nb\t0.1\tChildren's Comedy\n"
    )
    lines = (folder / "shop.inter").read_text().splitlines()
    assert lines[0] == (
        "user_id:token\titem_id:token\thour:token\tclick:float\tconversion:float\tcart:float\ttimestamp:float\t"
        "part:token\twould_convert:float\tpropensity:float"
    )
    assert lines[1] == "196\ta\t0\t1\t1\t1\t10.0\ttrain\t1\t0.5"
    assert len(lines) == 7


@pytest.mark.parametrize("which", ["log", "two_actions"])
def test_the_headers_give_kinds_and_sides_when_only_roles_are_named(which: str, request, tmp_path: Path, plain):
    log = request.getfixturevalue(which)
    write_atomic(log, tmp_path)
    roles = {key: value for key, value in log.schema.to_dict().items() if key not in ("features", "id_features")}
    back = read_atomic(tmp_path, "shop", **roles)
    assert set(back.schema.features) == set(log.schema.features)
    assert back.schema.labels == log.schema.labels
    assert plain(back) == {column: plain(log)[column] for column in back.schema.columns}


def test_an_action_in_the_file_of_a_side_is_no_feature_of_it(tmp_path: Path):
    inter = INTER.replace("buy:float", "buy:float\tcart:float") + "1\ta\t1\t0\t0\n2\tb\t1\t1\t0\n"
    folder = _files(tmp_path, inter=inter, user="user_id:token\tage:token\tfollow:float\n1\t10\t0\n2\t20\t1\n")
    log = read_atomic(folder, "shop", **ROLES, action=["cart", "follow"])
    assert [feature.name for feature in log.schema.features] == ["user_id", "item_id", "age"]
    assert log.labels()["action"].tolist() == [0, 1]


def test_quotes_apostrophes_and_na_are_text(tmp_path: Path):
    item = 'item_id:token\ttitle:token\twords:token_seq\na\t"Toy" Story\tIt\'s "a" NA\nb\t"half\tnull\n'
    folder = _files(tmp_path, inter=INTER + "1\ta\t1\t0\n007\tb\t0\t0\n", item=item)
    log = read_atomic(folder, "shop", **ROLES)
    assert log.frame["title"].tolist() == ['"Toy" Story', '"half']
    assert [list(words) for words in log.frame["words"]] == [["It's", '"a"', "NA"], ["null"]]
    assert log.frame["user_id"].tolist() == ["1", "007"]


def test_windows_line_ends_and_other_encodings(tmp_path: Path):
    text = (INTER.strip() + "\tcity:token\r\n1\ta\t1\t0\tMünchen\r\n").encode("latin-1")
    (tmp_path / "shop.inter").write_bytes(text)
    with pytest.raises(DataError, match="is not utf-8 text"):
        read_atomic(tmp_path, "shop", **ROLES)
    log = read_atomic(tmp_path, "shop", **ROLES, encoding="latin-1")
    assert log.frame["city"].tolist() == ["München"]


def test_users_without_a_row_are_counted_and_have_missing_tokens(tmp_path: Path):
    folder = _files(
        tmp_path,
        inter=INTER + "1\ta\t1\t0\n2\tb\t0\t0\n2\ta\t0\t0\n3\ta\t0\t0\n",
        user="user_id:token\tage:token\ttags:token_seq\n3\t30\tx y\n1\t10\t\n9\t90\tz\n",
    )
    log = read_atomic(folder, "shop", **ROLES)
    assert log.frame["age"].astype(object).where(log.frame["age"].notna(), None).tolist() == ["10", None, None, "30"]
    assert [list(tags) for tags in log.frame["tags"]] == [[], [], [], ["x", "y"]]
    assert log.notes[0] == "2 rows (1 distinct 'user_id') without a row in shop.user."
    assert "age" in log.notes[1]


ONE_ROW = INTER + "1\ta\t0\t0\n"


def _with(field: str, value: str) -> str:
    return f"{INTER.strip()}\t{field}\n1\ta\t0\t0\t{value}\n"


BAD = {
    "no file": ({}, "There is no shop.inter"),
    "empty": ({"inter": ""}, "cannot be read"),
    "no type": ({"inter": "user_id\titem_id:token\n1\t2\n"}, "header field 'user_id' must read name:type"),
    "unknown type": ({"inter": "user_id:int\titem_id:token\n1\t2\n"}, "header field 'user_id:int' must read name:type"),
    "doubled field": ({"inter": _with("click:token", "0")}, "more than one field named 'click'"),
    "no label": ({"inter": "user_id:token\titem_id:token\tclick:float\n1\t2\t0\n"}, "lacks the column 'buy'"),
    "short row": ({"inter": INTER + "1\t2\t0\n"}, "Expected 4 columns, got 3"),
    "text as label": ({"inter": INTER + "1\t2\t0\tno\n"}, "column 'buy:float'.*'no'"),
    "unnamed label": ({"inter": _with("rating:float", "3")}, "Column 'rating' looks like a label"),
    "float_seq": ({"inter": _with("v:float_seq", "3 4")}, r"Column 'v' holds lists of double \(a float_seq\)"),
    "user twice": ({"user": "user_id:token\tage:token\n1\t5\n1\t6\n2\t3\n2\t3\n"}, "repeats a 'user_id' in 2 rows"),
    "user without id": ({"user": "user_id:token\tage:token\n\t5\n1\t6\n"}, "lacks the 'user_id' in 1 row"),
    "no key": ({"item": "id:token\tage:token\na\t5\n"}, "shop.item' lacks the column 'item_id'"),
    "field in two files": (
        {"user": "user_id:token\tx:token\n1\t5\n", "item": "item_id:token\tx:token\na\t5\n"},
        "Column 'x' is listed both as 'user' and as 'item'",
    ),
    "field in .inter too": (
        {"inter": _with("x:token", "1"), "user": "user_id:token\tx:token\n1\t5\n"},
        "Field 'x' occurs in .*shop.user' and in another atomic file",
    ),
    "absent float": ({"user": "user_id:token\tx:float\n2\t5\n"}, "float column 'x' is missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_on_one_line(case: str, tmp_path: Path):
    contents, message = BAD[case]
    if contents:
        contents = {"inter": ONE_ROW, **contents}
    with pytest.raises(DataError, match=message) as caught:
        read_atomic(_files(tmp_path, **contents), "shop", **ROLES)
    assert "\n" not in str(caught.value)


def test_a_float_seq_may_stand_in_the_file_but_not_among_the_features(tmp_path: Path):
    folder = _files(tmp_path, inter=_with("v:float_seq", "3 4"))
    assert "v" not in read_atomic(folder, "shop", **ROLES, drop_columns=["v"]).frame
    schema = Schema("user_id", "item_id", "click", "buy", features=(Feature("v", "token_seq"),))
    with pytest.raises(DataError, match="'v' is a float_seq"):
        read_atomic(folder, "shop", schema)


SPOILT = {
    "gender": ("user", ["F", None, "M", "M", "M", "M"]),
    "history": ("user", [["a"], ["b"], [], [], ["c"], ["c"]]),
    "price": ("item", [1.5, 0.1, 1.5, 0.2, 1.5, 0.1]),
}


@pytest.mark.parametrize("column", SPOILT)
def test_a_feature_that_varies_within_its_side_goes_to_inter_with_a_note(column, frame, schema, tmp_path, plain):
    side, values = SPOILT[column]
    log = FunnelLog.from_frame(frame.assign(**{column: values}), schema, name="shop")
    written = write_atomic(log, tmp_path)
    assert written.notes == (f"{side} feature '{column}' varies within a {side}; written to .inter.",)
    for suffix in ("inter", side):
        header = (written.folder / f"shop.{suffix}").read_text().splitlines()[0]
        assert (f"{column}:" in header) == (suffix == "inter")
    assert plain(read_atomic(tmp_path, "shop", schema)) == plain(log)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hour": ["a\tb"] + ["x"] * 5}, r"1 tokens of column 'hour' hold a tab or line break \('a\\tb'\)"),
        ({"hour": ["a\nb"] + ["x"] * 5}, "a tab or line break"),
        ({"hour": ['"a" b'] + ["x"] * 5}, "a leading quotation mark"),
        ({"genres": [["a b"]] * 6}, "6 tokens of the sequence column 'genres' contain a space"),
        ({"genres": [['"a']] * 6}, "column 'genres' hold a leading quotation mark"),
    ],
)
def test_what_the_format_cannot_carry_is_refused_and_nothing_is_left(changes, message, frame, schema, tmp_path):
    log = FunnelLog.from_frame(frame.assign(**changes), schema, name="shop")
    with pytest.raises(DataError, match=message):
        write_atomic(log, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_column_and_log_names_are_checked(frame, tmp_path):
    schema = Schema("user_id", "item_id", "click", "conversion", features=(Feature("a:b"),))
    with pytest.raises(DataError, match="column name 'a:b' holds a tab, line break or colon"):
        write_atomic(FunnelLog.from_frame(frame.assign(**{"a:b": 1}), schema, name="shop"), tmp_path)
    plain_schema = Schema("user_id", "item_id", "click", "conversion")
    with pytest.raises(DataError, match="cannot be the name of a folder"):
        write_atomic(FunnelLog.from_frame(frame, plain_schema, name="../shop"), tmp_path)


def test_tokens_that_recbole_takes_for_missing_are_noted(frame, schema, tmp_path, plain):
    log = FunnelLog.from_frame(frame.assign(hour=["NA", "NA", "1", "2", "3", "null"]), schema, name="shop")
    written = write_atomic(log, tmp_path)
    assert written.notes == ("token column 'hour': RecBole reads the tokens 'NA', 'null' as missing.",)
    assert plain(read_atomic(tmp_path, "shop", schema)) == plain(log)
