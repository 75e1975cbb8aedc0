"""IPS-V2 and DR-V2: what balancing expects of a propensity, and what its term moves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import expit as sigmoid
from scipy.special import logit

from cvr_plugins.contracts import Labels, Outputs
from cvr_plugins.functional import balancing_weight
from cvr_plugins.objectives import BalancedIPS


def balance(z, o, phi, floor=0.01):
    p = sigmoid(z)
    weights = o / np.maximum(p, floor) - (1 - o) / np.maximum(1 - p, floor)
    return sum((weights * phi[:, k]).mean() ** 2 for k in range(phi.shape[1]))


@pytest.mark.parametrize("trains", ["both", "propensity"])
def test_embeddings_are_balanced_column_by_column(trains):
    rng = np.random.default_rng(0)
    z, o, phi = rng.normal(size=8), (rng.random(8) < 0.5).astype(float), rng.normal(size=(8, 3))
    leaves = {"ctr": torch.tensor(z, requires_grad=True), "cvr": torch.zeros(8, dtype=torch.float64)}
    embedding = torch.tensor(phi, requires_grad=True)
    objective = BalancedIPS(balances="embedding", balance_trains=trains, lambda_balance=0.5)
    assert set(objective.stops["balance"]) == {"cvr"}
    term = objective.loss(Outputs(leaves, embedding, {}), Labels(torch.tensor(o), torch.tensor(o)))["balance"]
    assert term.item() == pytest.approx(0.5 * balance(z, o, phi), rel=1e-12)
    found = torch.autograd.grad(term, [leaves["ctr"], embedding], allow_unused=True)
    step = 1e-6
    for row in range(8):
        shift = step * (np.arange(8) == row)
        slope = (balance(z + shift, o, phi) - balance(z - shift, o, phi)) / (2 * step)
        assert found[0][row].item() == pytest.approx(0.5 * slope, rel=1e-5, abs=1e-8)
    if trains == "propensity":
        assert found[1] is None
    else:
        p = sigmoid(z)
        weights = o / p - (1 - o) / (1 - p)
        assert found[1].numpy() == pytest.approx(np.outer(weights, (weights[:, None] * phi).mean(0)) / 8, rel=1e-10)


P_CLICK, PHI = np.array([0.15, 0.4, 0.7, 0.9]), np.array([[0.3, -1.0], [0.6, 2.0], [0.55, 0.5], [0.2, 1.0]])
OTHER = np.array([0.35, 0.2, 0.5, 0.6])


def over_clicks(propensity):
    """The exact expectations over clicks of the weighted means of phi, and of their squared norm."""
    mean, square = np.zeros(2), 0.0
    objective = BalancedIPS(balances="embedding", lambda_balance=1.0)
    for clicks in itertools.product([0.0, 1.0], repeat=4):
        o = np.array(clicks)
        chance = np.prod(np.where(o == 1, P_CLICK, 1 - P_CLICK))
        z = torch.tensor(logit(propensity))
        mean += chance * (balancing_weight(z, torch.tensor(o), 0.01).numpy()[:, None] * PHI).mean(axis=0)
        out = Outputs({"ctr": z, "cvr": torch.zeros(4)}, torch.tensor(PHI), {})
        square += chance * objective.loss(out, Labels(torch.tensor(o), torch.zeros(4)))["balance"].item()
    return mean, square


def test_the_true_propensity_balances_everything_in_expectation_and_another_does_not():
    mean, square = over_clicks(P_CLICK)
    assert mean == pytest.approx(np.zeros(2), abs=1e-12)
    left = ((PHI**2).sum(axis=1) / (P_CLICK * (1 - P_CLICK))).sum() / 16
    assert square == pytest.approx(left, rel=1e-10)
    mean, square = over_clicks(OTHER)
    expected = ((P_CLICK / OTHER - (1 - P_CLICK) / (1 - OTHER))[:, None] * PHI).mean(axis=0)
    assert mean == pytest.approx(expected, rel=1e-10)
    assert (np.abs(mean) > 0.1).all()
    assert square > (mean**2).sum()


def test_the_weight_by_hand_at_the_clips_and_with_its_gradient():
    z = torch.tensor([0.0, np.log(3), -100.0, 100.0, -100.0, 100.0], dtype=torch.float64, requires_grad=True)
    o = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    weight = balancing_weight(z, o, 0.05)
    assert weight.tolist() == pytest.approx([2.0, -4.0, 20.0, -20.0, -1.0, 1.0])
    (gradient,) = torch.autograd.grad(weight.sum(), z)
    # d(1/p)/dz = -(1 - p)/p and d(-1/(1 - p))/dz = -p/(1 - p); none where it is clipped.
    assert gradient.tolist() == pytest.approx([-1.0, -3.0, 0.0, 0.0, 0.0, 0.0], abs=1e-30)
