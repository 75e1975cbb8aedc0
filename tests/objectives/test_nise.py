"""NISE and its ablation without unclicked rows against a NumPy twin, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit as sigmoid

from cvr_plugins.objectives import NISE

LN2, LN3 = math.log(2), math.log(3)

# Click probabilities 1/2, 3/4, 1/4, 1/2; conversion probabilities 1/4, 1/2, 3/4, 1/2.
HAND_LOGITS = {"ctr": [0.0, LN3, -LN3, 0.0], "cvr": [-LN3, 0.0, LN3, 0.0]}
HAND_LABELS = {"click": [1.0, 1.0, 0.0, 0.0], "conversion": [1.0, 0.0, 0.0, 0.0]}
HAND_CTR = (LN2 - math.log(3 / 4) - math.log(3 / 4) + LN2) / 4
HAND_CVR = (2 * LN2 + LN2) / 4
HAND_UNCLICKED = (-(3 / 4) * math.log(3 / 4) - (1 / 4) * math.log(1 / 4) + LN2) / 4


def cross_entropy(p, y):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def twin_of(unclicked):
    def twin(live, frozen, labels):
        o, r, p = labels["click"], labels["conversion"], sigmoid(live["cvr"])
        clicked = (o * cross_entropy(p, r)).sum()
        terms = {"ctr": cross_entropy(sigmoid(live["ctr"]), o).mean()}
        if unclicked:
            # The pseudo-label is not detached: the term moves p.
            return {**terms, "cvr": clicked / len(o), "unclicked": ((1 - o) * cross_entropy(p, p)).sum() / len(o)}
        return {**terms, "cvr": clicked / max(o.sum(), 1)}

    return twin


@pytest.mark.parametrize("unclicked", [True, False])
def test_equals_its_numpy_twin_on_random_batches(unclicked, random_batch, assert_twin):
    logits, labels = random_batch(("ctr", "cvr"), 0)
    for clicks in (labels["click"], np.ones(12), np.zeros(12)):
        assert_twin(NISE(unclicked=unclicked), logits, {**labels, "click": clicks}, twin_of(unclicked))


def test_by_hand(outputs, labels_of):
    terms = NISE().loss(outputs(HAND_LOGITS), labels_of(HAND_LABELS))
    found = {name: term.item() for name, term in terms.items()}
    assert found == pytest.approx({"ctr": HAND_CTR, "cvr": HAND_CVR, "unclicked": HAND_UNCLICKED}, rel=1e-12)
