"""Which options CVRTrainer takes as they are, which it completes, and which it refuses with the reason."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from cvr_plugins.config import KEYS, ConfigError
from cvr_plugins.nearest import unknown
from cvr_plugins.options import check_number
from cvr_plugins.plugins import registry
from cvr_plugins.training.watch import Watch
from cvr_plugins.wording import first_line

_REGULARIZATION = ("embedding_l1", "embedding_l2", "dense_l1", "dense_l2")


def refuse_parent_options(
    tasks: Sequence[str], task_types: Sequence[str] | None, adaptive_params: Any, gpus: Sequence[int] | None
) -> None:
    """Raise ValueError for options of MTLTrainer that would change what an objective means."""
    if task_types is not None and list(task_types) != ["classification"] * len(tasks):
        raise ValueError(
            f"task_types must be left out or be 'classification' for each of {', '.join(tasks)}: "
            f"CVR tasks are probabilities; got {list(task_types)!r}."
        )
    if adaptive_params is not None:
        raise ValueError(
            "adaptive_params weighs torch-rechub's losses per column, which CVRTrainer does not compute; "
            "weigh the objective's terms with its own options."
        )
    if gpus:
        raise ValueError(
            "gpus (nn.DataParallel) would split the batch that a CVR objective is defined on; "
            f"use device='cuda:{gpus[0]}'."
        )


def checked_device(device: str | torch.device) -> torch.device:
    """Return the device, or raise ConfigError if nothing can be put on it."""
    try:
        checked = torch.device(device)
        torch.ones(1, device=checked).item()
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        raise ConfigError(f"The device {str(device)!r} cannot be used here: {first_line(error)}.") from error
    return checked


def check_model_path(path: str | os.PathLike[str] | None) -> None:
    """Raise ValueError if the weights could not be written there once training has ended."""
    if path is not None and not os.path.isdir(path):
        raise ValueError(
            f"model_path must be an existing folder, into which the weights are written; got {os.fspath(path)!r}. "
            "Create it, or give None to write no file."
        )


def regularization(params: Mapping[str, float] | None) -> dict[str, float]:
    """Return all of torch-rechub's regularisation strengths; raise ValueError for unknown or negative ones."""
    for name, value in (params or {}).items():
        if name not in _REGULARIZATION:
            raise ValueError(unknown(f"Unknown key {name!r} in regularization_params.", name, _REGULARIZATION))
        check_number(f"regularization_params[{name!r}]", value, low=0)
    return {**dict.fromkeys(_REGULARIZATION, 0.0), **(params or {})}


def with_watched(metrics: Sequence[str], watched: str) -> tuple[str, ...]:
    """Return the metrics to compute, the watched one among them; raise ValueError for an unknown one."""
    names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    return tuple(dict.fromkeys(registry().metric(name).name for name in (*names, watched)))


def watched(tasks: Sequence[str], key: str | None, taskid: int | None, mode: str | None) -> Watch:
    """Return the metric that early stopping watches.

    Parameters
    ----------
    tasks
        That the model predicts.
    key
        `task/space/metric`; None for the default, or for the AUC of the column `taskid` in the space its label is
        observed in.
    taskid, mode
        torch-rechub's earlystop_taskid and earlystop_mode.

    Raises
    ------
    ValueError
        For both key and taskid, a taskid that there is not, and a mode that contradicts the metric's better direction;
        ConfigError, which is one, for a key that `Watch` refuses.
    """
    if taskid is not None:
        if key is not None:
            raise ValueError("Give either valid_metric or earlystop_taskid, not both.")
        if type(taskid) is not int or not 0 <= taskid < len(tasks):
            raise ValueError(f"earlystop_taskid must be the index of one of {list(tasks)}; got {taskid!r}.")
        key = f"{tasks[taskid]}/{'click' if tasks[taskid] == 'cvr' else 'entire'}/auc"
    watch = Watch(KEYS["valid_metric"].default if key is None else key, tasks)
    if mode is not None and mode != watch.direction:
        raise ValueError(
            f"earlystop_mode={mode!r} contradicts {watch.key!r}, whose better direction is {watch.direction!r}."
        )
    return watch
