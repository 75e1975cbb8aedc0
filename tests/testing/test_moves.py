"""Methods whose training fails, leaves a head out, or moves what no phase declares."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cvr_plugins import Phase
from cvr_plugins.objectives import DR, Naive


class Impatient(Naive):
    def after_batch(self, out, y, x):
        raise KeyError("item_id")


class Unsaid(Naive):
    def on_epoch_end(self, epoch):
        """Return nothing."""


class Diverging(Naive):
    """Its loss is infinite from the sixth batch on."""

    def __init__(self):
        super().__init__()
        self.register_buffer("batches", torch.zeros(()))

    def loss(self, out, y):
        terms = super().loss(out, y)
        return {**terms, "ctr": terms["ctr"] * (math.inf if self.batches >= 5 else 1.0)}

    def after_batch(self, out, y, x):
        self.batches += 1


class Corrupting(Naive):
    """A parameter of its own is no number once an epoch is over."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    @torch.no_grad()
    def on_epoch_end(self, epoch):
        self.scale.fill_(math.nan)
        return False


TRAINING = [
    (Impatient, "no error", "KeyError: 'item_id' ("),
    (Unsaid, "on_epoch_end() to say whether it replaced parameters", "None"),
    (Diverging, "the loss term 'ctr' to stay finite", "inf"),
    (Corrupting, "the parameter 'objective.scale' to stay finite", "entries that are not"),
]


class Idle(Naive):
    heads = ("ctr", "cvr", "imputation")


class Untrained(Naive):
    """One phase for CTR, and a second that sums the CVR loss but trains CTR again."""

    phases = (Phase("ctr", terms=("ctr",)), Phase("cvr", terms=("cvr",), trains=("ctr",)))


class ByHand(DR):
    """Two phases, none of which moves the objective's own parameter, which after_batch moves."""

    def __init__(self):
        super().__init__(imputes="conversion", alternate=True)
        self.phases = (
            self.phases[0],
            Phase("heads", trains=("ctr", "cvr"), shared=False, terms=("ctr", "cvr", "ctcvr")),
        )
        self.scale = nn.Parameter(torch.ones(()))

    def after_batch(self, out, y, x):
        self.scale.mul_(0.99)


class Teacher(ByHand):
    """The same with a parameter that requires no gradient."""

    def __init__(self):
        super().__init__()
        self.scale.requires_grad_(False)


ARCHITECTURE = """
from cvr_plugins import hookimpl
from cvr_plugins.architectures import SharedBottom

class Careless(SharedBottom):
    def parameters_for(self, heads, shared=True):
        {body}

@hookimpl
def cvr_register_architectures():
    return {{"careless": Careless}}
"""
DIVISIONS = [
    (
        "return list(self.parameters())",
        "parameters_for() of two heads without the shared layers to have nothing in common",
        "belong to 'ctr' and to 'cvr'",
    ),
    (
        "return super().parameters_for(heads, shared=False)",
        "all heads and the shared layers together to be the whole architecture",
        "architecture.bottom.layers.0.weight",
    ),
    (
        "return super().parameters_for(heads, shared=shared or 'cvr' in heads)",
        "phase 'cvr', which trains cvr and no shared layer, to leave the logits of all other heads as they were",
        "those of 'ctr' changed by up to ",
    ),
]


class Apart(Naive):
    phases = (Phase("ctr", terms=("ctr",)), Phase("cvr", terms=("cvr",), trains=("cvr",), shared=False))
    stops = {}


@pytest.mark.parametrize(("body", "expected", "found"), DIVISIONS)
def test_moves_of_an_architecture(method_of, fails_exactly, plugin, body, expected, found):
    plugin("acme", ARCHITECTURE.format(body=body))
    fails_exactly(method_of(Apart, architecture="careless"), "moves", expected, found)


FAULTS = {
    "training": TRAINING,
    "heads_trained": [
        (Idle, "each of the heads ctr, cvr, imputation to be trained", "'imputation' did not move in 3 epochs"),
        (Untrained, "each of the heads ctr, cvr to be trained", "'cvr' did not move in 3 epochs"),
    ],
    "moves": [(ByHand, "after_batch() to move no parameter that no phase declares", "it moved objective.scale")],
}
SOUND = [(Teacher, ["moves"])]


def test_a_fault_fails_its_own_check(fault):
    fault()


def test_what_is_in_order_passes(sound):
    sound()
