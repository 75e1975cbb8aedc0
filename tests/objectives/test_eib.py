"""EIB: its NumPy twin, hand-worked batches, and when it is unbiased."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import expit as sigmoid

from cvr_plugins.contracts import Labels, Outputs
from cvr_plugins.objectives import EIB

LN2 = math.log(2)


def bce(p, y):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def eib_twin(live, frozen, labels, fits):
    o, r = labels["click"], labels["conversion"]
    error, imputed = bce(sigmoid(live["cvr"]), r), bce(sigmoid(live["cvr"]), sigmoid(frozen["imputation"]))
    residual = bce(sigmoid(frozen["cvr"]), r) - bce(sigmoid(frozen["cvr"]), sigmoid(live["imputation"]))
    misfit = {"conversion": bce(sigmoid(live["imputation"]), r), "error": residual**2}[fits]
    return {
        "ctr": bce(sigmoid(live["ctr"]), o).mean(),
        "cvr": 2 * (o * error + (1 - o) * imputed).mean(),
        "imputation": 0.5 * (o * misfit).sum() / max(o.sum(), 1),
    }


@pytest.mark.parametrize("fits", ["conversion", "error"])
@pytest.mark.parametrize("clicks", ["some", "none"])
def test_eib_equals_its_numpy_twin(clicks, fits, random_batch, assert_twin):
    logits, labels = random_batch(EIB.heads, 0)
    if clicks == "none":
        labels["click"][:] = 0
    twin = functools.partial(eib_twin, fits=fits)
    assert_twin(EIB(fits=fits, lambda_cvr=2, lambda_imputation=0.5), logits, labels, twin)


def test_eib_by_hand(outputs, labels_of):
    # p_cvr is 1/2 everywhere, so that every error and every imputed one is ln 2.
    out = outputs({"ctr": [0.0] * 4, "cvr": [0.0] * 4, "imputation": [0.0, 1.0, -2.0, 3.0]})
    y = labels_of({"click": [1.0, 0.0, 1.0, 0.0], "conversion": [1.0, 0.0, 0.0, 0.0]})
    by_fit = {fits: EIB(fits=fits).loss(out, y) for fits in ("conversion", "error")}
    for terms in by_fit.values():
        assert terms["cvr"].item() == pytest.approx(LN2)
    assert by_fit["error"]["imputation"].item() == pytest.approx(0)
    by_hand = (LN2 + math.log(1 + math.exp(-2))) / 2
    assert by_fit["conversion"]["imputation"].item() == pytest.approx(by_hand)


def test_eib_is_unbiased_if_the_imputed_conversions_are_right_and_biased_otherwise():
    p_click, convert, p_cvr = np.array([0.2, 0.5, 0.9]), np.array([1.0, 0.0, 1.0]), np.array([0.3, 0.6, 0.2])
    ideal = bce(p_cvr, convert).mean()

    def expected(imputed):
        logits = {"cvr": np.log(p_cvr / (1 - p_cvr)), "imputation": imputed}
        out = Outputs({head: torch.tensor(z) for head, z in logits.items()}, torch.zeros(3, 1), {})
        total = 0.0
        for clicks in itertools.product([0.0, 1.0], repeat=3):
            o = np.array(clicks)
            y = Labels(torch.tensor(o), torch.tensor(o * convert))
            total += np.prod(np.where(o == 1, p_click, 1 - p_click)) * EIB(train_ctr=False).loss(out, y)["cvr"].item()
        return total

    right = np.where(convert == 1, 60.0, -60.0)
    assert expected(right) == pytest.approx(ideal, rel=1e-12)
    assert abs(expected(-right) - ideal) > 0.1
