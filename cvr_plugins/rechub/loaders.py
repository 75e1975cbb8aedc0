"""Reading any loader torch-rechub takes: its batches on a device, its size if known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from cvr_plugins.rechub.batches import TensorLoader


def batches(loader: Any, device: torch.device, *, in_order: bool = False) -> Iterator[tuple[dict[str, Tensor], Any]]:
    """Iterate over `(x_dict, ys)` on `device`, ys None where the loader gives `x_dict` alone.

    in_order: read a TensorLoader's rows as they stand, whatever its `shuffle`.
    """
    source: Iterable[Any] = loader
    # By type: torch's own DataLoader has an attribute of the name in_order, which means something else.
    if isinstance(loader, TensorLoader):
        loader.to(device)
        source = loader.in_order() if in_order else loader
    for batch in source:
        x, ys = (batch, None) if isinstance(batch, dict) else batch
        moved = {name: values.to(device, non_blocking=True) for name, values in x.items()}
        yield moved, None if ys is None else ys.to(device, non_blocking=True)


def number_of_batches(loader: Any) -> int | None:
    """Return the number of batches, None if the loader does not know it."""
    try:
        return len(loader)
    except TypeError:
        return None


def number_of_rows(loader: Any) -> int | None:
    """Return the number of rows behind the loader, None if it does not know it."""
    if isinstance(loader, TensorLoader):
        return loader.rows
    try:
        return len(loader.dataset)
    except (AttributeError, TypeError):
        return None
