"""The events of all sessions in one array, and sessions as places in it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Sessions(NamedTuple):
    """Sessions and their events in order of time.

    Parameters
    ----------
    session
        RecBole's ids of the sessions, `[n]`.
    ptr
        int64 `[n + 1]`; session u has the events `ptr[u]:ptr[u + 1]`.
    item
        Item ids `[E]`, none of them 0.
    purchased
        bool `[E]`, or None if no purchases were loaded.
    """

    session: Tensor
    ptr: Tensor
    item: Tensor
    purchased: Tensor | None


class EventLog(NamedTuple):
    """The events of all sessions, one session after the other, each in order of time.

    Parameters
    ----------
    item
        int32 `[E]`.
    purchased
        bool `[E]`, or None if no purchases were loaded.
    """

    item: Tensor
    purchased: Tensor | None

    def padded(self, start: Tensor, stop: Tensor, width: int) -> Tensor:
        """Return the last `width` items of the events `start:stop` of each row, `[B, width]`, padded by 0."""
        place = torch.maximum(start, stop - width)[:, None] + torch.arange(width)
        inside = place < stop[:, None]
        return torch.where(inside, self.item[place.clamp(max=len(self.item) - 1)], 0).long()

    def ragged(self, start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
        """Return where rows begin, `[B + 1]`, and the places of their events `start:stop`, row after row."""
        count = stop - start
        ptr = torch.nn.functional.pad(count.cumsum(0), (1, 0))
        return ptr, torch.arange(int(ptr[-1])) + (start - ptr[:-1]).repeat_interleave(count)

    def sessions(self, session: Tensor, start: Tensor, stop: Tensor) -> Sessions:
        """Return the rows as sessions of their own."""
        ptr, place = self.ragged(start, stop)
        return Sessions(session, ptr, self.item[place], None if self.purchased is None else self.purchased[place])
