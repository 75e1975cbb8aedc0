"""The parts: RecBole's own splits, and the published one."""

from __future__ import annotations

import numpy as np
import pytest
from recbole.data import create_dataset

from cvr_plugins.config import ConfigError
from cvr_plugins.data import DataError
from cvr_plugins.recbole import models

PARTS = ("train", "valid", "test")


@pytest.fixture
def published(shop):
    """A log with a part field; `valid` says whether some rows are for validation."""

    def make(valid=True, **others):
        log = shop()
        names = np.resize(["train", "train", "test", "valid" if valid else "train"], len(log.click)).astype(object)
        for position, value in others.items():
            names[int(position[1:])] = value
        log.columns["inter"]["fold:token"] = names
        return log

    return make


def folds(part):
    return set(part.field2id_token["fold"][part.inter_feat["fold"].numpy()])


def test_a_published_split_is_kept(configure, published):
    config = configure(models.ESMM, log=published(), PART_FIELD="fold", eval_args={"split": {"PS": 0.1}})
    dataset = create_dataset(config)
    assert "fold" not in {feature.name for feature in dataset.schema.features}
    train, valid, test = dataset.build()
    assert [folds(part) for part in (train, valid, test)] == [{"train"}, {"valid"}, {"test"}]
    assert [len(part) for part in (train, valid, test)] == [450, 225, 225]


@pytest.mark.parametrize("order", ["RO", "TO"])
def test_without_a_validation_part_a_share_of_the_training_rows_is_taken(order, configure, published):
    args = {"split": {"PS": 0.2}, "order": order}
    config = configure(models.ESMM, log=published(valid=False), PART_FIELD="fold", eval_args=args)
    train, valid, test = create_dataset(config).build()
    assert [len(part) for part in (train, valid, test)] == [540, 135, 225]
    assert folds(valid) == {"train"}
    later = valid.inter_feat["timestamp"].min() >= train.inter_feat["timestamp"].max()
    assert bool(later) is (order == "TO")


REFUSED = [
    ({"eval_args": {"split": {"PS": 0.1}}}, {}, ConfigError, "has no part field, which eval_args.split PS needs"),
    ({"PART_FIELD": "fold", "eval_args": {"split": {"PS": 1}}}, {}, ConfigError, "PS must be a share between 0 and 1"),
    ({"PART_FIELD": "fold", "eval_args": {"split": {"PS": 0.1}}}, {"_7": "dev"}, DataError, "it holds 'dev'"),
    ({"PART_FIELD": "fold", "eval_args": {"split": {"PS": 1e-9}}}, {}, DataError, "leaves valid without a row"),
    ({"PART_FIELD": "fold", "eval_args": {"order": "UO"}}, {}, ConfigError, "order must be RO .* or TO"),
]


@pytest.mark.parametrize(("keys", "rows", "error", "message"), REFUSED, ids=[r[3][:30] for r in REFUSED])
def test_what_cannot_be_cut_is_refused(keys, rows, error, message, configure, published):
    log = published(valid=False, **rows)
    if "PART_FIELD" not in keys:
        keys = {**keys, "drop_columns": ["fold"]}
    dataset = create_dataset(configure(models.ESMM, log=log, **keys))
    with pytest.raises(error, match=message):
        dataset.build()


def test_recboles_own_splits_stay_its_own(configure):
    args = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user"}
    train, valid, test = create_dataset(configure(models.ESMM, eval_args=args)).build()
    assert len(train) + len(valid) + len(test) == 900
    assert set(train.inter_feat["user_id"].tolist()) >= set(test.inter_feat["user_id"].tolist())
