"""One batch of training, the same in every framework: phases, loss terms, weighting, optimiser steps, state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cvr_plugins.contracts import Inputs, Labels, Outputs, Phase
from cvr_plugins.model import CVRModel


class TrainingError(RuntimeError):
    """Training cannot go on: a loss is not finite, a batch or a metric is missing."""


def ended_unready(name: str, epochs: int) -> str:
    """Say that all epochs of a method's training were of its first stage; see `Objective.ready`."""
    return (
        f"{name}: training ended in its first stage, which is not to be kept; give it more epochs than {epochs}, or a "
        "shorter first stage."
    )


class Step(NamedTuple):
    """What one batch was trained on.

    out: the outputs that the last phase computed; terms: loss term -> value before any weighting; factors: "ctr",
    "cvr" -> factor of the weighting; loss: sum of what the phases minimised. All but `out` without a gradient.
    """

    out: Outputs
    terms: dict[str, Tensor]
    factors: dict[str, Tensor]
    loss: Tensor


Update = Callable[[Tensor, torch.optim.Optimizer, Sequence[Tensor] | None], None]
"""`(loss, optimizer, inputs)`: differentiates a loss, by `inputs` or, where None, by everything, and steps."""


def update(loss: Tensor, optimizer: torch.optim.Optimizer, inputs: Sequence[Tensor] | None) -> None:
    """Differentiate, where there is something to differentiate by, and step."""
    if loss.requires_grad:
        loss.backward(inputs=inputs)
    optimizer.step()


def train_phase(
    model: CVRModel,
    phase: Phase,
    optimizer: torch.optim.Optimizer,
    x: Inputs,
    y: Labels,
    *,
    name: str,
    outputs: Callable[[Inputs], Outputs] | None = None,
    penalty: Callable[[], Tensor] | None = None,
    update: Update = update,
) -> Step:
    """Make one phase's step of a batch.

    optimizer: of the parameters that the phase moves; name: of the method, for messages; outputs: in place of the
    model's own, None for those; penalty: added to the loss; update: differentiates and steps.
    Raises TrainingError if the phase sums a loss term that the objective did not return.
    """
    out = (outputs or model.outputs)(x)
    found = model.objective.loss(out, y)
    weighted, factors = model.weigh(found)
    summed = sum(_terms_of(phase, weighted, name))
    # A phase may sum no term at all.
    loss = summed if isinstance(summed, Tensor) else y.click.new_zeros(())
    if penalty is not None:
        loss = loss + penalty()
    model.zero_grad(set_to_none=True)
    update(loss, optimizer, _movable(optimizer) if phase.trains is not None or not phase.shared else None)
    return Step(out, {term: value.detach() for term, value in found.items()}, factors, loss.detach())


def train_batch(
    model: CVRModel,
    optimizers: Sequence[torch.optim.Optimizer],
    x: Inputs,
    y: Labels,
    *,
    name: str,
    outputs: Callable[[Inputs], Outputs] | None = None,
    penalty: Callable[[], Tensor] | None = None,
    update: Update = update,
) -> Step:
    """Train on one batch: a step per phase of the objective, then the state of objective and weighting.

    optimizers: one per phase, in order; the other arguments and what is raised: as in `train_phase`.
    """
    terms: dict[str, Tensor] = {}
    losses: list[Tensor] = []
    for phase, optimizer in zip(model.objective.phases, optimizers, strict=True):
        step = train_phase(model, phase, optimizer, x, y, name=name, outputs=outputs, penalty=penalty, update=update)
        terms.update(step.terms)
        losses.append(step.loss)
    model.after_batch(step.out, y, x, terms)
    return Step(step.out, terms, step.factors, torch.stack(losses).sum())


class EpochSums:
    """Sums of an epoch's loss terms, factors and losses, which must stay finite.

    model, name: the model and its method's name, for messages; epoch: its number. Reading a value waits for the
    device: on a GPU that is done every 50 batches only.
    """

    def __init__(self, model: CVRModel, *, name: str, epoch: int, device: torch.device) -> None:
        self._model, self._name, self._epoch = model, name, epoch
        self._every = 1 if device.type == "cpu" else 50
        self._terms: dict[str, Tensor] = {}
        self._factors: dict[str, Tensor] = {}
        self._loss: Tensor | None = None
        self.batches = 0

    def add(self, step: Step) -> None:
        """Add a batch. Raises TrainingError as `check` does."""
        for sums, found in ((self._terms, step.terms), (self._factors, step.factors)):
            for key, value in found.items():
                sums[key] = sums[key] + value if key in sums else value
        self._loss = step.loss if self._loss is None else self._loss + step.loss
        self.batches += 1
        if self.batches % self._every == 0:
            self.check()

    def check(self) -> None:
        """Raise TrainingError, naming the method, if a factor or a loss term is not finite."""
        at = f"in epoch {self._epoch} by batch {self.batches}"
        for task, total in self._factors.items():
            if not math.isfinite(total.item()) and all(math.isfinite(sums.item()) for sums in self._terms.values()):
                raise TrainingError(
                    f"{self._name}: {type(self._model.weighting).__name__} gave the {task.upper()} loss the factor "
                    f"{total.item()} {at}, which must be finite. Choose another weighting."
                )
        for term, total in self._terms.items():
            value = total.item()
            if not math.isfinite(value):
                raise TrainingError(
                    f"{self._name}: the loss term {term!r} became {value} {at}. "
                    "Lower the learning rate or the term's weight, and check dense features for missing values."
                )

    @property
    def loss(self) -> float:
        """Sum of the batches' losses."""
        return 0.0 if self._loss is None else self._loss.item()

    def means(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return loss term -> mean over the batches, and "ctr", "cvr" -> mean factor."""
        terms, factors = (
            {key: total.item() / self.batches for key, total in sums.items()} for sums in (self._terms, self._factors)
        )
        return terms, factors


def _terms_of(phase: Phase, found: dict[str, Tensor], name: str) -> list[Tensor]:
    names = list(found) if phase.terms is None else phase.terms
    for term in names:
        if term not in found:
            raise TrainingError(
                f"{name}: phase {phase.name!r} sums the loss term {term!r}, which loss() did not return; "
                f"it returned {list(found)}."
            )
    return [found[term] for term in names]


def _movable(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
