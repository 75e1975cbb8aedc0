"""What a masked item is predicted by: scores of all items at a hidden state."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from cvr_plugins.options import check_flag
from cvr_plugins.sequential.encoder import SessionEncoder
from cvr_plugins.sequential.losses import candidate_scores, masked_item_loss
from cvr_plugins.sequential.sessions import PADDING


class MaskedItemHead(nn.Module):
    """Scores of all items at a masked position, `w_i . t(h) + b_i`.

    h: `[M, H]`; w: `[n_items, H]`; t: the identity or, with `transform`, `LayerNorm(GELU(W h + b))`.

    Parameters
    ----------
    encoder
        Whose hidden states are read.
    tied
        Whether w is the encoder's item embedding instead of a table of the head's own.
    transform
        Whether t is more than the identity.

    Raises
    ------
    ValueError
        For an option that is neither true nor false.

    References
    ----------
    Ye et al., PARS, AAAI 2026, eq 7, and a bias; with `transform` Sun et al., BERT4Rec, CIKM 2019, eq 7, and RecBole's
    LayerNorm.
    """

    weight: Tensor | None

    def __init__(self, encoder: SessionEncoder, *, tied: bool = False, transform: bool = False) -> None:
        super().__init__()
        size = encoder.hidden_size
        self.register_parameter("weight", None)
        if not check_flag("tied", tied):
            self.weight = nn.Parameter(torch.empty(encoder.n_items, size).normal_(std=encoder.initializer_range))
        self.bias = nn.Parameter(torch.zeros(encoder.n_items))
        self.transform: nn.Module = nn.Identity()
        if check_flag("transform", transform):
            norm = nn.LayerNorm(size, eps=encoder.layer_norm_eps)
            self.transform = nn.Sequential(nn.Linear(size, size), nn.GELU(), norm).apply(encoder.initialise)

    def forward(
        self, hidden: Tensor, targets: Tensor, encoder: SessionEncoder, chunk_size: int | None = None
    ) -> Tensor:
        """Return the cross-entropy at each masked position, `[M]`; see `masked_item_loss`.

        Parameters
        ----------
        hidden
            `[M, H]` at the masked positions.
        targets
            The items there, `[M]`.
        encoder
            Whose table is read if the head is tied.
        chunk_size
            See `catalogue_logsumexp`.
        """
        table, n_items = self._table(encoder), encoder.n_items
        states = self.transform(hidden)
        return masked_item_loss(states, targets, table, self.bias, n_items=n_items, chunk_size=chunk_size)

    def score_items(self, hidden: Tensor, items: Tensor, encoder: SessionEncoder) -> Tensor:
        """Return the scores of the given items, `[M, C]`, -inf for id 0. hidden: `[M, H]`; items: ids `[M, C]`."""
        return candidate_scores(self.transform(hidden), self._table(encoder), items) + self.bias[items]

    def score_catalogue(self, hidden: Tensor, encoder: SessionEncoder) -> Tensor:
        """Return the scores of all items, `[M, n_items]`, -inf for id 0. hidden: `[M, H]`."""
        table = self._table(encoder)[: encoder.n_items]
        with torch.autocast(hidden.device.type, enabled=False):
            scores = linear(self.transform(hidden).to(table.dtype), table, self.bias)
        scores[:, PADDING] = -torch.inf
        return scores

    def _table(self, encoder: SessionEncoder) -> Tensor:
        return encoder.item_embedding.weight if self.weight is None else self.weight
