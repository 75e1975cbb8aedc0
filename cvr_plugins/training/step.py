"""One batch of training, the same in every framework: phases, loss terms, weighting, optimiser steps, state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cvr_plugins.contracts import Inputs, Labels, Outputs, Phase, measuring
from cvr_plugins.model import CVRModel
from cvr_plugins.training.snapshot import replace_parameters


class TrainingError(RuntimeError):
    """Training cannot go on: a loss is not finite, a batch or a metric is missing.

    Parameters
    ----------
    message
        What is wrong, kept as `message`.
    left
        What is said behind it of what the run left, if anything.
    """

    def __init__(self, message: str, left: str = "") -> None:
        super().__init__(f"{message} {left}".strip())
        self.message = message


class Step(NamedTuple):
    """What one batch was trained on; all but `out` without a gradient.

    Parameters
    ----------
    out
        The outputs that the last phase computed.
    terms
        Loss term -> value before any weighting.
    factors
        "ctr", "cvr" -> factor of the weighting.
    loss
        Sum of what the phases minimised.
    figures
        Name -> total and count, `[2]`, of what the objective measured, in the last phase that did.
    """

    out: Outputs
    terms: dict[str, Tensor]
    factors: dict[str, Tensor]
    loss: Tensor
    figures: dict[str, Tensor]


Update = Callable[[Tensor, torch.optim.Optimizer, Sequence[Tensor] | None], None]
"""`(loss, optimizer, inputs)`: differentiates a loss, by `inputs` or, where None, by everything, and steps."""


def update(loss: Tensor, optimizer: torch.optim.Optimizer, inputs: Sequence[Tensor] | None) -> None:
    """Differentiate, where there is something to differentiate by, and step."""
    if loss.requires_grad:
        loss.backward(inputs=inputs)
    optimizer.step()


class Stepper:
    """The optimiser steps of a model's training: one per phase and batch, then the state of objective and weighting.

    Parameters
    ----------
    model
        Of which every phase of the objective is trained.
    optimizers
        One per phase, in order, of the parameters that the phase moves.
    name
        Of the method, for messages.
    outputs
        Computes a batch's outputs, in place of `model.outputs`.
    penalty
        Computes what is added to the loss of each phase.
    update
        Differentiates a loss and steps.
    """

    def __init__(
        self,
        model: CVRModel,
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        name: str,
        outputs: Callable[[Inputs], Outputs] | None = None,
        penalty: Callable[[], Tensor] | None = None,
        update: Update = update,
    ) -> None:
        self.model, self.optimizers, self.name = model, list(optimizers), name
        self.phases: tuple[Phase, ...] = tuple(model.objective.phases)
        self._outputs = model.outputs if outputs is None else outputs
        self._penalty = penalty
        self._update = update

    def train_phase(self, number: int, x: Inputs, y: Labels) -> Step:
        """Make one phase's step of a batch.

        Raises
        ------
        TrainingError
            If the phase sums a loss term that the objective did not return.
        """
        phase, optimizer = self.phases[number], self.optimizers[number]
        out = self._outputs(x)
        with measuring() as figures:
            found = self.model.objective.loss(out, y)
        weighted, factors = self.model.weigh(found)
        summed = sum(self._terms_of(phase, weighted))
        # A phase may sum no term at all.
        loss = summed if isinstance(summed, Tensor) else y.click.new_zeros(())
        if self._penalty is not None:
            loss = loss + self._penalty()
        self.model.zero_grad(set_to_none=True)
        self._update(loss, optimizer, _movable(optimizer) if phase.trains is not None or not phase.shared else None)
        terms = {term: value.detach() for term, value in found.items()}
        return Step(out, terms, factors, loss.detach(), figures)

    def train_batch(self, x: Inputs, y: Labels) -> Step:
        """Train on one batch: a step per phase, then the state of objective and weighting; raises as a phase does."""
        terms: dict[str, Tensor] = {}
        figures: dict[str, Tensor] = {}
        losses: list[Tensor] = []
        for number in range(len(self.phases)):
            step = self.train_phase(number, x, y)
            terms.update(step.terms)
            figures.update(step.figures)
            losses.append(step.loss)
        self.model.after_batch(step.out, y, x, terms)
        return Step(step.out, terms, step.factors, torch.stack(losses).sum(), figures)

    def follow_parameters(self) -> None:
        """Point the optimisers at the parameters that the model has now, some of which were replaced."""
        for phase, optimizer in zip(self.phases, self.optimizers, strict=True):
            replace_parameters(optimizer, self.model.parameters_for(phase))

    def _terms_of(self, phase: Phase, found: dict[str, Tensor]) -> list[Tensor]:
        names = list(found) if phase.terms is None else phase.terms
        for term in names:
            if term not in found:
                raise TrainingError(
                    f"{self.name}: phase {phase.name!r} sums the loss term {term!r}, which loss() did not return; "
                    f"it returned {list(found)}."
                )
        return [found[term] for term in names]


def _movable(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
