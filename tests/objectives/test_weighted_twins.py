"""IPS, DR and everything that is built on them, with every option, against one NumPy twin of their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit as sigmoid

from cvr_plugins.contracts import CTR_TOWER
from cvr_plugins.objectives import DR, IPS, AdapSL, BalancedDR, BalancedIPS

KNOWN = {"propensity": "column", "lambda_ctcvr": 0}
ALONE = {**KNOWN, "train_ctr": False}
CONVERSION = {"imputes": "conversion"}
CASES = [
    (IPS, {}),
    (IPS, {"self_normalized": True}),
    (IPS, {"propensity_floor": 0.5, "self_normalized": True, "lambda_cvr": 0.3, "lambda_ctcvr": 2}),
    (IPS, {**KNOWN, "propensity_floor": 0.4}),
    (IPS, {**ALONE, "self_normalized": True}),
    (DR, {}),
    (DR, {"propensity_floor": 0.3, "self_normalized": True, "lambda_cvr": 3, "lambda_imputation": 0.2}),
    (DR, {"imputation_weights": "variance"}),
    (DR, {**CONVERSION, "self_normalized": True}),
    (DR, {**CONVERSION, "imputation_weights": "variance", "alternate": True, "lambda_ctcvr": 0}),
    (DR, {**CONVERSION, "imputation_weights": "bias", "propensity_floor": 0.2}),
    (DR, {**CONVERSION, "imputation_weights": "mse", "propensity_floor": 0.2}),
    (DR, {**ALONE, "imputation_weights": "variance", "self_normalized": True}),
    (DR, {**KNOWN, **CONVERSION, "imputation_weights": "mse", "bias_share": 0.2, "propensity_floor": 0.2}),
    (DR, {**ALONE, **CONVERSION, "imputation_weights": "variance", "alternate": True, "propensity_floor": 0.3}),
    (AdapSL, {}),
    (AdapSL, ALONE),
    (BalancedIPS, {}),
    (BalancedIPS, {"lambda_balance": 0}),
    (BalancedIPS, {"lambda_balance": 3.0, "propensity_floor": 0.3, "lambda_cvr": 2.0}),
    (BalancedDR, {"lambda_balance": 2.0, "lambda_imputation": 0.5}),
    (BalancedDR, {"balance_trains": "propensity", "lambda_balance": 2.0, "self_normalized": True}),
]


def bce(p, y):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def twin_of(objective):
    """The terms from the logits: `live` where a gradient flows, `frozen` where it does not."""

    def imputed(imputation, cvr):
        if objective.imputes == "error":
            return np.log(1 + np.exp(imputation))
        return bce(sigmoid(cvr), sigmoid(imputation))

    def twin(live, frozen, labels):
        o, r = labels["click"], labels["conversion"]
        known = objective.propensity != CTR_TOWER
        p = np.maximum(labels["propensity"] if known else sigmoid(frozen["ctr"]), objective.propensity_floor)

        def average(weights, values):
            total = weights.sum() if objective.self_normalized else len(values)
            return (weights * values).sum() / total if total else 0.0

        p_cvr = sigmoid(live["cvr"])
        error, terms = bce(p_cvr, r), {}
        if isinstance(objective, DR):
            e_hat = imputed(frozen["imputation"], live["cvr"])
            terms["cvr"] = objective.lambda_cvr * (e_hat.mean() + average(o / p, error - e_hat))
            variance, bias, share = (1 - p) / p**2, (1 - p) ** 2 / p**3, objective.bias_share
            mixed = share * bias + (1 - share) * variance
            by_name = {"inverse": 1 / p, "variance": variance, "bias": bias, "mse": mixed}
            residual = bce(sigmoid(frozen["cvr"]), r) - imputed(live["imputation"], frozen["cvr"])
            squared = average(o * by_name[objective.imputation_weights], residual**2)
            terms["imputation"] = objective.lambda_imputation * squared
        else:
            terms["cvr"] = objective.lambda_cvr * average(o / p, error)
        if objective.train_ctr:
            p_ctr = sigmoid(live["ctr"])
            terms["ctr"] = bce(p_ctr, o).mean()
            if objective.lambda_ctcvr:
                terms["ctcvr"] = objective.lambda_ctcvr * bce(p_ctr * p_cvr, o * r).mean()
        if getattr(objective, "lambda_balance", 0):
            floor, phi = objective.propensity_floor, live if objective.balance_trains == "both" else frozen
            weights = o / np.maximum(p_ctr, floor) - (1 - o) / np.maximum(1 - p_ctr, floor)
            terms["balance"] = objective.lambda_balance * (weights * sigmoid(phi["cvr"])).mean() ** 2
        return terms

    return twin


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_equals_the_twin_whatever_is_clicked(kind, options, random_batch, assert_twin):
    objective = kind(**options)
    for seed, clicks in enumerate([None, 0.0, 1.0]):
        logits, labels = random_batch(objective.heads, seed)
        # Nothing to do with the CTR head, and its two ends among it.
        labels["propensity"] = np.random.default_rng(seed + 100).random(len(labels["click"]))
        labels["propensity"][:3] = 0.0, 1.0, 1e-3
        if clicks is not None:
            labels["click"][:] = clicks
        assert_twin(objective, logits, labels, twin_of(objective))
