"""What the model sees of a log, what a registered data set is given, and how embeddings begin."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cvr_plugins.config import ConfigError, resolve
from cvr_plugins.logs import load_log
from cvr_plugins.rechub import predict, run
from cvr_plugins.rechub.build import build_model
from cvr_plugins.rechub.plan import plan
from cvr_plugins.rechub.runner import _read


def test_the_model_sees_the_named_features_and_the_propensity_all(shop, tmp_path):
    config = {**shop.config, "model": "MultiIPW", "propensity": "logistic_features", "inputs": ["user_id", "item_id"]}
    result = run({**config, "backbone": "ncf", "epochs": 1}, folder=tmp_path / "run")
    schema = json.loads((tmp_path / "run" / "schema.json").read_text())
    assert [feature["name"] for feature in schema["features"]] == ["user_id", "item_id"]
    assert result.report.values["cvr/click/auc"] is not None
    scored = predict(tmp_path / "run", shop.path, tmp_path / "out.parquet")
    assert scored.rows == 600


def test_features_may_be_left_without_the_ids(shop, tmp_path):
    result = run({**shop.config, "inputs": ["price", "tags"], "epochs": 1}, folder=tmp_path / "run")
    assert np.isfinite(result.report.values["cvr/click/auc"])
    # GAUC still knows the users.
    assert result.report.values["cvr/click/gauc"] is not None


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["user_idd"], "inputs: log 'shop' has no feature 'user_idd'. Did you mean user_id"),
        (["click"], "inputs: log 'shop' has no feature 'click'"),
        ([], "inputs must name at least one column"),
        (["price", "price"], "inputs names 'price' more than once"),
    ],
)
def test_what_is_no_feature_cannot_be_seen(inputs, message, shop, tmp_path):
    with pytest.raises(ConfigError, match=message):
        run({**shop.config, "inputs": inputs}, folder=tmp_path / "run")


def test_embeddings_begin_with_the_asked_spread(shop):
    for std in (1e-4, 0.5):
        planned = plan(resolve({**shop.config, "embedding_std": std, "embedding_size": 32}))
        data = _read(planned, load_log(planned.config))
        model = build_model(planned.config, data.schema, data.vocabulary)
        for table in model.encoder.tables:
            assert table.weight[1:].std().item() == pytest.approx(std, rel=0.3)
    with pytest.raises(ConfigError, match="embedding_std must be"):
        resolve({**shop.config, "embedding_std": 0})


COAT = {"model": "ESMM", "dataset": "coat", "data_path": "nowhere"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {**COAT, "dataset_params": {"treshold": 4}},
            "coat has no option 'treshold'. Did you mean threshold.*overlap",
        ),
        ({**COAT, "dataset_params": {"path": "x"}}, "coat has no option 'path'"),
        (
            {"model": "ESMM", "dataset": "kuairand-pure", "dataset_params": {"a": 1}},
            "has no option 'a'. It takes no opt",
        ),
    ],
)
def test_options_that_a_data_set_does_not_take_are_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        load_log(resolve(config))


def test_a_file_takes_none(shop):
    with pytest.raises(ConfigError, match="dataset_params are for registered data sets"):
        load_log(resolve({**shop.config, "dataset_params": {"threshold": 4}}))


def test_a_registered_data_set_is_given_its_options(tmp_path):
    for part, text in (("train", "1\t1\t5\n1\t2\t3\n2\t1\t2\n"), ("test", "2\t2\t4\n")):
        (tmp_path / f"ydata-ymusic-rating-study-v1_0-{part}.txt").write_text(text)
    config = {"model": "ESMM", "dataset": "yahoo-r3", "data_path": str(tmp_path)}
    three, five = (load_log(resolve({**config, "dataset_params": {"threshold": t}})) for t in (3, 5))
    assert three.summary()["conversions"] == 3
    assert five.summary()["conversions"] == 1
