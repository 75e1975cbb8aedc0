"""A new run of one of RecBole's own models that starts from the weights of another one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.utils import ModelType
from torch import Tensor, nn

from cvr_plugins.config import ConfigError
from cvr_plugins.training.warm_start import Start

_OF_PAIRS = (ModelType.GENERAL, ModelType.SEQUENTIAL)


def vocabulary(dataset: Any) -> dict[str, Any]:
    """Return what vocabulary.json says of a run of RecBole's own model: the tokens of users and items, by their ids."""
    fields = [field for field in (dataset.uid_field, dataset.iid_field) if field]
    return {"tokens": {field: [str(token) for token in dataset.field2id_token[field]] for field in fields}}


def start_from(model: Any, start: Start, config: Any, dataset: Any) -> str:
    """Give a model of RecBole's own the weights of another run; return how many tokens are known, new and gone.

    With the same users and items, each under its id, all weights are taken. With others they are where it is known
    whose each row is: in general and sequential models, in the `nn.Embedding` of as many rows as there are users or
    items. A token that the run knew keeps its row, those of new ones stay as they were drawn. All weights whose shape
    has nothing to do with these numbers are taken as they are.

    Parameters
    ----------
    model
        As it was drawn.
    start
        The run.
    config, dataset
        Of the new run.

    Raises
    ------
    ConfigError
        For another model, for one of which it is not known whose a row is, and for weights that do not fit.
    """
    if start.about.get("method") != config["model"]:
        raise _refusal(start, f"it trained {start.about.get('method')}, not {config['model']}")
    if model.other_parameter():
        raise _refusal(start, f"{config['model']} keeps what it has learnt beside its weights")
    before, now = start.vocabulary["tokens"], vocabulary(dataset)["tokens"]
    if before.keys() != now.keys():
        raise _refusal(start, f"its users and items are {', '.join(before)}, not {', '.join(now)}")
    if before != now and config["MODEL_TYPE"] not in _OF_PAIRS:
        raise _refusal(
            start, f"of the tables of {config['model']} it is not known whose a row is, and the tokens differ"
        )
    fresh = model.state_dict()
    if fresh.keys() != start.weights.keys():
        odd = sorted(fresh.keys() ^ start.weights.keys())[0]
        raise _refusal(start, f"an option is another one: only one of them has {odd}")
    tables = {f"{name}.weight" for name, each in model.named_modules() if isinstance(each, nn.Embedding)}
    given = {name: _given(name, start, fresh[name], before, now, table=name in tables) for name in fresh}
    model.load_state_dict(given)
    counts = "; ".join(_counted(field, before[field], now[field]) for field in now)
    return f"Starts from the weights of {start.folder}: tokens known, new, gone: {counts}."


def _given(
    name: str, start: Start, new: Tensor, before: dict[str, list[str]], now: dict[str, list[str]], *, table: bool
) -> Tensor:
    old = start.weights[name]
    if before == now:
        if old.shape != new.shape:
            raise _refusal(start, f"an option is another one: its {name} is {list(old.shape)}, not {list(new.shape)}")
        return old
    sides = [field for field in now if table and (len(before[field]), len(now[field])) == (len(old), len(new))]
    if len(sides) == 1 and old.shape[1:] == new.shape[1:]:
        (field,) = sides
        since = pd.Index(before[field]).get_indexer(now[field])
        known = np.flatnonzero(since >= 0)
        rows = new.clone()
        rows[torch.from_numpy(known)] = old[torch.from_numpy(since[known])].to(new)
        return rows
    counts = {sum(map(len, tokens.values())) for tokens in (before, now)}
    counts |= {len(tokens) for each in (before, now) for tokens in each.values()}
    if old.shape != new.shape or counts & {*old.shape}:
        raise _refusal(start, f"of its {name}, {list(old.shape)}, it is not known whose each row is")
    return old


def _counted(field: str, before: list[str], now: list[str]) -> str:
    known = len({*before} & {*now}) - 1
    return f"{field} {known}, {len(now) - 1 - known}, {len(before) - 1 - known}"


def _refusal(start: Start, reason: str) -> ConfigError:
    return ConfigError(f"A run cannot start from the weights of {start.folder}: {reason}.")
