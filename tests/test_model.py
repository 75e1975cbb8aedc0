"""The core model: columns of forward, parameters by phase, and the warning for training through forward."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from cvr_plugins.architectures import MLP, Towers
from cvr_plugins.contracts import Labels, Layout, Objective, Phase
from cvr_plugins.functional import bce
from cvr_plugins.model import CVRModel
from cvr_plugins.objectives import ESMM, Naive


class Table(nn.Module):
    """An encoder of one id per row."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 3)

    def forward(self, x):
        return self.table(x["id"])


class WithParameter(Objective):
    """Tasks in an order of its own, and a parameter of its own."""

    tasks = ("ctcvr", "cvr")

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def loss(self, out, y):
        return {"cvr": self.scale * bce(out.logits["cvr"], y.conversion).mean()}


def make(objective, architecture=Towers):
    torch.manual_seed(0)
    layout = Layout((3,))
    return CVRModel(Table(), architecture(layout, objective.heads, backbone=MLP), objective)


X = {"id": torch.tensor([0, 1, 2, 3, 4, 1])}


def test_forward_gives_the_tasks_in_order():
    model = make(ESMM()).eval()
    p = model(X)
    assert p.shape == (6, 3)
    assert model.tasks == ("cvr", "ctr", "ctcvr")
    logits = model.outputs(X).logits
    torch.testing.assert_close(p[:, 0], logits["cvr"].sigmoid())
    torch.testing.assert_close(p[:, 1], logits["ctr"].sigmoid())
    torch.testing.assert_close(p[:, 2], p[:, 0] * p[:, 1])
    other = make(WithParameter()).eval()
    torch.testing.assert_close(other(X), p[:, [2, 0]])


def test_outputs_can_embed_other_rows_with_todays_embeddings():
    model = make(Naive())
    embed = model.outputs(X).embed
    with torch.no_grad():
        model.encoder.table.weight.fill_(7.0)
    assert torch.equal(embed({"id": torch.tensor([3])}), torch.full((1, 3), 7.0))


def test_a_phase_for_a_head_there_is_not_is_refused():
    with pytest.raises(ValueError, match="CVRModel: phase 'p' trains the head 'cvt'; the heads are ctr, cvr"):
        make(Naive()).parameters_for(Phase("p", trains=("cvt",)))


def test_training_through_forward_warns_once():
    model = make(ESMM()).train()
    with pytest.warns(UserWarning, match=r"CVRModel is being trained through forward.*CVRTrainer"):
        model(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(X)


def test_scoring_and_loss_terms_do_not_warn():
    model = make(ESMM())
    labels = Labels(torch.zeros(6), torch.zeros(6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.eval()(X)
        model.train().loss_terms(X, labels)
        with torch.no_grad():
            model(X)
        copy.deepcopy(model).predict(X)


def test_architecture_and_objective_are_prepared_once_in_this_order():
    seen = []

    class Preparing(Towers):
        def prepare(self, encoder):
            seen.append(("architecture", encoder))

    class Looking(Naive):
        def prepare(self, architecture, encoder):
            seen.append(("objective", architecture))

    model = make(Looking(), Preparing)
    assert seen == [("architecture", model.encoder), ("objective", model.architecture)]
    copy.deepcopy(model).outputs(X)
    assert len(seen) == 2
