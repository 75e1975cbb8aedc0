"""Checks of the tensors that the sequential models are given."""

from __future__ import annotations

import torch
from torch import Tensor

_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


def as_tensor(what: str, values: object) -> Tensor:
    """Return a tensor of an array or of (nested) sequences; ValueError if they are ragged or hold anything else."""
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} cannot be read as an array: {error}.") from error


def check_integers(what: str, tensor: Tensor, dimensions: int) -> Tensor:
    """Return `tensor`, or raise ValueError unless it holds integers in that many dimensions."""
    if tensor.dtype not in _INTEGERS or tensor.dim() != dimensions:
        raise ValueError(
            f"{what} must be whole numbers in {dimensions} dimension{'s' * (dimensions > 1)}; "
            f"got {tensor.dtype} of shape {list(tensor.shape)}."
        )
    return tensor


def check_item_ids(what: str, items: Tensor, n_items: int, *, first: int = 0) -> None:
    """Raise ValueError unless every id is in first .. n_items - 1."""
    if not items.numel():
        return
    low, high = (int(bound) for bound in items.aminmax())
    if low < first or high >= n_items:
        wrong = low if low < first else high
        raise ValueError(
            f"{what} hold the item id {wrong}, outside {first} .. {n_items - 1}; n_items counts the padding id 0, "
            "so that it is the greatest id plus one."
        )
