"""Settings chosen on the validation part: which run each seed keeps, and what cannot be chosen."""

from __future__ import annotations

import pytest

from cvr_plugins.grid import GridError
from cvr_plugins.grid.reports import Layout, Request, Results, choose, render, summary_table

AUC = "cvr/entire/auc"


def decays(metric="cvr/click/auc", **more):
    """Two methods, two weight decays, two seeds: (method, decay, seed) -> validation and test value; None failed."""
    found = {
        "A": [(0.6, 0.50), (0.7, 0.40), (0.9, 0.70), (0.8, 0.99)],
        "B": [None, (0.1, 0.20), (0.3, 0.30), (0.3, 0.35)],
    }
    settings = [{"weight_decay": decay, "seed": seed} for seed in (1, 2) for decay in (0.1, 0.2)]
    cells = [
        ({"model": model, **chosen}, pair and {"valid_value": pair[0], AUC: pair[1]})
        for model, pairs in found.items()
        for chosen, pair in zip(settings, pairs, strict=True)
    ]
    return {"cells": cells, "source": {"valid_metric": metric, **more}}


def test_a_setting_is_chosen_by_each_seed_on_its_validation_part(folder):
    results = choose(Results.read(folder(**decays())), ["weight_decay"])
    assert results.dimensions == ("model", "seed")
    # Each the better of its validation values, although the other's test value is higher; the first of equal ones.
    assert results.runs[AUC].tolist() == [0.40, 0.70, 0.20, 0.30]
    assert results.chosen == {"weight_decay": {"0.1": 2, "0.2": 2}}
    table = summary_table(results, Layout.of(results), [AUC])
    assert table.text.loc["A"].iloc[0] == "0.5500 ± 0.2121"
    assert any("weight_decay: chosen by" in note and "0.1 (2), 0.2 (2)" in note for note in table.notes)


def test_a_metric_that_is_best_low_is_chosen_low(folder):
    path = folder(**decays("cvr/click/log_loss"))
    results = choose(Results.read(path), ["weight_decay"])
    assert results.runs[AUC].tolist() == [0.50, 0.99, 0.20, 0.30]
    assert "chosen by" in render(Results.read(path), Request([AUC], chosen=["weight_decay"]), ["md"])["md"]


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        ({}, ["weight_decai"], "'weight_decai' is no dimension of this grid. Did you mean weight_decay"),
        ({"variants": {"A": {"valid_metric": "x"}}}, ["weight_decay"], "did not all watch one valid_metric"),
        ({"overrides": [{"when": {}, "set": {"valid_metric": "x"}}]}, ["seed"], "did not all watch one valid_metric"),
    ],
)
def test_what_cannot_be_chosen_is_refused(folder, change, names, message):
    with pytest.raises(GridError, match=message):
        choose(Results.read(folder(**decays(**change))), names)


def test_nothing_is_chosen_among_runs_that_are_not_finished(folder):
    made = decays()
    cells = made["cells"]
    path = folder(cells[1:], planned=[(cells[0][0],)])
    with pytest.raises(GridError, match="1 of 8 runs are not finished"):
        choose(Results.read(path), ["weight_decay"])
