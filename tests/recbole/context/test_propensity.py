"""Propensities that are fitted before training: to the same log as on the torch-rechub side; and chosen inputs."""

from __future__ import annotations

import numpy as np
import pytest
from recbole.data import create_dataset

from cvr_plugins.config import ConfigError, resolve
from cvr_plugins.data import DataError
from cvr_plugins.logs import load_log
from cvr_plugins.propensities import PROPENSITIES, fit_propensity
from cvr_plugins.recbole import models
from cvr_plugins.recbole.context.propensity import FIELD, funnel_log


@pytest.fixture
def log_of(tmp_path):
    """The funnel log that the torch-rechub side reads from the same files."""

    def read(config, **keys):
        path = str(tmp_path / "data" / "shop" / "shop.inter")
        given = {"dataset": path, "ACTION_FIELD": ["cart", "wish"], "TIME_FIELD": "timestamp", **keys}
        return load_log(resolve({**given, "COUNTERFACTUAL_FIELD": "truth"}, needs=("dataset",)))

    return read


def test_a_part_is_the_log_that_it_was_read_from(configure, log_of, shop):
    log = shop()
    del log.columns["item"]["vector:float_seq"]  # the torch-rechub side reads no float_seq
    config = configure(models.ESMM, log=log)
    dataset = create_dataset(config)
    dataset._change_feat_format()
    ours, theirs = funnel_log(dataset), log_of(config)
    assert [(f.name, f.kind, f.side) for f in ours.schema.features] == [
        (f.name, f.kind, f.side) for f in theirs.schema.features
    ]
    for feature in ours.schema.features:
        here, there = ours.frame[feature.name], theirs.frame[feature.name]
        if feature.kind == "float":
            np.testing.assert_allclose(here, there, rtol=1e-6)
        else:
            assert [repr(v) for v in here.tolist()] == [repr(v) for v in there.tolist()], feature.name
    for name, column in ours.labels().items():
        np.testing.assert_array_equal(column, theirs.labels()[name])
    for name in ("logistic_ids", "logistic_features", "uniform"):
        expected = fit_propensity(name, theirs).predict(theirs)
        np.testing.assert_allclose(fit_propensity(name, ours).predict(ours), expected, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in PROPENSITIES if name != "column"])
def test_the_training_part_is_given_the_propensities_fitted_to_it(name, prepare):
    run = prepare(models.ESCM2_IPS, propensity=name, epochs=2)
    run.trainer.fit(run.train, run.valid)
    train = funnel_log(run.train.dataset)
    expected = fit_propensity(name, train).predict(train)
    np.testing.assert_allclose(run.train.dataset.inter_feat[FIELD].numpy(), expected, rtol=1e-6)
    assert FIELD not in run.valid.dataset.inter_feat
    assert FIELD not in {field.name for field in run.model.core.encoder.fields}
    assert run.trainer.evaluate(run.test)["cvr/click/auc"] > 0.5


def test_a_known_propensity_is_read_from_its_field(prepare, shop):
    log = shop()
    known = np.linspace(0.1, 0.9, len(log.click)).round(3)
    log.columns["inter"]["assigned:float"] = known
    run = prepare(models.ESCM2_IPS, log=log, propensity="column", PROPENSITY_FIELD="assigned", epochs=1)
    run.trainer.fit(run.train, run.valid)
    dataset = run.train.dataset
    np.testing.assert_allclose(dataset.inter_feat[FIELD].numpy(), dataset.inter_feat["assigned"].numpy(), rtol=1e-6)
    assert "assigned" not in {field.name for field in run.model.core.encoder.fields}
    without = prepare(models.ESCM2_IPS, propensity="column")
    with pytest.raises(DataError, match=r"has no propensity column, .* PROPENSITY_FIELD"):
        without.trainer.fit(without.train, without.valid)


def test_its_options_reach_the_model_and_unknown_ones_are_refused(prepare):
    run = prepare(models.ESCM2_IPS, propensity="logistic_ids", propensity_params={"C": 0.01}, epochs=1)
    run.trainer.fit(run.train, run.valid)
    train = funnel_log(run.train.dataset)
    expected = fit_propensity("logistic_ids", train, C=0.01).predict(train)
    np.testing.assert_allclose(run.train.dataset.inter_feat[FIELD].numpy(), expected, rtol=1e-6)
    with pytest.raises(ConfigError, match=r"propensity_params: 'c' is no option here; .* takes C"):
        prepare(models.ESCM2_IPS, propensity="logistic_ids", propensity_params={"c": 1})
    with pytest.raises(ConfigError, match="no model is fitted"):
        prepare(models.ESMM, propensity_params={"C": 1})


def test_inputs_choose_what_the_model_sees(prepare):
    run = prepare(models.ESMM, inputs=["item_id", "tags", "price"])
    assert [field.name for field in run.model.core.encoder.fields] == ["tags", "item_id", "price"]
    with pytest.raises(ConfigError, match=r"inputs: log 'shop' has no feature 'prize'. Did you mean price\?"):
        prepare(models.ESMM, inputs=["prize"])
