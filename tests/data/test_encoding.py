"""Encoding by hand; unknown, missing and padded ids; exact after JSON."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cvr_plugins.data import DataError, Feature, FunnelLog, Schema, Vocabulary

FEATURES = (Feature("tag"), Feature("words", "token_seq", "item"), Feature("x", "float"), Feature("y", "float", "user"))
SCHEMA = Schema("u", "i", "click", "buy", features=FEATURES)
CLICKS = {"click": 0, "buy": 0}


def _log(seed: int, n: int, tokens: int) -> FunnelLog:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "u": random.integers(0, tokens, n),
            "i": random.choice([f"i{k}" for k in range(tokens)], n),
            "tag": random.choice([None, "", "NA", "a", "b", "c"], n),
            "words": [[f"w{k}" for k in random.integers(0, tokens, random.integers(0, 7))] for _ in range(n)],
            "x": random.normal(5, 3, n),
            "y": random.integers(0, 9, n),
            **CLICKS,
        }
    )
    return FunnelLog.from_frame(frame, SCHEMA, name="toy")


def test_a_hand_worked_example():
    frame = pd.DataFrame(
        {"u": [10, 9, 10], "i": ["b", "a", "c"], "tag": ["p", None, "q"], "words": ["k", "", "l k l"], "x": [1.0, 2, 6],
         "y": [4, 4, 4], **CLICKS}
    )  # fmt: skip
    log = FunnelLog.from_frame(frame, SCHEMA)
    assert Vocabulary.fit(log, min_count=2).tokens == {"u": ("10",), "i": (), "tag": (), "words": ("k", "l")}
    vocabulary = Vocabulary.fit(log)
    assert vocabulary.tokens == {"u": ("10", "9"), "i": ("a", "b", "c"), "tag": ("p", "q"), "words": ("k", "l")}
    assert vocabulary.sizes == {"u": 4, "i": 5, "tag": 4, "words": 4}
    assert vocabulary.lengths == {"words": 3}
    assert vocabulary.dense_stats == {"x": (3.0, pytest.approx(np.sqrt(14 / 3))), "y": (4.0, 1.0)}
    new = frame.assign(u=[9, 11, 10], tag=["z", "q", None], words=["m k", "l l l l", None]).drop(
        columns=["click", "buy"]
    )
    encoded = vocabulary.transform(new)
    assert encoded.sparse_names == ("u", "i", "tag")
    assert encoded.sparse.tolist() == [[3, 3, 1], [1, 2, 3], [2, 4, 0]]
    assert (len(encoded), encoded.sparse.dtype) == (3, np.int32)
    assert encoded.sequences["words"].tolist() == [[1, 2, 0], [3, 3, 3], [0, 0, 0]]
    assert encoded.dense.tolist() == [[1, 4], [2, 4], [6, 4]]
    assert encoded.dense.dtype == np.float32
    assert encoded.unknown == {"u": 1, "i": 0, "tag": 1, "words": 1}


def test_sequences_keep_their_first_tokens_and_have_a_length_of_at_least_one():
    train = _log(0, 300, 30)
    full = Vocabulary.fit(train).transform(train).sequences["words"].tolist()
    for max_length in (1, 3, 50):
        kept = Vocabulary.fit(train, max_length=max_length).transform(train).sequences["words"].tolist()
        assert kept == [row[:max_length] for row in full]
    empty = pd.DataFrame({"u": [1, 2], "i": 1, "tag": "a", "words": [[], None], "x": 0.0, "y": 1, **CLICKS})
    assert Vocabulary.fit(FunnelLog.from_frame(empty, SCHEMA)).transform(empty).sequences["words"].tolist() == [
        [0],
        [0],
    ]


def test_features_may_be_ids_only():
    schema = Schema("u", "i", "click", "buy")
    log = FunnelLog.from_frame(pd.DataFrame({"u": [1, 2], "i": [1, 1], "click": 0, "buy": 0}), schema)
    encoded = Vocabulary.fit(log).transform(log)
    assert encoded.sparse.shape == (2, 2)
    assert encoded.dense.shape == (2, 0)
    assert encoded.sequences == {}


def test_json_gives_back_a_vocabulary_that_encodes_identically():
    train, log = _log(0, 300, 30), _log(1, 200, 45)
    vocabulary = Vocabulary.fit(train, max_length=4, min_count=2)
    text = json.dumps(vocabulary.to_dict())
    back = Vocabulary.from_dict(json.loads(text))
    assert json.dumps(back.to_dict()) == text
    first, second = vocabulary.transform(log), back.transform(log)
    for name in ("sparse", "dense", "sequences", "unknown", "sparse_names", "dense_names"):
        np.testing.assert_equal(getattr(first, name), getattr(second, name))
    assert back.dense_stats == vocabulary.dense_stats


BAD_FRAMES = {
    "missing columns": (lambda f: f.drop(columns=["tag", "x"]), "The table lacks the columns 'tag', 'x'"),
    "doubled column": (lambda f: pd.concat([f, f[["x"]]], axis=1), "more than one column named 'x'"),
    "text as float": (lambda f: f.assign(x=["1", "a"]), "column 'x' holds text that is not a number"),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_a_table_that_cannot_be_encoded_is_refused(case: str):
    spoil, message = BAD_FRAMES[case]
    vocabulary = Vocabulary.fit(_log(0, 300, 30))
    frame = pd.DataFrame({"u": [3, 17], "i": ["i1", "i2"], "tag": "a", "words": "w1 w2", "x": 0.0, "y": 1})
    vocabulary.transform(frame)
    with pytest.raises(DataError, match=message):
        vocabulary.transform(spoil(frame))


def test_options_are_checked():
    for options in ({"max_length": 0}, {"min_count": 0}, {"max_length": 2.5}, {"min_count": True}):
        with pytest.raises(DataError, match="must be a whole number of at least 1"):
            Vocabulary.fit(_log(0, 10, 3), **options)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.update(version=9), "version 9"),
        (lambda d: d.pop("tokens"), "damaged: KeyError"),
        (lambda d: d.update(tokens=3), "damaged: AttributeError"),
        (lambda d: d["tokens"].pop("u"), "its tokens do not match its features in 'u'"),
        (lambda d: d["lengths"].pop("words"), "its lengths do not match"),
        (lambda d: d["dense_stats"].update(z=[0, 1]), "its dense_stats do not match its features in 'z'"),
        (lambda d: d["tokens"]["u"].append(d["tokens"]["u"][0]), "'u' holds a token twice"),
        (lambda d: d["features"].append({"name": "q", "kind": "word"}), "unknown kind 'word'"),
    ],
)
def test_a_damaged_dictionary_is_refused(spoil, message: str):
    values = json.loads(json.dumps(Vocabulary.fit(_log(0, 30, 5)).to_dict()))
    spoil(values)
    with pytest.raises(DataError, match=message):
        Vocabulary.from_dict(values)
