"""NDCG and recall at k per user: by hand, against scikit-learn, ties in expectation, conventions by name."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from cvr_plugins import metrics as m

D2, D3 = 1 / math.log2(3), 1 / 2  # discounts of the second and third place; the first's is 1

# User a: positives at places 1 and 3 of 4; b: three positives at places 2, 3, 4; c: no positive.
GROUPS = list("aaaabbbbcc")
LABELS = [1, 0, 1, 0, 0, 1, 1, 1, 0, 0]
SCORES = [9, 8, 7, 6, 4, 3, 2, 1, 5, 5]


@pytest.mark.parametrize(
    ("k", "options", "recall", "ndcg"),
    [
        (2, {}, (1 / 2 + 1 / 2) / 2, (1 / (1 + D2) + D2 / (1 + D2)) / 2),
        (2, {"denominator": "positives"}, (1 / 2 + 1 / 3) / 2, (1 / (1 + D2) + D2 / (1 + D2 + D3)) / 2),
        (3, {}, (2 / 2 + 2 / 3) / 2, ((1 + D3) / (1 + D2) + (D2 + D3) / (1 + D2 + D3)) / 2),
        (1, {"without_positive": "zero"}, (1 + 0 + 0) / 3, (1 + 0 + 0) / 3),
        (1, {"without_positive": "one"}, (1 + 0 + 1) / 3, (1 + 0 + 1) / 3),
        (9, {}, 1.0, ((1 + D3) / (1 + D2) + (D2 + D3 + 1 / math.log2(5)) / (1 + D2 + D3)) / 2),
    ],
)
def test_by_hand(k, options, recall, ndcg):
    assert m.user_recall(LABELS, SCORES, GROUPS, k, **options) == pytest.approx(recall)
    assert m.user_ndcg(LABELS, SCORES, GROUPS, k, **options) == pytest.approx(ndcg)


def test_ndcg_equals_scikit_learns_user_by_user():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 1000)
    labels, scores = rng.integers(0, 2, 1000), rng.integers(0, 30, 1000) / 7
    for k in (1, 3, 5, 50):
        theirs = []
        for user in range(40):
            rows = groups == user
            if labels[rows].any():
                theirs.append(ndcg_score([labels[rows]], [scores[rows]], k=k))
        assert m.user_ndcg(labels, scores, groups, k) == pytest.approx(np.mean(theirs), rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_ties_are_taken_in_expectation_over_every_order(k):
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.5, 0.5, 0.5, 0.2])
    found = []
    for order in itertools.permutations(range(3)):
        broken = scores + np.append(np.array(order) * 1e-3, 0.0)
        found.append([f(labels, broken, np.zeros(4, int), k) for f in (m.user_recall, m.user_ndcg)])
    ours = [f(labels, scores, np.zeros(4, int), k) for f in (m.user_recall, m.user_ndcg)]
    assert ours == pytest.approx(np.mean(found, axis=0))


def test_undefined_is_none():
    for function in (m.user_ndcg, m.user_recall):
        assert function([0, 0], [1.0, 2.0], ["a", "b"], 3) is None
        assert function([0, 0], [1.0, 2.0], ["a", "b"], 3, without_positive="one") == 1
        assert function([], [], [], 3) is None


def test_other_conventions_are_refused():
    wrong = {"k": 0, "denominator": "k", "without_positive": "none"}
    for name, value in wrong.items():
        for function in (m.user_ndcg, m.user_recall):
            with pytest.raises(ValueError, match=rf"{name}.*{value}"):
                function(LABELS, SCORES, GROUPS, **{"k": 1, name: value})


def test_reports_know_them_by_name():
    ones = np.ones(10)
    scored = m.Scored({"cvr": np.array(SCORES) / 10}, ones, np.array(LABELS), groups=np.array(GROUPS))
    names = ["user_ndcg@2", "user_recall@2", "user_ndcg_positives@2", "user_recall_positives@2"]
    values = m.evaluate(scored, names).values
    for name, function in (("ndcg", m.user_ndcg), ("recall", m.user_recall)):
        assert values[f"cvr/click/user_{name}@2"] == function(LABELS, SCORES, GROUPS, 2)
        other = function(LABELS, SCORES, GROUPS, 2, denominator="positives")
        assert values[f"cvr/click/user_{name}_positives@2"] == other
    metric = m.find_metric("user_recall_positives@5")
    assert (metric.best, metric.needs_groups) == ("max", True)
    assert metric.summary == "recall of each user's 5 highest rows over all positives, mean over users with a positive"
    without = m.Scored({"cvr": np.array(SCORES) / 10}, ones, np.array(LABELS))
    assert set(m.evaluate(without, names[:1]).values.values()) == {None}


@pytest.mark.parametrize(
    "name", ["user_ndcg", "user_ndcg@", "user_recall@0", "user_ndcg@5%", "user_ndcg@1.5", "user_ndcg@05"]
)
def test_a_name_without_its_number_of_rows_is_refused(name):
    with pytest.raises(ValueError, match=r"must end in a whole number of rows per user, such as user_\w+@5"):
        m.find_metric(name)
