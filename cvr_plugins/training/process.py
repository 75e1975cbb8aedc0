"""What a run sets in the process around it, and sets back: torch's threads and its random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch compute on so many threads, None for what it is set to, and set it back."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def torch_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Draw torch's random numbers from `seed`, and leave the caller's generators, Python's and NumPy's as they were."""
    drawn, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        np.random.set_state(drawn)  # noqa: NPY002
        random.setstate(python)
