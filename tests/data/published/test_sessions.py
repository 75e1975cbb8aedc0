"""YooChoose, RetailRocket and Taobao, in made-up files of the form in which they are published."""

from __future__ import annotations

import pytest

from cvr_plugins.data import DataError
from cvr_plugins.data.published import retailrocket, taobao, yoochoose


def write(folder, name, lines):
    (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def rows(log):
    frame = log.frame
    columns = (frame["session_id"].astype(str), frame["item_id"].astype(str), frame["timestamp"], frame["purchase"])
    return list(zip(*columns, strict=True))


# Enough views of items 8 and 9 by others that none of theirs is left out as rare.
CROWD = [(f"{user}", item) for user in range(90, 95) for item in (8, 9)]
CROWDED = len(CROWD)


def test_yoochoose_has_what_was_bought_on_every_click_of_it(tmp_path):
    clicks = [
        "1,2014-04-07T10:51:09.277Z,8,0",
        "1,2014-04-07T10:54:09.868Z,9,S",
        "1,2014-04-07T10:55:00.000Z,8,12",
        "2,2014-04-07T13:56:37.614Z,9,0",
        "2,2014-04-07T13:57:19.373Z,5,0",
        "3,2014-04-07T13:57:19.373Z,9,0",
        *(f"{user},2014-04-08T13:57:19.373Z,{item},0" for user, item in CROWD),
    ]
    write(tmp_path, "yoochoose-clicks.dat", clicks)
    write(tmp_path, "yoochoose-buys.dat", ["1,2014-04-07T11:00:00.000Z,8,1046,1", "7,2014-04-07T11:00:00.000Z,9,0,0"])
    log = yoochoose(path=tmp_path)
    assert rows(log)[:3] == [
        ("1", "8", 1396867869.277, 1),
        ("1", "9", 1396868049.868, 0),
        ("1", "8", 1396868100.0, 1),
    ]
    assert len(log) == 3 + CROWDED
    assert log.notes == (
        "1 events of items with fewer than 5 events are left out.",
        "2 sessions of a single event are left out.",
    )


RETAILROCKET = [
    "timestamp,visitorid,event,itemid,transactionid",
    "1433221332117,1,view,8,",
    "1433221333000,1,addtocart,9,",
    "1433221334000,1,transaction,9,4000",
    "1433221331000,1,view,9,",
    "1433221331000,2,transaction,8,4001",
    *(f"1433221339000,{user},view,{item}," for user, item in CROWD),
]
TAOBAO = [
    "1,8,2520377,pv,1511544070",
    "1,9,2520771,pv,1511561733",
    "1,9,2520771,cart,1511561734",
    "1,9,2520771,buy,1511561735",
    "1,8,2520377,fav,1511561736",
    *(f"{user},{item},1,pv,1511572885" for user, item in CROWD),
]


@pytest.mark.parametrize(
    ("builder", "name", "lines", "first"),
    [
        (retailrocket, "events.csv", RETAILROCKET, [("1", "9", 1433221331.0, 1), ("1", "8", 1433221332.117, 0)]),
        (taobao, "UserBehavior.csv", TAOBAO, [("1", "8", 1511544070, 0), ("1", "9", 1511561733, 1)]),
    ],
)
def test_views_alone_are_rows_and_what_was_bought_is_a_purchase(builder, name, lines, first, tmp_path):
    log = builder(path=write(tmp_path, name, lines))
    assert rows(log)[:2] == first
    assert len(log) == 2 + CROWDED


@pytest.mark.parametrize(
    ("builder", "name", "lines", "message"),
    [
        (retailrocket, "events.csv", ["timestamp,visitorid,event,item", "1,2,view,3"], "lacks the column 'itemid'"),
        (retailrocket, "events.csv", [RETAILROCKET[0], "1,2,click,3,"], "holds the event 'click'; known are addtocart"),
        (retailrocket, "events.csv", ["timestamp,visitorid,event,itemid", "1,two,view,3"], "cannot be read: .*two"),
        (taobao, "UserBehavior.csv", ["1,8,2520377,buys,1511544070"], "holds the event 'buys'; known are buy, cart"),
        (taobao, "UserBehavior.csv", ["1,8,2520377,pv"], "cannot be read: .*[Ee]xpected 5 columns"),
        (taobao, "UserBehavior.csv", ["1,8,1,pv,5"], "The files of taobao hold no session of two events"),
    ],
)
def test_what_is_not_the_published_file_is_said_to_be_not(builder, name, lines, message, tmp_path):
    with pytest.raises(DataError, match=message):
        builder(path=write(tmp_path, name, lines))
