"""Methods that predict in a wrong form, by the batch, or what they have not learnt; and combinations that break."""

from __future__ import annotations

import pytest
import torch
from torch import nn, sigmoid

from cvr_plugins.functional import bce
from cvr_plugins.objectives import DR, ESMM, Naive
from cvr_plugins.testing import check_method


class AsLogit(Naive):
    def predict(self, out):
        return {**super().predict(out), "cvr": out.logits["cvr"]}


class AsColumn(Naive):
    def predict(self, out):
        return {task: p.unsqueeze(1) for task, p in super().predict(out).items()}


class Missing(Naive):
    def predict(self, out):
        return {"cvr": sigmoid(out.logits["cvr"]), "ctr": sigmoid(out.logits["ctr"])}


class Stacked(Naive):
    def predict(self, out):
        return torch.stack([*super().predict(out).values()], dim=1)


class Overflowing(Naive):
    def predict(self, out):
        odds = out.logits["cvr"].exp()
        return {**super().predict(out), "cvr": odds / (1 + odds)}


PREDICTIONS = [
    (AsLogit, "task 'cvr' predicted in [0, 1], here of ", "values from -"),
    (AsColumn, "task 'cvr' predicted as [B], here of 1 rows", "[1, 1]"),
    (Missing, "predict() to return the tasks cvr, ctr, ctcvr", "cvr, ctr"),
    (Stacked, "predict() to return the tasks cvr, ctr, ctcvr", "a Tensor"),
    (Overflowing, "task 'cvr' predicted in [0, 1], here at logits of +-200", "nan"),
]


class Relative(Naive):
    """Sets the largest CVR of a batch to 1."""

    def predict(self, out):
        predicted = super().predict(out)
        return {**predicted, "cvr": predicted["cvr"] / predicted["cvr"].max()}


class Ordinal(Naive):
    """Adds a little for the place in the batch."""

    def predict(self, out):
        predicted = super().predict(out)
        place = torch.linspace(0, 0.01, len(predicted["cvr"]), device=predicted["cvr"].device)
        return {**predicted, "ctr": (predicted["ctr"] * 0.9 + place)}


class Inverted(Naive):
    def predict(self, out):
        predicted = super().predict(out)
        return {**predicted, "cvr": 1 - predicted["cvr"]}


class WrongLabel(ESMM):
    def loss(self, out, y):
        return {**super().loss(out, y), "ctr": bce(out.logits["ctr"], 1 - y.click).mean()}


class Constant(Naive):
    def predict(self, out):
        return {**super().predict(out), "cvr": torch.full_like(out.logits["cvr"], 0.3)}


class CountsOnWidth(ESMM):
    """Reads the representation of the towers' default width."""

    def __init__(self):
        super().__init__()
        self.read = nn.Linear(80, 1)

    def loss(self, out, y):
        ranked = self.read(out.hidden["cvr"]).squeeze(1)
        return {**super().loss(out, y), "aux": bce(ranked, y.click).mean()}


class Renamed(Naive):
    """Its terms have names of their own."""

    stops = {}

    def loss(self, out, y):
        terms = super().loss(out, y)
        return {"clicks": terms["ctr"], "conversions": terms["cvr"]}


class Declared(Renamed):
    ctr_terms, cvr_terms = ("clicks",), ("conversions",)


class Unweighable(Renamed):
    """Refuses every weighting, since it declares no CTR loss."""

    ctr_terms, cvr_terms = (), ("conversions",)


PARTS = """
from cvr_plugins import hookimpl
from cvr_plugins.architectures import MLP, Towers

class Choosy(Towers):
    def __init__(self, layout, heads, *, backbone, head_options=None):
        {body}
        super().__init__(layout, heads, backbone=backbone, head_options=head_options)

@hookimpl
def cvr_register_architectures():
    return {{"choosy": Choosy}}
"""


def test_a_refusal_at_construction_is_in_order(method_of, plugin):
    plugin("acme", PARTS.format(body="raise ValueError('Choosy needs a head called purchase; add one.')"))
    check_method(method_of(ESMM), checks=["architectures"])


@pytest.mark.parametrize("error", ["ValueError", "KeyError(heads[2])", "TypeError('no')"])
def test_a_refusal_without_a_reason_is_not(method_of, fails_exactly, plugin, error):
    plugin("acme", PARTS.format(body=f"if heads[-1] == 'imputation': raise {error}"))
    fails_exactly(method_of(DR), "architectures", "architecture 'choosy' on backbone", "architecture 'acme:choosy'")


def test_a_part_on_which_nothing_runs_is_not_the_methods_fault(method_of, plugin):
    plugin("acme", PARTS.format(body="raise RuntimeError('never worked')"))
    check_method(method_of(ESMM), checks=["architectures"])


ALONE = "the prediction of task {!r} to be the same in a batch of 24 and alone"
EPOCHS = "after 12 epochs of 4096 rows (chance: 0.5)"
FAULTS = {
    "predictions": PREDICTIONS,
    "row_independence": [
        (Relative, ALONE.format("cvr"), " for one row"),
        (Ordinal, ALONE.format("ctr"), " for one row"),
    ],
    "learning": [
        (Inverted, " for cvr in the entire space", EPOCHS),
        (WrongLabel, " for ctr in the entire space", EPOCHS),
        (Constant, " for cvr in the entire space", f"0.500 {EPOCHS}"),
    ],
    "architectures": [(CountsOnWidth, "architecture 'mmoe' on backbone", "shapes cannot be multiplied")],
    "weightings": [
        (Renamed, "weighting '", "gave the loss terms ['clicks', 'conversions'], none of its ctr_terms ['ctr']")
    ],
}
SOUND = [(Declared, ["weightings"]), (Unweighable, ["weightings"])]


def test_a_fault_fails_its_own_check(fault):
    fault()


def test_what_is_in_order_passes(sound):
    sound()
