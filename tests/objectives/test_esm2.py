"""ESM2: NumPy twin, hand-worked batch, the chain rule, and logarithms where probabilities round to 0 and 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import expit as sigmoid

from cvr_plugins.objectives import ESM2

LN2, LN3 = math.log(2), math.log(3)
HEADS = ("ctr", "action", "cvr_with_action", "cvr_without_action")

# y1 1/2, 1/2, 3/4, 1/4; y2 1/2, 1/4, 1/2, 3/4; y3 3/4, 1/2, 3/4, 1/2; y4 1/4, 1/2, 1/4, 1/4.
HAND_LOGITS = {
    "ctr": [0.0, 0.0, LN3, -LN3],
    "action": [0.0, -LN3, 0.0, LN3],
    "cvr_with_action": [LN3, 0.0, LN3, 0.0],
    "cvr_without_action": [-LN3, 0.0, -LN3, -LN3],
}
HAND_LABELS = {"click": [1.0, 1.0, 1.0, 0.0], "action": [1.0, 0.0, 0.0, 0.0], "conversion": [1.0, 0.0, 1.0, 0.0]}
HAND_CVR = [1 / 2, 1 / 2, 1 / 2, 7 / 16]


def bce(p, y):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def esm2_twin(options):
    def twin(live, frozen, labels):
        o = labels["click"]
        y1, y2, y3, y4 = (sigmoid(live[head]) for head in HEADS)
        losses = {
            "ctr": bce(y1, o),
            "ctavr": bce(y1 * y2, o * labels["action"]),
            "ctcvr": bce(y1 * (y4 + y2 * (y3 - y4)), o * labels["conversion"]),
        }
        weights = {name: options.get(f"weight_{name}", 1.0) for name in losses}
        return {name: weights[name] * loss.mean() for name, loss in losses.items() if weights[name] > 0}

    return twin


@pytest.mark.parametrize(
    "options",
    [{}, {"weight_ctr": 0.5, "weight_ctavr": 2, "weight_ctcvr": 3}, {"weight_ctavr": 0}, {"weight_ctr": 0}],
    ids=str,
)
def test_equals_its_numpy_twin(options, random_batch, assert_twin):
    logits, labels = random_batch(ESM2.heads, 0)
    assert_twin(ESM2(**options), logits, labels, esm2_twin(options))


def test_by_hand(outputs, labels_of):
    terms = ESM2().loss(outputs(HAND_LOGITS), labels_of(HAND_LABELS))
    # p_ctavr 1/4, 1/8, 3/8, 3/16 against 1, 0, 0, 0; p_ctcvr 1/4, 1/4, 3/8, 7/64 against 1, 0, 1, 0.
    ctavr = [1 / 4, 7 / 8, 5 / 8, 13 / 16]
    ctcvr = [1 / 4, 3 / 4, 3 / 8, 57 / 64]
    ctr = [1 / 2, 1 / 2, 3 / 4, 3 / 4]
    for name, likelihoods in [("ctr", ctr), ("ctavr", ctavr), ("ctcvr", ctcvr)]:
        assert terms[name].item() == pytest.approx(-sum(map(math.log, likelihoods)) / 4), name


def test_predictions_by_hand(outputs):
    predicted = ESM2().predict(outputs(HAND_LOGITS))
    assert set(predicted) == set(ESM2.tasks) == {"cvr", "ctr", "ctcvr", "ctavr"}
    assert predicted["ctr"].tolist() == pytest.approx([1 / 2, 1 / 2, 3 / 4, 1 / 4])
    assert predicted["cvr"].tolist() == pytest.approx(HAND_CVR)
    assert predicted["ctcvr"].tolist() == pytest.approx([1 / 4, 1 / 4, 3 / 8, 7 / 64])
    assert predicted["ctavr"].tolist() == pytest.approx([1 / 4, 1 / 8, 3 / 8, 3 / 16])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_chain_rule_holds_to_the_last_bit(dtype, outputs):
    rng = np.random.default_rng(0)
    logits = {head: rng.normal(0.0, 8.0, 5000) for head in HEADS}
    out = outputs(logits, dtype)
    predicted = ESM2().predict(out)
    assert torch.equal(predicted["ctcvr"], predicted["ctr"] * predicted["cvr"])
    assert torch.equal(predicted["ctavr"], predicted["ctr"] * torch.sigmoid(out.logits["action"]))
    assert all(((p >= 0) & (p <= 1)).all() for p in predicted.values())


def test_a_certain_conversion_is_not_predicted_above_1(outputs):
    action = torch.linspace(-8, 8, 20001)
    assert (action.sigmoid() + (-action).sigmoid() > 1).any()  # what it is up against
    certain = [200.0] * len(action)
    logits = {"ctr": certain, "action": action.tolist(), "cvr_with_action": certain, "cvr_without_action": certain}
    assert ESM2().predict(outputs(logits, torch.float32))["cvr"].max() == 1


@pytest.mark.parametrize(
    ("signs", "converted", "expected"),
    [
        # 1 - p_ctcvr is 2 e^-50, whichever path the conversion takes; 1 - p rounds to 0 in float32 and float64.
        ((1, 1, 1, 1), 0, 50 - LN2),
        ((1, -1, 1, 1), 0, 50 - LN2),
        # p_ctcvr is e^-50, e^-100 or 2 e^-100.
        ((-1, 1, 1, 1), 1, 50.0),
        ((-1, 1, -1, -1), 1, 100.0),
        ((-1, 1, -1, 1), 1, 100 - LN2),
    ],
)
def test_the_ctcvr_loss_keeps_its_digits_where_probabilities_round(signs, converted, expected, outputs, labels_of):
    logits = {head: [50.0 * sign] for head, sign in zip(HEADS, signs, strict=True)}
    labels = {"click": [1.0], "action": [1.0], "conversion": [float(converted)]}
    term = ESM2().loss(outputs(logits, torch.float32), labels_of(labels, torch.float32))["ctcvr"]
    assert term.item() == pytest.approx(expected, rel=1e-6)
