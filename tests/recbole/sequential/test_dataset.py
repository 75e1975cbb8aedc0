"""Sessions as a RecBole data set: rows, order, splits, and where purchases are and are not."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
import torch

from cvr_plugins.config import ConfigError

LAST_OUT = {"split": {"LS": "valid_and_test"}, "group_by": "user"}


def by_session(events):
    return {name: list(group) for name, group in groupby(events, key=lambda event: event[0])}


def tokens(dataset, field, ids):
    return dataset.id2token(field, np.asarray(ids))


def rows_of(part):
    """Session -> (item list, target) of a part's rows, as tokens."""
    found = {}
    rows = part[list(range(len(part)))]
    for name, items, length, target in zip(
        tokens(part, "session_id", rows["session_id"]),
        rows["item_id_list"],
        rows["item_length"],
        tokens(part, "item_id", rows["item_id"]),
        strict=True,
    ):
        assert (items[length:] == 0).all()
        found.setdefault(name, []).append((list(tokens(part, "item_id", items[:length])), target))
    return found


def test_a_training_row_is_a_session_and_the_other_parts_ask_for_its_last_event(make_events, write, recbole):
    events = make_events(longest=12)
    run = recbole("PARS", write(events), MAX_ITEM_LIST_LENGTH=5)
    sessions = by_session(events)
    found = rows_of(run.train._dataset)
    assert set(found) < set(sessions)
    for name, [(items, _)] in found.items():
        assert items == [event[1] for event in sessions[name]][-5:]
    for part in (run.valid, run.test):
        for name, [(items, target)] in rows_of(part._dataset).items():
            *history, last = (event[1] for event in sessions[name])
            assert target == last
            assert items == history[-5:]


def test_events_count_in_order_of_time_whatever_the_order_of_the_file(make_events, write, recbole):
    # RecBole holds times in float32, in which these, a second apart, are mostly equal.
    events = make_events()
    shuffled = [events[place] for place in np.random.default_rng(0).permutation(len(events))]
    ordered = rows_of(recbole("PARS", write(events)).train._dataset)
    assert rows_of(recbole("PARS", write(shuffled, name="shuffled")).train._dataset) == ordered


def test_sessions_are_split_by_the_time_of_their_last_event(make_events, write, recbole):
    run = recbole("PARS", write(make_events()))
    sessions = by_session(make_events())
    ends = [
        [sessions[name][-1][2] for name in tokens(part._dataset, "session_id", part._dataset.sessions().session)]
        for part in (run.train, run.valid, run.test)
    ]
    assert max(ends[0]) < min(ends[1]) <= max(ends[1]) < min(ends[2])
    several = sum(len(events) > 1 for events in sessions.values())
    assert [len(each) for each in ends] == [several - 2 * (several // 10), several // 10, several // 10]


@pytest.mark.parametrize("mode", ["valid_and_test", "valid_only", "test_only"])
def test_holding_out_last_events_asks_for_what_recbole_asks_for(mode, make_events, write, recbole):
    from recbole.data.dataset import SequentialDataset

    found = write(make_events(shortest=1, longest=9))
    out = {"split": {"LS": mode}, "group_by": "user"}
    run = recbole("PARS", found, eval_args=out)
    stock = SequentialDataset(run.config).build()
    for ours, theirs in zip((run.valid, run.test), stock[1:], strict=True):
        assert len(theirs) == len(ours._dataset)
        if len(theirs):
            theirs.item_id_list_field = "item_id_list"
            assert rows_of(ours._dataset) == rows_of(theirs)
    trained = {name: items[-1] for name, [(items, _)] in rows_of(run.train._dataset).items()}
    assert trained == {name: rows[-1][1] for name, rows in rows_of(stock[0]).items()}


def test_prefixes_are_the_rows_that_recbole_trains_on(make_events, write, recbole):
    from recbole.data.dataset import SequentialDataset

    run = recbole("MaskedRec", write(make_events(longest=12)), MAX_ITEM_LIST_LENGTH=5)
    theirs = rows_of(SequentialDataset(run.config).build()[0])
    ours = rows_of(run.train._dataset)
    assert ours.keys() == theirs.keys()
    for name, rows in theirs.items():
        assert [items for items, _ in ours[name]] == [[*items, target][-5:] for items, target in rows]


def test_no_batch_holds_a_purchase_or_any_other_column(make_events, write, recbole):
    events = [(*event, 3.5) for event in make_events()]
    found = write(events, header="session_id:token\titem_id:token\ttimestamp:float\tpurchase:float\tprice:float")
    columns = ["session_id", "item_id", "timestamp", "purchase", "price"]
    run = recbole("PARS", found, load_col={"inter": columns})
    wanted = {"session_id", "item_id", "item_length", "item_id_list", "session_row"}
    for batch in (next(iter(run.train)), next(iter(run.valid))[0]):
        assert set(batch.interaction) - {"timestamp"} == wanted
    assert run.train._dataset.sessions().purchased.any()


def test_sessions_say_what_was_browsed_and_bought(write, recbole):
    events = [
        ("a", "x", 1, 0),
        ("a", "y", 2, 1),
        ("a", "x", 3, 0),
        ("b", "z", 5, 0),
        ("b", "y", 6, 0),
        ("c", "z", 9, 0),
    ]
    events += [(f"n{number}", item, 10 + number, 0) for number in range(8) for item in "xz"]
    part = recbole("PARS", write(events)).train._dataset
    sessions = part.sessions()
    assert list(tokens(part, "session_id", sessions.session))[:2] == ["a", "b"]
    assert sessions.ptr[:3].tolist() == [0, 3, 5]
    assert list(tokens(part, "item_id", sessions.item[:5])) == ["x", "y", "x", "z", "y"]
    assert sessions.purchased[:5].tolist() == [False, True, False, False, False]
    whole = part.session_interaction(torch.tensor([1, 0]))
    assert [list(tokens(part, "item_id", row[:3])) for row in whole["item_id_list"]] == [
        ["z", "y", "[PAD]"],
        ["x", "y", "x"],
    ]


def test_history_goes_back_to_the_first_event(make_events, write, recbole):
    events = make_events(longest=12)
    part = recbole("PARS", write(events), MAX_ITEM_LIST_LENGTH=3).test._dataset
    sessions = by_session(events)
    rows = torch.arange(len(part)).flip(0)
    place, item = part.history(rows)
    for number, name in enumerate(tokens(part, "session_id", part.sessions().session[rows])):
        viewed = [event[1] for event in sessions[name]][:-1]
        assert list(tokens(part, "item_id", item[place == number])) == viewed


def test_rows_keep_their_sessions_when_recbole_sorts_a_part(make_events, write, recbole):
    part = recbole("PARS", write(make_events())).test._dataset
    before = rows_of(part)
    part.sort(by="item_id")
    assert rows_of(part) == before
    rows = part[list(range(len(part)))]
    assert torch.equal(part.sessions().session[rows["session_row"]], rows["session_id"])


def test_items_are_counted_where_they_were_trained_on(make_events, write, recbole):
    events = make_events()
    part = recbole("PARS", write(events)).train._dataset
    trained = set(tokens(part, "session_id", part.sessions().session))
    counted = {part.id2token("item_id", item): count for item, count in part.item_counter.items()}
    assert sum(counted.values()) == sum(event[0] in trained for event in events)
    assert counted["i3"] == sum(event[0] in trained and event[1] == "i3" for event in events)


def test_a_row_is_made_when_it_is_asked_for(make_events, write, recbole):
    part = recbole("MaskedRec", write(make_events(longest=12)), MAX_ITEM_LIST_LENGTH=50).train._dataset
    assert max(value[0].numel() for value in part.inter_feat.interaction.values()) == 1
    assert part[0]["item_id_list"].shape == (50,)
    assert part[:3]["item_id_list"].shape == (3, 50)


def test_what_is_read_is_what_recbole_reads(write, recbole):
    from recbole.data.dataset import SequentialDataset

    events = [
        (f"s{n // 5}", word, 1_700_000_000.25 + n, n % 2) for n in range(60) for word in ['7"', "NA", "é e"][n % 3 :]
    ]
    found = write(events)
    run = recbole("MaskedRec", found)
    theirs = SequentialDataset(run.config)
    ours = type(run.dataset)(run.config)
    assert ours.field2type == theirs.field2type
    assert ours.field2source == theirs.field2source
    assert ours.field2id_token["item_id"].tolist() == theirs.field2id_token["item_id"].tolist()
    assert ours.inter_feat.equals(theirs.inter_feat)


BAD = [
    ({"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user"}}, "set group_by: none in eval_args"),
    ({"eval_args": {"split": {"RS": [0.8, 0.2]}}}, "needs the ratios of training, validation and test"),
    ({"eval_args": {"split": {"TS": [0.8, 0.1, 0.1]}, "group_by": "user"}}, "knows the splits RS and LS, not TS"),
    ({"eval_args": {"split": {"LS": "test"}, "group_by": "user"}}, "split LS must be one of valid_and_test"),
    ({"benchmark_filename": ["a", "b", "c"]}, "benchmark_filename cannot be used"),
    ({"load_col": {"inter": ["session_id", "item_id"]}}, r"needs the column 'timestamp' \(TIME_FIELD\)"),
    ({"TIME_FIELD": "item_id"}, r"Column 'item_id' \(TIME_FIELD\) of shop.inter must be float"),
    ({"PURCHASE_FIELD": "timestamp"}, r"Column 'timestamp' \(PURCHASE_FIELD\) of shop.inter must be 1 or 0"),
    ({"PURCHASE_FIELD": "item_id"}, r"Column 'item_id' \(PURCHASE_FIELD\) of shop.inter must be float"),
    ({"augmentation": "windows"}, "augmentation must be 'sessions' or 'prefixes'; got 'windows'"),
    ({"augmentation": "prefixes"}, "augmentation must be 'sessions' with PARS; got 'prefixes'"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_done_is_said(options, message, make_events, write, recbole):
    with pytest.raises(ConfigError, match=message):
        recbole("PARS", write(make_events()), **options)


def test_sessions_of_one_event_are_left_out(write, recbole):
    several = [(f"s{n}", item, 10 * n, 0) for n in range(10) for item in "xyz"]
    run = recbole("PARS", write([("one", "x", 5, 1), *several]))
    names = {name for part in (run.train, run.valid, run.test) for name in rows_of(part._dataset)}
    assert names == {f"s{n}" for n in range(10)}
    with pytest.raises(ConfigError, match="No session of lonely has two events"):
        recbole("PARS", write([("a", "x", 1, 0), ("b", "y", 2, 0)], name="lonely"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("session_id:token\titem_id:token\ttimestamp\tpurchase:float", "has the field 'timestamp'; write name:type"),
        ("session_id:float\titem_id:token\ttimestamp:float\tpurchase:float", "cannot be read"),
    ],
)
def test_a_broken_file_is_said_to_be(header, message, make_events, write, recbole):
    with pytest.raises(ValueError, match=message):
        recbole("PARS", write(make_events(), header=header))
