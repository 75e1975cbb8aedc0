"""Log loss, calibration and expected calibration error: against scikit-learn and a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from cvr_plugins.metrics import EPSILON, calibration, expected_calibration_error, log_loss

pytestmark = pytest.mark.filterwarnings("error")

unit32 = st.floats(0, 1, width=32)
rows = st.lists(st.tuples(st.integers(0, 1), unit32 | st.sampled_from([0.0, 0.25, 1.0])), min_size=1, max_size=40)


def test_log_loss_of_certain_predictions() -> None:
    right = log_loss([1, 0], [1.0, 0.0])
    assert right == 0
    assert math.copysign(1, right) == 1
    for dtype in (np.float32, np.float64):
        wrong = log_loss([1, 0], np.array([0.0, 1.0], dtype))
        assert wrong == pytest.approx(-math.log(EPSILON), rel=1e-15)
        assert wrong == pytest.approx(36.04, abs=0.01)


@pytest.mark.parametrize("rate", [0.5, 0.01])
def test_log_loss_agrees_with_scikit_learn(rate: float) -> None:
    generator = np.random.default_rng(3)
    labels = (generator.random(5000) < rate).astype(int)
    probabilities = np.r_[generator.beta(rate, 1, 4000), generator.integers(0, 2, 1000)]
    assert log_loss(labels, probabilities) == pytest.approx(sklearn_metrics.log_loss(labels, probabilities), rel=1e-12)


def test_calibration_by_hand_and_of_many_float32_summed_in_float64() -> None:
    assert calibration([1, 0, 0, 1], [0.5, 0.25, 0.5, 0.25]) == 0.75
    probabilities = np.full(1_000_000, 0.1, np.float32)
    labels = np.r_[np.ones(100_000), np.zeros(900_000)]
    assert calibration(labels, probabilities) == pytest.approx(float(np.float32(0.1)) * 10, rel=1e-12)


def test_a_prediction_on_an_edge_belongs_to_the_bin_below() -> None:
    for bins in (2, 5, 10, 20):
        for b in range(1, bins):
            edge = b / bins
            # The lower neighbour shares the edge's bin, so their gaps cancel; the upper neighbour does not.
            assert expected_calibration_error([1, 0], [edge, np.nextafter(edge, 0)], bins=bins) == pytest.approx(
                abs(2 * edge - 1) / 2, abs=1e-12
            )
            assert expected_calibration_error([1, 0], [edge, np.nextafter(edge, 1)], bins=bins) == pytest.approx(0.5)


def slow_ece(labels: list[int], probabilities: list[float], bins: int, strategy: str) -> float:
    ordered, n = sorted(probabilities), len(probabilities)
    if strategy == "uniform":
        edges = [b / bins for b in range(1, bins)]
    else:
        edges = [next(p for i, p in enumerate(ordered) if (i + 1) * bins >= b * n) for b in range(1, bins)]
    gap_of_bin: dict[int, float] = {}
    for y, p in zip(labels, probabilities, strict=True):
        own = sum(p > edge for edge in edges)
        gap_of_bin[own] = gap_of_bin.get(own, 0.0) + p - y
    return sum(map(abs, gap_of_bin.values())) / n


@given(rows, st.integers(1, 12), st.sampled_from(["uniform", "quantile"]))
@settings(max_examples=80, deadline=None)
def test_ece_agrees_with_a_loop_over_rows(table: list[tuple[int, float]], bins: int, strategy: str) -> None:
    labels, probabilities = map(list, zip(*table, strict=True))
    value = expected_calibration_error(labels, probabilities, bins=bins, strategy=strategy)
    assert value == pytest.approx(slow_ece(labels, probabilities, bins, strategy), abs=1e-12)


def test_undefined_without_rows_or_positives() -> None:
    for metric in (log_loss, calibration, expected_calibration_error):
        assert metric([], []) is None
    assert expected_calibration_error([], [], strategy="quantile") is None
    assert calibration([0, 0], [0.1, 0.2]) is None


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [0.1, 1.5], r"probabilities must lie in \[0, 1\]; row 1 holds 1\.5"),
        ([0, 1], [-1e-9, 0.5], r"probabilities .*row 0"),
        ([0, 1], [0.1, math.nan], "probabilities must be finite; row 1"),
        ([0, 1], [0.1, 0.2, 0.3], "labels has 2 rows but probabilities has 3"),
        ([0, 3], [0.1, 0.2], "labels .*row 1 holds 3"),
    ],
)
def test_bad_columns_are_refused(labels: object, probabilities: object, message: str) -> None:
    for metric in (log_loss, calibration, expected_calibration_error):
        with pytest.raises(ValueError, match=message):
            metric(labels, probabilities)


def test_bad_options_are_refused() -> None:
    whole, nearest = "bins must be a whole number of at least 1", "'quantiles'. Did you mean quantile"
    for options, message in (({"bins": 0}, whole), ({"bins": 2.5}, whole), ({"strategy": "quantiles"}, nearest)):
        with pytest.raises(ValueError, match=message):
            expected_calibration_error([0, 1], [0.1, 0.2], **options)
