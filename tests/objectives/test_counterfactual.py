"""IPS and DR: hand-worked batches, phases, and a long run that stays finite."""

from __future__ import annotations

import math

import pytest
import torch

from cvr_plugins.contracts import Labels, Outputs
from cvr_plugins.objectives import DR, IPS

LN2, LN3 = math.log(2), math.log(3)

# Click probabilities 1/2, 1/4, 3/4, 1/4; conversion probabilities 1/2, 3/4, 1/2, 1/4; softplus of the imputation
# logits ln 2, 2 ln 2, 3 ln 2, ln 2 (their sigmoids: 1/2, 3/4, 7/8, 1/2).
HAND_LOGITS = {
    "ctr": [0.0, -LN3, LN3, -LN3],
    "cvr": [0.0, LN3, 0.0, -LN3],
    "imputation": [0.0, LN3, math.log(7), 0.0],
}
# Errors of the clicked rows: ln 2 (converted at 1/2) and 2 ln 2 (not converted at 3/4); their weights 2 and 4.
HAND_LABELS = {"click": [1.0, 1.0, 0.0, 0.0], "conversion": [1.0, 0.0, 0.0, 0.0]}
HAND_CTR = (LN2 + 2 * LN2 + 2 * LN2 - math.log(3 / 4)) / 4
HAND_CTCVR = (-math.log(1 / 4) - math.log(13 / 16) - math.log(5 / 8) - math.log(15 / 16)) / 4


@pytest.mark.parametrize(
    ("options", "cvr"),
    [
        ({}, (2 * LN2 + 4 * 2 * LN2) / 4),
        ({"self_normalized": True}, (2 * LN2 + 4 * 2 * LN2) / (2 + 4)),
    ],
    ids=str,
)
def test_ips_by_hand(options, cvr, outputs, labels_of):
    terms = IPS(**options).loss(outputs(HAND_LOGITS), labels_of(HAND_LABELS))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"ctr": HAND_CTR, "cvr": cvr, "ctcvr": HAND_CTCVR}
    )


# The imputed errors e_hat sum to 7 ln 2. The residuals e - e_hat of the clicked rows: 0 and 0; so the imputation
# logit of the second row is moved to softplus = ln 2 (logit 0) where a residual, ln 2, is wanted.
@pytest.mark.parametrize(
    ("second", "options", "cvr", "imputation"),
    [
        (LN3, {}, 7 * LN2 / 4, 0.0),
        (0.0, {}, (6 * LN2 + 4 * LN2) / 4, 4 * LN2**2 / 4),
        (0.0, {"self_normalized": True}, 6 * LN2 / 4 + 4 * LN2 / 6, 4 * LN2**2 / 6),
        # (1 - p) / p^2 is 2 and 12 on the clicked rows.
        (0.0, {"imputation_weights": "variance"}, (6 * LN2 + 4 * LN2) / 4, 12 * LN2**2 / 4),
    ],
)
def test_dr_by_hand(second, options, cvr, imputation, outputs, labels_of):
    logits = {**HAND_LOGITS, "imputation": [0.0, second, math.log(7), 0.0]}
    terms = DR(**options).loss(outputs(logits), labels_of(HAND_LABELS))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"ctr": HAND_CTR, "cvr": cvr, "imputation": imputation, "ctcvr": HAND_CTCVR}
    )


def test_dr_that_imputes_conversions_by_hand(outputs, labels_of):
    # p_cvr 1/2, 3/4, 1/2, 1/4 against the imputed 1/2, 3/4, 7/8, 1/2.
    imputed = [
        LN2,
        -(3 / 4) * math.log(3 / 4) + (1 / 4) * 2 * LN2,
        LN2,
        (2 * LN2 - math.log(3 / 4)) / 2,
    ]
    residual = 2 * LN2 - imputed[1]
    terms = DR(imputes="conversion").loss(outputs(HAND_LOGITS), labels_of(HAND_LABELS))
    assert terms["cvr"].item() == pytest.approx((sum(imputed) + 4 * residual) / 4)
    assert terms["imputation"].item() == pytest.approx(4 * residual**2 / 4)


def test_dr_that_imputes_a_constant_by_hand(outputs, labels_of):
    # Half of the clicked rows convert: imputed against p_cvr 1/2, 3/4, 1/2, 1/4.
    apart = -math.log(3 / 16) / 2
    logits = {head: HAND_LOGITS[head] for head in ("ctr", "cvr")}
    objective = DR(imputes="constant")
    assert (objective.heads, objective.stops) == (("ctr", "cvr"), IPS.stops)
    terms = objective.loss(outputs(logits), labels_of(HAND_LABELS))
    cvr = (2 * LN2 + 2 * apart + 4 * (2 * LN2 - apart)) / 4
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"ctr": HAND_CTR, "cvr": cvr, "ctcvr": HAND_CTCVR}
    )


def test_alternate_trains_the_imputation_apart_and_then_the_rest():
    imputation, prediction = DR(imputes="conversion", alternate=True).phases
    assert (imputation.terms, imputation.trains, imputation.shared) == (("imputation",), ("imputation",), False)
    assert (prediction.terms, prediction.trains, prediction.shared) == (("ctr", "cvr", "ctcvr"), ("ctr", "cvr"), True)
    without_ctcvr = DR(imputes="conversion", alternate=True, lambda_ctcvr=0).phases
    assert without_ctcvr[1].terms == ("ctr", "cvr")
    assert [phase.name for phase in DR().phases] == ["joint"]


@pytest.mark.parametrize(
    ("options", "optimizer"),
    [({"imputes": "conversion"}, torch.optim.Adam), ({"imputation_weights": "variance"}, torch.optim.SGD)],
)
def test_dr_stays_finite_over_a_long_run_with_rare_clicks(options, optimizer):
    """Few clicks, a learning rate far too high, and embeddings of their own for every row: the worst that it meets."""
    torch.manual_seed(0)
    rows, width = 256, 8
    objective = DR(**options)
    embedding = torch.nn.Parameter(torch.randn(rows, width))
    towers = torch.nn.ModuleDict(
        {
            head: torch.nn.Sequential(torch.nn.Linear(width, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
            for head in DR.heads
        }
    )
    click = (torch.rand(rows) < 0.02).float()
    assert click.sum() >= 2
    labels = Labels(click, click * (torch.arange(rows) % 2))
    moved = [embedding, *towers.parameters()]
    step = optimizer(moved, lr=0.05)
    for _ in range(400):
        out = Outputs({head: tower(embedding).squeeze(1) for head, tower in towers.items()}, embedding, {})
        terms = objective.loss(out, labels)
        assert all(torch.isfinite(term) for term in terms.values())
        step.zero_grad()
        sum(terms.values()).backward()
        step.step()
    assert all(torch.isfinite(p).all() for p in moved)
    with torch.no_grad():
        predicted = torch.sigmoid(towers["cvr"](embedding)).squeeze(1)[click == 1]
    # It learned the clicked rows, and did not merely stand still.
    assert ((predicted > 0.5).float() == labels.conversion[click == 1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alternate": True}, r"alternate needs imputes='conversion'.*MultiIPW"),
        ({"imputes": "constant", "alternate": True}, "imputes='constant' fits nothing"),
        ({"imputation_weights": "bias", "bias_share": 0.5}, "bias_share is for imputation_weights='mse'; got 'bias'"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DR(**options)
