"""Masked-item prediction (Cloze) as a model of its own: PARS without its pseudo-labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvr_plugins.options import check_count, check_flag, check_number
from cvr_plugins.sequential.encoder import SessionEncoder
from cvr_plugins.sequential.heads import MaskedItemHead
from cvr_plugins.sequential.masking import append_mask, mask_items
from cvr_plugins.sequential.sessions import checked_candidates, checked_sessions, latest_events


class MaskedItemCore(nn.Module):
    """A bidirectional encoder trained to name the items that are hidden from it, and asked for the next one.

    Loss: cross-entropy of the item at a masked position, id 0 out of the softmax, its mean over the masked positions of
    a session, and of that the mean over the sessions of the batch (eq 8), so that a session masked at its last event
    alone counts as much as one masked at ten. Scores: those of the `MaskedItemHead` at a `[MASK]` put after the last
    event.

    Parameters
    ----------
    encoder
        Sessions to hidden states.
    mask_ratio
        Probability that an event is masked; see `mask_items`.
    ft_ratio
        Probability that a session has its last event masked instead and nothing else, which is what prediction asks
        for: the samples for fine-tuning. At 1 nothing else is trained on.
    tie_mlm
        The head scores by the item embedding instead of a table of its own.
    mlm_transform
        The head has a dense layer, GELU and LayerNorm before the scores, as BERT4Rec has.
    chunk_size
        Items in a chunk of the catalogue softmax, see `catalogue_logsumexp`; changes memory, not the result.

    Raises
    ------
    ValueError
        For an option out of range, and for an encoder of sessions of one event.

    Notes
    -----
    Deviation: of every session at least one event is masked and never all.

    References
    ----------
    Fei Sun et al.: BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer,
    CIKM 2019, https://doi.org/10.1145/3357384.3357895, sections 3.4 to 3.6.
    """

    def __init__(
        self,
        encoder: SessionEncoder,
        *,
        mask_ratio: float = 0.2,
        ft_ratio: float = 0.5,
        tie_mlm: bool = True,
        mlm_transform: bool = True,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        if encoder.max_length < 2:
            raise ValueError("max_length must be at least 2: [MASK] takes the place after the last event.")
        self.mask_ratio = check_number("mask_ratio", mask_ratio, low=0, high=1, open_low=True, open_high=True)
        self.ft_ratio = check_number("ft_ratio", ft_ratio, low=0, high=1)
        self.chunk_size = None if chunk_size is None else check_count("chunk_size", chunk_size)
        tied, transform = check_flag("tie_mlm", tie_mlm), check_flag("mlm_transform", mlm_transform)
        self.encoder = encoder
        self.mlm_head = MaskedItemHead(encoder, tied=tied, transform=transform)

    def step(self, sequences: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the loss of a batch under the name "mlm".

        A batch of nothing but sessions of one event has the loss 0: there is nothing to mask.

        Parameters
        ----------
        sequences
            Item ids `[B, W]`, padded by 0 in any column, of which the last `max_length` events count.
        generator
            What masks are drawn from.

        Raises
        ------
        ValueError
            For ids that are not in the catalogue.
        """
        sessions = latest_events(checked_sessions(sequences, self.encoder.n_items), self.encoder.max_length)
        masked = mask_items(
            sessions,
            mask_ratio=self.mask_ratio,
            mask_id=self.encoder.mask_id,
            ft_ratio=self.ft_ratio,
            generator=generator,
        )
        hidden = self.encoder(masked.sequences, masked.masked)
        losses = self.mlm_head(hidden, masked.targets, self.encoder, self.chunk_size)
        count = masked.masked.sum(1)
        weight = count.clamp(min=1).reciprocal().repeat_interleave(count)
        return {"mlm": (losses * weight).sum() / (count > 0).sum().clamp(min=1)}

    @torch.no_grad()
    def score_items(self, sequences: Tensor, items: Tensor) -> Tensor:
        """Return the scores of the given items as the next, `[B, C]`, -inf for id 0.

        sequences: item ids `[B, W]`, padded by 0; items: ids `[B, C]`.
        """
        candidates = checked_candidates(sequences, items, self.encoder.n_items)
        return self.mlm_head.score_items(self._next(sequences), candidates, self.encoder)

    @torch.no_grad()
    def score_catalogue(self, sequences: Tensor) -> Tensor:
        """Return the scores of all items as the next, `[B, n_items]`, -inf for id 0. sequences: `[B, W]`."""
        return self.mlm_head.score_catalogue(self._next(sequences), self.encoder)

    def _next(self, sequences: Tensor) -> Tensor:
        """Hidden states `[B, H]` at a `[MASK]` after the last event."""
        sessions = checked_sessions(sequences, self.encoder.n_items)
        asked = append_mask(sessions, mask_id=self.encoder.mask_id, max_length=self.encoder.max_length)
        hidden: Tensor = self.encoder(asked, asked == self.encoder.mask_id)
        return hidden
