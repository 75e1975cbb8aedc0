"""Splits are disjoint, complete, seeded, and say what is wrong with them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cvr_plugins.config import ConfigError, resolve, split_arguments
from cvr_plugins.data import DataError, FunnelLog, Schema, check_parts, split

SCHEMA = Schema("u", "i", "click", "buy", action="cart", timestamp="t", counterfactual="truth")


def _rows(part: FunnelLog) -> list[tuple]:
    return list(part.frame[["u", "i", "t", "click", "buy"]].astype(object).itertuples(index=False, name=None))


def _log(**columns: list) -> FunnelLog:
    n = len(next(iter(columns.values())))
    plain = {"u": list(range(n)), "i": [0] * n, "t": list(range(n)), "click": [0] * n, "buy": [0] * n}
    return FunnelLog.from_frame(
        pd.DataFrame({**plain, "cart": [0] * n, "truth": [0] * n, **columns}), SCHEMA, name="small"
    )


@pytest.mark.parametrize("by", ["random", "time", "user"])
def test_every_row_is_in_exactly_one_part_in_the_order_of_the_log(by: str, many: FunnelLog):
    numbered = FunnelLog(many.frame.assign(number=np.arange(len(many))), many.schema, many.name)
    parts = split(numbered, by=by)
    numbers = [part.frame["number"].to_numpy() for part in parts]
    assert sorted(np.concatenate(numbers)) == list(range(len(many)))
    whole = _rows(many)
    for part, rows in zip(parts, numbers, strict=True):
        assert (np.diff(rows) > 0).all()
        assert _rows(part) == [whole[row] for row in rows]
        assert part.notes == ()
    assert [part.name for part in parts] == ["many-train", "many-valid", "many-test"]


def test_a_random_split_has_the_sizes_asked_for(many: FunnelLog):
    assert [len(part) for part in split(many)] == [1400, 200, 400]
    assert [len(part) for part in split(many, (0.5, 0.25, 0.25))] == [1000, 500, 500]


@pytest.mark.parametrize("by", ["random", "user"])
def test_the_seed_decides(by: str, many: FunnelLog):
    first, again, other = (split(many, by=by, seed=seed) for seed in (1, 1, 2))
    assert [_rows(part) for part in first] == [_rows(part) for part in again]
    assert _rows(first[0]) != _rows(other[0])


def test_by_user_no_user_is_in_two_parts_and_ratios_count_users(many: FunnelLog):
    users = [set(part.frame["u"]) for part in split(many, by="user")]
    assert [len(each) for each in users] == [70, 10, 20]
    assert len(set.union(*users)) == 100


def test_by_time_ties_stay_in_the_earlier_part():
    parts = split(_log(t=[9, 1, 2, 3, 3, 3, 4, 5, 5, 6]), (0.4, 0.4, 0.2), by="time")
    assert [part.frame["t"].tolist() for part in parts] == [[1, 2, 3, 3, 3], [4, 5, 5], [9, 6]]


def test_ratios_must_be_three_positive_numbers_with_sum_one(many: FunnelLog):
    for ratios in ((0.7, 0.2, 0.2), (0.7, 0.3), (1.0, 0.0, 0.0), (0.8, -0.1, 0.3), "721", None, (float("nan"),) * 3):
        with pytest.raises(DataError, match="three positive numbers with sum 1"):
            split(many, ratios)


def test_an_unknown_split_names_the_known_ones(many: FunnelLog):
    with pytest.raises(DataError, match=r"Unknown split 'times'. Did you mean time\? Known: random, time, user"):
        split(many, by="times")


def test_a_split_by_time_needs_a_timestamp(many: FunnelLog):
    with pytest.raises(DataError, match="no timestamp column"):
        split(FunnelLog.from_frame(many.frame, Schema("u", "i", "click", "buy")), by="time")


@pytest.mark.parametrize(
    ("columns", "by", "empty"),
    [
        ({"u": [1, 2, 3]}, "random", "'valid'"),
        ({"u": [1] * 50}, "user", "'valid', 'test'"),
        ({"t": [5] * 50}, "time", "'valid', 'test'"),
    ],
)
def test_an_empty_part_is_refused(columns: dict, by: str, empty: str):
    with pytest.raises(DataError, match=f"leaves {empty} without a row"):
        split(_log(**columns), by=by)


GOOD = {"click": [1, 1, 1, 0], "buy": [1, 0, 0, 0], "cart": [1, 0, 0, 0], "truth": [1, 0, 0, 1]}


def test_good_parts_pass_without_notes():
    log = _log(**GOOD)
    assert check_parts(log, log, log) == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"click": [0, 0, 0, 0], "buy": [0] * 4}, "column 'click' is 0 in all 4 rows, so there is nothing to learn"),
        ({"click": [1, 1, 1, 1]}, "column 'click' is 1 in all 4 rows"),
        ({"buy": [0, 0, 0, 0]}, "column 'buy' is 0 in all 3 rows with a click"),
        ({"buy": [1, 1, 1, 0]}, "column 'buy' is 1 in all 3 rows with a click"),
    ],
)
def test_a_training_part_with_one_class_is_refused_and_elsewhere_noted(changes: dict, message: str):
    good, bad = _log(**GOOD), _log(**{**GOOD, **changes})
    with pytest.raises(DataError, match=message):
        check_parts(bad, good, good)
    for parts in ((good, bad, good), (good, good, bad)):
        notes = check_parts(*parts)
        assert any(message.split(",")[0] in note and note.endswith("its AUC is undefined.") for note in notes)


def test_an_action_or_truth_with_one_class_is_noted():
    good, bad = _log(**GOOD), _log(**{**GOOD, "cart": [1, 1, 1, 0], "truth": [1, 1, 1, 1]})
    notes = check_parts(bad, good, bad)
    assert notes == (
        "Log 'small': column 'cart' is 1 in all 3 rows with a click; no method can learn from it.",
        "Log 'small': column 'cart' is 1 in all 3 rows with a click; its AUC is undefined.",
        "Log 'small': column 'truth' is 1 in all 4 rows; its AUC is undefined.",
    )


@pytest.mark.parametrize(("wish_list", "value"), [([0, 1, 1, 0], 1), ([0, 0, 0, 0], 0)])
def test_several_actions_of_one_class_are_noted_as_the_one_label_they_are(wish_list: list, value: int):
    schema = Schema("u", "i", "click", "buy", action=("cart", "wish_list"))
    frame = _log(**GOOD).frame
    bad = FunnelLog.from_frame(frame.assign(cart=[value, 0, 0, 0], wish_list=wish_list), schema, name="small")
    # Each column has both classes or none of the label's own.
    good = FunnelLog.from_frame(frame.assign(cart=[1, 0, 0, 0], wish_list=0), schema, name="small")
    what = f"Log 'small': the OR of the columns 'cart', 'wish_list' is {value} in all 3 rows with a click; "
    assert check_parts(good, good, good) == ()
    assert check_parts(bad, good, good) == (what + "no method can learn from it.",)
    assert check_parts(good, good, bad) == (what + "its AUC is undefined.",)


PARTS = ["train"] * 6 + ["test"] * 2


def _published(parts: list[str] = PARTS) -> FunnelLog:
    """Users of two rows each, the latest first, and the part of each row."""
    n = len(parts)
    columns = {"u": [i // 2 for i in range(n)], "i": range(n), "t": range(n, 0, -1), "part": parts}
    frame = pd.DataFrame({**columns, "click": [1, 0] * (n // 2), "buy": [1, 0, 0, 0] * (n // 4)})
    return FunnelLog.from_frame(frame, Schema("u", "i", "click", "buy", timestamp="t", part="part"), name="log")


def _items(log: FunnelLog) -> list[int]:
    return [int(item) for item in log.frame["i"].astype(str)]


def test_all_three_published_parts_are_taken_as_they_are():
    log = _published(["valid", "train", "test", "train", "train", "test", "valid", "train"])
    assert [_items(part) for part in split(log, 0.5)] == [[1, 3, 4, 7], [0, 6], [2, 5]]


def test_without_valid_rows_a_share_of_the_training_rows_is_drawn():
    log = _published()
    train, valid, test = split(log, 1 / 3, seed=3)
    assert (_items(test), len(valid)) == ([6, 7], 2)
    assert sorted(_items(train) + _items(valid)) == list(range(6))
    assert _items(split(log, 1 / 3, seed=3)[1]) == _items(valid)
    assert len({tuple(_items(split(log, 1 / 3, seed=seed)[1])) for seed in range(20)}) > 5
    assert _items(split(log, 1 / 3, by="time")[1]) == [0, 1], "the latest"
    by_user = split(log, 1 / 3, by="user")[1]
    assert (len(by_user), by_user.frame["u"].nunique()) == (2, 1)


def test_rows_in_another_part_than_published_are_counted():
    log = _published(PARTS * 20)

    def notes(split_log) -> list[str]:
        return [note for note in check_parts(*split_log) if "not the published split" in note]

    assert notes(split(log, 0.2, seed=1)) == []
    drawn = split(log, (0.5, 0.25, 0.25), seed=1)
    strange = [sum(log.frame["part"] == part) for log, part in zip(drawn, ("test", "test", "train"), strict=True)]
    for count, note in zip(strange, notes(drawn), strict=True):
        assert f"has {count} rows in another part" in note


def test_a_published_split_without_a_part_or_a_part_without_rows_is_refused(many: FunnelLog):
    with pytest.raises(DataError, match="with its part column 'part' leaves 'test' without a row"):
        split(_published(["train", "valid"] * 4), 0.1)
    with pytest.raises(DataError, match="has no part column, which a published split needs"):
        split(many, 0.1)
    for share in (0, 1, 1.5):
        with pytest.raises(DataError, match=r"must be a number in \(0, 1\)"):
            split(_published(), share)


def test_a_published_split_is_asked_for_in_eval_args():
    base = {"model": "ESMM", "dataset": "x"}
    config = resolve(base, {"eval_args": {"split": {"PS": 0.1}, "order": "TO"}})
    assert split_arguments(config["eval_args"]) == (0.1, "time")
    for wrong in ({"PS": 1}, {"PS": 0}, {"PS": [0.1]}, {"PS": True}, {"PS": 0.1, "RS": [1, 1, 1]}, {"PS": "a"}):
        with pytest.raises(ConfigError, match=r"or \{PS: valid\}, a share below 1"):
            resolve(base, {"eval_args": {"split": wrong}})
