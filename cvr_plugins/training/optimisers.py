"""Optimisers and learning rate schedulers from their names or classes, and what cannot be trained with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cvr_plugins.config import ConfigError
from cvr_plugins.learners import LEARNERS
from cvr_plugins.nearest import did_you_mean
from cvr_plugins.training.watch import Watch

_OTHER_KERNELS = {"fused", "foreach", "capturable", "differentiable"}


def learner_class(name: object) -> type[torch.optim.Optimizer]:
    """Return the optimiser that a value of the key `learner` names, in any case.

    Raises
    ------
    ConfigError
        For a name that is not among `cvr_plugins.learners.LEARNERS`.
    """
    found = LEARNERS.get(str(name).lower())
    if found is None:
        hint = did_you_mean(str(name), LEARNERS)
        known = f"learner must be one of {', '.join(LEARNERS)}; got {name!r}."
        raise ConfigError(" ".join(filter(None, [known, hint])))
    return cast("type[torch.optim.Optimizer]", getattr(torch.optim, found))


def scheduler_class(name: str | None) -> type[Any] | None:
    """Return the class that a value of the key `scheduler` names, None for None."""
    return None if name is None else getattr(torch.optim.lr_scheduler, name)


def make_optimizer(
    make: Callable[..., torch.optim.Optimizer], parameters: Sequence[nn.Parameter], options: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Build an optimiser, Adam and AdamW with the fused kernel unless `options` choose another.

    Raises
    ------
    ValueError
        For options that the optimiser does not take, and for one that needs a closure.
    """
    fused = make in (torch.optim.Adam, torch.optim.AdamW) and not _OTHER_KERNELS & options.keys()
    try:
        try:
            optimizer = make(parameters, **options, **({"fused": True} if fused else {}))
        except RuntimeError:
            # Before torch 2.4 there was no fused kernel on the CPU.
            if not fused:
                raise
            optimizer = make(parameters, **options)
    except TypeError as error:
        raise ValueError(f"optimizer_fn does not take the optimizer_params {dict(options)!r}: {error}.") from error
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"{type(optimizer).__name__} evaluates the loss several times per step; a CVR method computes it once per "
            "batch and phase. Choose another optimiser."
        )
    return optimizer


def make_scheduler(
    make: Callable[..., Any], optimizer: torch.optim.Optimizer, options: Mapping[str, Any], watch: Watch, interval: str
) -> Any:
    """Build a scheduler; one that waits for a plateau follows the watched metric in its better direction.

    Parameters
    ----------
    make
        A class of `torch.optim.lr_scheduler`, or what is called as one.
    optimizer
        Whose learning rate it sets.
    options
        Its arguments.
    watch
        The metric that early stopping watches.
    interval
        When it is stepped: "epoch" or "batch".

    Raises
    ------
    ValueError
        For options that the scheduler does not take, or that contradict `watch` or `interval`.
    """
    if make is ReduceLROnPlateau:
        options = {"mode": watch.direction, **options}
    try:
        scheduler = make(optimizer, **options)
    except TypeError as error:
        raise ValueError(f"The scheduler does not take the scheduler_params {dict(options)!r}: {error}.") from error
    if isinstance(scheduler, ReduceLROnPlateau):
        if interval == "batch":
            raise ValueError("ReduceLROnPlateau follows the validation metric; it needs scheduler_interval='epoch'.")
        if scheduler.mode != watch.direction:
            raise ValueError(
                f"ReduceLROnPlateau has mode={scheduler.mode!r}, but the better direction of {watch.key!r} is "
                f"{watch.direction!r}."
            )
    return scheduler
