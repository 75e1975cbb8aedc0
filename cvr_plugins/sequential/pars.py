"""PARS: learning which browsed items are bought from browsing alone, by pseudo-labels that the model refines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from cvr_plugins.options import check_choice, check_count, check_flag, check_number
from cvr_plugins.sequential.encoder import PARSEncoder
from cvr_plugins.sequential.heads import MaskedItemHead
from cvr_plugins.sequential.labels import Candidates, PseudoLabelStore
from cvr_plugins.sequential.losses import (
    candidate_scores,
    catalogue_logsumexp,
    items_per_chunk,
    partial_label_loss,
)
from cvr_plugins.sequential.masking import mask_items
from cvr_plugins.sequential.processes import share_labels
from cvr_plugins.sequential.sessions import PADDING, checked_candidates, checked_sessions, distinct_items, latest_events

PLLOrder = Literal["paper", "code"]


class Ranking(NamedTuple):
    """Items and their scores, best first, each `[B, k]`; id 0 and score -inf where there is no further item."""

    items: Tensor
    scores: Tensor


class PARSCore(nn.Module):
    """Partial-label learning on browsing sessions, `L = L_PLL + mlm_weight * L_MLM`, without any purchase label.

    L_PLL: mean over the sessions of the batch of `- sum_i y_ui log(p_ui + 1e-10)`, p_u being the softmax of
    `Z_item^T z_u` over the catalogue and y_u the session's pseudo-labels, detached. L_MLM: mean over all masked
    positions of the batch of the cross-entropy of the item there; eq 6 has it by session and leaves open how sessions
    are averaged. Id 0 is in no softmax.

    Pseudo-labels start uniform and follow the model: `q_u` = softmax of the scores of the session's own items, and
    `y_u <- alpha_new * q_u + (1 - alpha_new) * y_u`, once in every `step`.

    Parameters
    ----------
    encoder
        Sessions to hidden states and user embeddings.
    labels
        The store of the training sessions, or None where there is nothing to train on (loading a state brings its store
        along).
    mask_ratio
        Probability that an event is masked; the released program's published runs: 0.3, its class: 0.2.
    mlm_weight
        lambda; at 0 nothing is masked and the encoder runs on the sessions alone.
    tie_mlm
        The MLM head scores by the item embedding instead of a table of its own (eq 7).
    mlm_transform
        The MLM head has a dense layer, GELU and LayerNorm before the scores, as BERT4Rec has.
    alpha_new
        Weight of the **new** prediction, which is what eq 11 calls alpha. The released program has its 0.9 on the *old*
        label, alpha_new = 0.1. 0 keeps the labels uniform: no refinement.
    pll_order
        `"paper"` updates, then takes the loss with the updated labels (algorithm 1, lines 12 and 13); `"code"` takes
        the loss with the labels as they are and then updates, as the released program does. In both, q comes from the
        same forward pass as the loss.
    chunk_size
        Items in a chunk of the catalogue softmax, see `catalogue_logsumexp`; changes memory, not the result.

    Raises
    ------
    ValueError
        For an option out of range, and for a store and an encoder of different catalogues.

    Notes
    -----
    Where torch.distributed trains in several processes, each keeps all labels, and a step gives its own to the others.
    Deviations from the released program: its softmax has the padding id as one class more, it adds dropout to z_u, and
    it keeps the first events of a long session instead of the last.

    References
    ----------
    Shanshan Ye, Kezhi Lu, Guangquan Zhang, Jie Lu: PARS: Partial-Label-Learning-inspired Recommender Systems, AAAI
    2026, https://doi.org/10.1609/aaai.v40i33.40002.
    """

    def __init__(
        self,
        encoder: PARSEncoder,
        labels: PseudoLabelStore | None = None,
        *,
        mask_ratio: float = 0.3,
        mlm_weight: float = 1.0,
        tie_mlm: bool = False,
        mlm_transform: bool = False,
        alpha_new: float = 0.1,
        pll_order: PLLOrder = "paper",
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        if labels is not None and labels.n_items != encoder.n_items:
            raise ValueError(
                f"The label store has n_items = {labels.n_items} and the encoder {encoder.n_items}; "
                "build both for the same item ids."
            )
        self.mask_ratio = check_number("mask_ratio", mask_ratio, low=0, high=1, open_low=True, open_high=True)
        self.mlm_weight = check_number("mlm_weight", mlm_weight, low=0)
        self.alpha_new = check_number("alpha_new", alpha_new, low=0, high=1)
        self.pll_order = check_choice("pll_order", pll_order, ("paper", "code"))
        self.chunk_size = None if chunk_size is None else check_count("chunk_size", chunk_size)
        self.encoder = encoder
        self.labels = PseudoLabelStore(n_items=encoder.n_items) if labels is None else labels
        tied, transform = check_flag("tie_mlm", tie_mlm), check_flag("mlm_transform", mlm_transform)
        self.mlm_head = MaskedItemHead(encoder, tied=tied, transform=transform) if self.mlm_weight else None

    def step(
        self, session_ids: Tensor, sequences: Tensor, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the loss terms of a batch, already weighted scalars to be summed, and update its pseudo-labels.

        "pll", and "mlm" unless `mlm_weight` is 0; their sum is L. To be called once per training batch.

        Parameters
        ----------
        session_ids
            Rows of the label store, `[B]`, each at most once.
        sequences
            The sessions' item ids `[B, W]`, padded by 0 in any column, of which the last `max_length` events count.
        generator
            What masks are drawn from.

        Raises
        ------
        ValueError
            For ids that are not in the store or not in the catalogue, and for a session with an event that is not among
            its candidates, which means that ids and store do not belong together.
        """
        sessions = self._sessions(sequences)
        if len(session_ids) != len(sessions):
            raise ValueError(f"{len(session_ids)} session ids came with {len(sessions)} sessions; give one for each.")
        candidates = self.labels.gather(session_ids)
        _check_candidates(session_ids, sessions, candidates)
        if self.mlm_head is None:
            return {"pll": self._pll(session_ids, sessions, self.encoder(sessions), candidates)}
        masked = mask_items(sessions, mask_ratio=self.mask_ratio, mask_id=self.encoder.mask_id, generator=generator)
        clean, covered = self.encoder(torch.cat([sessions, masked.sequences])).chunk(2)
        losses = self.mlm_head(covered[masked.masked], masked.targets, self.encoder, self.chunk_size)
        return {
            "pll": self._pll(session_ids, sessions, clean, candidates),
            "mlm": self.mlm_weight * losses.sum() / max(1, len(losses)),
        }

    @torch.no_grad()
    def user_embedding(self, sequences: Tensor) -> Tensor:
        """Return z_u `[B, P]` of sessions `[B, W]`, padded by 0. Without gradients, as all scoring is."""
        sessions = self._sessions(sequences)
        users = self.encoder.user_embedding(self.encoder(sessions), sessions)
        return users.to(self.encoder.item_embedding.weight.dtype)

    @torch.no_grad()
    def score_items(self, sequences: Tensor, items: Tensor) -> Tensor:
        """Return the scores of the given items, `[B, C]`, -inf for id 0. sequences: `[B, W]`; items: ids `[B, C]`."""
        candidates = checked_candidates(sequences, items, self.encoder.n_items)
        return candidate_scores(self.user_embedding(sequences), self.encoder.item_table(), candidates)

    @torch.no_grad()
    def rank_session(self, sequences: Tensor) -> Ranking:
        """Rank each session's own distinct items, all its events counted: the paper's protocol. sequences: `[B, W]`.

        Equal scores stay in ascending order of ids.
        """
        items = distinct_items(checked_sessions(sequences, self.encoder.n_items))
        scores, order = self.score_items(sequences, items).sort(dim=1, descending=True, stable=True)
        return Ranking(items.gather(1, order), scores)

    @torch.no_grad()
    def score_catalogue(self, sequences: Tensor) -> Tensor:
        """Return the scores of all items, `[B, n_items]`, -inf for id 0. sequences: `[B, W]`."""
        users = self.user_embedding(sequences)
        scores = users.new_full((len(users), self.encoder.n_items), -torch.inf)
        for first, part in self._catalogue(users):
            scores[:, first : first + part.shape[1]] = part
        return scores

    @torch.no_grad()
    def top_items(self, sequences: Tensor, k: int, *, history: bool = True) -> Ranking:
        """Return the k best items of the catalogue, `[B, k]`, never holding the scores of all of them.

        Parameters
        ----------
        sequences
            `[B, W]`.
        k
            At most n_items - 1; where fewer items are left, id 0 and -inf fill the row.
        history
            Whether the session's own items may be among them.
        """
        wanted = check_count("k", k)
        if wanted >= self.encoder.n_items:
            raise ValueError(f"k must be at most the number of items, {self.encoder.n_items - 1}; got {k}.")
        users = self.user_embedding(sequences)
        best = users.new_full((len(users), wanted), -torch.inf)
        items = torch.zeros_like(best, dtype=torch.int64)
        for first, part in self._catalogue(users):
            if not history:
                column = sequences.long() - first
                inside = (sequences != PADDING) & (column >= 0) & (column < part.shape[1])
                rows, columns = inside.nonzero(as_tuple=True)[0], column[inside]
                part[rows, columns] = -torch.inf
            ids = torch.arange(first, first + part.shape[1], device=part.device).expand_as(part)
            best, place = torch.cat([best, part], dim=1).topk(wanted, dim=1)
            items = torch.cat([items, ids], dim=1).gather(1, place)
        return Ranking(items.masked_fill(best == -torch.inf, PADDING), best)

    def _pll(self, session_ids: Tensor, sessions: Tensor, hidden: Tensor, candidates: Candidates) -> Tensor:
        users, table = self.encoder.user_embedding(hidden, sessions), self.encoder.item_table()
        scores = candidate_scores(users, table, candidates.items)
        normaliser = catalogue_logsumexp(users, table, n_items=self.encoder.n_items, chunk_size=self.chunk_size)
        # The mass that the candidates have in the catalogue cancels: q needs their scores alone.
        updated = self.labels.update(session_ids, scores.detach().softmax(1), self.alpha_new)
        share_labels(self.labels, session_ids, updated)
        labels = updated if self.pll_order == "paper" else candidates.values
        return partial_label_loss(scores, labels, normaliser).mean()

    def _sessions(self, sequences: Tensor) -> Tensor:
        return latest_events(checked_sessions(sequences, self.encoder.n_items), self.encoder.max_length)

    def _catalogue(self, users: Tensor) -> Iterator[tuple[int, Tensor]]:
        """First item id and scores `[B, <= chunk]` of one chunk of the catalogue after the other."""
        table = self.encoder.item_table()
        size = self.chunk_size or items_per_chunk(len(users))
        for first in range(PADDING + 1, self.encoder.n_items, size):
            with torch.autocast(users.device.type, enabled=False):
                scores = linear(users, table[first : min(first + size, self.encoder.n_items)])
            yield first, scores


def _check_candidates(session_ids: Tensor, sessions: Tensor, candidates: Candidates) -> None:
    known = (sessions[:, :, None] == candidates.items[:, None, :]).any(2) | (sessions == PADDING)
    if not bool(known.all()):
        row, column = (~known).nonzero()[0].tolist()
        raise ValueError(
            f"Session {int(session_ids[row])} came with the item {int(sessions[row, column])}, which is not among its "
            "candidates in the label store; build the store from the sessions that are trained on, in the order of "
            "their ids."
        )
