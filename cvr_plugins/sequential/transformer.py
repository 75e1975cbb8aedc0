"""Layers of a bidirectional Transformer encoder, normalised after each residual sum."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
    "swish": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
"""hidden_act -> function, by RecBole's names."""


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward network, each followed by dropout, the residual sum and LayerNorm.

    h' = LN(h + drop(W_o attention(h) + b_o)), out = LN(h' + drop(W_2 act(W_1 h' + b_1) + b_2)), attention being
    softmax(Q K^T / sqrt(H / n_heads)) V in each head, with dropout on the softmax: the same function as a layer of
    RecBole's TransformerEncoder, whose options these are.

    Parameters
    ----------
    n_heads, hidden_size, inner_size, hidden_dropout_prob, attn_dropout_prob, hidden_act, layer_norm_eps
        As of `SessionEncoder`.

    References
    ----------
    Vaswani et al., Attention is all you need, NeurIPS 2017.
    """

    def __init__(
        self,
        *,
        n_heads: int,
        hidden_size: int,
        inner_size: int,
        hidden_dropout_prob: float,
        attn_dropout_prob: float,
        hidden_act: str,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.n_heads, self.attn_dropout_prob = n_heads, attn_dropout_prob
        self.activation = ACTIVATIONS[hidden_act]
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.attention_output = nn.Linear(hidden_size, hidden_size)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.inner = nn.Linear(hidden_size, inner_size)
        self.output = nn.Linear(inner_size, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = nn.Dropout(hidden_dropout_prob)

    def forward(self, hidden: Tensor, attention_mask: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Return `[B, W, H]`, or `[B, Q, H]` for the states `wanted` alone, which attend to all of `hidden`.

        Parameters
        ----------
        hidden
            `[B, W, H]`.
        attention_mask
            True where it may be attended to, `[B, 1, 1, W]`.
        wanted
            Those of `hidden` whose output is asked for, `[B, Q, H]`.
        """
        if wanted is None:
            wanted = hidden
            query, key, value = self._heads(hidden, 0, 3)
        else:
            (query,), (key, value) = self._heads(wanted, 0, 1), self._heads(hidden, 1, 3)
        context = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, dropout_p=self.attn_dropout_prob if self.training else 0.0
        )
        context = self.attention_output(context.transpose(1, 2).flatten(2))
        hidden = self.attention_norm(wanted + self.dropout(context))
        return self.output_norm(hidden + self.dropout(self.output(self.activation(self.inner(hidden)))))

    def _heads(self, hidden: Tensor, first: int, last: int) -> Tensor:
        """Parts `first` to `last` of query, key and value by head, `[last - first, B, n_heads, W, H / n_heads]`."""
        size = hidden.shape[-1]
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        part = functional.linear(hidden, weight[first * size : last * size], bias[first * size : last * size])
        return part.unflatten(-1, (last - first, self.n_heads, -1)).permute(2, 0, 3, 1, 4)


def padding_mask(events: Tensor) -> Tensor:
    """Return what may be attended to, `[B, 1, 1, W]`. events: `[B, W]`, True where there is an event.

    In a session without an event that is everything: attention to nothing is NaN before torch 2.5.
    """
    return (events | ~events.any(1, keepdim=True))[:, None, None, :]
