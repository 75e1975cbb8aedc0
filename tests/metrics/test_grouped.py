"""GAUC: by hand, against a loop over scikit-learn, and for every kind of group id."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cvr_plugins.metrics import gauc, grouped_auc

pytestmark = pytest.mark.filterwarnings("error")

LABELS = [1, 0, 0, 1, 0, 1, 1, 0]
SCORES = [0.9, 0.5, 0.1, 0.2, 0.2, 0.7, 0.6, 0.3]
#  group: a has AUC 1 on three rows; b a tie, 0.5 on two; c only positives; d only a negative
GROUPS = ["a", "a", "a", "b", "b", "c", "c", "d"]


def loop_gauc(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> tuple[float | None, float | None, int]:
    aucs, weights = [], []
    for group in np.unique(groups):
        of_group = groups == group
        if 0 < labels[of_group].sum() < of_group.sum():
            aucs.append(roc_auc_score(labels[of_group], scores[of_group]))
            weights.append(of_group.sum())
    if not aucs:
        return None, None, 0
    return float(np.mean(aucs)), float(np.average(aucs, weights=weights)), len(aucs)


def test_gauc_by_hand() -> None:
    assert gauc(LABELS, SCORES, GROUPS) == 0.75
    assert gauc(LABELS, SCORES, GROUPS, weighting="impression") == (3 * 1 + 2 * 0.5) / 5
    result = grouped_auc(LABELS, SCORES, GROUPS)
    assert (result.counted, result.total) == (2, 4)


@pytest.mark.parametrize(("dtype", "n_groups", "decimals"), [("f4", 1, 9), ("f8", 7, 0), ("f4", 100, 1)])
def test_agrees_with_a_loop_over_scikit_learn(dtype: str, n_groups: int, decimals: int) -> None:
    generator = np.random.default_rng(n_groups)
    labels = (generator.random(2000) < 0.2).astype(int)
    scores = (generator.normal(size=2000) + labels).round(decimals).astype(dtype)
    groups = generator.integers(0, n_groups, 2000)
    mean, impression, counted = loop_gauc(labels, scores, groups)
    result = grouped_auc(labels, scores, groups)
    assert result.mean == pytest.approx(mean, rel=1e-12)
    assert result.impression == pytest.approx(impression, rel=1e-12)
    assert result.counted == counted
    assert result.total == len(np.unique(groups))


@pytest.mark.parametrize(
    "ids",
    [
        np.array([-128, 127, 0, 1], np.int8),
        np.array([2**64 - 1, 0, 2**63, 1], np.uint64),
        np.array([-(2**63), 2**63 - 1, 0, 1]),
        np.array([5, 5 + 2**30 - 1]),
        np.array([False, True]),
        np.array([0.5, -1.5, 0.0, 1e300]),
        np.array(["ann", "bob", "", "d"]),
        np.array(["ann", 7, (1, 2), datetime.date(2024, 1, 1)], object),
        np.array(["2024-01-01", "2024-01-02"], "datetime64[D]"),
        pd.Series(["x", "y", "z"], dtype="category"),
    ],
    ids=lambda ids: str(ids.dtype),
)
def test_group_ids_of_every_type_are_told_apart(ids: np.ndarray) -> None:
    generator = np.random.default_rng(5)
    number = generator.integers(0, len(ids), 200)
    labels, scores = generator.integers(0, 2, 200), generator.integers(0, 9, 200)
    expected = grouped_auc(labels, scores, number)
    groups = ids.take(number) if isinstance(ids, pd.Series) else ids[number]
    result = grouped_auc(labels, scores, groups)
    assert result.mean == pytest.approx(expected.mean)
    assert result.impression == pytest.approx(expected.impression)
    assert (result.counted, result.total) == (expected.counted, expected.total) == (len(ids), len(ids))


def test_undefined_when_no_group_has_both_classes() -> None:
    assert gauc([], [], []) is None
    result = grouped_auc([1, 0, 1], [0.1, 0.2, 0.3], [1, 2, 1])
    assert (result.mean, result.impression, result.counted, result.total) == (None, None, 0, 2)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([1, 2], "labels has 3 rows but groups has 2"),
        ([[1, 2, 3]], "groups must be 1-D"),
        (["a", None, "b"], "groups must name a group for every row; row 1 is missing"),
        ([1.0, 2.0, np.nan], "row 2 is missing"),
        (pd.Series(["a", pd.NA, "b"], dtype="string"), "row 1 is missing"),
        (np.array(["a", np.nan, "b"], object), "row 1 is missing"),
        (np.array(["NaT", "2024-01-01", "NaT"], "datetime64[D]"), "row 0 is missing"),
        (np.array([{}, {}, {}], object), "groups must hold hashable ids"),
        ([1j, 2, 3], "groups must hold integers, strings or other hashable ids"),
    ],
)
def test_bad_groups_are_refused(groups: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gauc([0, 1, 1], [0.1, 0.2, 0.3], groups)


def test_bad_scores_and_weighting_are_refused() -> None:
    with pytest.raises(ValueError, match="scores must be finite; row 1"):
        gauc([0, 1], [0.1, np.nan], [1, 1])
    with pytest.raises(ValueError, match=r"Unknown weighting 'impressions'\. Did you mean impression\?"):
        gauc([0, 1], [0.1, 0.2], [1, 1], weighting="impressions")
