"""Encoders: sessions of item ids become hidden states, and for PARS one user embedding per session."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cvr_plugins.options import check_choice, check_count, check_flag, check_number
from cvr_plugins.sequential.sessions import PADDING
from cvr_plugins.sequential.transformer import ACTIVATIONS, TransformerLayer, padding_mask


class SessionEncoder(nn.Module):
    """A bidirectional Transformer over the events of a session.

    `h_t = Z_item(i_t) + Z_pos(t)`, then `n_layers` Transformer layers (PARS eqs 2 and 3, BERT4Rec eqs 1 to 6). A
    position is the event's number in its session, whatever column it stands in, so that padding may come before,
    between or after.

    Parameters
    ----------
    n_items
        Number of item ids, the padding id 0 among them; the embedding of `[MASK]` is row `n_items`.
    max_length
        Events of a session at most, L; see `latest_events`.
    n_layers, n_heads, hidden_size, inner_size, hidden_dropout_prob, attn_dropout_prob, hidden_act, layer_norm_eps
        As of RecBole's TransformerEncoder; hidden_act is `"gelu"`, `"relu"`, `"swish"`, `"tanh"` or `"sigmoid"`.
    initializer_range
        Standard deviation of all first weights; biases start at 0, gains of LayerNorm at 1.
    input_norm
        LayerNorm and dropout on h before the first layer, as PARS's released program, BERT and BERT4Rec have it; False
        is PARS's eq 3 to the letter.

    Raises
    ------
    ValueError
        For an option out of range.

    References
    ----------
    Ye et al., PARS, AAAI 2026; Sun et al., BERT4Rec, CIKM 2019.
    """

    def __init__(
        self,
        n_items: int,
        *,
        max_length: int = 50,
        n_layers: int = 2,
        n_heads: int = 4,
        hidden_size: int = 256,
        inner_size: int = 1024,
        hidden_dropout_prob: float = 0.1,
        attn_dropout_prob: float = 0.1,
        hidden_act: str = "gelu",
        layer_norm_eps: float = 1e-12,
        initializer_range: float = 0.02,
        input_norm: bool = True,
    ) -> None:
        super().__init__()
        self.n_items, self.max_length = check_count("n_items", n_items), check_count("max_length", max_length)
        self.hidden_size = check_count("hidden_size", hidden_size)
        if self.n_items < 2:
            raise ValueError("n_items must be at least 2: it counts the padding id 0, and there must be an item.")
        if self.hidden_size % check_count("n_heads", n_heads):
            raise ValueError(f"hidden_size must be a multiple of n_heads; got {hidden_size} and {n_heads}.")
        dropout = check_number("hidden_dropout_prob", hidden_dropout_prob, low=0, high=1)
        self.layer_norm_eps = check_number("layer_norm_eps", layer_norm_eps, low=0, open_low=True)
        self.initializer_range = check_number("initializer_range", initializer_range, low=0)

        self.item_embedding = nn.Embedding(self.n_items + 1, self.hidden_size, padding_idx=PADDING)
        self.position_embedding = nn.Embedding(self.max_length, self.hidden_size)
        self.input_norm: nn.Module = nn.Identity()
        if check_flag("input_norm", input_norm):
            norm = nn.LayerNorm(self.hidden_size, eps=self.layer_norm_eps)
            self.input_norm = nn.Sequential(norm, nn.Dropout(dropout))
        self.layers = nn.ModuleList(
            TransformerLayer(
                n_heads=n_heads,
                hidden_size=self.hidden_size,
                inner_size=check_count("inner_size", inner_size),
                hidden_dropout_prob=dropout,
                attn_dropout_prob=check_number("attn_dropout_prob", attn_dropout_prob, low=0, high=1),
                hidden_act=check_choice("hidden_act", hidden_act, list(ACTIVATIONS)),
                layer_norm_eps=self.layer_norm_eps,
            )
            for _ in range(check_count("n_layers", n_layers))
        )
        self.apply(self.initialise)

    @property
    def mask_id(self) -> int:
        """Id of `[MASK]`, n_items."""
        return self.n_items

    def forward(self, sequences: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Return hidden states `[B, W, H]` of item ids `[B, W]`, padded by 0; at padding they mean nothing.

        Parameters
        ----------
        sequences
            Item ids `[B, W]`.
        wanted
            bool `[B, W]`; the states there alone are returned, `[M, H]` in the order of `wanted.nonzero()`, and the
            last layer computes no others.

        Raises
        ------
        ValueError
            Where W is more than `max_length`.
        """
        if sequences.shape[1] > self.max_length:
            raise ValueError(
                f"The sessions are {sequences.shape[1]} columns wide and max_length is {self.max_length}; "
                "cut them by latest_events."
            )
        events = sequences != PADDING
        position = (events.cumsum(1) - 1).clamp(min=0)
        hidden = self.input_norm(self.item_embedding(sequences) + self.position_embedding(position))
        mask = padding_mask(events)
        *layers, last = self.layers
        for layer in layers:
            hidden = layer(hidden, mask)
        if wanted is None:
            return last(hidden, mask)
        count = wanted.sum(1, keepdim=True)
        width = max(1, int(count.max()))
        place = (~wanted).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
        asked = hidden.gather(1, place[:, :, None].expand(-1, -1, self.hidden_size))
        hidden = last(hidden, mask, asked)
        return hidden[torch.arange(width, device=count.device) < count]

    def initialise(self, module: nn.Module) -> None:
        """Give a module its first weights; for `nn.Module.apply`."""
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()


class PARSEncoder(SessionEncoder):
    """The encoder of PARS: a `SessionEncoder`, and what PARS reads off it.

    The mean `g_u` of the hidden states over the events, `z_u = LayerNorm(W_g g_u + b_g)`; scores are `Z_item^T z_u`.

    Parameters
    ----------
    n_items
        Number of item ids, the padding id 0 among them.
    projection_size
        None scores by the item embeddings themselves (eq 9). A number scores by `LayerNorm(W Z_item + b)` of that
        width, and makes z_u as wide: the released program, with 128 for a hidden size of 256.
    **options
        Those of `SessionEncoder`.

    Raises
    ------
    ValueError
        For an option out of range.

    References
    ----------
    Ye et al., PARS, AAAI 2026, eqs 2 to 5 and 9.
    """

    def __init__(self, n_items: int, *, projection_size: int | None = None, **options: Any) -> None:
        super().__init__(n_items, **options)
        size = self.hidden_size if projection_size is None else check_count("projection_size", projection_size)
        self.user_projection = self._projection(size)
        self.item_projection: nn.Module = nn.Identity()
        if projection_size is not None:
            self.item_projection = self._projection(size)

    def _projection(self, size: int) -> nn.Module:
        norm = nn.LayerNorm(size, eps=self.layer_norm_eps)
        return nn.Sequential(nn.Linear(self.hidden_size, size), norm).apply(self.initialise)

    def user_embedding(self, hidden: Tensor, sequences: Tensor) -> Tensor:
        """Return z_u `[B, P]` from the hidden states `[B, W, H]` of `sequences` `[B, W]` (eqs 4 and 5).

        P is `projection_size` or else H. The mean of a session without an event is 0.
        """
        events = (sequences != PADDING).to(hidden.dtype)
        mean = torch.einsum("bw,bwh->bh", events, hidden) / events.sum(1, keepdim=True).clamp(min=1)
        user: Tensor = self.user_projection(mean)
        return user

    def item_table(self) -> Tensor:
        """Return what z_u is scored against, by item id, `[n_items + 1, P]`; the rows of padding and `[MASK]` too.

        In full precision under autocast as well: a softmax over the catalogue sums small shares.
        """
        weight = self.item_embedding.weight
        with torch.autocast(weight.device.type, enabled=False):
            table: Tensor = self.item_projection(weight)
        return table
