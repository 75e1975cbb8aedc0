"""Methods whose mechanism does nothing, and those that name none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cvr_plugins.objectives import NISE, AdapSL, IdeFN, Naive
from cvr_plugins.plugins import registry
from cvr_plugins.testing import run_checks

METHODS = [entry.value for entry in registry().entries("method")]
ABLATIONS = [(method, ablation) for method in METHODS for ablation in method.ablations]


class Unfound(IdeFN):
    __doc__ = IdeFN.__doc__

    def pseudo_labels(self, out, y):
        return torch.zeros_like(out.logits["cvr"])


class Unpruned(AdapSL):
    __doc__ = AdapSL.__doc__

    def on_epoch_end(self, epoch):
        self.prunings += 1
        return False


class Detached(NISE):
    __doc__ = NISE.__doc__

    def loss(self, out, y):
        terms = super().loss(out, y)
        return {**terms, "unclicked": 0 * terms["unclicked"]} if "unclicked" in terms else terms


FAULTS = {
    "acts": [
        (
            Unfound,
            "more than 0.0001 of their norm from those with relabel: none",
            "0",
            {"ablations": [{"relabel": "none"}]},
        ),
        (Unpruned, "those with prune_rate: 0", "0", {"architecture": "masked", "ablations": [{"prune_rate": 0.0}]}),
    ]
}


def test_a_fault_fails_its_own_check(fault):
    fault()


@pytest.mark.parametrize(("method", "ablation"), ABLATIONS, ids=lambda part: getattr(part, "name", str(part)))
def test_what_is_always_its_own_ablation_does_not_act(method, ablation):
    class CutOff(method.objective):
        def __init__(self, **options):
            super().__init__(**{**options, **ablation})

    (found,) = [
        each
        for each in run_checks(replace(method, objective=CutOff, ablations=[ablation]), checks=["acts"])
        if each.name == "acts"
    ]
    assert (found.status, found.found) == ("failed", "0")


@pytest.mark.parametrize(
    ("ablations", "options", "why"),
    [((), {}, "names no ablation"), ([{"unclicked": False}], {"unclicked": False}, "are an ablation")],
)
def test_who_names_no_ablation_or_is_one_is_not_asked(ablations, options, why, method_of):
    objective = NISE if options else Naive
    (found,) = run_checks(method_of(objective, ablations=ablations), checks=["acts"], options=options)
    assert (found.status, why in found.found) == ("not asked", True)
