"""Pseudo-labels that several processes refine, each those of its own batches, and all of them keep."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from cvr_plugins.sequential.labels import PseudoLabelStore


def share_labels(store: PseudoLabelStore, session_ids: Tensor, values: Tensor) -> None:
    """Put the labels that every process of torch.distributed has just updated into the stores of all.

    Called by all of them together, each with what its `PseudoLabelStore.update` returned; without several processes
    nothing happens. Of a session that two processes had in their batches, as RecBole's samplers make it happen at the
    end of an epoch, all keep the labels of the same one.

    Parameters
    ----------
    store
        This process's.
    session_ids, values
        `[B]` and `[B, C]`, as large as they happen to be.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() < 2:
        return
    size = torch.tensor(values.shape, device=values.device)
    distributed.all_reduce(size, op=distributed.ReduceOp.MAX)
    rows, columns = size.tolist()
    ids = session_ids.new_full((rows,), -1, dtype=torch.int64, device=values.device)
    ids[: len(session_ids)] = session_ids
    labels = values.new_zeros(rows, columns)
    labels[: values.shape[0], : values.shape[1]] = values
    found = [_gathered(each) for each in (ids, labels)]
    for others_ids, others_labels in zip(*found, strict=True):
        given = others_ids >= 0
        store.put(others_ids[given], others_labels[given])


def _gathered(mine: Tensor) -> list[Tensor]:
    everyones = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(everyones, mine.contiguous())
    return everyones
