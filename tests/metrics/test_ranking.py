"""AUC, KS and the top of the ranking: against pairs, permutations and scikit-learn, and on bad input."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from cvr_plugins.metrics import auc, f1_at_top, ks, precision_at_top, recall_at_top
from cvr_plugins.metrics._ranking import order_codes

pytestmark = pytest.mark.filterwarnings("error")

RANKING = {
    "auc": auc,
    "ks": ks,
    "precision": lambda labels, scores: precision_at_top(labels, scores, 30),
    "recall": lambda labels, scores: recall_at_top(labels, scores, 30),
    "f1": lambda labels, scores: f1_at_top(labels, scores, 30),
}

finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
finite64 = st.floats(allow_nan=False, allow_infinity=False)


def rows_of(scores: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[int, float]]]:
    return st.lists(st.tuples(st.integers(0, 1), scores), min_size=1, max_size=40)


tied_rows = rows_of(st.integers(-3, 3).map(float) | finite32 | finite64)


def columns(rows: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([label for label, _ in rows]), np.array([score for _, score in rows], np.float64)


def auc_by_pairs(labels: np.ndarray, scores: np.ndarray) -> float | None:
    positive, negative = scores[labels == 1], scores[labels == 0]
    if not len(positive) or not len(negative):
        return None
    wins = sum(Fraction(int(p > n) * 2 + int(p == n), 2) for p in positive for n in negative)
    return float(wins / (len(positive) * len(negative)))


@given(rows_of(st.integers(0, 2).map(float)).filter(lambda rows: len(rows) <= 6), st.sampled_from([1, 20, 50, 70, 100]))
@settings(max_examples=60, deadline=None)
def test_top_is_the_mean_over_all_ways_to_break_ties(rows: list[tuple[int, float]], percent: int) -> None:
    labels, scores = columns(rows)
    chosen = max(1, -(-percent * len(rows) // 100))
    hits = [
        int(labels[list(order[:chosen])].sum())
        for order in itertools.permutations(range(len(rows)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    expected, positives = Fraction(sum(hits), len(hits)), int(labels.sum())
    assert precision_at_top(labels, scores, percent) == float(expected / chosen)
    assert recall_at_top(labels, scores, percent) == (float(expected / positives) if positives else None)
    assert f1_at_top(labels, scores, percent) == (float(2 * expected / (chosen + positives)) if positives else None)


@pytest.mark.parametrize(
    ("percent", "rows", "chosen"),
    [(7, 100, 7), (0.1, 1000, 1), (0.6, 500, 3), (0.1, 1001, 2), (14, 50, 7), (29, 100, 29)],
)
def test_percent_is_read_as_the_decimal_it_is_written_as(percent: float, rows: int, chosen: int) -> None:
    labels = np.ones(rows)
    assert recall_at_top(labels, np.arange(rows), percent) == chosen / rows


@pytest.mark.parametrize(("dtype", "decimals"), [(np.float32, 0), (np.float64, 1), (np.float32, 9), (np.float64, 9)])
def test_agrees_with_scikit_learn(dtype: type, decimals: int) -> None:
    generator = np.random.default_rng(decimals)
    labels = generator.integers(0, 2, 3000)
    scores = (generator.normal(size=3000) * 3 + labels).round(decimals).astype(dtype)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), rel=1e-13)
    assert ks(labels, scores) == pytest.approx(np.abs(tpr - fpr).max(), rel=1e-13)


def test_counts_beyond_32_bits_do_not_overflow() -> None:
    # 4 * 10^10 pairs, and their closed form: half of the negatives below every positive, the other half tied with it
    positives, negatives = 200_000, 200_000
    labels = np.repeat([1, 0, 0], [positives, negatives // 2, negatives // 2]).astype(np.int8)
    scores = np.repeat([1, 0, 1], [positives, negatives // 2, negatives // 2]).astype(np.float32)
    assert auc(labels, scores) == 0.75
    assert ks(labels, scores) == 0.5
    assert precision_at_top(labels, scores, 75) == 2 / 3


@given(tied_rows)
@settings(max_examples=100, deadline=None)
def test_auc_counts_pairs(rows: list[tuple[int, float]]) -> None:
    labels, scores = columns(rows)
    with np.errstate(over="ignore"):
        single = scores.astype(np.float32)
    kept = np.isfinite(single)
    for label, column in ((labels, scores), (labels[kept], single[kept])):
        assert auc(label, column) == auc_by_pairs(label, column)


@given(st.lists(finite32, min_size=2, max_size=20))
@settings(max_examples=100, deadline=None)
def test_codes_of_float32_have_the_order_of_the_floats(scores: list[float]) -> None:
    column = np.array([*scores, 0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38], np.float32)
    codes = order_codes(column)
    assert codes.min() >= 0
    assert codes.max() < 2**32
    np.testing.assert_array_equal(codes[:, None] < codes, column[:, None] < column)
    np.testing.assert_array_equal(codes[:, None] == codes, column[:, None] == column)


@pytest.mark.parametrize(
    "apart", [(1.0, math.nextafter(1.0, 2.0)), (1e-300, 2e-300), (1e300, 2e300), (-0.1, math.nextafter(-0.1, 0.0))]
)
def test_scores_that_float32_would_merge_stay_apart(apart: tuple[float, float]) -> None:
    low, high = apart
    assert auc([0, 1], [low, high]) == 1.0
    assert auc([1, 0], [low, high]) == 0.0
    assert ks([0, 1], [low, high]) == 1.0
    assert precision_at_top([0, 1], [low, high], 50) == 1.0


def test_undefined_with_one_class_or_no_rows() -> None:
    for labels in ([], [0, 0], [1, 1]):
        scores = np.arange(len(labels))
        assert auc(labels, scores) is None
        assert ks(labels, scores) is None
    for labels in ([], [0, 0]):
        scores = np.arange(len(labels))
        assert recall_at_top(labels, scores, 10) is None
        assert f1_at_top(labels, scores, 10) is None
    assert precision_at_top([], [], 10) is None
    assert precision_at_top([0, 0], [1, 2], 10) == 0.0


def test_columns_of_any_number_type_are_read() -> None:
    for labels in ([True, False], [1, 0], [1.0, 0.0], np.array([1, 0], np.uint8)):
        for scores in ([3, 2], np.array([3, 2], np.float16), np.array([3, 2], ">f4"), np.arange(4.0)[::-2]):
            assert auc(labels, scores) == 1.0


def test_columns_are_not_changed() -> None:
    labels, scores = np.array([1, 0, 1]), np.array([0.3, -0.0, 0.1], np.float32)
    before = labels.copy(), scores.copy()
    for metric in RANKING.values():
        metric(labels, scores)
    np.testing.assert_array_equal(labels, before[0])
    np.testing.assert_array_equal(scores.view(np.int32), before[1].view(np.int32))


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1, 1], [0.1, 0.2], "labels has 3 rows but scores has 2"),
        ([-1, 1], [0.1, 0.2], "labels must hold only 0 and 1; row 0 holds -1"),
        ([0, math.nan], [0.1, 0.2], "labels .*row 1 holds nan"),
        ([0, 1], [math.inf, 0.1], "scores must be finite; row 0 holds inf"),
        ([[0], [1]], [0.1, 0.2], r"labels must be 1-D; got shape \(2, 1\)"),
        ([0, 1], [[0.1, 0.2]], r"scores must be 1-D; got shape \(1, 2\)"),
        (["0", "1"], [0.1, 0.2], "labels must hold numbers"),
        ([0, 1], [0.1, 1j], "scores must hold numbers"),
        ([0, 1], [[0.1], [0.2, 0.3]], "scores cannot be read as an array"),
        ([0, 1], np.array([0, 2**53 + 1]), "scores must be integers up to 2\\^53.*row 1 holds 9007199254740993"),
        ([0, 1], np.array([-(2**63), 2]), "scores must be integers up to 2\\^53.*row 0"),
    ],
)
def test_bad_columns_are_refused(labels: object, scores: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        auc(labels, scores)


def test_every_metric_checks_its_columns() -> None:
    for metric in RANKING.values():
        for labels, scores, message in (([0, 2], [0.1, 0.2], "row 1 holds 2"), ([0, 1], [0.1, math.nan], "holds nan")):
            with pytest.raises(ValueError, match=message):
                metric(labels, scores)


@pytest.mark.parametrize("percent", [0, -1, 100.1, math.nan, math.inf, "ten", None])
def test_bad_percent_is_refused(percent: object) -> None:
    for metric in (precision_at_top, recall_at_top, f1_at_top):
        with pytest.raises(ValueError, match="percent must be a number above 0 and at most 100; got"):
            metric([0, 1], [0.1, 0.2], percent)
