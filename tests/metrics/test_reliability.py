"""Reliability curves: by hand, and the rows that each is of."""

from __future__ import annotations

import numpy as np
import pytest

from cvr_plugins.metrics import (
    ReliabilityCurve,
    Scored,
    evaluate,
    reliability,
    reliability_curve,
)


def test_by_hand():
    curve = reliability_curve([0, 1, 1, 1], [0.75, 0.25, 0.5, 1.0], bins=2)
    assert curve == ReliabilityCurve((0.375, 0.875), (1.0, 0.5), (2, 2), np.std([0.25, 0.5, 0.75, 1.0]))
    even = reliability_curve([0, 1], [0.05, 0.95], bins=10, strategy="uniform")
    assert (even.predicted, even.observed, even.rows) == ((0.05, 0.95), (0.0, 1.0), (1, 1)), "no empty bin"
    assert curve.to_dict() == {
        "predicted": [0.375, 0.875],
        "observed": [1.0, 0.5],
        "rows": [2, 2],
        "spread": pytest.approx(0.2795, abs=1e-4),
    }


def test_constant_predictions_are_one_bin_without_spread_and_no_rows_none():
    curve = reliability_curve([0, 1, 1, 0], [0.3] * 4)
    assert (curve.predicted, curve.observed, curve.rows, curve.spread) == ((pytest.approx(0.3),), (0.5,), (4,), 0.0)
    assert reliability_curve([], []) == ReliabilityCurve((), (), (), 0.0)


def test_every_scored_task_and_space_has_a_curve_of_its_own_rows():
    generator = np.random.default_rng(2)
    click, would = generator.integers(0, 2, 300), generator.integers(0, 2, 300)
    predictions = {task: generator.random(300, np.float32) for task in ("cvr", "ctr")}
    scored = Scored(predictions, click, click * would, counterfactual=would)
    curves = reliability(scored, bins=5)
    report = evaluate(scored, ["ece"])
    assert list(curves) == list(report.support)
    for name, curve in curves.items():
        support = report.support[name]
        assert sum(curve.rows) == support.rows
        assert np.average(curve.predicted, weights=curve.rows) == pytest.approx(support.mean_predicted)
        assert np.average(curve.observed, weights=curve.rows) == pytest.approx(support.mean_observed)
    inside = click == 1
    assert curves["cvr/click"] == reliability_curve((click * would)[inside], predictions["cvr"][inside], bins=5)
