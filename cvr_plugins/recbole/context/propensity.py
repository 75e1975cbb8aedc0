"""Click propensities that are known before training, fitted to the training part of a RecBole data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from cvr_plugins.contracts import Objective
from cvr_plugins.data import Feature, FunnelLog
from cvr_plugins.data.tokens import TokenLists, token_list_series
from cvr_plugins.recbole.context.fields import buckets
from cvr_plugins.training.columns import PROPENSITY, fitted_propensities

FIELD = "cvr:propensity"
"""Field of the training part that holds the propensities; no atomic file can have one of that name."""


def add_propensities(objective: Objective, dataset: Any, params: Mapping[str, Any]) -> str | None:
    """Put the propensity of each row into a training part, as its field `FIELD`, if the objective reads any.

    Parameters
    ----------
    objective
        Which says what it needs.
    dataset
        The training part of a MethodDataset.
    params
        Options of the propensity model.

    Returns
    -------
    str or None
        A remark on the propensities; None where there are none.

    Raises
    ------
    DataError
        If the model cannot be fitted.
    ConfigError
        For values of its options.
    """
    if PROPENSITY not in objective.needs:
        return None
    found, remark = fitted_propensities(objective, funnel_log(dataset), params)
    dataset.inter_feat[FIELD] = torch.from_numpy(found)
    return remark


def funnel_log(dataset: Any) -> FunnelLog:
    """Return a part of a MethodDataset as the funnel log it was read from: ids, features, labels, known propensity.

    A value of a float sequence is a feature of its own, `name[0]`, `name[1]`, ...; a bucket is a token.
    """
    columns: dict[str, Any] = {}
    features: list[Feature] = []
    for feature in dataset.schema.features:
        for name, kind, column in _columns(feature.name, dataset):
            columns[name] = column
            features.append(replace(feature, name=name, kind=kind))
    for field in (dataset.uid_field, dataset.iid_field):
        if field not in columns:
            columns[field] = _tokens(dataset.inter_feat[field].numpy(), dataset.field2id_token[field])
    for field in dataset.schema.label_columns:
        columns[field] = dataset.inter_feat[field].numpy().astype(np.int8)
    if dataset.schema.propensity is not None:
        columns[dataset.schema.propensity] = dataset.inter_feat[dataset.schema.propensity].numpy().astype(np.float64)
    schema = replace(dataset.schema, features=tuple(features), timestamp=None, counterfactual=None, part=None)
    frame = pd.DataFrame({name: columns[name] for name in schema.columns}, copy=False)
    return FunnelLog(frame, schema, dataset.dataset_name)


def values_of(name: str, dataset: Any) -> np.ndarray:
    """Return the values of a field for each row of a part, `[N]` or `[N, ...]`, from whichever file it is in."""
    inter, users, items = dataset.inter_feat, dataset.user_feat, dataset.item_feat
    if name in inter:
        values: np.ndarray = inter[name].numpy()
    elif users is not None and name in users:
        values = users[name][inter[dataset.uid_field]].numpy()
    else:
        values = items[name][inter[dataset.iid_field]].numpy()
    return values


def _columns(name: str, dataset: Any) -> list[tuple[str, Any, Any]]:
    values = values_of(name, dataset)
    kind = dataset.field2type[name].value
    if kind == "token":
        return [(name, "token", _tokens(values, dataset.field2id_token[name]))]
    if kind == "token_seq":
        real = values > 0
        offsets = np.concatenate([[0], np.cumsum(real.sum(axis=1), dtype=np.int64)])
        lists = TokenLists(values[real] - 1, offsets, [str(token) for token in dataset.field2id_token[name][1:]])
        return [(name, "token_seq", token_list_series(lists))]
    if name in buckets(dataset.config):
        numbers = values[:, 1].astype(np.int64)
        return [(name, "token", _tokens(numbers + 1, np.arange(-1, numbers.max() + 1)))]
    if kind == "float_seq":
        return [(f"{name}[{i}]", "float", column.astype(np.float64)) for i, column in enumerate(values.T)]
    return [(name, "float", values.astype(np.float64))]


def _tokens(ids: np.ndarray, tokens: np.ndarray) -> pd.Categorical:
    """Tokens by RecBole's ids, of which 0 means a missing one."""
    return pd.Categorical.from_codes(ids - 1, categories=pd.Index([str(token) for token in tokens[1:]], dtype=object))
