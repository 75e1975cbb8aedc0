"""What several processes of torch.distributed refine is kept by each of them."""

from __future__ import annotations

import pytest
import torch

from cvr_plugins.sequential import PseudoLabelStore, processes
from cvr_plugins.sequential.processes import share_labels

SESSIONS = torch.tensor([[1, 2, 3, 4], [2, 5, 0, 0], [6, 1, 2, 0], [3, 3, 5, 0], [4, 6, 0, 0]])


class Group:
    """torch.distributed as the first of two processes sees it; the other's labels: session -> values."""

    ReduceOp = torch.distributed.ReduceOp
    is_available = is_initialized = staticmethod(lambda: True)
    get_world_size = staticmethod(lambda: 2)

    def __init__(self, ids: list[int], values: list[list[float]]) -> None:
        self.ids, self.values = torch.tensor(ids), torch.tensor(values)
        self.size = torch.tensor(self.values.shape)

    def all_reduce(self, size: torch.Tensor, op: object) -> None:
        assert op == self.ReduceOp.MAX
        self.size = torch.maximum(size, self.size)
        size.copy_(self.size)

    def all_gather(self, everyones: list[torch.Tensor], mine: torch.Tensor) -> None:
        others = torch.full_like(mine, -1)
        if mine.dim() == 1:
            others[: len(self.ids)] = self.ids
        else:
            others[: self.values.shape[0], : self.values.shape[1]] = self.values
        everyones[0].copy_(mine)
        everyones[1].copy_(others)


@pytest.mark.parametrize(
    ("ids", "values"),
    [([3], [[0.2, 0.8]]), ([2, 4, 1], [[0.5, 0.3, 0.2], [0.9, 0.1, 0.0], [0.6, 0.4, 0.0]])],
    ids=["fewer", "more, and one that both have"],
)
def test_a_process_keeps_the_labels_of_both(ids, values, monkeypatch):
    store = PseudoLabelStore.from_padded(SESSIONS, n_items=7)
    uniform = store.value.clone()
    mine = {0: [0.4, 0.3, 0.2, 0.1], 1: [0.7, 0.3, 0.0, 0.0]}
    monkeypatch.setattr(processes, "distributed", Group(ids, values))
    share_labels(store, torch.tensor(list(mine)), torch.tensor(list(mine.values())))
    expected = {**mine, **dict(zip(ids, values, strict=True))}
    for session in range(len(SESSIONS)):
        place = slice(store.ptr[session], store.ptr[session + 1])
        count = int(store.ptr[session + 1] - store.ptr[session])
        wanted = torch.tensor(expected[session][:count]) if session in expected else uniform[place]
        torch.testing.assert_close(store.value[place], wanted)


def test_a_process_alone_shares_nothing():
    store = PseudoLabelStore.from_padded(SESSIONS, n_items=7)
    before = store.value.clone()
    share_labels(store, torch.tensor([0]), torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    assert torch.equal(store.value, before)
