"""Softmax losses over the whole catalogue, computed in chunks of items so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding

from cvr_plugins.sequential.sessions import PADDING

EPSILON = 1e-10
"""Added to a probability before its logarithm is taken; Ye et al., PARS, AAAI 2026, below eq 9."""

# Scores held at a time: 16 MiB in float32. On a CPU larger chunks leave the cache and are up to a third slower.
_SCORES = 1 << 22
_LEAST_ITEMS = 256


def catalogue_logsumexp(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    n_items: int | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    """`log sum_{i=1}^{n_items-1} exp(hidden . weight_i + bias_i)`, `[N]`; the padding id 0 has no part in it.

    Parameters
    ----------
    hidden
        `[N, H]`.
    weight, bias
        By item id, `[>= n_items, H]` and `[>= n_items]`.
    n_items
        Number of item ids, of at least 2; those of `weight` if not given.
    chunk_size
        Items scored at a time, chosen so that their scores fill 16 MiB if not given.

    Returns
    -------
    Tensor
        `[N]`, differentiable once, in `hidden`, `weight` and `bias`.

    Raises
    ------
    ValueError
        If there is no item, or not a row of weights for each.

    Notes
    -----
    Scores are computed once forwards and once more backwards, and never held for more than a chunk: beside its inputs
    and their gradients this takes the room of `[N, chunk_size]` scores, whatever the catalogue.
    """
    stop = len(weight) if n_items is None else n_items
    if not PADDING + 1 < stop <= len(weight):
        raise ValueError(
            f"A softmax over items needs at least one id beside padding and a row of weights for each: n_items is "
            f"{stop}, the weights have {len(weight)} rows."
        )
    size = chunk_size or items_per_chunk(len(hidden))
    result: Tensor = _LogSumExp.apply(hidden.to(weight.dtype), weight, bias, stop, size)
    return result


def items_per_chunk(rows: int) -> int:
    """Return how many items `rows` of hidden states are scored against at a time, if nobody says."""
    return max(_LEAST_ITEMS, _SCORES // max(1, rows))


def partial_label_loss(scores: Tensor, labels: Tensor, logsumexp: Tensor) -> Tensor:
    """`- sum_i y_i log(p_i + 1e-10)` with `p_i = exp(s_i - logsumexp)`, by session, `[B]`.

    Parameters
    ----------
    scores
        s `[B, C]` of the candidates, -inf at padding.
    labels
        y `[B, C]`, **detached**, 0 at padding.
    logsumexp
        Of the scores of the whole catalogue, `[B]`, so that p is the softmax over it.

    References
    ----------
    Ye et al., PARS, AAAI 2026, eq 9.
    """
    probability = torch.exp(scores - logsumexp[:, None])
    return -(labels.detach() * torch.log(probability + EPSILON)).sum(1)


def masked_item_loss(
    hidden: Tensor,
    targets: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    n_items: int | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    """Cross-entropy of the hidden items, `logsumexp_t - score_t`, by masked position, `[M]`.

    Parameters
    ----------
    hidden
        `[M, H]` at the masked positions alone.
    targets
        The items there, `[M]`, none of them 0.
    weight, bias, n_items, chunk_size
        As in `catalogue_logsumexp`.

    References
    ----------
    Ye et al., PARS, AAAI 2026, eqs 6 and 7.
    """
    normaliser = catalogue_logsumexp(hidden, weight, bias, n_items=n_items, chunk_size=chunk_size)
    score = (hidden.to(weight.dtype) * embedding(targets, weight)).sum(1)
    return normaliser - (score if bias is None else score + bias[targets])


def candidate_scores(hidden: Tensor, weight: Tensor, items: Tensor) -> Tensor:
    """`hidden_u . weight_i` of each session's candidates, `[B, C]`, -inf at padding.

    Parameters
    ----------
    hidden
        `[B, H]`.
    weight
        `[>= n_items, H]`.
    items
        Ids `[B, C]`, 0 at padding.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        scores = torch.einsum("bh,bch->bc", hidden.to(weight.dtype), embedding(items, weight))
    return scores.masked_fill(items == PADDING, -torch.inf)


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, stop: int, chunk_size: int) -> Tensor:
        total = hidden.new_full((len(hidden),), -torch.inf)
        with torch.autocast(hidden.device.type, enabled=False):
            for _, scores in _chunks(hidden, weight, bias, stop, chunk_size):
                highest = scores.amax(1)
                part = scores.sub_(highest[:, None]).exp_().sum(1).log_().add_(highest)
                total = torch.logaddexp(total, part)
        ctx.save_for_backward(hidden, weight, bias, total)
        ctx.stop, ctx.chunk_size = stop, chunk_size
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, total = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        of_hidden = torch.zeros_like(hidden) if wanted[0] else None
        of_weight = torch.zeros_like(weight) if wanted[1] else None
        of_bias = torch.zeros_like(bias) if wanted[2] else None
        with torch.autocast(hidden.device.type, enabled=False):
            for ids, scores in _chunks(hidden, weight, bias, ctx.stop, ctx.chunk_size):
                # The gradient in the scores is the softmax times that in the result.
                share = scores.sub_(total[:, None]).exp_().mul_(gradient[:, None])
                if of_hidden is not None:
                    of_hidden.addmm_(share, weight[ids])
                if of_weight is not None:
                    torch.mm(share.T, hidden, out=of_weight[ids])
                if of_bias is not None:
                    of_bias[ids] = share.sum(0)
        return of_hidden, of_weight, of_bias, None, None


def _chunks(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, stop: int, chunk_size: int
) -> Iterator[tuple[slice, Tensor]]:
    """One chunk of items after the other and its scores `[N, <= chunk_size]`, all in the same memory."""
    first_id = PADDING + 1
    room = hidden.new_empty(len(hidden) * min(chunk_size, stop - first_id))
    for first in range(first_id, stop, chunk_size):
        width = min(chunk_size, stop - first)
        ids = slice(first, first + width)
        scores = room[: len(hidden) * width].view(len(hidden), width)
        torch.mm(hidden, weight[ids].T, out=scores)
        yield ids, scores if bias is None else scores.add_(bias[ids])
