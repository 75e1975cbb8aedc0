"""Which keys of a RecBole configuration are a method's options, which are ours, and which nobody knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cvr_plugins.assembly import HEAD_SUFFIX, Assembly, assemble
from cvr_plugins.config import KEYS, ConfigError, resolve
from cvr_plugins.contracts import Method
from cvr_plugins.metrics import DEFAULT_METRICS
from cvr_plugins.nearest import unknown
from cvr_plugins.recbole.context.fields import LISTS, ROLES
from cvr_plugins.training.columns import check_epochs, propensity_model

PARTS = ("architecture", "backbone", "weighting")
SCORE = "score"

_SHARED = (
    *(*ROLES.values(), *LISTS, *PARTS),
    *("inputs", "propensity_params", "embedding_size", "embedding_std", "dense", "scheduler", "scheduler_params"),
    "allow_unready",
)
"""Keys that mean here what they mean on the torch-rechub side."""
_TRAINING = (
    "epochs",
    "stopping_step",
    "learning_rate",
    "weight_decay",
    "train_batch_size",
    "eval_batch_size",
    "checkpoint_minutes",
)

DEFAULTS: Mapping[str, Any] = {
    **{key: KEYS[key].default for key in (*_SHARED, *_TRAINING)},
    SCORE: "ctcvr",
    "encoding": "utf-8",
    "load_col": None,
    "threshold": None,
    "normalize_all": None,
    "train_neg_sample_args": None,
    "repeatable": True,
    "eval_args": {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "RO", "group_by": None, "mode": "labeled"},
    "metrics": list(DEFAULT_METRICS),
    "valid_metric": KEYS["valid_metric"].default,
}
"""Defaults of every CVR method in RecBole: those of the torch-rechub side, and no sampling of negatives."""

_RECHUB_ONLY = {
    "dataset_params": "RecBole reads files, which 'cvr-plugins export' writes of a registered data set",
    "max_sequence_length": "RecBole's seq_len, {field: length}, does that",
    "min_count": "RecBole gives every token of the data an id",
    "non_click_fraction": "RecBole trains on all rows",
    "non_click_correction": "RecBole trains on all rows",
    "device": "RecBole's gpu_id and use_gpu do that",
}
# Set by RecBole itself or read by it without a default of its own.
_RECBOLES = frozenset(
    [
        *("model", "dataset", "config_file", "config_files", "data_path", "device", "MODEL_TYPE", "MODEL_INPUT_TYPE"),
        *("eval_type", "single_spec", "local_rank", "nproc", "world_size", "ip", "port", "offset", "group_offset"),
        *("valid_neg_sample_args", "test_neg_sample_args", "neg_sampling", "training_neg_sample_num", "reg_weight"),
        *("alias_of_user_id", "alias_of_item_id", "alias_of_entity_id", "alias_of_relation_id", "double_tower"),
        *("additional_feat_suffix", "benchmark_filename", "numerical_features", "discretization", "transform"),
        *("encoding", "wandb_project", "framework", "threads"),
    ]
)


@dataclass(frozen=True)
class Options:
    """What a configuration says of a method.

    Parameters
    ----------
    assembly
        Its parts with their options.
    tasks
        That it predicts.
    needs
        Labels it is trained on.
    inputs
        Features it sees, None for all.
    propensity_params
        Options of its propensity model.
    embedding_size, embedding_std, dense
        Of the encoder.
    score
        Task that `predict` returns.
    """

    assembly: Assembly
    tasks: tuple[str, ...]
    needs: tuple[str, ...]
    inputs: tuple[str, ...] | None
    propensity_params: Mapping[str, Any]
    embedding_size: int
    embedding_std: float
    dense: str
    score: str


def options_of(config: Any, method: Method, values: Mapping[str, Any] | None = None) -> Options:
    """Read a method's options out of a RecBole configuration.

    Parameters
    ----------
    config
        RecBole's.
    method
        Whose options.
    values
        What the keys are, None for the configuration's final values.

    Raises
    ------
    ConfigError
        For a key that neither RecBole nor the method nor we know, with the nearest one that is known, and for our keys'
        values of a wrong kind.
    OptionError
        For options that a part refuses.
    RegistryError
        For unknown parts.
    """
    values = config.final_config_dict if values is None else values
    for key in config.external_config_dict:
        if key in _RECHUB_ONLY:
            raise ConfigError(f"The key {key!r} is one of the torch-rechub side: {_RECHUB_ONLY[key]}. Leave it out.")
    ours = resolve({key: values.get(key) for key in _SHARED if values.get(key) is not None}, needs=())
    parts = {part: ours[part] for part in PARTS}
    bare = assemble(method, **parts)
    accepted = bare.option_names
    known = {*_RECBOLES, *DEFAULTS, *_SHARED, *config.internal_config_dict, *_arguments(config)}
    options = {key: value for key, value in values.items() if key not in known}
    for key in options:
        if key not in accepted and not key.endswith(HEAD_SUFFIX):
            raise ConfigError(_unknown(key, method.name, {*accepted, *known}))
    assembly = assemble(method, **parts, options=options)
    score = values.get(SCORE, DEFAULTS[SCORE])
    # An objective with weights of its own draws them; the model's are drawn when it is built.
    with torch.random.fork_rng(devices=[]):
        objective = assembly.new_objective()
    propensity_model(objective, ours["propensity_params"])
    check_epochs(method.name, objective, values.get("epochs", DEFAULTS["epochs"]), allow=ours["allow_unready"])
    tasks = tuple(objective.tasks)
    if score not in tasks:
        # The default gives way where a method predicts nothing of the kind.
        if score != DEFAULTS[SCORE]:
            raise ConfigError(f"{SCORE} must be a task that {method.name} predicts, {', '.join(tasks)}; got {score!r}.")
        score = tasks[0]
    return Options(
        assembly=assembly,
        tasks=tasks,
        needs=tuple(objective.needs),
        inputs=None if ours["inputs"] is None else tuple(ours["inputs"]),
        propensity_params=ours["propensity_params"],
        embedding_size=ours["embedding_size"],
        embedding_std=ours["embedding_std"],
        dense=ours["dense"],
        score=score,
    )


def _arguments(config: Any) -> set[str]:
    return {name for names in config.parameters.values() for name in names}


def _unknown(key: str, method: str, known: set[str]) -> str:
    lists = f"'cvr-plugins show {method}' lists the options of {method}; all others are RecBole's."
    return unknown(f"Unknown key {key!r}.", key, sorted(known), lists)
