"""Naive, ESMM and NISE against NumPy twins and hand-worked batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit as sigmoid

from cvr_plugins.objectives import ESMM, NISE, Naive, UnclickedNegative

LN2, LN3 = math.log(2), math.log(3)

# Click probabilities 1/2, 3/4, 1/4, 1/2; conversion probabilities 1/4, 1/2, 3/4, 1/2.
HAND_LOGITS = {"ctr": [0.0, LN3, -LN3, 0.0], "cvr": [-LN3, 0.0, LN3, 0.0]}
HAND_LABELS = {"click": [1.0, 1.0, 0.0, 0.0], "conversion": [1.0, 0.0, 0.0, 0.0]}
HAND_CTR = (LN2 - math.log(3 / 4) - math.log(3 / 4) + LN2) / 4


def bce(p, y):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def naive_twin(live, frozen, labels):
    o, r = labels["click"], labels["conversion"]
    clicked = o == 1
    return {
        "ctr": bce(sigmoid(live["ctr"]), o).mean(),
        "cvr": bce(sigmoid(live["cvr"]), r)[clicked].mean() if clicked.any() else 0.0,
    }


def esmm_twin(live, frozen, labels):
    o, t = labels["click"], labels["click"] * labels["conversion"]
    p_ctr, p_cvr = sigmoid(live["ctr"]), sigmoid(live["cvr"])
    return {"ctr": bce(p_ctr, o).mean(), "ctcvr": bce(p_ctr * p_cvr, t).mean()}


def negative_twin(live, frozen, labels):
    o, t = labels["click"], labels["click"] * labels["conversion"]
    return {"ctr": bce(sigmoid(live["ctr"]), o).mean(), "cvr": bce(sigmoid(live["cvr"]), t).mean()}


@pytest.mark.parametrize(
    ("objective", "twin"), [(Naive, naive_twin), (ESMM, esmm_twin), (UnclickedNegative, negative_twin)]
)
def test_equals_its_numpy_twin_on_random_batches(objective, twin, random_batch, assert_twin):
    logits, labels = random_batch(("ctr", "cvr"), 0)
    assert_twin(objective(), logits, labels, twin)
    labels["click"][:] = 0
    assert_twin(objective(), logits, labels, twin)


def test_naive_by_hand(outputs, labels_of):
    terms = Naive().loss(outputs(HAND_LOGITS), labels_of(HAND_LABELS))
    # Clicked rows: a conversion predicted at 1/4 costs 2 ln 2, none predicted at 1/2 costs ln 2.
    assert terms["ctr"].item() == pytest.approx(HAND_CTR)
    assert terms["cvr"].item() == pytest.approx((2 * LN2 + LN2) / 2)


def test_esmm_by_hand(outputs, labels_of):
    terms = ESMM().loss(outputs(HAND_LOGITS), labels_of(HAND_LABELS))
    # p_ctcvr = 1/8, 3/8, 3/16, 1/4; only the first row converted.
    by_row = [-math.log(1 / 8), -math.log(5 / 8), -math.log(13 / 16), -math.log(3 / 4)]
    assert terms["ctr"].item() == pytest.approx(HAND_CTR)
    assert terms["ctcvr"].item() == pytest.approx(sum(by_row) / 4)


def test_predictions_are_named_and_multiply(outputs):
    predicted = ESMM().predict(outputs(HAND_LOGITS))
    assert predicted["ctr"].tolist() == pytest.approx([0.5, 0.75, 0.25, 0.5])
    assert predicted["cvr"].tolist() == pytest.approx([0.25, 0.5, 0.75, 0.5])
    assert predicted["ctcvr"].tolist() == pytest.approx([1 / 8, 3 / 8, 3 / 16, 1 / 4])


def nise_twin(unclicked):
    def twin(live, frozen, labels):
        o, r, p = labels["click"], labels["conversion"], sigmoid(live["cvr"])
        clicked = (o * bce(p, r)).sum()
        terms = {"ctr": bce(sigmoid(live["ctr"]), o).mean()}
        if unclicked:
            # The pseudo-label is not detached: the term moves p.
            return {**terms, "cvr": clicked / len(o), "unclicked": ((1 - o) * bce(p, p)).sum() / len(o)}
        return {**terms, "cvr": clicked / max(o.sum(), 1)}

    return twin


@pytest.mark.parametrize("unclicked", [True, False])
def test_nise_equals_its_numpy_twin_on_random_batches(unclicked, random_batch, assert_twin):
    logits, labels = random_batch(("ctr", "cvr"), 0)
    for clicks in (labels["click"], np.ones(12), np.zeros(12)):
        assert_twin(NISE(unclicked=unclicked), logits, {**labels, "click": clicks}, nise_twin(unclicked))


def test_nise_by_hand(outputs, labels_of):
    terms = NISE().loss(outputs(HAND_LOGITS), labels_of(HAND_LABELS))
    unclicked_by_hand = (-(3 / 4) * math.log(3 / 4) - (1 / 4) * math.log(1 / 4) + LN2) / 4
    found = {name: term.item() for name, term in terms.items()}
    assert found == pytest.approx(
        {"ctr": HAND_CTR, "cvr": (2 * LN2 + LN2) / 4, "unclicked": unclicked_by_hand}, rel=1e-12
    )
