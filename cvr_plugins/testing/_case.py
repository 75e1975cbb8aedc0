"""A method under test: models of it, batches for it, and what can be observed of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvr_plugins.assembly import Assembly, assemble, options_of
from cvr_plugins.contracts import Method
from cvr_plugins.model import CVRModel
from cvr_plugins.testing._log import Batch, new_encoder, simulate
from cvr_plugins.testing._training import Trainer

BATCH = 64


PARTS = ("architecture", "backbone", "weighting")


@dataclass(frozen=True)
class Case:
    """A method with options, among them `architecture`, `backbone` and `weighting`, registered names."""

    method: Method
    options: Mapping[str, Any]

    def assembly(self, **options: Any) -> Assembly:
        """Return the method's parts with further options."""
        given = {**self.options, **options}
        parts = {name: given.pop(name) for name in PARTS if name in given}
        return assemble(self.method, **parts, options=given)

    def own(self) -> dict[str, Any]:
        """Return the options that are the objective's."""
        taken = options_of(self.method.objective)
        return {name: value for name, value in self.options.items() if name in taken}

    def model(self, seed: int = 0) -> CVRModel:
        """Return a new model on the simulated features, its weights drawn from `seed`."""
        return new_model(self.assembly(), seed)

    def trained(self, seed: int = 0, *, ends: bool = True) -> tuple[Trainer, bool]:
        """Return the trainer of a model that has state: some batches and, with `ends`, ends of epochs.

        Also whether an epoch's end replaced parameters.
        """
        trainer = Trainer(self.model(seed))
        replaced = False
        for number in range(5):
            trainer.step(training_batch(number))
            if ends and number in (1, 3):
                replaced |= trainer.end_epoch(number // 2)
        return trainer, replaced


def new_model(assembly: Assembly, seed: int = 0) -> CVRModel:
    """Build a model on the simulated features, its weights drawn from `seed`."""
    seeded(seed)
    encoder = new_encoder()
    return CVRModel(encoder, *assembly.build(encoder.layout))


def seeded(seed: int) -> None:
    """Seed torch's generator of the CPU."""
    torch.default_generator.manual_seed(seed)


def training_batch(number: int) -> Batch:
    """Return the simulated log's batch of that number; each has rows of every kind."""
    log = simulate(16 * BATCH, seed=1)
    start = number % 16 * BATCH
    return log.batch(start, start + BATCH)


def observed(model: CVRModel, batch: Batch) -> dict[str, Tensor]:
    """Return everything of a model that can be told from outside: what it saves, predicts, and loses on a batch."""
    seeded(0)
    model.eval()
    with torch.no_grad():
        predictions = model.predict(batch.x)
    terms = model.loss_terms(batch.x, batch.y)
    found = {f"prediction {task!r}": value for task, value in predictions.items()}
    found |= {f"loss term {name!r}": value.detach() for name, value in terms.items()}
    found |= {f"state {name!r}": value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    return {name: value.clone() for name, value in found.items()}


def difference(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> str:
    """Say which of the observed things differ, "" if none does."""
    if first.keys() != second.keys():
        return f"only one of them has {', '.join(sorted(first.keys() ^ second.keys()))}"
    # What is predicted and lost says more than the weights that it comes from.
    differing = [name for name, value in first.items() if not same(value, second[name])]
    return ", ".join(differing[:3]) + (f" and {len(differing) - 3} more" if len(differing) > 3 else "")


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are equal to the last bit, NaN (for what is not known yet) to NaN."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return bool(torch.equal(first, second)) or bool(((first == second) | ((first != first) & (second != second))).all())
