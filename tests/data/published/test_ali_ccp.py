"""Ali-CCP: tiny files of the published layouts, read field by field; and the sample that torch-rechub publishes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cvr_plugins.data import DataError, split
from cvr_plugins.data.published import ali_ccp
from cvr_plugins.data.published._ali_ccp import CONTEXT_FIELDS, ITEM_FIELDS, USER_FIELDS

SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "ali_ccp_sample"


def features(**entries) -> str:
    """`_101="7:1"` or several entries `_210="5:1 6:2"` as a published feature list."""
    found = []
    for field, text in entries.items():
        for entry in text.split():
            token, _, weight = entry.partition(":")
            found.append(f"{field[1:]}\x02{token}\x03{weight or '1.0'}")
    return "\x01".join(found)


COMMON = {
    "train": [("u1", features(_101="1", _121="a", _109_14="10:0.5 11:2.5 12:2.5")), ("u2", features(_101="2"))],
    "test": [("u1", features(_101="3", _150_14="9:1.5"))],
}
SKELETON = {
    "train": [
        (1, 1, 1, "u1", features(_205="100", _210="5:1 6:1", _508="77:0.25", _301="1")),
        (2, 1, 0, "u2", features(_205="101", _301="2")),
        (3, 0, 0, "u1", features(_205="100")),
        (4, 0, 1, "u2", features(_205="102", _853="8:3.5")),
    ],
    "test": [(5, 1, 0, "u1", features(_205="100", _999="not one of ours")), (6, 0, 0, "u1", features(_205="103"))],
}


@pytest.fixture
def raw(tmp_path):
    """A maker of raw files; `header` writes the names that some copies have in their first line."""

    def make(common=COMMON, skeleton=SKELETON, *, header=False):
        for part in ("train", "test"):
            lines = ["common_feature_index,feature_num,feature_list"] * header
            lines += [f"{name},{text.count(chr(1)) + 1},{text}" for name, text in common[part]]
            (tmp_path / f"common_features_{part}.csv").write_text("\n".join(lines) + "\n")
            lines = ["sample_id,click,buy,common_feature_index,feature_num,feature_list"] * header
            lines += [
                f"{i},{click},{buy},{name},{text.count(chr(1)) + 1},{text}"
                for i, click, buy, name, text in skeleton[part]
            ]
            (tmp_path / f"sample_skeleton_{part}.csv").write_text("\n".join(lines) + "\n")
        return tmp_path

    return make


@pytest.mark.parametrize("header", [False, True])
def test_raw_files_by_hand(raw, header):
    log = ali_ccp(path=raw(header=header))
    frame = log.frame.astype(dict.fromkeys((*USER_FIELDS, *ITEM_FIELDS, *CONTEXT_FIELDS, "part"), object))
    assert frame["part"].tolist() == ["train"] * 4 + ["test"] * 2
    assert frame["click"].tolist() == [1, 1, 0, 0, 1, 0]
    assert frame["purchase"].tolist() == [1, 0, 0, 0, 0, 0], "masked without a click"
    assert frame["101"].tolist() == ["1", "2", "1", "2", "3", "3"]
    assert frame["205"].tolist() == ["100", "101", "100", "102", "100", "103"]
    # The largest weight, the first of two equal ones.
    assert frame["109_14"].fillna("").tolist() == ["11", "", "11", "", "", ""]
    assert frame["D109_14"].tolist() == [2.5, 0, 2.5, 0, 0, 0]
    assert frame["210"].fillna("").tolist() == ["5", "", "", "", "", ""]
    assert frame["508"].fillna("").tolist() == ["77", "", "", "", "", ""]
    assert frame["D508"].tolist() == [0.25, 0, 0, 0, 0, 0]
    assert frame["D853"].tolist() == [0, 0, 0, 3.5, 0, 0]
    assert frame["D150_14"].tolist() == [0, 0, 0, 0, 1.5, 1.5]
    assert frame["121"].fillna("").tolist() == ["a", "", "a", "", "", ""]


def test_the_schema_has_23_fields_and_8_weights(raw):
    schema = ali_ccp(path=raw()).schema
    kinds = [feature.kind for feature in schema.features]
    assert (kinds.count("token"), kinds.count("float")) == (23, 8)
    assert {f.name: f.side for f in schema.features}["D109_14"] == "user"
    assert (schema.user, schema.item, schema.part) == ("101", "205", "part")


def test_blocks_smaller_than_the_file_give_the_same_log(raw, monkeypatch):
    from cvr_plugins.data.published import _ali_ccp

    rng = np.random.default_rng(0)
    users = [
        (f"u{i}", features(_101=str(i), _110_14=" ".join(f"{t}:{t % 7}" for t in range(i % 9)))) for i in range(50)
    ]
    samples = [
        (i, 1, i % 2, f"u{rng.integers(50)}", features(_205=str(i % 11), _702=f"{i % 3}:{i % 5}")) for i in range(400)
    ]
    path = raw({"train": users, "test": users}, {"train": samples, "test": samples[:7]})
    whole = ali_ccp(path=path)
    monkeypatch.setattr(_ali_ccp, "BATCH_ROWS", 37)
    parts = ali_ccp(path=path)
    pd.testing.assert_frame_equal(whole.frame, parts.frame, check_categorical=False)
    row = parts.frame.iloc[123]
    user = int(samples[123][3][1:])
    assert (row["101"], row["D110_14"]) == (str(user), max([t % 7 for t in range(user % 9)], default=0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skeleton": {**SKELETON, "test": [(5, 1, 0, "u9", features(_205="1"))]}}, "1 of 1 rows point to a common"),
        ({"common": {**COMMON, "train": COMMON["train"][:1] * 2}}, "repeats a common_feature_index"),
        ({"common": {**COMMON, "test": [("u1", "101\x022")]}}, r"holds the feature .*which is not 'field"),
        ({"common": {**COMMON, "test": [("u1", "101\x022\x03x")]}}, "cannot be read"),
        ({"common": {**COMMON, "test": [("u1", features(_121="1"))]}}, "id column '101' is missing in 2 rows"),
    ],
)
def test_damaged_files_are_refused_with_the_place(raw, changes, message):
    with pytest.raises(DataError, match=message):
        ali_ccp(path=raw(**changes))


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the published sample is not here")
def test_the_preprocessed_sample():
    log = ali_ccp(path=SAMPLE)
    files = {part: pd.read_csv(SAMPLE / f"ali_ccp_{part}_sample.csv") for part in ("train", "val", "test")}
    whole = pd.concat(files.values(), ignore_index=True)
    assert len(log) == len(whole)
    assert log.frame["click"].tolist() == whole["click"].tolist()
    assert log.frame["205"].astype(str).tolist() == whole["205"].astype(str).tolist()
    np.testing.assert_allclose(log.frame["D109_14"], whole["D109_14"])
    train, valid, test = split(log, 0.5)
    assert [len(part) for part in (train, valid, test)] == [len(file) for file in files.values()]
