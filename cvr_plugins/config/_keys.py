"""The configuration keys that every method takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cvr_plugins.learners import LEARNERS, SCHEDULERS
from cvr_plugins.options import MOST_THREADS


@dataclass(frozen=True)
class Key:
    """One configuration key: its default, the kinds of value it takes, what it means.

    choices: all values there are; least, above, most: bounds of a number; any finite one if none is given; distinct:
    whether a list must have a name in it, and each once.
    """

    default: Any
    kinds: tuple[type, ...]
    help: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    distinct: bool = False


_NONE = type(None)

KEYS: dict[str, Key] = {
    "model": Key(None, (str,), "method by name ('cvr-plugins methods' lists them)"),
    "dataset": Key(None, (str,), "registered data set, CSV or Parquet file, or folder or name of RecBole atomic files"),
    "data_path": Key(None, (str, _NONE), "folder or file the data set is read from"),
    "dataset_params": Key({}, (dict,), "options of a registered data set, such as {threshold: 4} of coat"),
    "encoding": Key("utf-8", (str,), "encoding of text files"),
    "USER_ID_FIELD": Key("user_id", (str,), "column of user ids"),
    "ITEM_ID_FIELD": Key("item_id", (str,), "column of item ids"),
    "CLICK_FIELD": Key("click", (str,), "column of clicks, 0/1"),
    "CONVERSION_FIELD": Key("conversion", (str,), "column of conversions, 0/1, observed on clicked rows"),
    "ACTION_FIELD": Key(
        None, (list, _NONE), "column of post-click actions, 0/1, or a list of columns, merged with OR", distinct=True
    ),
    "TIME_FIELD": Key(None, (str, _NONE), "column of timestamps"),
    "COUNTERFACTUAL_FIELD": Key(None, (str, _NONE), "truth column: conversion had the row been clicked (simulations)"),
    "PROPENSITY_FIELD": Key(None, (str, _NONE), "truth column: click probability (simulations)"),
    "PART_FIELD": Key(None, (str, _NONE), "column of a published split: train, valid or test (see eval_args)"),
    "token_features": Key(None, (list, _NONE), "columns read as tokens whatever they look like"),
    "token_seq_features": Key(None, (list, _NONE), "columns read as token sequences, tokens parted by spaces"),
    "float_features": Key(None, (list, _NONE), "columns read as dense values"),
    "user_features": Key(None, (list, _NONE), "feature columns of the user's side"),
    "item_features": Key(None, (list, _NONE), "feature columns of the item's side"),
    "drop_columns": Key(None, (list, _NONE), "columns left out"),
    "min_count": Key(1, (int,), "tokens seen less often in training count as unknown", least=1),
    "max_sequence_length": Key(50, (int,), "tokens kept of a token sequence", least=1),
    "eval_args": Key(
        {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "RO", "group_by": "none"},
        (dict,),
        "split {RS: [train, valid, test]} by ratios, or {PS: valid} as published (PART_FIELD), with this share of the "
        "training rows for validation if no part is; order RO (random), TO (by time) or UO (whole users)",
    ),
    "architecture": Key(None, (str, _NONE), "architecture by name, the method's own if not given"),
    "backbone": Key(None, (str, _NONE), "backbone by name, the method's own if not given"),
    "weighting": Key(None, (str, _NONE), "weighting of the CTR and CVR losses by name, the method's own if not given"),
    "inputs": Key(
        None, (list, _NONE), "features that the model sees, all if not given; the log keeps the others", distinct=True
    ),
    "propensity_params": Key({}, (dict,), "options of the propensity model that `propensity` names, such as {C: 0.1}"),
    "embedding_size": Key(16, (int,), "width of every embedding", least=1),
    "embedding_std": Key(1e-4, (float,), "standard deviation of the embeddings' initial values, of mean 0", above=0.0),
    "dense": Key("raw", (str,), "dense values as they are, or tanh of the normalised value", ("raw", "tanh")),
    "learner": Key("adam", (str,), "optimiser", tuple(LEARNERS)),
    "learning_rate": Key(1e-3, (float,), "step size of the optimiser", least=0.0),
    "weight_decay": Key(1e-5, (float,), "weight decay of the optimiser", least=0.0),
    "scheduler": Key(None, (str, _NONE), "class of torch.optim.lr_scheduler, stepped once per epoch", SCHEDULERS),
    "scheduler_params": Key({}, (dict,), "arguments of the scheduler"),
    "epochs": Key(50, (int,), "epochs at most", least=1),
    "stopping_step": Key(5, (int,), "epochs without improvement after which training stops", least=1),
    "allow_unready": Key(
        False, (bool,), "accept no more epochs than a method's first stage takes, whose model is none to keep"
    ),
    "train_batch_size": Key(2048, (int,), "rows of a training batch", least=1),
    "non_click_fraction": Key(
        1.0,
        (float,),
        "share of unclicked rows trained on, drawn anew each epoch beside all clicked ones; propensity weights of the "
        "CTR tower then mean these rows, those of a propensity fitted before the whole log",
        above=0.0,
        most=1.0,
    ),
    "non_click_correction": Key(
        True, (bool,), "correct p_ctr, and p_ctcvr and p_ctavr by the same factor, for the unclicked rows left out"
    ),
    "eval_batch_size": Key(8192, (int,), "rows of an evaluation batch", least=1),
    "metrics": Key(None, (list, _NONE), "metrics reported for every task and space"),
    "valid_metric": Key("cvr/click/auc", (str,), "task/space/metric that early stopping watches"),
    "seed": Key(
        2020,
        (int,),
        "seed of the split, the initial weights and the batches; at equal threads metrics repeat to the last digit",
        least=0,
    ),
    "device": Key("auto", (str,), "torch device; auto: cuda if there is one"),
    # Not torch's own choice of one per core: where others use the cores, too, its threads wait for each other (4 shared
    # cores, ESMM on 33 features: 50,000 rows a second on 1 thread, 600 on 4), and a run's metrics would depend on them.
    "threads": Key(
        1,
        (int, _NONE),
        "CPU threads of torch, null for its own choice; more than there are idle cores slow a run down many times",
        least=1,
        most=MOST_THREADS,
    ),
    "checkpoint_minutes": Key(
        10.0, (float,), "minutes after which a checkpoint is written within an epoch, beside that at its end", above=0.0
    ),
    "checkpoint_dir": Key("runs", (str,), "folder that run folders are made in"),
    "show_progress": Key(True, (bool,), "progress bars on a terminal"),
}

FIELD_KEYS = (*(name for name in KEYS if name.endswith(("_FIELD", "_features"))), "drop_columns", "encoding")
"""Keys that say how a file is read and what its columns are; a registered data set knows its own."""

ORDERS = {"RO": "random", "TO": "time", "UO": "user"}
