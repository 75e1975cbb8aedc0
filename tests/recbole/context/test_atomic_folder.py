"""A registered data set as RecBole's atomic files: the same rows, truth as truth, and the keys that name it."""

from __future__ import annotations

import numpy as np
import pytest
from recbole.data import create_dataset

from cvr_plugins.data import ml_100k_funnel
from cvr_plugins.plugins import RegistryError
from cvr_plugins.recbole import models
from cvr_plugins.recbole.running.config import Config
from cvr_plugins.recbole.running.datasets import atomic_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return atomic_folder("ml-100k-funnel", tmp_path_factory.mktemp("atomic"))


def test_the_keys_name_every_field(folder):
    assert (folder.data_path / "ml-100k-funnel" / "ml-100k-funnel.inter").is_file()
    assert folder.keys == {
        "data_path": str(folder.data_path),
        "dataset": "ml-100k-funnel",
        "TIME_FIELD": "timestamp",
        "ACTION_FIELD": ["action"],
        "COUNTERFACTUAL_FIELD": "counterfactual_conversion",
        "PROPENSITY_FIELD": "propensity",
    }
    assert any("release_year" in note for note in folder.notes)


def test_files_that_are_there_are_reused(folder):
    file = folder.data_path / "ml-100k-funnel" / "ml-100k-funnel.inter"
    before = file.stat().st_mtime_ns
    again = atomic_folder("ml-100k-funnel", folder.data_path)
    assert file.stat().st_mtime_ns == before
    assert again.keys == folder.keys


def test_recbole_reads_the_log_and_no_truth_becomes_a_feature(folder):
    log = ml_100k_funnel()
    dataset = create_dataset(Config(models.ESMM, config_dict={**folder.keys, "use_gpu": False}))
    names = [feature.name for feature in dataset.schema.features]
    assert names == ["user_id", "item_id", "age", "gender", "occupation", "release_year", "genres"]
    assert {f.name: f.side for f in dataset.schema.features} == {f.name: f.side for f in log.schema.features}
    assert set(dataset.schema.truth) == {"counterfactual", "propensity"}
    inter = dataset.inter_feat
    for column in ("click", "conversion", "action", "counterfactual_conversion", "propensity", "timestamp"):
        np.testing.assert_allclose(inter[column].to_numpy(), log.frame[column].to_numpy(), rtol=1e-12)
    users = dataset.field2id_token["user_id"][inter["user_id"].to_numpy()]
    np.testing.assert_array_equal(users, log.frame["user_id"].astype(str).to_numpy())
    assert dataset.notes == ()


def test_an_unknown_data_set_is_named(tmp_path):
    with pytest.raises(RegistryError, match=r"Unknown data set 'ml-100k-funel'. Did you mean ml-100k"):
        atomic_folder("ml-100k-funel", tmp_path)
    assert list(tmp_path.iterdir()) == []
