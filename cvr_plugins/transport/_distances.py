"""Squared Euclidean distances between two sets of representations, as one matrix product."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def squared_distances(a: Tensor, b: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Cost matrix C_ij = ||a_i - b_j||^2 `[P, U]`, never negative, without a gradient.

    Parameters
    ----------
    a, b
        Representations, `[P, E]` and `[U, E]`.
    dtype
        Floating type of the arithmetic and of the result; by default the wider of the inputs' types, and at least
        float32. `torch.float64` costs about twice the time and is right to 1e-15 of the squared spread. Autocasting
        does not apply: a half-precision product would lose small distances altogether.

    Returns
    -------
    Tensor
        `[P, U]`.

    Raises
    ------
    ValueError
        If the shapes do not fit or a type is not a floating one.

    Notes
    -----
    Computed as ||a_i||^2 + ||b_j||^2 - 2 <a_i, b_j> on representations centred at the mean of all their rows, so that
    an offset common to them cancels before the squares do and not after. What rounding error is left is relative to the
    squared spread of the representations, not to the distance of the pair.
    """
    for name, x in (("a", a), ("b", b)):
        if x.ndim != 2:
            raise ValueError(f"squared_distances needs a matrix of representations for {name!r}; got {list(x.shape)}.")
        if not x.is_floating_point():
            raise ValueError(f"squared_distances needs floating-point representations; {name!r} is {x.dtype}.")
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"squared_distances needs representations of one width; 'a' has {a.shape[1]} columns and 'b' {b.shape[1]}."
        )
    if dtype is None:
        dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    elif not dtype.is_floating_point:
        raise ValueError(f"squared_distances computes in a floating-point type; got dtype={dtype}.")
    a, b = a.to(dtype), b.to(dtype)
    rows = max(len(a) + len(b), 1)
    centre = (a.sum(0) + b.sum(0)) / rows
    a, b = a - centre, b - centre
    with torch.autocast(a.device.type, enabled=False):
        distances = torch.addmm(a.square().sum(1, keepdim=True), a, b.T, alpha=-2.0)
    return distances.add_(b.square().sum(1)).clamp_min_(0.0)
