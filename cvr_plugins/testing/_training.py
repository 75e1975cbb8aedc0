"""Train a model by its phases, as the frameworks' trainers do, with neither framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cvr_plugins.contracts import Outputs, Phase
from cvr_plugins.model import CVRModel
from cvr_plugins.testing._log import Batch
from cvr_plugins.training.step import Stepper

LEARNING_RATE = 0.01


class Trainer:
    """One optimiser step per phase and batch, then `after_batch`: as `rechub.CVRTrainer` trains, which a test shows.

    optimizer: called with each phase's parameters; None for Adam.
    """

    def __init__(
        self, model: CVRModel, optimizer: Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer] | None = None
    ) -> None:
        self.model = model
        self._make = optimizer or _adam
        self._steps = self._begin()
        self.phases: tuple[Phase, ...] = self._steps.phases

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Train on one batch; return loss term -> value."""
        self.model.train()
        return self._steps.train_batch(batch.x, batch.y).terms

    def phase(self, number: int, batch: Batch) -> tuple[Outputs, dict[str, Tensor]]:
        """Make one phase's step; return what it was made from and loss term -> value, before any weighting."""
        self.model.train()
        step = self._steps.train_phase(number, batch.x, batch.y)
        return step.out, step.terms

    def end_epoch(self, epoch: int) -> bool:
        """End an epoch; True if the objective replaced parameters, which are then followed."""
        if self.model.weighting is not None:
            self.model.weighting.on_epoch_end(epoch)
        replaced = self.model.objective.on_epoch_end(epoch)
        if replaced:
            self._steps = self._begin()
        return replaced

    def _begin(self) -> Stepper:
        optimizers = [self._make(self.model.parameters_for(phase)) for phase in self.model.objective.phases]
        return Stepper(self.model, optimizers, name=type(self.model.objective).__name__)


def _adam(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    try:
        return torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=True)
    except RuntimeError:
        # Before torch 2.4 there was no fused kernel on the CPU.
        return torch.optim.Adam(parameters, lr=LEARNING_RATE)
