"""Checks of training: that it runs, that it moves every head, and that a phase moves what it declares."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cvr_plugins.contracts import Phase
from cvr_plugins.model import CVRModel
from cvr_plugins.testing._case import Case, same, seeded, training_batch
from cvr_plugins.testing._check import Problem, check, require
from cvr_plugins.testing._training import Trainer


@check(
    "training",
    "a few batches and epochs are trained without an error, and what comes out is finite",
    cause="an after_batch() that expects other features or labels, an on_epoch_end() without a `return False`, or a "
    "`ready` that is no bool",
    requires=("phases",),
)
def training(case: Case) -> None:
    """Train, end epochs, train on."""
    trainer = Trainer(case.model())
    for epoch in range(2):
        for number in range(4):
            for name, term in trainer.step(training_batch(4 * epoch + number)).items():
                require(term.isfinite(), f"the loss term {name!r} to stay finite", str(term.item()))
        ready: object = trainer.model.objective.ready
        keeps = "ready to say whether a model trained so far is one to keep"
        require(isinstance(ready, bool), keeps, repr(ready))
        ended: object = trainer.end_epoch(epoch)
        require(isinstance(ended, bool), "on_epoch_end() to say whether it replaced parameters", repr(ended))
    for name, parameter in trainer.model.named_parameters():
        require(parameter.isfinite().all(), f"the parameter {name!r} to stay finite", "entries that are not")


@check(
    "heads_trained",
    "every head is moved by some phase",
    cause="a head in `heads` that no loss term reads, or one that no phase has in `trains`",
    requires=("training",),
)
def heads_trained(case: Case) -> None:
    """Optimiser steps, and the heads whose parameters they change."""
    trainer = Trainer(case.model())
    model = trainer.model
    before = {head: _copies(model.architecture.parameters_for([head], shared=False)) for head in model.objective.heads}
    unmoved = {head for head, values in before.items() if values}
    # Some methods begin with epochs in which a head rests.
    for epoch in range(3):
        for number in range(4):
            trainer.step(training_batch(4 * epoch + number))
        now = {head: _copies(model.architecture.parameters_for([head], shared=False)) for head in unmoved}
        unmoved = {head for head in unmoved if _equal(before[head], now[head])}
        if not unmoved:
            return
        trainer.end_epoch(epoch)
    found = f"{', '.join(map(repr, sorted(unmoved)))} did not move in 3 epochs"
    raise Problem(f"each of the heads {', '.join(model.objective.heads)} to be trained", found)


@check(
    "moves",
    "a phase moves what it declares and nothing else",
    cause="parameters_for() of an architecture that counts a shared layer to one head, or parameters changed by hand "
    "in after_batch(): what is no phase's is a buffer, or does not require a gradient",
    requires=("training", "purity"),
)
def moves(case: Case) -> None:
    """The architecture's division into heads, then each phase's step on its own."""
    trainer, _ = case.trained(ends=False)
    model = trainer.model
    _require_division(model)
    for number, phase in enumerate(trainer.phases):
        batch = training_batch(10)
        before, resting = _named(model), _resting_logits(model, phase, batch.x)
        out, terms = trainer.phase(number, batch)
        _require_unmoved(model, before, model.parameters_for(phase), f"phase {phase.name!r}")
        for head, logit in _resting_logits(model, phase, batch.x).items():
            require(
                same(logit, resting[head]),
                f"phase {phase.name!r}, which trains {', '.join(phase.trains or model.objective.heads)} and no shared "
                "layer, to leave the logits of all other heads as they were",
                f"those of {head!r} changed by up to {(logit - resting[head]).abs().max().item():.3g}",
            )
    before = _named(model)
    model.after_batch(out, batch.y, batch.x, terms)
    declared = [parameter for phase in trainer.phases for parameter in model.parameters_for(phase)]
    _require_unmoved(model, before, declared, "after_batch()")


def _require_division(model: CVRModel) -> None:
    """Each parameter of the architecture belongs to one head, or to none and then to the shared part."""
    architecture, heads = model.architecture, model.objective.heads
    own = {head: set(architecture.parameters_for([head], shared=False)) for head in heads}
    for first, second in itertools.combinations(heads, 2):
        common = own[first] & own[second]
        require(
            not common,
            "parameters_for() of two heads without the shared layers to have nothing in common",
            f"{_names(model, common)} belong to {first!r} and to {second!r}",
        )
    forgotten = set(architecture.parameters()) - set(architecture.parameters_for(heads, shared=True))
    whole = "all heads and the shared layers together to be the whole architecture"
    require(not forgotten, whole, f"{_names(model, forgotten)} belong to neither")


def _require_unmoved(model: CVRModel, before: dict[str, Tensor], allowed: Sequence[nn.Parameter], who: str) -> None:
    may = {id(parameter) for parameter in allowed}
    for name, parameter in model.named_parameters():
        unmoved = id(parameter) in may or not parameter.requires_grad or same(parameter.detach(), before[name])
        require(unmoved, f"{who} to move no parameter that no phase declares", f"it moved {name}")


def _resting_logits(model: CVRModel, phase: Phase, x: dict[str, Tensor]) -> dict[str, Tensor]:
    """Logits of the heads that a phase must leave alone, with the batch's own statistics as in training."""
    if phase.shared or phase.trains is None:
        return {}
    # For the same dropout each time.
    seeded(0)
    model.train()
    with torch.no_grad():
        logits = model.outputs(x).logits
    return {head: logit for head, logit in logits.items() if head not in phase.trains}


def _copies(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def _equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(map(same, first, second))


def _named(model: CVRModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def _names(model: CVRModel, parameters: set[nn.Parameter]) -> str:
    return ", ".join(name for name, parameter in model.named_parameters() if parameter in parameters)
