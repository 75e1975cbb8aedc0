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
from cvr_plugins.model import CVRModel
from cvr_plugins.nearest import unknown

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
        allowed = f"learner must be one of {', '.join(LEARNERS)}; got {name!r}."
        raise ConfigError(unknown(allowed, name, LEARNERS, ""))
    return cast("type[torch.optim.Optimizer]", getattr(torch.optim, found))


def scheduler_class(name: str | None) -> type[Any] | None:
    """Return the class that a value of the key `scheduler` names, None for None."""
    return None if name is None else getattr(torch.optim.lr_scheduler, name)


def make_optimizers(
    model: CVRModel, make: Callable[..., torch.optim.Optimizer], options: Mapping[str, Any]
) -> list[torch.optim.Optimizer]:
    """Build an optimiser for each phase of a model's objective, of the parameters that the phase moves.

    Parameters
    ----------
    model
        The model, on its device.
    make, options
        As of `make_optimizer`.
    """
    return [make_optimizer(make, model.parameters_for(phase), options) for phase in model.objective.phases]


def make_optimizer(
    make: Callable[..., torch.optim.Optimizer], parameters: Sequence[nn.Parameter], options: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Build an optimiser, Adam and AdamW with the fused kernel unless `options` choose another.

    Parameters
    ----------
    make
        A class of `torch.optim`, or what is called as one.
    parameters
        That it moves.
    options
        Its arguments.

    Raises
    ------
    ConfigError
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
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The optimiser does not take the optimizer_params {dict(options)!r}: {error}.") from error
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ConfigError(
            f"{type(optimizer).__name__} evaluates the loss several times per step; a CVR method computes it once per "
            "batch and phase. Choose another optimiser."
        )
    return optimizer


def make_schedulers(
    optimizers: Sequence[torch.optim.Optimizer],
    make: Callable[..., Any] | None,
    options: Mapping[str, Any],
    *,
    watched: str,
    direction: str,
    interval: str = "epoch",
) -> list[Any]:
    """Build a scheduler for each optimiser, none if `make` is None.

    One that waits for a plateau follows the watched metric in its better direction.

    Parameters
    ----------
    optimizers
        Whose learning rates they set.
    make
        A class of `torch.optim.lr_scheduler`, or what is called as one.
    options
        Its arguments.
    watched, direction
        The metric that early stopping watches, and whether "max" or "min" of it is better.
    interval
        When they are stepped: at the end of each "epoch" or "batch".

    Raises
    ------
    ConfigError
        For options that the scheduler does not take, or that contradict the watched metric or the interval.
    """
    if make is None:
        return []
    if make is ReduceLROnPlateau:
        options = {"mode": direction, **options}
    try:
        schedulers = [make(optimizer, **options) for optimizer in optimizers]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The scheduler does not take the scheduler_params {dict(options)!r}: {error}.") from error
    for scheduler in schedulers:
        if isinstance(scheduler, ReduceLROnPlateau):
            if interval == "batch":
                raise ConfigError(
                    "ReduceLROnPlateau follows the validation metric; it needs scheduler_interval='epoch'."
                )
            if scheduler.mode != direction:
                raise ConfigError(
                    f"ReduceLROnPlateau has mode={scheduler.mode!r}, but the better direction of {watched!r} is "
                    f"{direction!r}."
                )
    return schedulers
