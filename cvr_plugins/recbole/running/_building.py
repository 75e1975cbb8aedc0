"""Data, loaders and model of a configuration, made as RecBole makes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from typing import Any

from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset, data_preparation
from recbole.data.transform import construct_transform
from recbole.utils import get_flops, init_seed

from cvr_plugins.config import ConfigError
from cvr_plugins.recbole import names
from cvr_plugins.recbole.compat.checkpoints import weights_only
from cvr_plugins.recbole.running import datasets as _data
from cvr_plugins.training.failures import blamed

_PRETRAINED = ("pre_model_path", "mf_pretrain_path", "mlp_pretrain_path", "pretrain_path", "warm_up")
"""Keys by which RecBole's models name checkpoints that they begin with."""


def data_and_model(config: RecBoleConfig) -> tuple[Any, Any, Any, Any, Any]:
    """Return the data set, its three loaders and a new model, made in RecBole's order and with its seeds.

    Raises ConfigError for a data set that is not there, a package that is not installed, a field that is missing,
    a plugin's model whose constructor raises; CheckpointError for pre-trained weights that cannot be read safely; what
    RecBole raises for all else.
    """
    init_seed(config["seed"], config["reproducibility"])
    if config["benchmark_filename"] is None:
        _data.check(config["data_path"], config["dataset"])
    with packages_named(config), _fields_named(config):
        dataset = create_dataset(config)
        parts = data_preparation(config, dataset)
        init_seed(config["seed"], config["reproducibility"])
        with weights_only(
            config[key] for key in _PRETRAINED if isinstance(config[key], str) and os.path.isfile(config[key])
        ):
            with blamed(config["model"], names.owner(config["model"]), "its constructor", ConfigError):
                model = config.model_class(config, parts[0]._dataset)
            model = model.to(config["device"])
    return (dataset, *parts, model)


@contextmanager
def packages_named(config: RecBoleConfig) -> Iterator[None]:
    """Say in a sentence that a package is missing which only some of RecBole's models need."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The model {config['model']} needs the package {error.name}, which is not installed; install it."
        ) from error


@contextmanager
def _fields_named(config: RecBoleConfig) -> Iterator[None]:
    """Say in a sentence that a field is missing, where RecBole says no more than its name."""
    try:
        yield
    except KeyError as error:
        raise ConfigError(
            f"RecBole lacks {error} in {config['dataset']} for {config['model']}: if it is a field, load_col must list "
            "it, and USER_ID_FIELD, ITEM_ID_FIELD and the like must name the file's own."
        ) from error


def log_flops(config: RecBoleConfig, dataset: Any, model: Any) -> None:
    """Count the operations of one prediction and log them, as RecBole does before it trains."""
    # Random numbers are drawn for it (by BERT4Rec's masking for one), so that without it results would differ from
    # RecBole's.
    logger = getLogger()
    try:
        flops = get_flops(model, dataset, config["device"], logger, construct_transform(config))
    except Exception as error:  # noqa: BLE001 - a count that is only shown is no reason to end a run
        logger.warning(f"FLOPs were not counted: {type(error).__name__}: {error}")
    else:
        logger.info(f"FLOPs: {flops}")
