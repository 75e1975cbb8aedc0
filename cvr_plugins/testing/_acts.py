"""The check that a method's mechanism acts: with and without it, training moves differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cvr_plugins.assembly import options_of
from cvr_plugins.testing._case import BATCH, Case, new_model, seeded
from cvr_plugins.testing._check import NotAsked, check, require
from cvr_plugins.testing._log import Batch, of_labels, simulate
from cvr_plugins.testing._training import Trainer

_LEAST = 1e-4
_LONGEST = 50
"""Epochs of a first stage that the check waits for."""


@check(
    "acts",
    "with its mechanism the method learns something else than without it, under the options that its ablations name",
    cause="a mechanism that is never reached: a threshold that no row passes, a mask that is not applied, a term of "
    "weight 0",
    requires=("training",),
)
def acts(case: Case) -> None:
    """Gradients with and without, from one trained state and batch; where they agree, those after one more epoch."""
    settings = {**case.assembly().settings(), **case.options}
    if not case.method.ablations:
        raise NotAsked("the method names no ablation")
    if any(all(settings.get(name) == value for name, value in each.items()) for each in case.method.ablations):
        raise NotAsked("the options are an ablation")
    found = [(ablation, _apart(case, ablation)) for ablation in case.method.ablations]
    if all(apart is None for _, apart in found):
        raise NotAsked("the architecture's layers depend on which heads there are, of which the ablations have others")
    for ablation, apart in found:
        shown = ", ".join(f"{name}: {value}" for name, value in ablation.items())
        require(
            apart is None or apart > _LEAST,
            f"gradients that differ by more than {_LEAST:g} of their norm from those with {shown}",
            f"{apart or 0:.2g}",
        )


def _apart(case: Case, ablation: Mapping[str, Any]) -> float | None:
    """How far apart the gradients with and without are, as a share of the larger norm.

    None where the two have layers of different shapes.
    """
    # What a method warms up for is not what it is asked for.
    shorter = {"warm_up": 1} if "warm_up" in options_of(case.method.objective) else {}
    trainer = Trainer(new_model(case.assembly(**shorter), 0).double())
    for epoch in range(_LONGEST):
        _epoch(trainer, epoch)
        if epoch and trainer.model.objective.ready:
            break
    without = Trainer(new_model(case.assembly(**{**shorter, **ablation}), 0).double())
    shapes = [{name: p.shape for name, p in each.model.named_parameters()} for each in (trainer, without)]
    if any(shapes[1].get(name, shape) != shape for name, shape in shapes[0].items()):
        return None
    without.model.load_state_dict(trainer.model.state_dict(), strict=False)
    apart = _distance(trainer, without)
    if apart <= _LEAST:
        # A mechanism may act through state, which an epoch's end changes: of the parameters alone nothing then differs.
        for each in (trainer, without):
            _epoch(each, epoch + 1)
        with torch.no_grad():
            named = dict(trainer.model.named_parameters())
            for name, parameter in without.model.named_parameters():
                parameter.copy_(named[name])
        apart = _distance(trainer, without)
    return apart


def _epoch(trainer: Trainer, number: int) -> None:
    for start in (0, 4 * BATCH):
        trainer.step(_batch(start))
    trainer.end_epoch(number)


def _batch(start: int) -> Batch:
    """Return rows in float64; so many that of those unclicked a small share is more than one."""
    rows = simulate(16 * BATCH, seed=1).batch(start, start + 8 * BATCH)
    x = {name: value.double() if value.is_floating_point() else value for name, value in rows.x.items()}
    return Batch(x, of_labels(rows.y, Tensor.double))


def _distance(first: Trainer, second: Trainer) -> float:
    ours, theirs = _gradient(first), _gradient(second)
    both = ours.keys() & theirs.keys()

    def norm(values: list[Tensor]) -> float:
        return float(torch.stack([value.norm() for value in values]).norm())

    between = norm([ours[name] - theirs[name] for name in both])
    return between / max(norm([ours[name] for name in both]), norm([theirs[name] for name in both]), 1e-300)


def _gradient(trainer: Trainer) -> dict[str, Tensor]:
    """Return the name of each parameter -> gradient of what the phases minimise on a batch, each of what it moves."""
    model, batch = trainer.model, _batch(2 * BATCH)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for phase in trainer.phases:
        # For the same dropout in both.
        seeded(0)
        model.train()
        terms, _ = model.weigh(model.objective.loss(model.outputs(batch.x), batch.y))
        loss = sum(terms[name] for name in (terms if phase.terms is None else phase.terms))
        moved = [parameter for parameter in model.parameters_for(phase) if parameter.requires_grad]
        if isinstance(loss, Tensor) and loss.requires_grad:
            for parameter, gradient in zip(moved, torch.autograd.grad(loss, moved, allow_unused=True), strict=True):
                if gradient is not None:
                    found[names[id(parameter)]] += gradient
    return found
