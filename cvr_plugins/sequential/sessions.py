"""Padded sessions of item ids, one per row: where they are aligned, cut to their latest events, and deduplicated."""

from __future__ import annotations

import torch
from torch import Tensor

from cvr_plugins.sequential._tensors import check_integers, check_item_ids

PADDING = 0
"""The item id that stands for no event; it may fill any column."""


def checked_sessions(sequences: Tensor, n_items: int) -> Tensor:
    """Return the sessions `[B, W]` as int64, or raise ValueError unless they are at least one row of known item ids."""
    sessions = check_integers("The sessions", sequences, 2)
    check_item_ids("The sessions", sessions, n_items)
    if not len(sessions):
        raise ValueError("A batch needs at least one session; got none.")
    return sessions.long()


def checked_candidates(sequences: Tensor, items: Tensor, n_items: int) -> Tensor:
    """Return the items to score `[B, C]` as int64, or raise ValueError unless they are known ids for B sessions."""
    candidates = check_integers("The items to score", items, 2).long()
    check_item_ids("The items to score", candidates, n_items)
    if len(candidates) != len(sequences):
        raise ValueError(f"{len(candidates)} rows of items came with {len(sequences)} sessions; give one for each.")
    return candidates


def latest_events(sequences: Tensor, max_length: int) -> Tensor:
    """Return the last `max_length` events of each session, left-aligned, as wide as the longest needs.

    Parameters
    ----------
    sequences
        Item ids `[B, W]`, padded by 0 in any column, B of at least 1.
    max_length
        Events to keep.

    Returns
    -------
    Tensor
        `[B, max(1, min(max_length, longest session))]`. However a batch was padded, the same tensor comes out.
    """
    events = sequences != PADDING
    count = events.sum(1)
    width = max(1, min(max_length, int(count.max())))
    if not sequences.shape[1]:
        return sequences.new_zeros(len(sequences), 1)
    start = (count - width).clamp(min=0)
    columns = torch.arange(width, device=sequences.device) + start[:, None]
    return _left_aligned(sequences, events).gather(1, columns)


def distinct_items(sequences: Tensor) -> Tensor:
    """Return each session's distinct items in ascending order, `[B, C]`, padded by 0 at the end.

    Parameters
    ----------
    sequences
        Item ids `[B, W]`, padded by 0 in any column; C is the largest number of distinct items, at least 1.
    """
    ordered = sequences.sort(dim=1).values
    first = ordered != PADDING
    first[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    return latest_events(ordered.masked_fill(~first, PADDING), max(1, sequences.shape[1]))


def _left_aligned(sequences: Tensor, events: Tensor) -> Tensor:
    # A stable sort rather than a scatter: deterministic on every device.
    return sequences.gather(1, (~events).to(torch.uint8).argsort(dim=1, stable=True))
