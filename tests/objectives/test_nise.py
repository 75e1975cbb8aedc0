"""NISE against a NumPy twin and by hand, the gradient of its entropy, its ablations, and its dynamic weight."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from cvr_plugins.architectures import MLP, Towers
from cvr_plugins.assembly import OptionError, assemble
from cvr_plugins.contracts import Layout
from cvr_plugins.functional import bce
from cvr_plugins.model import CVRModel
from cvr_plugins.objectives import NISE, Naive
from cvr_plugins.weightings import Dynamic, Fixed

LN2, LN3 = math.log(2), math.log(3)

# Click probabilities 1/2, 3/4, 1/4, 1/2; conversion probabilities 1/4, 1/2, 3/4, 1/2.
HAND_LOGITS = {"ctr": [0.0, LN3, -LN3, 0.0], "cvr": [-LN3, 0.0, LN3, 0.0]}
HAND_LABELS = {"click": [1.0, 1.0, 0.0, 0.0], "conversion": [1.0, 0.0, 0.0, 0.0]}
HAND_CTR = (LN2 - math.log(3 / 4) - math.log(3 / 4) + LN2) / 4
HAND_CVR = (2 * LN2 + LN2) / 4
HAND_UNCLICKED = (-(3 / 4) * math.log(3 / 4) - (1 / 4) * math.log(1 / 4) + LN2) / 4


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def cross_entropy(p, y):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def twin(live, frozen, labels):
    o, r, p = labels["click"], labels["conversion"], sigmoid(live["cvr"])
    return {
        "ctr": cross_entropy(sigmoid(live["ctr"]), o).mean(),
        "cvr": (o * cross_entropy(p, r)).sum() / len(o),
        "unclicked": ((1 - o) * cross_entropy(p, p)).sum() / len(o),
    }


def weighing(objective, weighting):
    """A model of which only the weighing of loss terms is used."""
    return CVRModel(nn.Identity(), Towers(Layout((2,)), objective.heads, backbone=MLP), objective, weighting)


def test_equals_its_numpy_twin_on_random_batches(random_batch, assert_twin):
    logits, labels = random_batch(("ctr", "cvr"), 0)
    assert_twin(NISE(), logits, labels, twin)


def test_by_hand(outputs, labels_of):
    terms = NISE().loss(outputs(HAND_LOGITS), labels_of(HAND_LABELS))
    found = {name: term.item() for name, term in terms.items()}
    assert found == pytest.approx({"ctr": HAND_CTR, "cvr": HAND_CVR, "unclicked": HAND_UNCLICKED}, rel=1e-12)


def test_an_unclicked_row_is_moved_by_the_gradient_of_the_entropy_which_is_not_zero(outputs, labels_of, gradients):
    z = np.array([-30.0, -4.0, -1.0, -0.1, 0.1, 1.0, 4.0, 30.0])
    out = outputs({"ctr": np.zeros(8), "cvr": z})
    terms = NISE().loss(out, labels_of({"click": np.zeros(8), "conversion": np.zeros(8)}))
    p = sigmoid(z)
    expected = -z * p * (1 - p) / len(z)
    assert (expected != 0).all()
    np.testing.assert_allclose(gradients(terms["unclicked"], out)["cvr"], expected, rtol=1e-9, atol=1e-18)
    # The step that lowers it takes each prediction further from 1/2.
    assert (np.sign(-expected) == np.sign(z)).all()
    assert terms["cvr"].item() == 0
    detached = bce(out.logits["cvr"], out.logits["cvr"].detach().sigmoid()).mean()
    assert detached.item() == pytest.approx(terms["unclicked"].item(), rel=1e-12), "the same value"
    assert not gradients(detached, out)["cvr"].any(), "and no gradient, were the pseudo-label detached"


def test_a_clicked_row_is_moved_by_its_label_alone(outputs, labels_of, gradients):
    out = outputs(HAND_LOGITS)
    terms = NISE().loss(out, labels_of({"click": [1.0] * 4, "conversion": [1.0, 0.0, 0.0, 1.0]}))
    assert terms["unclicked"].item() == 0
    assert not gradients(terms["unclicked"], out)["cvr"].any()
    expected = (sigmoid(np.array(HAND_LOGITS["cvr"])) - [1, 0, 0, 1]) / 4
    assert gradients(terms["cvr"], out)["cvr"] == pytest.approx(expected)


@pytest.mark.parametrize("click", [None, 0.0, 1.0])
def test_without_unclicked_rows_the_losses_are_those_of_naive(click, random_batch, outputs, labels_of, gradients):
    """Equation 2 of the paper, the mean over clicked rows; so NISE-2 with fixed weights is Naive."""
    logits, labels = random_batch(("ctr", "cvr"), 3)
    if click is not None:
        labels["click"] = np.full(12, click)
    found, expected = [], []
    for objective, into in ((NISE(unclicked=False), found), (Naive(), expected)):
        out = outputs(logits)
        for name, term in objective.loss(out, labels_of(labels)).items():
            into.append((name, term.item(), {head: g.tolist() for head, g in gradients(term, out).items()}))
    assert found == expected


def test_without_the_ctr_task_the_cvr_losses_stay_and_all_else_goes(random_batch, outputs, labels_of):
    logits, labels = random_batch(("ctr", "cvr"), 4)
    objective, whole = NISE(train_ctr=False), NISE()
    terms = objective.loss(outputs({"cvr": logits["cvr"]}), labels_of(labels))
    expected = whole.loss(outputs(logits), labels_of(labels))
    assert {n: t.item() for n, t in terms.items()} == {n: t.item() for n, t in expected.items() if n != "ctr"}
    assert (objective.heads, objective.tasks, objective.stops) == (("cvr",), ("cvr",), {})
    predicted = objective.predict(outputs({"cvr": logits["cvr"]}))
    assert set(predicted) == {"cvr"}
    torch.testing.assert_close(predicted["cvr"], whole.predict(outputs(logits))["cvr"])
    assert (whole.heads, whole.tasks) == (("ctr", "cvr"), ("cvr", "ctr", "ctcvr"))


@pytest.mark.parametrize("off", [{}, {"train_ctr": False}, {"unclicked": False}])
def test_the_methods_own_weighting_is_dynamic_unless_there_is_only_one_loss(off):
    *_, weighting = assemble("NISE", options=off).build(Layout((4,)))
    if "train_ctr" in off:
        assert weighting is None
    else:
        assert (type(weighting), weighting.alpha, weighting.beta) == (Dynamic, 1.0, 50.0), "the paper's defaults"
        *_, weighting = assemble("NISE", options={**off, "alpha": 0.5, "beta": 10}).build(Layout((4,)))
        assert (weighting.alpha, weighting.beta) == (0.5, 10.0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"weighting": "dynamic"}, "weighting"),
        ({"weighting": "fixed"}, "weighting"),
        ({"options": {"alpha": 2.0}}, "weighting, alpha"),
    ],
)
def test_a_weighting_asked_for_where_there_is_one_loss_is_refused_with_the_reason(options, named):
    options = {"options": {}, **options}
    options["options"]["train_ctr"] = False
    with pytest.raises(OptionError, match=rf"NISE has no CTR loss with these options\. Leave out {named}\.$"):
        assemble("NISE", **options).build(Layout((4,)))


def test_the_dynamic_weight_is_a_constant_to_the_gradient(outputs, labels_of, gradients):
    out = outputs(HAND_LOGITS)
    objective = NISE()
    terms = objective.loss(out, labels_of(HAND_LABELS))
    weighted, factors = weighing(objective, Dynamic(alpha=2.0)).weigh(terms)
    ratio = HAND_CTR / (HAND_CVR + HAND_UNCLICKED)
    assert factors["cvr"].item() == pytest.approx(2 * ratio)
    assert sum(weighted.values()).item() == pytest.approx(3 * HAND_CTR), "both losses at the size of the first"
    found = gradients(sum(weighted.values()), out)
    plain = {name: gradients(term, out) for name, term in terms.items()}
    np.testing.assert_allclose(found["ctr"], plain["ctr"]["ctr"])
    np.testing.assert_allclose(found["cvr"], 2 * ratio * (plain["cvr"]["cvr"] + plain["unclicked"]["cvr"]))


def test_without_dynamic_weighting_the_losses_are_added(outputs, labels_of):
    """NISE-3."""
    objective = NISE()
    terms = objective.loss(outputs(HAND_LOGITS), labels_of(HAND_LABELS))
    weighted, factors = weighing(objective, Fixed()).weigh(terms)
    assert {n: t.item() for n, t in weighted.items()} == {n: t.item() for n, t in terms.items()}
    assert factors["cvr"].item() == 1


@pytest.mark.parametrize("logit", [40.0, -200.0])
def test_a_cvr_loss_of_nothing_has_the_weight_at_its_cap_and_finite_gradients(logit, outputs, labels_of, gradients):
    """All rows unclicked and predicted with certainty: the entropy is 0 to rounding."""
    out = outputs({"ctr": [0.3] * 3, "cvr": [logit] * 3}, torch.float32)
    objective = NISE()
    terms = objective.loss(out, labels_of({"click": [0.0] * 3, "conversion": [0.0] * 3}, torch.float32))
    weighted, factors = weighing(objective, Dynamic(alpha=0.5)).weigh(terms)
    assert factors["cvr"].item() == 25
    loss = sum(weighted.values())
    assert loss.item() == pytest.approx(math.log1p(math.exp(0.3)), rel=1e-6)
    assert all(np.isfinite(gradient).all() for gradient in gradients(loss, out).values())
