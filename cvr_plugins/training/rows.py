"""Rows that come batch by batch, collected into one array."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class RowBuffer:
    """One tensor for the rows of all batches, allocated once where their number is known.

    Parameters
    ----------
    rows
        The expected number, None if unknown. More rows than expected (a sampler that repeats rows) or fewer
        (`drop_last`) are taken as they come.
    """

    def __init__(self, rows: int | None = None) -> None:
        self._expected = rows or 0
        self._whole: Tensor | None = None
        self._kept = 0
        self._beyond: list[Tensor] = []

    def append(self, batch: Tensor) -> None:
        """Add the rows of a batch, `[B, ...]`."""
        end = self._kept + len(batch)
        if end > self._expected or self._beyond:
            self._beyond.append(batch.cpu())
            return
        if self._whole is None:
            self._whole = batch.new_empty((self._expected, *batch.shape[1:]))
        self._whole[self._kept : end] = batch
        self._kept = end

    def array(self) -> np.ndarray | None:
        """Return all rows, `[N, ...]`, None if there is none; a type that NumPy lacks becomes float32."""
        parts = [] if self._whole is None else [self._whole[: self._kept].cpu()]
        parts += self._beyond
        if not parts:
            return None
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        array: np.ndarray = (whole.float() if whole.dtype == torch.bfloat16 else whole).numpy()
        return array
