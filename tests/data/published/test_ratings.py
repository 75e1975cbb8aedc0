"""Coat, Yahoo! R3 and KuaiRec: files of the published layouts with made-up contents."""

from __future__ import annotations

import numpy as np
import pytest

from cvr_plugins.data import DataError
from cvr_plugins.data.published import coat, kuairec, yahoo_r3

GROUPS = {"user": {"gender": 2, "age": 3}, "item": {"gender": 2, "color": 4}}


def write_coat(folder, *, train=None, test=None, features=None):
    """Write files of Coat's sizes: 24 ratings by choice and 16 at random of each user, of which one is of both."""
    rng = np.random.default_rng(0)
    made = {"train": np.zeros((290, 300), int), "test": np.zeros((290, 300), int)}
    for user in range(290):
        chosen = rng.permutation(300)
        made["train"][user, chosen[:24]] = rng.integers(1, 6, 24)
        made["test"][user, chosen[23:39]] = rng.integers(1, 6, 16)
    for name, change in (("train", train), ("test", test)):
        if change is not None:
            change(made[name])
        np.savetxt(folder / f"{name}.ascii", made[name], fmt="%d")
    (folder / "user_item_features").mkdir()
    for side, rows in (("user", 290), ("item", 300)):
        names, blocks = [], []
        for group, size in GROUPS[side].items():
            names += [f"{group}:{group[0]}{i}" for i in range(size)]
            blocks.append(np.eye(size, dtype=int)[rng.integers(0, size, rows)])
        matrix = np.hstack(blocks)
        if features is not None and side == "item":
            features(matrix)
        np.savetxt(folder / "user_item_features" / f"{side}_features.ascii", matrix, fmt="%d")
        (folder / "user_item_features" / f"{side}_features_map.txt").write_text("\n".join(names))
    return made


def pairs(log, part):
    chosen = log.frame[log.frame["part"] == part]
    return set(zip(chosen["user_id"], chosen["item_id"], strict=True))


def test_coat_is_all_pairs_and_the_random_ratings(tmp_path):
    made = write_coat(tmp_path)
    log = coat(path=tmp_path)
    train, test = (log.frame[log.frame["part"] == part] for part in ("train", "test"))
    assert len(train) == len(pairs(log, "train")) == 290 * 300
    assert len(test) == 4640
    assert int(train["rated"].sum()) == 6960
    assert (test["rated"] == 1).all()
    for part, frame in (("train", train), ("test", test)):
        ratings = made[part][frame["user_id"].astype(int), frame["item_id"].astype(int)]
        assert (frame["rated"] == (ratings > 0)).all()
        assert (frame["positive"] == (ratings >= 3)).all()
    assert log.notes == ("290 of 4,640 test pairs also occur in training; they are kept (overlap).",)


def test_coats_features_are_the_tokens_of_the_one_hot_groups(tmp_path):
    write_coat(tmp_path)
    log = coat(path=tmp_path)
    assert [(f.name, f.kind, f.side) for f in log.schema.features[2:]] == [
        ("user_gender", "token", "user"),
        ("user_age", "token", "user"),
        ("item_gender", "token", "item"),
        ("item_color", "token", "item"),
    ]
    matrix = np.loadtxt(tmp_path / "user_item_features" / "user_features.ascii", dtype=int)
    names = (tmp_path / "user_item_features" / "user_features_map.txt").read_text().split()
    for row in log.frame.sample(50, random_state=0).itertuples():
        assert matrix[int(row.user_id), names.index(f"age:{row.user_age}")] == 1


def one_more(matrix):
    matrix[0, np.flatnonzero(matrix[0] == 0)[0]] = 3


def a_six(matrix):
    matrix[tuple(np.argwhere(matrix)[0])] = 6


def no_color(matrix):
    matrix[7, 2:] = 0


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"train": one_more}, {}, "train.ascii' holds 6,961 ratings from 1 to 5, and Coat's has 6,960"),
        ({"test": a_six}, {}, "test.ascii' holds 4,640 ratings from 1 to 6, and Coat's has 4,640 from 1 to 5"),
        ({"features": no_color}, {}, "1 of 300 rows do not have exactly one 'color' set"),
        ({}, {"threshold": "3"}, "coat: threshold must be a finite number"),
        ({}, {"overlap": 1}, "coat: overlap must be true or false"),
    ],
)
def test_what_is_not_coat_is_refused(changes, options, message, tmp_path):
    write_coat(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        coat(path=tmp_path, **options)


def test_files_that_are_cut_are_named(tmp_path):
    write_coat(tmp_path)
    for text, message in (("1 2\n3 4\n", "holds 2 x 2 numbers, and Coat's has 290 x 300"), ("1 2\n3\n", "whole num")):
        (tmp_path / "test.ascii").write_text(text)
        with pytest.raises(DataError, match=f"test.ascii' .*{message}"):
            coat(path=tmp_path)


TRAIN = "7\t10\t5\n7\t2\t1\n12\t10\t3\n30\t4\t2\n"
TEST = "12\t2\t4\n7\t10\t5\n30\t10\t1\n"


def write_yahoo(folder, train=TRAIN, test=TEST):
    for part, text in (("train", train), ("test", test)):
        (folder / f"ydata-ymusic-rating-study-v1_0-{part}.txt").write_text(text)


def rows(log):
    return [(r.user_id, r.item_id, r.rated, r.positive, r.part) for r in log.frame.itertuples()]


def test_yahoo_r3_by_hand(tmp_path):
    write_yahoo(tmp_path)
    log = yahoo_r3(path=tmp_path)
    pairs = [(user, item) for user in ("7", "12", "30") for item in ("2", "4", "10")]
    assert [row[:2] for row in rows(log)[:9]] == pairs
    assert [row[2:] for row in rows(log)[:3]] == [(1, 0, "train"), (0, 0, "train"), (1, 1, "train")]
    assert [(user, item) for user, item, rated, *_ in rows(log)[3:9] if rated] == [("12", "10"), ("30", "4")]
    assert rows(log)[9:] == [("12", "2", 1, 1, "test"), ("7", "10", 1, 1, "test"), ("30", "10", 1, 0, "test")]
    assert rows(yahoo_r3(path=tmp_path, overlap=False, threshold=5))[9:] == [
        ("12", "2", 1, 0, "test"),
        ("30", "10", 1, 0, "test"),
    ]


def test_a_share_of_the_unrated_pairs_is_drawn_by_the_seed(tmp_path):
    write_yahoo(tmp_path, train="".join(f"{u}\t{u % 9}\t{1 + u % 5}\n" for u in range(20)))
    log = yahoo_r3(path=tmp_path, unrated=0.25)
    every = rows(yahoo_r3(path=tmp_path))
    drawn = rows(log)
    assert set(drawn) < set(every)
    free = sum(row[2] == 0 for row in every)
    assert sum(row[2] == 0 for row in drawn) == round(0.25 * free)
    assert sum(row[2] == 1 for row in drawn) == sum(row[2] == 1 for row in every)
    assert drawn == rows(yahoo_r3(path=tmp_path, unrated=0.25))
    assert drawn != rows(yahoo_r3(path=tmp_path, unrated=0.25, seed=1))
    assert "unrated pairs were drawn; clicks are more frequent" in log.notes[1]


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({"train": TRAIN + "7\t10\t2\n"}, {}, "train.txt' rates 1 pairs more than once"),
        ({"test": TEST + "7\t2\t6\n"}, {}, "test.txt': 1 of 4 ratings are not from 1 to 5"),
        ({"train": "1,2,3\n"}, {}, "train.txt' cannot be read: .*xpected 3 columns"),
        ({"train": TRAIN.replace("5", "x")}, {}, "column 'rating'.*'x'"),
        ({}, {"unrated": 0}, r"yahoo-r3: unrated must be a number in \(0, 1\]"),
    ],
)
def test_what_is_not_yahoo_r3_is_refused(files, options, message, tmp_path):
    write_yahoo(tmp_path, **files)
    with pytest.raises(DataError, match=message):
        yahoo_r3(path=tmp_path, **options)


HEADER = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"


def write_kuairec(folder, big, small):
    folder.mkdir(exist_ok=True)
    for name, views in (("big", big), ("small", small)):
        lines = "".join(f"{u},{v},1000,500,2020-07-05 05:27:48,20200705,1593898068,{ratio}\n" for u, v, ratio in views)
        (folder / f"{name}_matrix.csv").write_text(HEADER + lines)


BIG = [(14, 148, 0.7), (14, 183, 2.3), (3, 148, 1.9), (14, 148, 2.0)]
SMALL = [(14, 148, 2.1), (3, 183, 0.4), (3, 148, 5.0)]


def test_kuairec_by_hand(tmp_path):
    write_kuairec(tmp_path / "data", BIG, SMALL)
    log = kuairec(path=tmp_path, unrated=1)
    assert sorted(rows(log)) == sorted(
        [
            ("14", "148", 1, 1, "train"),
            ("14", "183", 1, 1, "train"),
            ("3", "148", 1, 0, "train"),
            ("3", "183", 0, 0, "train"),
            ("14", "148", 1, 1, "test"),
            ("3", "183", 1, 0, "test"),
            ("3", "148", 1, 1, "test"),
        ]
    )
    assert log.notes == (
        "big_matrix.csv: 4 views are 3 pairs; each keeps its largest watch ratio.",
        "2 of 3 test pairs also occur in training; they are kept (overlap).",
    )
    assert sum(row[4] == "test" for row in rows(kuairec(path=tmp_path, overlap=False, unrated=1))) == 1


def test_kuairec_with_a_watch_ratio_that_is_none_is_refused(tmp_path):
    write_kuairec(tmp_path, [(1, 2, ""), (1, 3, 1.0)], SMALL)
    with pytest.raises(DataError, match=r"big_matrix.csv': the watch ratio is missing or negative in 1 of 2 rows"):
        kuairec(path=tmp_path)
