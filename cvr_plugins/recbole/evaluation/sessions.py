"""The whole sessions of a part of a RecBole data set: their events, what they bought, and rows that a model scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from torch import Tensor

from cvr_plugins.config import ConfigError
from cvr_plugins.metrics import SessionCandidates, session_candidates
from cvr_plugins.recbole.evaluation.names import purchase_field


@dataclass(frozen=True)
class SessionPart:
    """Sessions as they are evaluated: each one's last MAX_ITEM_LIST_LENGTH events, the last one included.

    Parameters
    ----------
    candidates
        Their distinct items.
    interaction
        Rows of sessions `[B]` -> what a model takes, without purchases.
    """

    candidates: SessionCandidates
    interaction: Callable[[Tensor], Interaction]

    @property
    def count(self) -> int:
        """The number of sessions."""
        return len(self.candidates.ptr) - 1


def session_part(dataset: Any, config: Any, metric: str) -> SessionPart:
    """Return the sessions of a built part of a data set.

    A data set with `sessions()` and `session_interaction(rows)`, such as `SessionDataset`, says itself what they are.
    Of RecBole's own SequentialDataset, whose rows are a prefix of a session and the item after it, the longest prefix
    of each session in the part and its next item are the session.

    Parameters
    ----------
    dataset
        A built part.
    config
        RecBole's.
    metric
        What asks for it, for messages.

    Raises
    ------
    ConfigError
        Without purchases, and for values of them other than 0 and 1.
    """
    field = purchase_field(config)
    if hasattr(dataset, "sessions") and hasattr(dataset, "session_interaction"):
        events = dataset.sessions()
        if events.purchased is None:
            raise _no_purchases(dataset, field, metric)
        candidates = session_candidates(events.ptr.numpy(), events.item.numpy(), events.purchased.numpy())
        return SessionPart(candidates, dataset.session_interaction)
    return _stock_part(dataset, config, field, metric)


def training_counts(dataset: Any, config: Any) -> NDArray[np.int64]:
    """Return how many events each item has in the training part, `[n_items]`: the popularity baseline."""
    if hasattr(dataset, "sessions"):
        counter = dataset.item_counter
        counts = np.zeros(dataset.item_num, np.int64)
        counts[list(counter)] = list(counter.values())
        return counts
    rows = dataset.inter_feat
    targets = rows[dataset.iid_field]
    first = rows[dataset.iid_field + config["LIST_SUFFIX"]][rows[config["ITEM_LIST_LENGTH_FIELD"]] == 1, 0]
    # Each event of a session is the target of one row, but for the first, which is all of the first row's prefix.
    return torch.bincount(torch.cat([targets, first]), minlength=dataset.item_num).numpy()


def _stock_part(dataset: Any, config: Any, field: str, metric: str) -> SessionPart:
    suffix = config["LIST_SUFFIX"]
    found = dataset.inter_feat
    if field not in found or field + suffix not in found:
        raise _no_purchases(dataset, field, metric)
    rows = _whole_sessions(dataset, found, config)
    length = rows[config["ITEM_LIST_LENGTH_FIELD"]]
    items, purchased = rows[dataset.iid_field + suffix], rows[field + suffix]
    events = torch.arange(items.shape[1]) < length[:, None]
    wrong = purchased[events & (purchased != 0) & (purchased != 1)]
    if len(wrong):
        raise ConfigError(
            f"The column {field!r} (PURCHASE_FIELD) of {dataset.dataset_name}.inter must be 1 or 0 in every row, as "
            f"{field}:float; found {wrong[0].item():g}. (RecBole fills what is missing by the mean.)"
        )
    ptr = np.append(0, np.cumsum(length.numpy()))
    candidates = session_candidates(ptr, items[events].numpy(), purchased[events].numpy())
    # Neither a purchase nor the item to predict is for the model to see.
    seen = Interaction({name: rows[name] for name in rows if name not in (field, field + suffix, dataset.iid_field)})
    return SessionPart(candidates, lambda chosen: seen[chosen])


def _whole_sessions(dataset: Any, rows: Interaction, config: Any) -> Interaction:
    """Return the longest row of each session, with its target put at the end of its lists."""
    suffix, length_field = config["LIST_SUFFIX"], config["ITEM_LIST_LENGTH_FIELD"]
    session = rows[dataset.uid_field].numpy()
    # Lengths stop growing at MAX_ITEM_LIST_LENGTH; from there on, time tells the rows of a session apart.
    order = np.lexsort((rows[dataset.time_field].numpy(), rows[length_field].numpy(), session))
    last = np.append(session[order][1:] != session[order][:-1], True)
    rows = rows[torch.from_numpy(order[last])]
    width = rows[dataset.iid_field + suffix].shape[1]
    row = torch.arange(len(rows))
    length = rows[length_field]
    place = (length + 1 - width).clamp(min=0)[:, None] + torch.arange(width)
    whole = {dataset.uid_field: rows[dataset.uid_field], length_field: (length + 1).clamp(max=width)}
    for name in rows:
        if name + suffix in rows:
            events = rows[name + suffix]
            longer = torch.cat([events, torch.zeros_like(events[:, :1])], dim=1)
            longer[row, length] = rows[name]
            whole[name + suffix] = longer[row[:, None], place]
    return Interaction(whole)


def _no_purchases(dataset: Any, field: str, metric: str) -> ConfigError:
    return ConfigError(
        f"{metric} needs to know what was bought, but {dataset.dataset_name}.inter has no column {field!r} that is "
        f"loaded; write it as {field}:float (1 for events of a bought item, else 0), name it in load_col, and set "
        "PURCHASE_FIELD if it is called otherwise."
    )
