"""NISE against a NumPy twin and by hand, the gradient of its entropy, and its ablations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import expit as sigmoid

from cvr_plugins.functional import bce
from cvr_plugins.objectives import NISE, Naive

LN2, LN3 = math.log(2), math.log(3)

# Click probabilities 1/2, 3/4, 1/4, 1/2; conversion probabilities 1/4, 1/2, 3/4, 1/2.
HAND_LOGITS = {"ctr": [0.0, LN3, -LN3, 0.0], "cvr": [-LN3, 0.0, LN3, 0.0]}
HAND_LABELS = {"click": [1.0, 1.0, 0.0, 0.0], "conversion": [1.0, 0.0, 0.0, 0.0]}
HAND_CTR = (LN2 - math.log(3 / 4) - math.log(3 / 4) + LN2) / 4
HAND_CVR = (2 * LN2 + LN2) / 4
HAND_UNCLICKED = (-(3 / 4) * math.log(3 / 4) - (1 / 4) * math.log(1 / 4) + LN2) / 4


def cross_entropy(p, y):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def twin(live, frozen, labels):
    o, r, p = labels["click"], labels["conversion"], sigmoid(live["cvr"])
    return {
        "ctr": cross_entropy(sigmoid(live["ctr"]), o).mean(),
        "cvr": (o * cross_entropy(p, r)).sum() / len(o),
        "unclicked": ((1 - o) * cross_entropy(p, p)).sum() / len(o),
    }


def test_equals_its_numpy_twin_on_random_batches(random_batch, assert_twin):
    logits, labels = random_batch(("ctr", "cvr"), 0)
    for clicks in (labels["click"], np.ones(12)):
        assert_twin(NISE(), logits, {**labels, "click": clicks}, twin)


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
