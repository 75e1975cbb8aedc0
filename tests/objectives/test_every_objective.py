"""What holds for the objective of every method, besides what the conformance suite checks of each."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from cvr_plugins.assembly import options_of
from cvr_plugins.contracts import Objective, measuring
from cvr_plugins.objectives import IPS
from cvr_plugins.plugins import registry
from cvr_plugins.propensities import NAMES, PROPENSITIES

METHODS = {entry.key: entry.value for entry in registry().entries("method")}
OPTIONS = {name: options_of(method.objective) for name, method in METHODS.items()}
KNOWN = {"propensity": "column", "lambda_ctcvr": 0}
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
    defaults = {key: value for key, value in method.defaults.items() if key in OPTIONS[name]}
    return method.objective(**{**defaults, **options})


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


def measured_twin(z, y, floor=0.01):
    """Figure -> total and count over the rows of a batch, in NumPy."""
    p = {head: 1 / (1 + np.exp(-logit)) for head, logit in z.items()}
    o, t = y["click"], y["click"] * y["conversion"]
    ctr = np.clip(p["ctr"], floor, 1)
    balancing = o / ctr - (1 - o) / np.clip(1 - p["ctr"], floor, 1)
    return {
        "weight": ((o / ctr).sum(), o.sum()),
        "weight/clipped": (o[p["ctr"] <= floor].sum(), o.sum()),
        "imbalance": (np.mean(balancing * p["cvr"]) ** 2 if "cvr" in p else np.nan, 1),
        "imputed": (((1 - o) * p.get("imputation", 0)).sum(), (1 - o).sum()),
        "conversions_per_action": ((t * y["action"]).sum(), (o * y["action"]).sum()),
    }


@pytest.mark.parametrize("name", METHODS)
def test_what_a_loss_measures_is_what_it_says(name, random_batch, outputs, labels_of):
    objective = build(name, {})
    logits, labels = random_batch(objective.heads, 8)
    clicked = labels["click"].nonzero()[0]
    logits["ctr"][clicked[:2]] = -6
    with measuring() as found:
        objective.loss(outputs(logits), labels_of(labels))
    known = {**dict.fromkeys(found, ()), **measured_twin(logits, labels)}
    for figure, pair in found.items():
        assert not known[figure] or pair.tolist() == pytest.approx(known[figure], rel=1e-12), figure
    if objective.mechanism is not None and name not in ("NISE", "AS_IPS"):
        # Of the weighting, and of the second stage.
        assert objective.mechanism.figure in {**found, "active": ()}


@pytest.mark.parametrize("name", [name for name in METHODS if "train_ctr" in OPTIONS[name]])
def test_without_the_ctr_task_the_other_losses_stay_and_nothing_names_its_head(name, random_batch, outputs, labels_of):
    known = {key: value for key, value in KNOWN.items() if key in OPTIONS[name]}
    alone, whole = build(name, {**known, "train_ctr": False}), build(name, known)
    assert alone.heads == tuple(head for head in whole.heads if head != "ctr")
    assert (alone.tasks, alone.ctr_terms, whole.ctr_terms) == (("cvr",), (), ("ctr",))
    assert all("ctr" not in (term, *heads) and heads for term, heads in alone.stops.items())
    assert all("ctr" not in (*(phase.terms or ()), *(phase.trains or ())) for phase in alone.phases)
    logits, labels = random_batch(whole.heads, 7)
    labels["propensity"] = np.full(len(labels["click"]), 0.3)
    out, y = outputs({head: logits[head] for head in alone.heads}), labels_of(labels)
    expected = whole.loss(outputs(logits), y)
    assert alone.loss(out, y) == {term: value for term, value in expected.items() if term != "ctr"}
    assert {task: p.tolist() for task, p in alone.predict(out).items()} == {
        "cvr": whole.predict(outputs(logits))["cvr"].tolist()
    }


@pytest.mark.parametrize("name", [name for name in METHODS if "propensity" in OPTIONS[name]])
def test_a_propensity_that_is_not_the_towers_is_a_label_that_must_be_there(name, random_batch, outputs, labels_of):
    for source in NAMES:
        assert ("propensity" in build(name, {"propensity": source}).needs) == (source in PROPENSITIES)
    objective = build(name, {"propensity": "uniform"})
    logits, labels = random_batch(objective.heads, 0)
    with pytest.raises(ValueError, match=f"{type(objective).__name__} needs the label column 'propensity'"):
        objective.loss(outputs(logits), labels_of(labels))


@pytest.mark.parametrize("options", [{}, {"propensity": "uniform", "lambda_ctcvr": 1.0}, {"lambda_ctcvr": 0}], ids=str)
def test_without_the_ctr_task_there_is_no_p_ctr_to_weigh_with(options):
    with pytest.raises(ValueError, match=r"^train_ctr=False needs a propensity .* lambda_ctcvr=0"):
        IPS(train_ctr=False, **options)


def test_every_method_but_the_baseline_says_when_and_where_it_is_published():
    unsaid = [name for name, method in METHODS.items() if not re.search(r"\b20\d\d, https://", method.reference)]
    assert unsaid in ([], ["Naive"])
