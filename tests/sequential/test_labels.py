from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
import torch

from cvr_plugins.sequential import PADDING, PseudoLabelStore, labels

SESSIONS = torch.tensor([[3, 5, 3, 7, 0], [2, 0, 0, 0, 0], [6, 6, 1, 0, 0]])


@pytest.fixture
def store():
    return PseudoLabelStore.from_padded(SESSIONS, n_items=8)


def random_sessions(n, width, n_items, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, n_items, (n, width), generator=generator)


def rows_of(store):
    """What each session holds, as {item: label}, read from the buffers alone."""
    ptr, item, value = store.ptr.tolist(), store.item.tolist(), store.value.tolist()
    return [dict(zip(item[a:b], value[a:b], strict=True)) for a, b in pairwise(ptr)]


def test_labels_start_uniform_over_the_distinct_items(store):
    third = pytest.approx(1 / 3)
    assert rows_of(store) == [{3: third, 5: third, 7: third}, {2: 1.0}, {1: 0.5, 6: 0.5}]
    assert len(store) == 3
    assert {name: str(buffer.dtype) for name, buffer in store.named_buffers()} == {
        "ptr": "torch.int64",
        "item": "torch.int32",
        "value": "torch.float32",
    }


def test_gathering_pads_to_the_longest_of_the_batch(store):
    found = store.gather(torch.tensor([1, 0]))
    assert found.items.tolist() == [[2, 0, 0], [3, 5, 7]]
    assert found.mask.tolist() == [[True, False, False], [True, True, True]]
    assert found.values.tolist() == [[1, 0, 0], pytest.approx([1 / 3] * 3)]
    assert store.gather(torch.tensor([1])).items.tolist() == [[2]]


def test_an_update_worked_by_hand(store):
    # Session 0: 0.25 q + 0.75 / 3 = 0.25 (q + 1); session 2: 0.25 q + 0.375.
    new = torch.tensor([[0.2, 0.8, 9.0], [0.5, 0.3, 0.2]])
    returned = store.update(torch.tensor([2, 0]), new, 0.25)
    assert returned.tolist() == [pytest.approx([0.425, 0.575, 0]), pytest.approx([0.375, 0.325, 0.3])]
    assert rows_of(store) == [
        {3: pytest.approx(0.375), 5: pytest.approx(0.325), 7: pytest.approx(0.3)},
        {2: 1.0},
        {1: pytest.approx(0.425), 6: pytest.approx(0.575)},
    ]
    assert torch.equal(store.gather(torch.tensor([2, 0])).values, returned)


@pytest.mark.parametrize(("alpha_new", "kept"), [(0, "old"), (1, "new")])
def test_the_ends_of_alpha_are_exact(alpha_new, kept):
    store = PseudoLabelStore.from_padded(random_sessions(50, 9, 40), n_items=40)
    ids = torch.arange(50)
    _, old, mask = store.gather(ids)
    new = torch.rand(mask.shape).masked_fill(~mask, -torch.inf).softmax(1)
    assert torch.equal(store.update(ids, new, alpha_new), {"old": old, "new": new}[kept])


def test_rows_sum_to_one_after_a_thousand_updates():
    store = PseudoLabelStore.from_padded(random_sessions(64, 20, 30), n_items=30)
    generator = torch.Generator().manual_seed(1)
    for _ in range(1000):
        ids = torch.randperm(64, generator=generator)[:32]
        mask = store.gather(ids).mask
        scores = 3 * torch.randn(mask.shape, generator=generator)
        store.update(ids, scores.masked_fill(~mask, -torch.inf).softmax(1), 0.3)
    sums = torch.zeros(64).index_add_(0, torch.arange(64).repeat_interleave(store.ptr.diff()), store.value)
    torch.testing.assert_close(sums, torch.ones(64), rtol=0, atol=2e-6)
    assert (store.value >= 0).all()


@pytest.mark.parametrize(("block", "width"), [(1, 6), (7, 1), (64, 6), (1 << 17, 6)])
def test_both_ways_to_build_equal_a_loop_over_sessions(block, width, monkeypatch):
    monkeypatch.setattr(labels, "_BLOCK", block)
    sessions = random_sessions(40, width, 9)
    sessions[[0, 1, 17, 39]] = PADDING
    expected = []
    for row in sessions.tolist():
        distinct = sorted(set(row) - {PADDING})
        expected.append({item: pytest.approx(1 / len(distinct)) for item in distinct})
    padded = PseudoLabelStore.from_padded(sessions, n_items=9)
    flat, lengths = sessions[sessions != PADDING], (sessions != PADDING).sum(1)
    ragged = PseudoLabelStore.from_ragged(flat.numpy(), lengths.numpy(), n_items=9)
    for store in (padded, ragged):
        assert rows_of(store) == expected
        assert store.ptr[-1] == len(store.item) == len(store.value)
        # No more room than the labels need: a buffer's whole storage is saved.
        assert {buffer.untyped_storage().nbytes() for buffer in (store.item, store.value)} == {4 * len(store.item)}
    for name, buffer in padded.named_buffers():
        assert torch.equal(buffer, dict(ragged.named_buffers())[name])


@pytest.mark.parametrize("n", [0, 3])
def test_there_may_be_no_events_at_all(n):
    for store in (
        PseudoLabelStore.from_padded(torch.zeros(n, 4, dtype=torch.int64), n_items=5),
        PseudoLabelStore.from_ragged(np.zeros(0, dtype=np.int64), np.zeros(n, dtype=np.int64), n_items=5),
    ):
        assert len(store) == n
        assert store.ptr.tolist() == [0] * (n + 1)
        assert not len(store.item)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PseudoLabelStore.from_padded([[1, 8]], n_items=8), r"item id 8, outside 0 .. 7; n_items counts"),
        (lambda: PseudoLabelStore.from_padded([[1, -1]], n_items=8), r"item id -1, outside 0 .. 7"),
        (lambda: PseudoLabelStore.from_padded([[1, 2], [3]], n_items=8), r"sessions cannot be read as an array"),
        (lambda: PseudoLabelStore.from_padded([[1.0]], n_items=8), r"whole numbers in 2 dimensions; got torch.float32"),
        (lambda: PseudoLabelStore.from_padded([1], n_items=8), r"whole numbers in 2 dimensions; .* shape \[1\]"),
        (lambda: PseudoLabelStore.from_ragged([1, 0], [2], n_items=8), r"item id 0, outside 1 .. 7"),
        (lambda: PseudoLabelStore.from_ragged([1, 2], [3], n_items=8), r"number of their items, 2, .* add up to 3"),
        (lambda: PseudoLabelStore.from_ragged([1, 2], [3, -1], n_items=8), r"none be negative"),
    ],
)
def test_what_cannot_be_built_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 4], r"Session id 4 is outside 0 .. 3"),
        ([-1], r"Session id -1 is outside 0 .. 3"),
        ([0, 3], r"Session 3 has no events in the label store"),
        ([0.5], r"Session ids must be whole numbers in 1 dimension; got torch.float32"),
        ([[0]], r"Session ids must be whole numbers in 1 dimension; .* shape \[1, 1\]"),
        (torch.zeros(0, dtype=torch.int64), r"needs at least one session"),
    ],
)
def test_unknown_sessions_are_refused(ids, message):
    store = PseudoLabelStore.from_padded(torch.cat([SESSIONS, torch.zeros(1, 5, dtype=torch.int64)]), n_items=8)
    with pytest.raises(ValueError, match=message):
        store.gather(torch.as_tensor(ids))
    with pytest.raises(ValueError, match=message):
        store.update(torch.as_tensor(ids), torch.ones(1, 3), 0.5)


@pytest.mark.parametrize(
    ("ids", "shape", "alpha_new", "message"),
    [
        ([0, 1, 0], (3, 3), 0.5, "A session is twice among the ids"),
        ([0, 1], (2, 2), 0.5, r"must have the shape \[2, 3\] of the candidates; got \[2, 2\]"),
        ([0, 1], (2, 3), 1.5, r"alpha_new must be a number in .0, 1.; got 1.5"),
    ],
)
def test_an_update_that_makes_no_sense_is_refused_and_changes_nothing(store, ids, shape, alpha_new, message):
    before = rows_of(store)
    with pytest.raises(ValueError, match=message):
        store.update(torch.tensor(ids), torch.full(shape, 0.3), alpha_new)
    assert rows_of(store) == before


def saved_and_loaded(store):
    file = io.BytesIO()
    torch.save(store.state_dict(), file)
    file.seek(0)
    fresh = PseudoLabelStore(n_items=store.n_items)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


def test_a_saved_store_holds_the_same_and_shares_nothing(store):
    store.update(torch.tensor([0]), torch.tensor([[0.5, 0.25, 0.25]]), 0.5)
    before = rows_of(store)
    twin = saved_and_loaded(store)
    assert rows_of(twin) == before
    assert twin.n_items == 8
    twin.update(torch.tensor([0]), torch.tensor([[0.0, 0.0, 1.0]]), 1)
    assert rows_of(store) == before
    assert rows_of(twin)[0] == {3: 0, 5: 0, 7: 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item": torch.tensor([3, 5, 7, 2, 1], dtype=torch.int32)}, "5 items have 6 labels"),
        ({"ptr": torch.tensor([0, 4, 3, 6])}, "rows do not divide the labels"),
        ({"ptr": torch.zeros(0, dtype=torch.int64)}, "rows do not divide the labels"),
        ({"item": torch.tensor([3, 5, 7, 2, 1, 8], dtype=torch.int32)}, r"an item id is outside 1 .. 7"),
        ({"item": torch.ones(6)}, "wrong type of number"),
        ({"value": torch.ones(6, 1)}, "not a one-dimensional tensor"),
        ({"value": [1.0] * 6}, "not a one-dimensional tensor"),
        ({"value": None}, 'Missing key.*"value"'),
    ],
)
def test_a_state_that_is_not_of_a_store_is_refused(store, changes, message):
    before = rows_of(store)
    state = {name: value for name, value in {**store.state_dict(), **changes}.items() if value is not None}
    with pytest.raises(RuntimeError, match=message):
        store.load_state_dict(state)
    assert [list(row) for row in rows_of(store)] == [list(row) for row in before]
