"""DCMT: NumPy twin, hand-worked batch, and the counterfactual label."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import expit as sigmoid

from cvr_plugins.contracts import Labels, Outputs
from cvr_plugins.objectives import DCMT

LN2, LN3 = math.log(2), math.log(3)

# Click probabilities 1/2, 1/4, 3/4, 1/2; factual CVR 1/2, 3/4, 1/2, 1/4; counterfactual CVR 1/4, 1/2, 1/2, 1/4.
HAND_LOGITS = {
    "ctr": [0.0, -LN3, LN3, 0.0],
    "cvr": [0.0, LN3, 0.0, -LN3],
    "counterfactual": [-LN3, 0.0, 0.0, -LN3],
}
HAND_LABELS = {"click": [1.0, 1.0, 0.0, 0.0], "conversion": [1.0, 0.0, 0.0, 0.0]}
HAND_CTR = (LN2 + 2 * LN2 + 2 * LN2 + LN2) / 4
HAND_CTCVR = (-math.log(1 / 4) - math.log(13 / 16) - math.log(5 / 8) - math.log(7 / 8)) / 4
# |1 - 3/4|, |1 - 5/4|, |1 - 1|, |1 - 1/2|
HAND_CONSTRAINT = (1 / 4 + 1 / 4 + 0 + 1 / 2) / 4


def bce(p, y):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def dcmt_twin(options):
    floor = options.get("propensity_floor", 0.01)

    def average(weights, values):
        if not options.get("self_normalized", True):
            return (weights * values).sum() / len(values)
        return (weights * values).sum() / weights.sum() if weights.any() else 0.0

    def twin(live, frozen, labels):
        o, t = labels["click"], labels["click"] * labels["conversion"]
        p_frozen = labels["propensity"] if "propensity" in options else sigmoid(frozen["ctr"])
        p_ctr, p_cvr, p_cf = (sigmoid(live[head]) for head in ("ctr", "cvr", "counterfactual"))
        factual = average(o / np.maximum(p_frozen, floor), bce(p_cvr, labels["conversion"]))
        flipped = average((1 - o) / np.maximum(1 - p_frozen, floor), -np.log(p_cf))
        terms = {
            "ctr": bce(p_ctr, o).mean(),
            "cvr": options.get("lambda_cvr", 1) * factual,
            "counterfactual": options.get("lambda_cvr", 1) * flipped,
            "constraint": options.get("lambda_constraint", 1e-3) * np.abs(1 - (p_cvr + p_cf)).mean(),
            "ctcvr": options.get("lambda_ctcvr", 1) * bce(p_ctr * p_cvr, t).mean(),
        }
        off = {name for name in ("constraint", "ctcvr") if options.get(f"lambda_{name}", 1) == 0}
        return {name: value for name, value in terms.items() if name not in off}

    return twin


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"propensity": "column", "propensity_floor": 0.3},
        {"self_normalized": False},
        {"propensity_floor": 0.5, "lambda_constraint": 2.0},
        {"propensity_floor": 0.5, "self_normalized": False, "lambda_cvr": 0.3, "lambda_ctcvr": 0.7},
        {"lambda_constraint": 0, "lambda_ctcvr": 0},
    ],
    ids=str,
)
def test_equals_its_numpy_twin_whatever_is_clicked(options, random_batch, assert_twin):
    for clicks in (None, 0.0, 1.0):
        logits, labels = random_batch(DCMT.heads, 1)
        labels["propensity"] = np.random.default_rng(1).random(len(labels["click"]))
        if clicks is not None:
            labels["click"][:] = clicks
        assert_twin(DCMT(**options), logits, labels, dcmt_twin(options))


@pytest.mark.parametrize(
    ("options", "factual", "counterfactual"),
    [
        # Clicked rows: weights 2 and 4, errors ln 2 and 2 ln 2. Unclicked: weights 4 and 2, errors ln 2 and 2 ln 2.
        ({}, (2 * LN2 + 4 * 2 * LN2) / 6, (4 * LN2 + 2 * 2 * LN2) / 6),
        ({"self_normalized": False}, (2 * LN2 + 4 * 2 * LN2) / 4, (4 * LN2 + 2 * 2 * LN2) / 4),
    ],
    ids=str,
)
def test_by_hand(options, factual, counterfactual, outputs, labels_of):
    terms = DCMT(**options).loss(outputs(HAND_LOGITS), labels_of(HAND_LABELS))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {
            "ctr": HAND_CTR,
            "cvr": factual,
            "counterfactual": counterfactual,
            "constraint": 1e-3 * HAND_CONSTRAINT,
            "ctcvr": HAND_CTCVR,
        }
    )


def test_with_the_true_propensity_both_parts_are_unbiased_for_the_entire_space():
    p_click, p_cvr, p_cf = np.array([0.15, 0.4, 0.9]), np.array([0.3, 0.6, 0.2]), np.array([0.8, 0.5, 0.3])
    converts = np.array([1.0, 0.0, 1.0])
    logits = {"ctr": p_click, "cvr": p_cvr, "counterfactual": p_cf}
    out = Outputs({head: torch.logit(torch.tensor(p)) for head, p in logits.items()}, torch.zeros(3, 1), {})
    objective = DCMT(self_normalized=False, propensity_floor=1e-6)
    factual = counterfactual = 0.0
    for outcome in itertools.product([0.0, 1.0], repeat=3):
        click = np.array(outcome)
        weight = np.prod(np.where(click == 1, p_click, 1 - p_click))
        terms = objective.loss(out, Labels(torch.tensor(click), torch.tensor(click * converts)))
        factual += weight * terms["cvr"].item()
        counterfactual += weight * terms["counterfactual"].item()
    assert factual == pytest.approx(bce(p_cvr, converts).mean(), rel=1e-12)
    assert counterfactual == pytest.approx(-np.log(p_cf).mean(), rel=1e-12)
