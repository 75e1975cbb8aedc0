"""Which features of a log a model sees, and which labels and propensities it is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from cvr_plugins.assembly import options_of
from cvr_plugins.config import ConfigError
from cvr_plugins.contracts import Labels, Objective
from cvr_plugins.data import Feature, FunnelLog
from cvr_plugins.nearest import unknown
from cvr_plugins.propensities import PROPENSITIES, describe, fit_propensity

PROPENSITY = "propensity"
"""What an objective's `needs` calls the propensities that are known before training: no label, but it travels with
them."""


def seen_features(features: Sequence[Feature], names: Sequence[str] | None, log: str) -> tuple[Feature, ...]:
    """Return the features that a model sees, in their order.

    Parameters
    ----------
    features
        Of the log.
    names
        Value of the key `inputs`: names of the features that it sees, None for all.
    log
        The log's name, for the message.

    Raises
    ------
    ConfigError
        For a name that is no feature.
    """
    known = [feature.name for feature in features]
    for name in names or ():
        if name not in known:
            raise ConfigError(unknown(f"inputs: log {log!r} has no feature {name!r}.", name, known))
    return tuple(feature for feature in features if names is None or feature.name in names)


def check_needs(method: str, needs: Iterable[str], names: Sequence[str]) -> None:
    """Raise ConfigError for a label that a method is trained on and that is not among `names`."""
    for label in dict.fromkeys(needs):
        if label not in names:
            raise ConfigError(
                f"{method} needs the label column {label!r}; got {', '.join(map(repr, names)) or 'none'}. Add it to "
                f"label_columns (CVRTrainer) or set {label.upper()}_FIELD (a configuration)."
            )


def check_epochs(method: str, objective: Objective, epochs: int, *, allow: bool) -> None:
    """Raise ConfigError for a training that ends within the method's first stage, unless that is allowed."""
    if 0 < objective.first_stage >= epochs and not allow:
        raise ConfigError(
            f"{method} keeps no model of its first {objective.first_stage} epochs, and epochs is {epochs}: give it "
            "more, shorten its first stage (warm_up), or try it out with allow_unready=true."
        )


def labels_of(columns: Mapping[str, Tensor], dtype: torch.dtype) -> Labels:
    """Return the labels of a batch, conversion and action 0 wherever click is 0.

    Parameters
    ----------
    columns
        click, conversion and what there is of action and propensity, each `[B]`.
    dtype
        That of the model's weights.
    """
    typed = {name: column.to(dtype) for name, column in columns.items()}
    click, action = typed["click"], typed.get("action")
    return Labels(
        click,
        click * typed["conversion"],
        None if action is None else click * action,
        typed.get(PROPENSITY),
    )


def propensity_model(objective: Objective, params: Mapping[str, object]) -> str | None:
    """Return the name of the propensity model that is fitted before training, None for none.

    Raises
    ------
    ConfigError
        For options (the key `propensity_params`) that it does not take.
    """
    name = objective.propensity if PROPENSITY in objective.needs else None
    taken = options_of(PROPENSITIES[name]) if name is not None and name in PROPENSITIES else {}
    for option in params:
        if option not in taken:
            what = f"propensity {name!r} takes {', '.join(taken) or 'no options'}" if name else "no model is fitted"
            raise ConfigError(f"propensity_params: {option!r} is no option here; {what}.")
    return name


def fitted_propensities(objective: Objective, train: FunnelLog, params: Mapping[str, object]) -> tuple[np.ndarray, str]:
    """Fit the propensity model of an objective that reads one to a training part.

    Returns
    -------
    tuple
        The probability of a click of each row, `[N]`, float32, and a remark on them.

    Raises
    ------
    ConfigError
        For values of its options that the model refuses.
    DataError
        If it cannot be fitted to the log.
    """
    name = objective.propensity
    try:
        found = fit_propensity(name, train, **params).predict(train)
    except ValueError as error:
        if type(error).__module__.startswith("cvr_plugins."):
            raise
        raise ConfigError(str(error)) from error
    return found.astype(np.float32), describe(name, found, float(getattr(objective, "propensity_floor", 0.0)))
