"""AS-IPS: NumPy twins of its two stages, who labels whom, and the state that tells the stages apart."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit as sigmoid
from torch import nn

from cvr_plugins.architectures import MLP, Towers
from cvr_plugins.contracts import Labels, Layout, measuring
from cvr_plugins.model import CVRModel
from cvr_plugins.objectives import AsymmetricIPS
from cvr_plugins.training.step import Stepper


def bce(p, y):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def mean_over(values, rows):
    return (values * rows).sum() / max(rows.sum(), 1)


class Said(nn.Module):
    """A network of the first stage that says what it is told to."""

    def __init__(self, first):
        super().__init__()
        self.first = torch.as_tensor(first, dtype=torch.float64)

    def forward(self, x):
        return SimpleNamespace(logits={"first": self.first})


def labelling(first, **options):
    """The objective in its second stage, these logits being those that label."""
    objective = AsymmetricIPS(warm_up=1, **options)
    objective.labelling = Said(first)
    return objective


def first_stage(normalized, floor, known, pretrain):
    def twin(live, frozen, labels):
        o, r = labels["click"], labels["conversion"]
        w = o / np.maximum(labels["propensity"] if known else sigmoid(frozen["ctr"]), floor)
        total = (w.sum() or 1) if normalized else len(o)
        terms = {head: 2 * (w * bce(sigmoid(live[head]), r)).sum() / total for head in ("first", "second")}
        if pretrain:
            terms["cvr"] = 2 * mean_over(bce(sigmoid(live["cvr"]), r), o)
        return terms if known else {"ctr": bce(sigmoid(live["ctr"]), o).mean(), **terms}

    return twin


def second_stage(agreement, first):
    def twin(live, frozen, labels):
        label = sigmoid(first)
        agreed = (np.abs(label - sigmoid(frozen["second"])) <= agreement).astype(float)
        terms = {head: 2 * mean_over(bce(sigmoid(live[head]), label), agreed) for head in ("cvr", "second")}
        return {"ctr": bce(sigmoid(live["ctr"]), labels["click"]).mean(), **terms}

    return twin


@pytest.mark.parametrize(
    ("normalized", "known", "clicks", "pretrain"),
    [
        (True, False, "some", True),
        (False, True, "some", False),
        (True, True, "none", True),
        (False, False, "all", False),
    ],
)
def test_the_first_stage_equals_its_numpy_twin(normalized, known, clicks, pretrain, random_batch, assert_twin):
    logits, labels = random_batch(AsymmetricIPS.heads, 3)
    if clicks != "some":
        labels["click"][:] = clicks == "all"
    options = {"propensity": "column", "train_ctr": False} if known else {}
    if known:
        del logits["ctr"]
        labels["propensity"] = np.random.default_rng(1).random(len(labels["click"]))
    options |= {"self_normalized": normalized, "pretrain": pretrain}
    objective = AsymmetricIPS(lambda_cvr=2, propensity_floor=0.2, **options)
    assert_twin(objective, logits, labels, first_stage(normalized, 0.2, known, pretrain))


@pytest.mark.parametrize(("agreement", "pretrain"), [(0.0, True), (0.2, False), (1.0, True)])
def test_the_second_stage_equals_its_numpy_twin(agreement, pretrain, random_batch, assert_twin):
    logits, labels = random_batch(AsymmetricIPS.heads, 4)
    first = np.random.default_rng(5).normal(size=len(labels["click"]))
    logits["second"][:4] = first[:4] + np.array([0.0, 0.1, -0.3, 5.0])
    objective = labelling(first, agreement=agreement, pretrain=pretrain, lambda_cvr=2)
    assert_twin(objective, logits, labels, second_stage(agreement, first))


def test_the_second_stage_by_hand(outputs, labels_of):
    # The two predictors say (1/2, 1/2), (3/4, 1/2), (1/2, 1/2), (1/4, 3/4): they agree in the first and the third row.
    ln3 = math.log(3)
    z = {"ctr": [0.0] * 4, "cvr": [0.0, 9.0, ln3, 9.0], "first": [9.0] * 4, "second": [0.0, 0.0, 0.0, ln3]}
    y = labels_of({"click": [1.0, 1.0, 0.0, 0.0], "conversion": [1.0, 0.0, 0.0, 0.0]})
    with measuring() as figures:
        terms = labelling([0.0, ln3, 0.0, -ln3]).loss(outputs(z), y)
    assert terms["cvr"].item() == pytest.approx((math.log(2) + (math.log(4) - math.log(3) + math.log(4)) / 2) / 2)
    assert terms["second"].item() == pytest.approx(math.log(2))
    assert set(terms) == {"ctr", "cvr", "second"}
    assert figures["agreed"].tolist() == [2, 4]


def model_of(**options):
    torch.manual_seed(0)
    objective = AsymmetricIPS(**options)
    return CVRModel(
        nn.Linear(3, 3), Towers(Layout((3,)), objective.heads, backbone=partial(MLP, dropout=0.5)), objective
    )


def test_the_labels_of_the_first_stage_stay_what_they_were_at_its_end_and_are_saved():
    model, y = model_of(warm_up=2), Labels(torch.tensor([1.0, 0.0] * 4), torch.tensor([1.0, 0.0, 0.0, 0.0] * 2))
    x, stepper = torch.randn(8, 3), Stepper(model, [torch.optim.Adam(model.parameters(), lr=0.1)], name="AS_IPS")
    said, live, terms = [], [], []
    for epoch in range(4):
        terms.append(set(stepper.train_batch(x, y).terms))
        assert model.objective.on_epoch_end(epoch) is False
        if epoch:
            model.eval()
            live.append(model.outputs(x).logits["first"])
            model.train()
            said.append(model.objective.labelling(x).logits["first"])
    assert ["first" in names for names in terms] == [True, True, False, False]
    assert torch.equal(said[0], live[0])
    assert torch.equal(said[0], said[2])
    # The layer below it is trained on.
    assert (live[2] - live[0]).abs().max() > 0.01
    assert len(list(model.objective.parameters())) == 0
    fresh = model_of(warm_up=2)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.objective.labelling(x).logits["first"], said[0])
    fresh.load_state_dict(model_of(warm_up=2).state_dict())
    assert fresh.objective.labelling is None


def test_weight_decay_leaves_the_predictor_that_labels_alone_once_it_labels():
    torch.manual_seed(0)
    objective = AsymmetricIPS(warm_up=1, agreement=1.0)
    model = CVRModel(nn.Identity(), Towers(Layout((3,)), objective.heads, backbone=MLP), objective)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.1)
    x, y = torch.randn(8, 3), Labels(torch.tensor([1.0, 0.0] * 4), torch.tensor([1.0, 0.0, 0.0, 0.0] * 2))
    moved = []
    for epoch in range(2):
        before = {h: [p.clone() for p in model.architecture.parameters_for([h], shared=False)] for h in objective.heads}
        Stepper(model, [optimizer], name="AS_IPS").train_batch(x, y)
        objective.on_epoch_end(epoch)
        moved.append(
            {
                head
                for head, values in before.items()
                for old, new in zip(values, model.architecture.parameters_for([head], shared=False), strict=True)
                if not torch.equal(old, new)
            }
        )
    assert moved == [{"ctr", "cvr", "first", "second"}, {"ctr", "cvr", "second"}]
