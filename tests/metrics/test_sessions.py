"""In-session re-ranking: by hand, against a slow twin, and the table of bad input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cvr_plugins.metrics import (
    SESSION_BASELINES,
    SESSION_METRICS_AT_K,
    RankedSessions,
    session_baselines,
    session_candidates,
    session_report,
)

pytestmark = pytest.mark.filterwarnings("error")

#  five sessions: A buys its first item; B its second and third of four; C buys nothing; D buys both its items;
#  E is one item, bought
PTR = [0, 3, 7, 9, 11, 12]
PURCHASED = [1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1]
SCORES = [0.2, 0.9, 0.1, 0.8, 0.7, 0.1, 0.3, 0.5, 0.5, 0.4, 0.6, 0.0]


def expected_over_orders(purchased: np.ndarray, scores: np.ndarray, k: int) -> dict[str, float]:
    """The metrics of one session as the mean over every order that its scores allow."""
    totals = dict.fromkeys(SESSION_METRICS_AT_K, 0.0)
    orders = [o for o in itertools.permutations(range(len(scores))) if (np.diff(scores[list(o)]) <= 0).all()]
    bought = int(purchased.sum())
    for order in orders:
        top = [int(purchased[i]) for i in order[:k]]
        hits = sum(top)
        gain = sum(hit / math.log2(rank + 2) for rank, hit in enumerate(top))
        totals["hr"] += hits > 0
        totals["ndcg"] += gain / sum(1 / math.log2(rank + 2) for rank in range(min(k, bought)))
        totals["precision"] += hits / k
        totals["recall"] += hits / bought
        totals["f1"] += 2 * (hits / k) * (hits / bought) / (hits / k + hits / bought) if hits else 0
    return {name: total / len(orders) for name, total in totals.items()}


def twin(ptr, purchased, scores, k: int) -> dict[str, float | None]:
    sessions = [(purchased[a:b], scores[a:b]) for a, b in itertools.pairwise(ptr) if purchased[a:b].any()]
    each = [expected_over_orders(p, s, k) for p, s in sessions]
    return {m: float(np.mean([e[m] for e in each])) if each else None for m in SESSION_METRICS_AT_K}


@st.composite
def ragged(draw, largest: int = 6):
    """Offsets, purchases, scores with many ties, views; empty sessions included."""
    lengths = draw(st.lists(st.integers(0, largest), min_size=1, max_size=6))
    rows = sum(lengths)
    labels = draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows))
    scores = draw(st.lists(st.sampled_from([-2.5, -1.0, 0.0, 0.25, 7.0]), min_size=rows, max_size=rows))
    views = draw(st.lists(st.integers(1, 3), min_size=rows, max_size=rows))
    ptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return ptr, np.array(labels, np.int64), np.array(scores), np.array(views, np.int64)


def random_sessions(n: int, mean: float, seed: int = 0, share: float = 0.2):
    rng = np.random.default_rng(seed)
    lengths = 1 + rng.poisson(mean - 1, n)
    ptr = np.concatenate(([0], np.cumsum(lengths)))
    return ptr, rng.random(ptr[-1]) < share, rng.normal(size=ptr[-1])


def test_five_sessions_by_hand() -> None:
    ranked = RankedSessions(PTR, PURCHASED, SCORES)
    assert (ranked.total, ranked.without_purchase, ranked.all_purchased) == (5, 1, 2)
    # A ranks its purchase second of three, B its two second and fourth of four; D and E cannot go wrong.
    second = 1 / math.log2(3)
    assert ranked.ndcg(3) == pytest.approx((second + second / (1 + second) + 1 + 1) / 4)
    # Per session, of those with both labels: A 1 pair of 2 right; B 1 of 4.
    assert ranked.gauc() == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert (ranked.grouped.counted, ranked.grouped.total) == (2, 5)
    assert ranked.auc() == pytest.approx(roc_auc_score(PURCHASED, SCORES))


@settings(deadline=None, max_examples=60)
@given(ragged(), st.integers(1, 8))
def test_metrics_at_k_are_means_over_every_order_that_the_scores_allow(data, k: int) -> None:
    ptr, purchased, scores, views = data
    ranked = RankedSessions(ptr, purchased, scores, views=views)
    for metric, expected in twin(ptr, purchased, scores, k).items():
        found = ranked.value(metric, k)
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-12)), metric


def test_what_cannot_be_said_is_none() -> None:
    none_bought = RankedSessions([0, 2], [0, 0], [1.0, 2.0])
    assert none_bought.auc() is None
    assert none_bought.gauc() is None
    assert [none_bought.value(m, 1) for m in SESSION_METRICS_AT_K] == [None] * 5
    assert none_bought.padded_auc(4) == (None, None)
    empty = RankedSessions([0], [], [])
    assert (empty.total, empty.auc(), empty.gauc(), empty.hr(3)) == (0, None, None, None)
    all_bought = RankedSessions([0, 2], [1, 1], [1.0, 2.0])
    assert (all_bought.gauc(), all_bought.hr(1), all_bought.all_purchased) == (None, 1, 1)


def test_padded_auc_is_the_closed_form_and_the_pooled_slots() -> None:
    ptr, purchased, scores = random_sessions(300, 6, seed=3)
    views = np.random.default_rng(4).integers(1, 3, ptr[-1])
    ranked = RankedSessions(ptr, purchased, scores, views=views)
    slots = 30
    labels, slot_scores = np.zeros((300, slots)), np.full((300, slots), -1e9)
    for session, (a, b) in enumerate(itertools.pairwise(ptr)):
        events = np.repeat(np.arange(a, b), views[a:b])
        labels[session, : len(events)] = purchased[events]
        slot_scores[session, : len(events)] = scores[events]
    found = ranked.padded_auc(slots)
    assert found.scorer == pytest.approx(roc_auc_score(labels.ravel(), slot_scores.ravel()), abs=1e-12)
    negatives = views[~purchased].sum()
    padding = 300 * slots - views.sum()
    assert found.scorer == pytest.approx(1 - (1 - ranked.auc()) * negatives / (negatives + padding), abs=1e-12)
    assert found.random == pytest.approx(1 - 0.5 * negatives / (negatives + padding), abs=1e-12)
    assert found.random > 0.8


def test_padded_auc_needs_a_slot_for_every_event() -> None:
    ranked = RankedSessions([0, 2], [0, 1], [1.0, 2.0], views=[3, 2])
    assert ranked.padded_auc(5).scorer == 1
    with pytest.raises(ValueError, match="slots must be at least 5, the events of the longest session; got 4"):
        ranked.padded_auc(4)


def test_candidates_by_hand() -> None:
    #   session 0: items 7 3 7 5, of which 7 was bought; session 1 is empty; session 2: item 3 twice, not bought
    found = session_candidates([0, 4, 4, 6], [7, 3, 7, 5, 3, 3], [1, 0, 1, 0, 0, 0])
    assert found.ptr.tolist() == [0, 3, 3, 4]
    assert found.items.tolist() == [3, 5, 7, 3]
    assert found.purchased.tolist() == [False, False, True, False]
    assert found.views.tolist() == [1, 1, 2, 2]
    assert found.recency.tolist() == [-2, 0, -1, 0]
    baselines = session_baselines(found, [0, 0, 0, 20, 0, 10, 0, 30])
    assert list(baselines) == list(SESSION_BASELINES)
    assert baselines["popularity"].tolist() == [20, 10, 30, 20]
    assert baselines["in_session_count"].tolist() == [1, 1, 2, 2]
    assert baselines["recency"].tolist() == [-2, 0, -1, 0]
    assert len(set(baselines["random"].tolist())) == 1


def test_a_report_holds_every_baseline_under_the_very_same_metrics() -> None:
    candidates = session_candidates([0, 3, 5], [1, 2, 3, 2, 4], [0, 1, 0, 1, 0])
    report = session_report(candidates, [0.1, 0.9, 0.2, 0.3, 0.8], [0, 5, 9, 1, 2], topk=(1, 2))
    assert list(report) == ["model", *SESSION_BASELINES]
    assert len({tuple(values) for values in report.values()}) == 1
    assert report["model"]["hr@1"] == 0.5
    assert report["popularity"]["ndcg@2"] == 1
    assert report["random"]["auc"] == 0.5
    assert report["random"]["hr@1"] == pytest.approx((1 / 3 + 1 / 2) / 2)


@pytest.mark.parametrize(
    ("ptr", "purchased", "scores", "message"),
    [
        ([0, 2], [0, 2], [1.0, 2.0], "purchased must hold only 0 and 1; row 1 holds 2"),
        ([0, 2], [0, 1], [1.0, math.nan], "scores must be finite; row 1 holds nan"),
        ([0, 2], [0, 1], [1.0], "purchased has 2 rows but scores has 1"),
        ([0, 1], [0, 1], [1.0, 2.0], "ptr must hold integers from 0 to the number of rows, 2"),
        ([1, 2], [0, 1], [1.0, 2.0], "ptr must hold integers from 0"),
        ([], [], [], "ptr must hold integers from 0"),
        ([0.0, 2.0], [0, 1], [1.0, 2.0], "ptr must hold integers"),
        ([0, 2, 1, 2], [0, 1], [1.0, 2.0], "ptr must ascend; session 1 goes from 2 to 1"),
    ],
)
def test_bad_rankings_say_what_and_where(ptr, purchased, scores, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RankedSessions(ptr, purchased, scores)


def test_other_bad_input() -> None:
    ranked = RankedSessions([0, 2], [0, 1], [1.0, 2.0])
    candidates = session_candidates([0, 2], [1, 3], [0, 1])
    for call, message in (
        (lambda: ranked.hr(0), "k must be a whole number of at least 1"),
        (lambda: ranked.value("ndgc", 3), r"Unknown session metric 'ndgc'\. Did you mean ndcg"),
        (lambda: ranked.value("ndcg"), "Unknown session metric 'ndcg'"),
        (lambda: RankedSessions([0, 2], [0, 1], [1.0, 2.0], views=[1, 0]), "views must hold 2 whole numbers"),
        (lambda: session_candidates([0, 2], [1, -3], [0, 1]), r"items .* \[0, 2\^32\); event 1 holds -3"),
        (lambda: session_baselines(candidates, [1, 2, 3]), "holds 3 items, but item 3 is a candidate"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
