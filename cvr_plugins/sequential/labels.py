"""Pseudo-labels of sessions in compressed rows: one number per session and distinct item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cvr_plugins.options import check_count, check_number
from cvr_plugins.sequential._tensors import as_tensor, check_integers, check_item_ids
from cvr_plugins.sequential.sessions import PADDING

# Events compressed at a time, so that building needs little more room than what is built.
_BLOCK = 1 << 17


class Candidates(NamedTuple):
    """The candidate items of a batch of sessions, each `[B, C]`, C being the most that any of them has.

    Parameters
    ----------
    items
        Ids in ascending order, padded by 0 at the end.
    values
        Pseudo-labels, 0 at padding, each row summing to 1.
    mask
        True where there is a candidate.
    """

    items: Tensor
    values: Tensor
    mask: Tensor


class PseudoLabelStore(nn.Module):
    """The partial label matrix of PARS, kept where it is not 0: one float per session and distinct item.

    Row u starts at 1 / |U_u| for each of the distinct items U_u of session u and sums to 1 ever after. State is
    buffers, and so follows `state_dict`, `.to(device)` and deepcopy: `ptr` int64 `[n + 1]`, `item` int32 `[nnz]`,
    ascending within a session, `value` float32 `[nnz]`; session u's are at `ptr[u]:ptr[u + 1]`.

    Parameters
    ----------
    n_items
        Number of item ids, the padding id 0 among them.

    Raises
    ------
    ValueError
        For a number that is none.

    Notes
    -----
    Built by `from_padded` or `from_ragged`; `PseudoLabelStore(n_items=...)` is one without sessions. Loading a state
    replaces all sessions by those of the state. 4 + 4 bytes a label and 8 a session: 53 MB for 417,370 sessions of 15
    events, where the dense matrix over 39,299 items takes 65.6 GB.

    References
    ----------
    Ye et al., PARS, AAAI 2026, eq 8.
    """

    ptr: Tensor
    item: Tensor
    value: Tensor

    def __init__(self, *, n_items: int) -> None:
        super().__init__()
        self.n_items = check_count("n_items", n_items)
        self.register_buffer("ptr", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("item", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("value", torch.zeros(0, dtype=torch.float32))

    @classmethod
    def from_padded(cls, sessions: Tensor | Sequence[Sequence[int]], *, n_items: int) -> PseudoLabelStore:
        """Return the store of padded sessions, on their device.

        Parameters
        ----------
        sessions
            Item ids `[n, L]`, padded by 0 in any column. A session without an event has no labels, and `gather` refuses
            it.
        n_items
            Number of item ids.

        Returns
        -------
        PseudoLabelStore
            With uniform labels.

        Raises
        ------
        ValueError
            For ids outside 0 .. n_items - 1.
        """
        store = cls(n_items=n_items)
        padded = check_integers("The sessions", as_tensor("The sessions", sessions), 2)
        check_item_ids("The sessions", padded, store.n_items)
        store._fill(len(padded), int((padded != PADDING).sum()), padded.device, _padded_blocks(padded))
        return store

    @classmethod
    def from_ragged(
        cls, items: Tensor | Sequence[int], lengths: Tensor | Sequence[int], *, n_items: int
    ) -> PseudoLabelStore:
        """Return the store of sessions given as one array of item ids and the number of events of each session.

        Parameters
        ----------
        items
            `[sum(lengths)]`, the first session's events first.
        lengths
            `[n]`, of which 0 is a session that has no labels.
        n_items
            Number of item ids.

        Returns
        -------
        PseudoLabelStore
            With uniform labels.

        Raises
        ------
        ValueError
            For ids outside 1 .. n_items - 1 and for lengths that do not add up.
        """
        store = cls(n_items=n_items)
        ids = check_integers("The items of the sessions", as_tensor("The items of the sessions", items), 1)
        counts = as_tensor("The lengths of the sessions", lengths).to(ids.device)
        counts = check_integers("The lengths of the sessions", counts, 1).long()
        if (counts < 0).any() or int(counts.sum()) != len(ids):
            raise ValueError(
                f"The lengths of the sessions must add up to the number of their items, {len(ids)}, and none be "
                f"negative; they add up to {int(counts.sum())}."
            )
        check_item_ids("The items of the sessions", ids, store.n_items, first=1)
        store._fill(len(counts), len(ids), ids.device, _ragged_blocks(ids, counts))
        return store

    def __len__(self) -> int:
        return len(self.ptr) - 1

    @property
    def nbytes(self) -> int:
        """Bytes that the labels take."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers())

    def gather(self, session_ids: Tensor) -> Candidates:
        """Return items and labels of the sessions `[B]`.

        Raises
        ------
        ValueError
            For an id outside 0 .. n - 1, or of a session that has no labels.
        """
        places, mask = self._places(session_ids)
        items = torch.where(mask, self.item[places], PADDING).long()
        return Candidates(items, torch.where(mask, self.value[places], 0), mask)

    @torch.no_grad()
    def update(self, session_ids: Tensor, new_values: Tensor, alpha_new: float) -> Tensor:
        """Replace labels by alpha_new * new + (1 - alpha_new) * old, and return them, `[B, C]`, 0 at padding.

        Parameters
        ----------
        session_ids
            `[B]`, each at most once.
        new_values
            `[B, C]` in the order of `gather`, rows summing to 1; what stands at padding is ignored.
        alpha_new
            In [0, 1], weight of the new labels.

        Returns
        -------
        Tensor
            The labels as they are now, `[B, C]`.

        Raises
        ------
        ValueError
            For ids that `gather` refuses, for a session named twice (which of its two rows would count?), and for
            another shape.

        References
        ----------
        Ye et al., PARS, AAAI 2026, eq 11, whose alpha this is; the released program's 0.9 is the weight of the *old*
        label, alpha_new = 0.1.
        """
        weight = check_number("alpha_new", alpha_new, low=0, high=1)
        places, mask = self._places(session_ids)
        if new_values.shape != mask.shape:
            raise ValueError(
                f"The new labels must have the shape {list(mask.shape)} of the candidates; got "
                f"{list(new_values.shape)}."
            )
        if len(session_ids.unique()) < len(session_ids):
            raise ValueError("A session is twice among the ids to update; give each session once per batch.")
        old = self.value[places]
        new = torch.where(mask, torch.lerp(old, new_values.to(old.dtype), weight), 0)
        self.value[places[mask]] = new[mask]
        return new

    @torch.no_grad()
    def put(self, session_ids: Tensor, values: Tensor) -> None:
        """Replace labels by those of `update` in another process. session_ids: `[B]`; values: `[B, >= C]`, as there."""
        places, mask = self._places(session_ids)
        self.value[places[mask]] = values[:, : mask.shape[1]][mask].to(self.value.dtype)

    def extra_repr(self) -> str:
        """Return the sizes, for printing."""
        return f"n_items={self.n_items}, sessions={len(self)}, labels={len(self.item)}"

    def _places(self, session_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Where in `item` and `value` the sessions' candidates are, `[B, C]`, and the mask of those that exist."""
        ids = check_integers("Session ids", session_ids, 1).to(self.ptr)
        if not len(ids):
            raise ValueError("A batch needs at least one session; got no session id.")
        low, high = (int(bound) for bound in ids.aminmax())
        if low < 0 or high >= len(self):
            raise ValueError(
                f"Session id {low if low < 0 else high} is outside 0 .. {len(self) - 1}; "
                "the label store knows the sessions that it was built from."
            )
        start = self.ptr[ids]
        count = self.ptr[ids + 1] - start
        if not int(count.min()):
            raise ValueError(
                f"Session {int(ids[count.argmin()])} has no events in the label store, and so no labels; leave "
                "empty sessions out of training."
            )
        column = torch.arange(int(count.max()), device=ids.device)
        mask = column < count[:, None]
        return torch.where(mask, start[:, None] + column, start[:, None]), mask

    def _fill(self, n: int, events: int, device: torch.device, blocks: Iterator[tuple[Tensor, Tensor, int]]) -> None:
        """Fill an empty store of n sessions from blocks (session of each event, item, sessions in the block)."""
        count = torch.zeros(n, dtype=torch.int64, device=device)
        item = torch.empty(events, dtype=torch.int32, device=device)
        row = label = 0
        for session, ids, sessions in blocks:
            key = (session * self.n_items + ids).sort().values
            first = torch.ones_like(key, dtype=torch.bool)
            first[1:] = key[1:] != key[:-1]
            key = key[first]
            count[row : row + sessions] = torch.bincount(key // self.n_items, minlength=sessions)
            item[label : label + len(key)] = key % self.n_items
            row, label = row + sessions, label + len(key)
        # A slice would keep, and save, the room of the events that repeat an item.
        self.item = item[:label].clone()
        del item
        self.value = torch.empty(label, dtype=torch.float32, device=device)
        label = 0
        for counts in count.split(max(1, _BLOCK // 16)):
            uniform = counts.float().reciprocal().repeat_interleave(counts)
            self.value[label : label + len(uniform)] = uniform
            label += len(uniform)
        self.ptr = nn.functional.pad(count.cumsum(0), (1, 0))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        error_messages = rest[-1]
        # An incomplete state is reported by torch, as the keys that it lacks.
        found: dict[str, Any] = {name: state_dict.get(prefix + name) for name in ("ptr", "item", "value")}
        if all(value is not None for value in found.values()):
            problem = _inconsistency(found, self.n_items)
            if problem:
                error_messages.append(f"The labels under {prefix!r} are not those of a label store: {problem}.")
                return
            for name, value in found.items():
                setattr(self, name, getattr(self, name).new_empty(value.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _padded_blocks(padded: Tensor) -> Iterator[tuple[Tensor, Tensor, int]]:
    for rows in padded.split(max(1, _BLOCK // max(1, padded.shape[1]))):
        events = rows != PADDING
        yield events.nonzero()[:, 0], rows[events].long(), len(rows)


def _ragged_blocks(items: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor, int]]:
    ends = lengths.cumsum(0)
    starts = torch.arange(0, len(items), _BLOCK, device=items.device)
    cuts = [*torch.searchsorted(ends, starts, right=True).unique().tolist(), len(lengths)]
    # What comes before the first event are sessions without any; they belong to the first block.
    cuts[0] = 0
    for first, last in pairwise(cuts):
        counts = lengths[first:last]
        begin = int(ends[first] - lengths[first]) if len(counts) else 0
        session = torch.arange(len(counts), device=items.device).repeat_interleave(counts)
        yield session, items[begin : begin + len(session)].long(), len(counts)


def _inconsistency(found: Mapping[str, Any], n_items: int) -> str:
    """Say what is wrong with a state's tensors, or return ""."""
    if not all(isinstance(value, Tensor) and value.dim() == 1 for value in found.values()):
        return "an entry is not a one-dimensional tensor"
    ptr, item, value = found["ptr"], found["item"], found["value"]
    if ptr.is_floating_point() or item.is_floating_point() or not value.is_floating_point():
        return "an entry has the wrong type of number"
    if len(item) != len(value):
        return f"{len(item)} items have {len(value)} labels"
    if ptr.is_meta or item.is_meta:
        return ""
    if not len(ptr) or int(ptr[0]) or int(ptr[-1]) != len(item) or bool((ptr[1:] < ptr[:-1]).any()):
        return "the rows do not divide the labels"
    if len(item) and (int(item.min()) < 1 or int(item.max()) >= n_items):
        return f"an item id is outside 1 .. {n_items - 1}"
    return ""
