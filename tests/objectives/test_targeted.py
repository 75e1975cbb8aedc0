"""TDR against a NumPy twin of its definition, by hand, and when it is the loss over the entire space."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import expit as sigmoid
from scipy.special import logit

from cvr_plugins.contracts import Labels, Outputs
from cvr_plugins.objectives import TargetedDR


def bce(p, y):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def corrected(p, o, e, e_hat):
    """The imputed errors after the correction, from its definition: a regression without intercept."""
    h = 1 / p - 1
    clicked = o == 1
    if not h[clicked].any():
        return e_hat
    (eta,), *_ = np.linalg.lstsq(h[clicked, None], (e - e_hat)[clicked], rcond=None)
    return e_hat + eta * h


def tdr_twin(floor=0.01, known=False):
    def twin(live, frozen, labels):
        o, r = labels["click"], labels["conversion"]
        p = np.maximum(labels["propensity"] if known else sigmoid(frozen["ctr"]), floor)
        clipped = np.minimum(p, max(floor, 1 - floor))
        e, e_hat = bce(sigmoid(live["cvr"]), r), bce(sigmoid(live["cvr"]), sigmoid(frozen["imputation"]))
        e_tilde = corrected(clipped, o, e, e_hat)
        residual = bce(sigmoid(frozen["cvr"]), r) - bce(sigmoid(frozen["cvr"]), sigmoid(live["imputation"]))
        terms = {
            "cvr": 2 * (e_tilde + o / clipped * (e - e_tilde)).mean(),
            "imputation": 0.5 * (o / p * residual**2).mean(),
        }
        return terms if known else {"ctr": bce(sigmoid(live["ctr"]), o).mean(), **terms}

    return twin


@pytest.mark.parametrize(("floor", "clicks"), [(0.01, "some"), (0.3, "some"), (0.8, "all"), (0.01, "none")])
@pytest.mark.parametrize("known", [False, True])
def test_tdr_equals_its_numpy_twin(known, floor, clicks, random_batch, assert_twin):
    logits, labels = random_batch(TargetedDR.heads, 3)
    p = np.random.default_rng(1).random(len(labels["click"]))
    p[:3] = 0.0, 1.0, 1e-3
    if clicks != "some":
        labels["click"][:] = clicks == "all"
    options = {"propensity": "column", "train_ctr": False} if known else {}
    if known:
        del logits["ctr"]
        labels["propensity"] = p
    objective = TargetedDR(lambda_cvr=2, lambda_imputation=0.5, propensity_floor=floor, **options)
    assert_twin(objective, logits, labels, tdr_twin(floor, known))


# A batch in which nothing is clipped.
CLICK = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
R = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
P = np.array([0.3, 0.1, 0.6, 0.8, 0.5, 0.2])
P_CVR = np.array([0.3, 0.6, 0.55, 0.2, 0.7, 0.4])
R_HAT = np.array([0.6, 0.3, 0.2, 0.5, 0.9, 0.4])


def outputs_at(p=P, p_cvr=P_CVR, r_hat=R_HAT):
    logits = {"ctr": logit(p), "cvr": logit(p_cvr), "imputation": logit(r_hat)}
    return Outputs({head: torch.tensor(z).requires_grad_() for head, z in logits.items()}, torch.zeros(len(p), 1), {})


def cvr_term(objective, o=CLICK, r=R, **at):
    out = outputs_at(**at)
    term = objective.loss(out, Labels(torch.tensor(o), torch.tensor(o * r)))["cvr"]
    return term, torch.autograd.grad(term, out.logits["cvr"], retain_graph=True)[0].numpy()


def test_by_hand():
    # All p_cvr are 1/2, so that all errors are ln 2 and, whatever is imputed, all residuals 0.
    found, _ = cvr_term(TargetedDR(), p_cvr=np.full(6, 0.5))
    assert found.item() == pytest.approx(math.log(2))
    # p = 1/2 everywhere: h = 1, eta the mean residual of the clicked rows.
    e, e_hat = bce(P_CVR, R), bce(P_CVR, R_HAT)
    found, _ = cvr_term(TargetedDR(), p=np.full(6, 0.5))
    eta = (e - e_hat)[CLICK == 1].mean()
    assert found.item() == pytest.approx((e[CLICK == 1].sum() + (e_hat + eta)[CLICK == 0].sum()) / 6)


P_CLICK, CONVERT = np.array([0.15, 0.4, 0.7, 0.9, 0.5]), np.array([1.0, 0.0, 1.0, 0.0, 1.0])
AT = {"p_cvr": np.array([0.3, 0.6, 0.55, 0.2, 0.8])}


ENTIRE = bce(AT["p_cvr"], CONVERT).mean()
OTHER_PROPENSITY = np.array([0.35, 0.2, 0.5, 0.6, 0.3])
OTHER_CONVERT = np.array([0.2, 0.7, 0.6, 0.4, 0.3])


def test_it_is_the_entire_loss_if_the_imputation_is_right_whatever_the_propensity_and_the_clicks():
    right = np.where(CONVERT == 1, 1 - 1e-12, 1e-12)
    for clicks in itertools.product([0.0, 1.0], repeat=5):
        found, _ = cvr_term(TargetedDR(), np.array(clicks), CONVERT, p=OTHER_PROPENSITY, r_hat=right, **AT)
        assert found.item() == pytest.approx(ENTIRE, rel=1e-9)


@pytest.mark.parametrize("propensity", [P_CLICK, OTHER_PROPENSITY])
def test_where_clicks_have_their_true_shares_it_is_the_entire_loss_if_the_propensity_is_right(propensity):
    o = np.concatenate([[1.0] * round(20 * p) + [0.0] * round(20 * (1 - p)) for p in P_CLICK])
    at = {name: np.repeat(v, 20) for name, v in {"p": propensity, "r_hat": OTHER_CONVERT, **AT}.items()}
    found, gradient = cvr_term(TargetedDR(), o, np.repeat(CONVERT, 20), **at)
    right = propensity is P_CLICK
    assert (found.item() == pytest.approx(ENTIRE, rel=1e-10)) == right
    summed = gradient.reshape(5, 20).sum(axis=1)
    assert (summed == pytest.approx((AT["p_cvr"] - CONVERT) / 5, rel=1e-10)) == right


def test_the_imputation_is_trained_apart_and_the_defaults_are_those_of_dr_jl():
    imputation, prediction = TargetedDR().phases
    assert (imputation.terms, imputation.trains, imputation.shared) == (("imputation",), ("imputation",), False)
    assert (prediction.terms, prediction.trains) == (("ctr", "cvr"), ("ctr", "cvr"))
    assert TargetedDR(lambda_ctcvr=1.0).phases[1].terms == ("ctr", "cvr", "ctcvr")
    with pytest.raises(ValueError, match="train_ctr=False needs a propensity that is fitted before training"):
        TargetedDR(train_ctr=False)
