"""What holds for the objective of every method, besides what the conformance suite checks of each."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from cvr_plugins.contracts import Objective
from cvr_plugins.plugins import registry

METHODS = {entry.key: entry.value for entry in registry().entries("method")}
VARIANTS = [
    ("ESCM2_IPS", {"self_normalized": True}),
    ("ESCM2_DR", {"imputes": "conversion", "self_normalized": True, "imputation_weights": "variance"}),
    ("DCMT", {"self_normalized": False}),
    ("NISE", {"unclicked": False}),
    ("IPS_V2", {"balance_trains": "propensity"}),
    ("DR_V2", {"balance_trains": "propensity", "self_normalized": True}),
    ("AS_IPS", {"self_normalized": False}),
    ("EIB", {"fits": "error"}),
]
every_objective = pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in METHODS), *VARIANTS], ids=lambda part: str(part)
)


def build(name: str, options: dict) -> Objective:
    method = METHODS[name]
    return method.objective(**{**method.defaults, **options})


@every_objective
def test_stops_are_honoured_and_complete(name, options, random_batch, outputs, labels_of, gradients):
    """A term's gradient is exactly zero at the heads it must not move, and not zero at all others."""
    objective = build(name, options)
    logits, labels = random_batch(objective.heads, 5)
    out = outputs(logits)
    terms = objective.loss(out, labels_of(labels))
    if options == {}:
        # A term may be switched off by its weight, but no name in `stops` may be unknown.
        assert set(objective.stops) <= {*terms, "ctcvr"}
    assert set(itertools.chain(*objective.stops.values())) <= set(objective.heads)
    for term_name, term in terms.items():
        found = gradients(term, out)
        moved = {head for head in objective.heads if found[head].any()}
        assert moved == set(objective.heads) - set(objective.stops.get(term_name, ())), term_name


@every_objective
def test_a_loss_reads_no_label_of_an_unclicked_row_and_no_order(name, options, random_batch, outputs, labels_of):
    objective = build(name, options)
    logits, labels = random_batch(objective.heads, 6)
    hidden = labels["click"] == 0
    assert 0 < hidden.sum() < len(hidden)
    read = {key: np.where(hidden & (key != "click"), 1.0, values) for key, values in labels.items()}
    cleared = {key: np.where(hidden, 0.0, values) for key, values in labels.items()}
    order = np.random.default_rng(0).permutation(len(hidden))
    shuffled = ({name: values[order] for name, values in part.items()} for part in (logits, read))
    expected, unread, reordered = (
        {term: value.item() for term, value in objective.loss(outputs(z), labels_of(y)).items()}
        for z, y in ((logits, read), (logits, cleared), tuple(shuffled))
    )
    assert unread == expected
    assert reordered == pytest.approx(expected, rel=1e-12)


def test_every_method_but_the_baseline_says_when_and_where_it_is_published():
    unsaid = [name for name, method in METHODS.items() if not re.search(r"\b20\d\d, https://", method.reference)]
    assert unsaid in ([], ["Naive"])
