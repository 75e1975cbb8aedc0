"""What IPS and DR claim, by enumerating every outcome of a small batch: exact expectations, no sampling."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import logit

from cvr_plugins.contracts import Labels, Outputs
from cvr_plugins.objectives import DR, IPS


def bce(p, y):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


# Four exposures: every click vector (16) and, where it matters, every conversion vector (16) is enumerated.
P_CLICK = np.array([0.15, 0.4, 0.7, 0.9])
P_CONVERT = np.array([0.8, 0.5, 0.25, 0.1])
P_CVR = np.array([0.3, 0.6, 0.55, 0.2])
CONVERT = np.array([1.0, 0.0, 1.0, 0.0])
OTHER_PROPENSITY = np.array([0.35, 0.2, 0.5, 0.6])
OTHER_ERROR = np.array([1.5, 0.1, 0.9, 0.7])
OTHER_CONVERT = np.array([0.2, 0.7, 0.6, 0.4])
FLOOR = 1e-6


def outcomes(probabilities):
    for outcome in itertools.product([0.0, 1.0], repeat=len(probabilities)):
        vector = np.array(outcome)
        yield vector, float(np.prod(np.where(vector == 1, probabilities, 1 - probabilities)))


def softplus_inverse(value):
    return np.log(np.expm1(value))


def evaluate(objective, click, convert, propensity, imputation):
    """Return the CVR term's value and its gradient with respect to the CVR logits."""
    logits = {
        "ctr": torch.tensor(logit(propensity)),
        "cvr": torch.tensor(logit(P_CVR), requires_grad=True),
        "imputation": torch.tensor(imputation),
    }
    out = Outputs(logits=logits, embedding=torch.zeros(4, 1), hidden={})
    term = objective.loss(out, Labels(torch.tensor(click), torch.tensor(click * convert)))["cvr"]
    return term.item(), torch.autograd.grad(term, logits["cvr"])[0].numpy()


def expected_over_clicks(objective, propensity=P_CLICK, imputation=OTHER_ERROR, convert=CONVERT):
    found = [(weight, *evaluate(objective, o, convert, propensity, imputation)) for o, weight in outcomes(P_CLICK)]
    return sum(w * value for w, value, _ in found), sum(w * gradient for w, _, gradient in found)


def test_ips_with_the_true_propensity_is_unbiased_for_the_entire_space():
    value, gradient = expected_over_clicks(IPS(propensity_floor=FLOOR))
    assert value == pytest.approx(bce(P_CVR, CONVERT).mean(), rel=1e-12)
    assert gradient == pytest.approx((P_CVR - CONVERT) / 4, rel=1e-12)


@pytest.mark.parametrize("imputation_weights", ["inverse", "variance"])
@pytest.mark.parametrize(
    ("propensity", "error", "unbiased"),
    [
        pytest.param(P_CLICK, OTHER_ERROR, True, id="propensity right"),
        pytest.param(OTHER_PROPENSITY, bce(P_CVR, CONVERT), True, id="imputation right"),
        pytest.param(OTHER_PROPENSITY, OTHER_ERROR, False, id="neither right"),
    ],
)
def test_dr_is_unbiased_when_either_part_is_right(propensity, error, unbiased, imputation_weights):
    objective = DR(propensity_floor=FLOOR, imputation_weights=imputation_weights)
    value, _ = expected_over_clicks(objective, propensity, softplus_inverse(error))
    entire = bce(P_CVR, CONVERT).mean()
    if unbiased:
        assert value == pytest.approx(entire, rel=1e-12)
    else:
        bias = ((1 - P_CLICK / propensity) * (error - bce(P_CVR, CONVERT))).mean()
        assert abs(bias) > 0.05
        assert value - entire == pytest.approx(bias, rel=1e-10)


@pytest.mark.parametrize(
    ("propensity", "imputed", "unbiased"),
    [
        pytest.param(P_CLICK, OTHER_CONVERT, True, id="propensity right"),
        pytest.param(OTHER_PROPENSITY, P_CONVERT, True, id="imputation right"),
        pytest.param(OTHER_PROPENSITY, OTHER_CONVERT, False, id="neither right"),
    ],
)
def test_dr_that_imputes_conversions_has_a_doubly_robust_gradient_too(propensity, imputed, unbiased):
    objective = DR(imputes="conversion", propensity_floor=FLOOR)
    value, gradient = 0.0, np.zeros(4)
    for convert, weight in outcomes(P_CONVERT):
        found = expected_over_clicks(objective, propensity, logit(imputed), convert)
        value, gradient = value + weight * found[0], gradient + weight * found[1]
    assert (value == pytest.approx(bce(P_CVR, P_CONVERT).mean(), rel=1e-10)) == unbiased
    assert (gradient == pytest.approx((P_CVR - P_CONVERT) / 4, rel=1e-10)) == unbiased


def test_the_variance_weighted_imputation_loss_is_the_variance_of_the_dr_loss():
    """E[L_imp] = B Var(L_dr) with the true propensity: what MRDR's imputation minimises."""
    values = {}
    for imputation_weights in ("inverse", "variance"):
        objective = DR(propensity_floor=FLOOR, imputation_weights=imputation_weights)
        logits = {"ctr": logit(P_CLICK), "cvr": logit(P_CVR), "imputation": softplus_inverse(OTHER_ERROR)}
        out = Outputs({k: torch.tensor(v) for k, v in logits.items()}, torch.zeros(4, 1), {})
        found = []
        for click, weight in outcomes(P_CLICK):
            terms = objective.loss(out, Labels(torch.tensor(click), torch.tensor(click * CONVERT)))
            found.append((weight, terms["cvr"].item(), terms["imputation"].item()))
        mean = sum(w * dr for w, dr, _ in found)
        variance = sum(w * (dr - mean) ** 2 for w, dr, _ in found)
        values[imputation_weights] = (4 * variance, sum(w * imputation for w, _, imputation in found))
    assert values["variance"][1] == pytest.approx(values["variance"][0], rel=1e-10)
    assert values["inverse"][1] != pytest.approx(values["inverse"][0], rel=0.1)
