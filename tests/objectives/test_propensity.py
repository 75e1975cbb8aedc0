"""Weighted losses by a propensity that is known before training: what they equal, what they refuse."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from cvr_plugins.contracts import Labels, Outputs
from cvr_plugins.objectives import DCMT, DR, IPS, Naive
from cvr_plugins.propensities import NAMES, PROPENSITIES

KNOWN = "logistic_ids"


def bce(p, y):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


WITHOUT_CTR = {"propensity": KNOWN, "train_ctr": False, "lambda_ctcvr": 0}


def test_ips_with_the_true_propensity_is_unbiased_whatever_the_ctr_head_says():
    p_click, convert, p_cvr = np.array([0.15, 0.4, 0.9]), np.array([1.0, 0.0, 1.0]), np.array([0.3, 0.6, 0.2])
    objective = IPS(propensity="column", propensity_floor=1e-6)
    out = Outputs(
        {"ctr": torch.full((3,), 5.0), "cvr": torch.tensor(np.log(p_cvr / (1 - p_cvr)))}, torch.zeros(3, 1), {}
    )
    expected = 0.0
    for clicks in itertools.product([0.0, 1.0], repeat=3):
        o = np.array(clicks)
        y = Labels(torch.tensor(o), torch.tensor(o * convert), propensity=torch.tensor(p_click))
        expected += np.prod(np.where(o == 1, p_click, 1 - p_click)) * objective.loss(out, y)["cvr"].item()
    assert expected == pytest.approx(bce(p_cvr, convert).mean(), rel=1e-12)


@pytest.mark.parametrize("objective", [IPS, DR, DCMT])
def test_the_label_is_needed_where_the_propensity_is_not_the_towers(objective):
    assert {name: "propensity" in objective(propensity=name).needs for name in NAMES} == {
        name: name in PROPENSITIES for name in NAMES
    }


@pytest.mark.parametrize("objective", [IPS, DR, DCMT])
def test_a_batch_without_the_propensity_is_refused_by_name(objective, random_batch, outputs, labels_of):
    logits, labels = random_batch(objective.heads, 0)
    with pytest.raises(ValueError, match=f"{objective.__name__} needs the label column 'propensity'"):
        objective(propensity="uniform").loss(outputs(logits), labels_of(labels))


@pytest.mark.parametrize("options", [{"propensity": KNOWN}, {"lambda_ctcvr": 0}], ids=str)
def test_without_the_ctr_task_there_is_no_p_ctr_to_weigh_with(options):
    with pytest.raises(ValueError, match=r"^train_ctr=False needs a propensity .* lambda_ctcvr=0"):
        IPS(train_ctr=False, **options)


def test_without_the_ctr_task_nothing_names_its_head():
    for objective in (IPS(**WITHOUT_CTR), DR(**WITHOUT_CTR)):
        assert "ctr" not in objective.heads
        assert objective.tasks == ("cvr",)
        assert objective.ctr_terms == ()
        assert all("ctr" not in (term, *heads) for term, heads in objective.stops.items())
    phases = DR(**WITHOUT_CTR, imputes="conversion", alternate=True).phases
    assert [(phase.terms, phase.trains) for phase in phases] == [(("imputation",),) * 2, (("cvr",),) * 2]


@pytest.mark.parametrize("rows", ["some clicks", "no click"])
def test_self_normalised_by_a_uniform_propensity_it_is_naive(rows, random_batch, outputs, labels_of):
    logits, labels = random_batch(Naive.heads, 2)
    if rows == "no click":
        labels["click"][:] = 0
    naive = Naive().loss(outputs(logits), labels_of(labels))["cvr"]
    labels["propensity"] = np.full(len(labels["click"]), 0.3)
    alone = IPS(propensity="uniform", self_normalized=True, train_ctr=False, lambda_ctcvr=0)
    terms = alone.loss(outputs({"cvr": logits["cvr"]}), labels_of(labels))
    assert set(terms) == {"cvr"}
    assert terms["cvr"].item() == pytest.approx(naive.item(), rel=1e-12)
