"""Batches of sessions of about equal length, so that little of a batch is padding."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from cvr_plugins.options import check_count, check_flag
from cvr_plugins.sequential._tensors import as_tensor, check_integers


class LengthBucketSampler(Sampler[list[int]]):
    """A batch sampler for `torch.utils.data.DataLoader(batch_sampler=...)`: every session once per epoch.

    Sessions are shuffled, sorted by length within windows of `window` batches, cut into batches, and the batches
    shuffled. Each iteration is the next epoch and has its own order, which depends on `seed` and `epoch` alone: set
    `epoch` to resume a run.

    Parameters
    ----------
    lengths
        Events of each session, `[n]`, at least one session.
    batch_size
        Sessions of a batch, at least 1.
    max_length
        Events that a batch has of a session at most; longer ones count as equally long, so that their order is not lost
        to it.
    window
        1 leaves the order shuffled, more saves more padding and mixes less.
    seed
        A whole number.
    drop_last
        Leave out a batch that would not be full.

    Raises
    ------
    ValueError
        For an option out of range.
    """

    def __init__(
        self,
        lengths: Tensor | Sequence[int],
        batch_size: int,
        *,
        max_length: int | None = None,
        window: int = 50,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        known = check_integers("The lengths of the sessions", as_tensor("The lengths of the sessions", lengths), 1)
        if not len(known):
            raise ValueError("There is no session to make batches of.")
        most = None if max_length is None else check_count("max_length", max_length)
        self._lengths = known.cpu().clamp(max=most) if most is not None else known.cpu()
        self.batch_size, self.window = check_count("batch_size", batch_size), check_count("window", window)
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"seed must be a whole number; got {seed!r}.")
        self.seed, self.drop_last = seed, check_flag("drop_last", drop_last)
        self.epoch = 0

    def __len__(self) -> int:
        full, rest = divmod(len(self._lengths), self.batch_size)
        return full + (bool(rest) and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(random.Random(f"{self.seed}, epoch {self.epoch}").getrandbits(63))
        self.epoch += 1
        order = torch.randperm(len(self._lengths), generator=generator)
        # What is dropped goes before the sorting, or it would be the longest sessions more often than others.
        order = order[: len(self) * self.batch_size]
        windows = order.split(self.batch_size * self.window)
        ordered = [window[self._lengths[window].argsort(stable=True)] for window in windows]
        batches = [batch for window in ordered for batch in window.split(self.batch_size)]
        for number in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[number].tolist()
