"""Reliability curves: by hand, against scikit-learn, and against the calibration error they add up to."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

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
    assert curve.to_dict() == {
        "predicted": [0.375, 0.875],
        "observed": [1.0, 0.5],
        "rows": [2, 2],
        "spread": pytest.approx(0.2795, abs=1e-4),
    }


@pytest.mark.parametrize(("strategy", "dtype"), [("uniform", np.float32), ("quantile", np.float64)])
def test_agrees_with_scikit_learn(strategy, dtype):
    generator = np.random.default_rng(0)
    probabilities = generator.beta(1, 5, 4000).astype(dtype)
    labels = generator.random(4000) < probabilities
    curve = reliability_curve(labels, probabilities, bins=20, strategy=strategy)
    observed, predicted = calibration_curve(labels, probabilities.astype(np.float64), n_bins=20, strategy=strategy)
    np.testing.assert_allclose(curve.observed, observed, rtol=1e-12)
    np.testing.assert_allclose(curve.predicted, predicted, rtol=1e-12)


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
