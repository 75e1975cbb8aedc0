"""Masked sessions for the masked-item (Cloze) objective, made for a whole batch at once on its device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cvr_plugins.options import check_number
from cvr_plugins.sequential.sessions import PADDING, latest_events


class MaskedSessions(NamedTuple):
    """A batch of sessions with events hidden.

    Parameters
    ----------
    sequences
        `[B, W]` with `[MASK]` in the place of each hidden event.
    masked
        `[B, W]`, True there.
    targets
        The hidden items `[M]`, in the order of `masked.nonzero()`.
    """

    sequences: Tensor
    masked: Tensor
    targets: Tensor


def mask_items(
    sequences: Tensor,
    *,
    mask_ratio: float,
    mask_id: int,
    ft_ratio: float = 0.0,
    generator: torch.Generator | None = None,
) -> MaskedSessions:
    """Hide each event with probability `mask_ratio`, but of every session at least one event and never all.

    Where the draw hides none, the event with the lowest draw is hidden, where it hides all, the one with the highest
    is shown, so that a session of n >= 2 events has n r + (1 - r)^n - r^n hidden on average. A session of one event
    cannot have both and stays as it is: hidden, it would tell nothing but how popular its item is.

    Parameters
    ----------
    sequences
        Item ids `[B, W]`, padded by 0.
    mask_ratio
        r, in (0, 1).
    mask_id
        The id of `[MASK]`, n_items.
    ft_ratio
        In [0, 1], probability that a session has its last event hidden instead and nothing else, as it will be asked
        for in prediction (the samples for fine-tuning of Sun et al., BERT4Rec, CIKM 2019, section 3.6).
    generator
        What is drawn from, on any device.

    Returns
    -------
    MaskedSessions
        The sessions with `[MASK]` in the place of hidden events, where they are, and the hidden items.

    Raises
    ------
    ValueError
        Unless 0 < mask_ratio < 1 and 0 <= ft_ratio <= 1.

    Notes
    -----
    Deviation: the paper and its program let sessions be masked wholly or not at all.

    References
    ----------
    Ye et al., PARS, AAAI 2026, eq 6.
    """
    ratio = check_number("mask_ratio", mask_ratio, low=0, high=1, open_low=True, open_high=True)
    share = check_number("ft_ratio", ft_ratio, low=0, high=1)
    events = sequences != PADDING
    count = events.sum(1, keepdim=True)
    draw = _rand(sequences, sequences.shape, generator)
    masked = (draw < ratio) & events
    column = torch.arange(sequences.shape[1], device=sequences.device)
    lowest = draw.masked_fill(~events, 2).argmin(1, keepdim=True)
    highest = draw.masked_fill(~events, -1).argmax(1, keepdim=True)
    hidden = masked.sum(1, keepdim=True)
    masked |= (hidden == 0) & (column == lowest)
    masked &= ~((hidden == count) & (column == highest))
    if share:
        last = _rand(sequences, (len(sequences), 1), generator) < share
        masked = torch.where(last, _last_event(events), masked)
    return _hide(sequences, masked & (count > 1), mask_id)


def mask_last(sequences: Tensor, *, mask_id: int) -> MaskedSessions:
    """Hide the last event of every session of two events or more. sequences: item ids `[B, W]`, padded by 0."""
    events = sequences != PADDING
    return _hide(sequences, _last_event(events) & (events.sum(1, keepdim=True) > 1), mask_id)


def append_mask(sequences: Tensor, *, mask_id: int, max_length: int) -> Tensor:
    """Return the sessions `[B, W']` with `[MASK]` after their last event: the question what comes next.

    Parameters
    ----------
    sequences
        Item ids `[B, W]`, padded by 0 in any column.
    mask_id
        The id of `[MASK]`.
    max_length
        Of a session that would be longer (at least 2), the earliest events go.

    Returns
    -------
    Tensor
        Left-aligned; W' is as wide as the longest session needs.
    """
    kept = latest_events(sequences, max_length - 1)
    extended = torch.cat([kept, torch.full_like(kept[:, :1], PADDING)], dim=1)
    return extended.scatter(1, (kept != PADDING).sum(1, keepdim=True), mask_id)


def _rand(sequences: Tensor, shape: tuple[int, ...] | torch.Size, generator: torch.Generator | None) -> Tensor:
    device = sequences.device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=device).to(sequences.device)


def _last_event(events: Tensor) -> Tensor:
    column = torch.arange(events.shape[1], device=events.device)
    return events & (column == (column * events).amax(1, keepdim=True))


def _hide(sequences: Tensor, masked: Tensor, mask_id: int) -> MaskedSessions:
    return MaskedSessions(sequences.masked_fill(masked, mask_id), masked, sequences[masked])
