"""What becomes of RecBole's field types in the encoder, against NumPy; the order of the fields."""

from __future__ import annotations

import numpy as np
import pytest

from cvr_plugins.recbole import models

ORDER = [
    ("user_id", "token"),
    ("age", "token"),
    ("tags", "token_seq"),
    ("activity", "dense"),
    ("item_id", "token"),
    ("hour", "token"),
    ("price", "dense"),
    ("type", "token"),
    ("vector", "dense"),
]


@pytest.fixture
def tiny(shop):
    """Three exposures of two users and two items, whose values are known."""
    log = shop(rows=3)
    log.columns["inter"].update(
        {
            "user_id:token": ["a", "b", "a"],
            "item_id:token": ["x", "y", "y"],
            "hour:token": ["7", "", "9"],
            "price:float": ["1.5", "-2", "0.25"],
            "click:float": ["1", "1", "0"],
            "conversion:float": ["1", "0", "0"],
            "cart:float": ["1", "0", "0"],
            "wish:float": ["0", "0", "0"],
            "truth:float": ["1", "0", "1"],
        }
    )
    log.columns["user"] = {
        "user_id:token": ["b", "a"],
        "age:token": ["30", "40"],
        "tags:token_seq": ["", "red blue red"],
        "activity:float": ["4", "5"],
    }
    log.columns["item"] = {
        "item_id:token": ["y", "x"],
        "type:token": ["cup", "pot"],
        "vector:float_seq": ["0.5 1.5", "2.5"],
    }
    return log


SPLIT = {"split": {"RS": [1, 1, 1]}, "order": "TO", "group_by": None, "mode": "labeled"}


def twin(encoder, dataset, row):
    """What is to come out for one exposure, written by hand: name -> values before and after embedding."""
    tables = {field.name: encoder.table(field.name).weight.detach().numpy() for field in encoder.embedded}

    def of(name, *tokens):
        ids = [dataset.field2token_id[name][token] for token in tokens]
        return tables[name][ids].mean(axis=0) if ids else np.zeros(tables[name].shape[1])

    users = {"a": ("40", ["red", "blue", "red"], 5.0), "b": ("30", [], 4.0)}
    items = {"x": ("pot", [2.5, 0.0]), "y": ("cup", [0.5, 1.5])}
    user, item, hour, price = row
    age, tags, activity = users[user]
    kind, vector = items[item]
    embedded = [
        of("user_id", user),
        of("age", age),
        of("tags", *tags),
        of("item_id", item),
        of("hour", hour) if hour else tables["hour"][0],
        of("type", kind),
    ]
    return np.concatenate([*embedded, [activity, price], vector])


def test_every_field_type_is_encoded_as_by_hand(prepare, batch, tiny):
    run = prepare(models.ESMM, log=tiny, eval_args=SPLIT)
    encoder = run.model.core.encoder
    assert [(field.name, field.kind) for field in encoder.fields] == ORDER
    rows = [("a", "x", "7", 1.5), ("b", "y", "", -2.0), ("a", "y", "9", 0.25)]
    expected = {row[2]: twin(encoder, run.dataset, row) for row in rows}
    seen = set()
    for loader in (run.train, run.valid, run.test):
        for one in loader:
            interaction = one[0] if isinstance(one, tuple) else one
            found = encoder(run.model.features(interaction)).detach().numpy()
            hours = run.dataset.field2id_token["hour"][interaction["hour"].numpy()]
            for hour, values in zip(hours, found, strict=True):
                key = "" if hour == "[PAD]" else str(hour)
                np.testing.assert_allclose(values, expected[key], rtol=1e-6)
                seen.add(key)
    assert seen == set(expected)
    assert encoder.layout.embedded == (4,) * 6
    assert encoder.layout.dense == 4
    assert encoder.layout.names == ("user_id", "age", "tags", "item_id", "hour", "type")


def test_tanh_normalises_dense_values_by_the_training_part(prepare, batch):
    run = prepare(models.ESMM, dense="tanh")
    encoder, rows = run.model.core.encoder, batch(run.train)
    x = run.model.features(rows)
    dense = encoder(x).detach().numpy()[:, -5:]
    raw = np.column_stack([x["activity"], x["price"], x["vector"]]).astype(np.float64)
    means = [raw[:, 0].mean(), raw[:, 1].mean(), *[raw[:, 2:].mean()] * 3]
    stds = [raw[:, 0].std(), raw[:, 1].std(), *[raw[:, 2:].std()] * 3]
    np.testing.assert_allclose(dense, np.tanh((raw - means) / stds), rtol=1e-5, atol=1e-6)
    assert len(run.train.dataset) < len(run.dataset)


def test_a_discretised_float_is_embedded_by_its_bucket(prepare, batch):
    run = prepare(
        models.ESMM, numerical_features=["price", "activity"], discretization={"price": {"method": "ED", "bucket": 4}}
    )
    encoder = run.model.core.encoder
    (bucket,) = [field for field in encoder.fields if field.name == "price"]
    assert bucket.kind == "token"
    assert "price" in encoder.layout.names
    assert encoder.layout.dense == 4, "activity stays a number, though it is among the numerical features"
    rows = batch(run.train)
    values = rows["price"].numpy()
    assert set(values[:, 1]) <= set(range(1, bucket.rows))
    place = encoder.layout.names.index("price") * 4
    found = encoder(run.model.features(rows)).detach().numpy()[:, place : place + 4]
    table = encoder.table("price").weight.detach().numpy()
    np.testing.assert_array_equal(found, table[values[:, 1].astype(int)])
