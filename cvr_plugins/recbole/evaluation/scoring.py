"""Scoring the candidates of sessions by any sequential RecBole model, in memory that the catalogue does not set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from recbole.data.transform import CropItemSequence, MaskItemSequence, ReorderItemSequence
from torch import Tensor

from cvr_plugins.recbole.evaluation.sessions import SessionPart

MOST_SCORES = 1 << 25
"""Scores of the catalogue held at once."""

_FOR_TRAINING = (MaskItemSequence, CropItemSequence, ReorderItemSequence)


@torch.no_grad()
def candidate_scores(
    model: Any, part: SessionPart, dataset: Any, *, batch_size: int, device: torch.device, transform: Any = None
) -> NDArray[np.float32]:
    """Return the model's score of each candidate, `[N]`.

    Of a model with `score_items(interaction, item_ids [B, C]) -> [B, C]`, id 0 being no item, only the candidates are
    scored; of others the whole catalogue by `full_sort_predict`, at most `MOST_SCORES` scores at once, or, where a
    model has none, the pairs of session and candidate by `predict`.

    Parameters
    ----------
    model
        A RecBole model of sequences.
    part
        The sessions.
    dataset
        Of which they are a part.
    batch_size
        Sessions at once.
    device
        Where the model is.
    transform
        What RecBole's loader applies to its batches; those that add randomly changed sequences for training alone are
        passed over.

    Raises
    ------
    ValueError
        If a score is not finite.
    """
    n_items = dataset.item_num
    own = getattr(model, "score_items", None)
    rows = batch_size if own is not None else max(1, min(batch_size, MOST_SCORES // n_items))
    scores = np.empty(len(part.candidates.items), np.float32)
    for chosen, first, last in _chunks(part.candidates.ptr, max(1, rows)):
        interaction = part.interaction(chosen)
        if transform is not None and not isinstance(transform, _FOR_TRAINING):
            interaction = transform(dataset, interaction)
        interaction = interaction.to(device)
        items = torch.from_numpy(part.candidates.items[first:last]).to(device)
        counts = np.diff(part.candidates.ptr[int(chosen[0]) : int(chosen[-1]) + 2])
        session = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(device)
        if own is not None:
            found = _of_candidates(own, interaction, session, items, counts)
        else:
            found = _of_catalogue(model, interaction, session, items, dataset, batch_size)
        scores[first:last] = found.float().cpu().numpy()
    wrong = np.flatnonzero(~np.isfinite(scores))
    if wrong.size:
        raise ValueError(
            f"{type(model).__name__} gives item {part.candidates.items[wrong[0]]} the score {scores[wrong[0]]}; its "
            "training has diverged: lower the learning_rate, or set clip_grad_norm."
        )
    return scores


def _chunks(ptr: NDArray[np.int64], rows: int) -> Iterator[tuple[Tensor, int, int]]:
    for start in range(0, len(ptr) - 1, rows):
        stop = min(start + rows, len(ptr) - 1)
        yield torch.arange(start, stop), int(ptr[start]), int(ptr[stop])


def _of_candidates(own: Any, interaction: Interaction, session: Tensor, items: Tensor, counts: Any) -> Tensor:
    ends = np.cumsum(counts)
    place = torch.arange(len(items), device=items.device) - torch.from_numpy(ends - counts).to(items.device)[session]
    padded = items.new_zeros(len(counts), int(counts.max(initial=1)))
    padded[session, place] = items
    scored: Tensor = own(interaction, padded)[session, place]
    return scored


def _of_catalogue(
    model: Any, interaction: Interaction, session: Tensor, items: Tensor, dataset: Any, batch_size: int
) -> Tensor:
    try:
        scores: Tensor = model.full_sort_predict(interaction)
    except NotImplementedError:
        return _of_pairs(model, interaction, session, items, dataset, batch_size)
    return scores.view(-1, dataset.item_num)[session, items]


def _of_pairs(
    model: Any, interaction: Interaction, session: Tensor, items: Tensor, dataset: Any, batch_size: int
) -> Tensor:
    features = dataset.get_item_feature()
    found = []
    for start in range(0, len(items), batch_size):
        chosen = slice(start, start + batch_size)
        pairs = interaction[session[chosen]]
        pairs.update(features[items[chosen].cpu()].to(items.device))
        found.append(model.predict(pairs).reshape(-1))
    return torch.cat(found)
