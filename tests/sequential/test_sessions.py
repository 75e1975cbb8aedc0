from __future__ import annotations

import pytest
import torch

from cvr_plugins.sequential import distinct_items, latest_events


def scattered(seed=0, rows=200, width=12):
    """Sessions with padding in any column, among them one without events and one without padding."""
    generator = torch.Generator().manual_seed(seed)
    sessions = torch.randint(1, 6, (rows, width), generator=generator)
    sessions *= torch.rand(rows, width, generator=generator) < torch.rand(rows, 1, generator=generator)
    sessions[0] = 0
    sessions[1] = torch.randint(1, 6, (width,), generator=generator)
    return sessions


@pytest.mark.parametrize("max_length", [1, 7, 50])
def test_the_latest_events_are_kept_in_order(max_length):
    sessions = scattered()
    kept = latest_events(sessions, max_length)
    expected = [[item for item in row if item][-max_length:] for row in sessions.tolist()]
    width = max(len(row) for row in expected)
    assert kept.tolist() == [row + [0] * (width - len(row)) for row in expected]


def test_a_batch_is_as_wide_as_its_longest_session():
    assert latest_events(torch.tensor([[0, 4, 0, 0], [0, 3, 0, 3]]), 50).tolist() == [[4, 0], [3, 3]]
    assert latest_events(torch.zeros(2, 5, dtype=torch.int64), 50).tolist() == [[0], [0]]
    assert latest_events(torch.zeros(2, 0, dtype=torch.int64), 50).tolist() == [[0], [0]]


def test_distinct_items_are_those_of_a_set():
    sessions = scattered()
    expected = [sorted(set(row) - {0}) for row in sessions.tolist()]
    width = max(len(row) for row in expected)
    assert distinct_items(sessions).tolist() == [row + [0] * (width - len(row)) for row in expected]


def test_distinct_items_of_nothing():
    assert distinct_items(torch.zeros(2, 3, dtype=torch.int64)).tolist() == [[0], [0]]
