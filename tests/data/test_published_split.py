"""Splits that the data set's authors published: a column says which row belongs where."""

from __future__ import annotations

import pandas as pd
import pytest

from cvr_plugins.config import ConfigError, resolve, split_arguments
from cvr_plugins.data import DataError, FunnelLog, Schema, check_parts, split

PARTS = ["train"] * 6 + ["test"] * 2


@pytest.fixture
def make():
    def made(parts=PARTS, **changes) -> FunnelLog:
        n = len(parts)
        frame = pd.DataFrame(
            {
                "user_id": [i // 2 for i in range(n)],
                "item_id": range(n),
                "click": [1, 0] * (n // 2),
                "conversion": [1, 0, 0, 0] * (n // 4),
                "when": range(n, 0, -1),
                "part": parts,
            }
        ).assign(**changes)
        schema = Schema("user_id", "item_id", "click", "conversion", timestamp="when", part="part")
        return FunnelLog.from_frame(frame, schema, name="log")

    return made


def rows(log: FunnelLog) -> list[int]:
    return [int(item) for item in log.frame["item_id"].astype(str)]


def test_all_three_parts_are_taken_as_they_are(make):
    log = make(["valid", "train", "test", "train", "train", "test", "valid", "train"])
    assert [rows(part) for part in split(log, 0.5)] == [[1, 3, 4, 7], [0, 6], [2, 5]]


def test_without_valid_rows_a_share_of_the_training_rows_is_drawn(make):
    log = make()
    train, valid, test = split(log, 1 / 3, seed=3)
    assert rows(test) == [6, 7]
    assert len(valid) == 2
    assert sorted(rows(train) + rows(valid)) == list(range(6))
    assert rows(split(log, 1 / 3, seed=3)[1]) == rows(valid)
    drawn = {tuple(rows(split(log, 1 / 3, seed=seed)[1])) for seed in range(20)}
    assert len(drawn) > 5


def test_by_time_the_latest_training_rows_are_drawn_and_by_user_whole_users(make):
    assert rows(split(make(), 1 / 3, by="time")[1]) == [0, 1]
    valid = split(make(), 1 / 3, by="user")[1]
    (user,) = set(valid.frame["user_id"])
    assert len(valid) == 2
    assert user in ("0", "1", "2")


def test_rows_in_another_part_than_published_are_counted(make):
    log = make(PARTS * 20)

    def notes(split_log) -> list[str]:
        return [note for note in check_parts(*split_log) if "not the published split" in note]

    assert notes(split(log, 0.2, seed=1)) == []
    drawn = split(log, (0.5, 0.25, 0.25), seed=1)
    strange = [sum(log.frame["part"] == part) for log, part in zip(drawn, ("test", "test", "train"), strict=True)]
    for count, note in zip(strange, notes(drawn), strict=True):
        assert f"has {count} rows in another part" in note


def test_a_split_without_a_part_or_a_part_without_rows_is_refused(make):
    log = make()
    with pytest.raises(DataError, match="with its part column 'part' leaves 'test' without a row"):
        split(make(["train", "valid"] * 4), 0.1)
    plain = FunnelLog(log.frame.drop(columns="part"), Schema("user_id", "item_id", "click", "conversion"), "log")
    with pytest.raises(DataError, match="has no part column, which a published split needs"):
        split(plain, 0.1)
    for share in (0, 1, 1.5):
        with pytest.raises(DataError, match=r"must be a number in \(0, 1\)"):
            split(log, share)


def test_it_is_asked_for_in_eval_args():
    base = {"model": "ESMM", "dataset": "x"}
    config = resolve(base, {"eval_args": {"split": {"PS": 0.1}, "order": "TO"}})
    assert split_arguments(config["eval_args"]) == (0.1, "time")
    for wrong in ({"PS": 1}, {"PS": 0}, {"PS": [0.1]}, {"PS": True}, {"PS": 0.1, "RS": [1, 1, 1]}, {"PS": "a"}):
        with pytest.raises(ConfigError, match=r"or \{PS: valid\}, a share below 1"):
            resolve(base, {"eval_args": {"split": wrong}})
