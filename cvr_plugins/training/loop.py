"""Training epoch by epoch, the same in every framework: sums, schedulers, the ends of epochs, first stages."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cvr_plugins.config import ConfigError
from cvr_plugins.contracts import Inputs, Labels
from cvr_plugins.model import CVRModel
from cvr_plugins.plugins.blame import blamed, titled
from cvr_plugins.training.change import Before
from cvr_plugins.training.snapshot import Snapshot
from cvr_plugins.training.step import Step, Stepper, TrainingError

logger = logging.getLogger("cvr_plugins")


class EpochSums:
    """Sums of an epoch's loss terms, factors and losses, which must stay finite, and of what its objective measured.

    Reading a value waits for the device: on a GPU that is done every 50 batches only.

    Parameters
    ----------
    model, name
        The model and its method's name, for messages.
    epoch
        Its number.
    device
        Where the batches are.
    before
        The parameters before the epoch.
    """

    def __init__(self, model: CVRModel, *, name: str, epoch: int, device: torch.device, before: Before) -> None:
        self._model, self._name, self._epoch = model, name, epoch
        self._device, self._every = device, 1 if device.type == "cpu" else 50
        self._terms: dict[str, Tensor] = {}
        self._factors: dict[str, Tensor] = {}
        self._figures: dict[str, Tensor] = {}
        self._loss: Tensor | None = None
        self.batches = 0
        self.before = before

    def add(self, step: Step) -> None:
        """Add a batch. Raises TrainingError as `check` does."""
        kinds = ((self._terms, step.terms), (self._factors, step.factors), (self._figures, step.figures))
        for sums, found in kinds:
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

    def state(self) -> dict[str, Any]:
        """Return the sums so far, as a checkpoint holds them."""
        return {
            "terms": self._terms,
            "factors": self._factors,
            "figures": self._figures,
            "loss": self._loss,
            "batches": self.batches,
            "before": self.before.hashes,
        }

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from sums that `state` returned."""
        at = self._device
        self._terms, self._factors, self._figures = (
            {k: v.to(at) for k, v in state[kind].items()} for kind in ("terms", "factors", "figures")
        )
        self._loss, self.batches, self.before = state["loss"].to(at), state["batches"], Before(state["before"])

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

    def figures(self) -> dict[str, float]:
        """Return name -> total over count of what the objective measured."""
        pairs = {name: sums.tolist() for name, sums in self._figures.items()}
        return {name: total / count for name, (total, count) in pairs.items() if count}


class Trained(NamedTuple):
    """What an epoch was trained to.

    Parameters
    ----------
    losses
        Loss term -> mean over the batches, before any weighting.
    factors
        "ctr", "cvr" -> mean of the weighting's factor; empty without a weighting.
    diagnostics
        What the objective measured over the batches, and what it says of its state after the last one.
    loss
        Sum over the batches of what was minimised.
    unmoved
        Names of the phases that changed none of their parameters.
    """

    losses: dict[str, float]
    factors: dict[str, float]
    diagnostics: dict[str, float]
    loss: float
    unmoved: Sequence[str] = ()

    def values(self, losses: str = "loss") -> dict[str, float]:
        """Return all of it for a log: `<losses>/TERM`, `factor/TASK` and `state/NAME` -> value."""
        kinds = {losses: self.losses, "factor": self.factors, "state": self.diagnostics}
        return {f"{kind}/{name}": value for kind, found in kinds.items() for name, value in found.items()}


class Loop(Stepper):
    """A model's training, epoch by epoch; each framework's trainer reads the batches, validates, and says when to stop.

    Parameters
    ----------
    model, optimizers
        As of `Stepper`.
    name, plugin
        Of the method and of whom it comes from: an error in a plugin's method says whose it is.
    device
        Where the model is.
    schedulers
        Of the optimisers' learning rates; one that waits for a plateau is given the watched metric.
    interval
        When they are stepped: at the end of each "epoch" or "batch".
    **steps
        `outputs`, `penalty` and `update`, as of `Stepper`.
    """

    def __init__(
        self,
        model: CVRModel,
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        name: str,
        plugin: str | None,
        device: torch.device,
        schedulers: Sequence[Any] = (),
        interval: str = "epoch",
        **steps: Any,
    ) -> None:
        super().__init__(model, optimizers, name=titled(name, plugin), **steps)
        self._whose, self._device = (name, plugin, "training", TrainingError), device
        self.schedulers, self._interval = list(schedulers), interval
        self.judged = False
        self.sums: EpochSums | None = None
        self._told: set[str] = set()

    def check_validated(self, validated: bool) -> None:
        """Raise ConfigError for a scheduler that follows the validation metric where nothing is validated."""
        if not validated and any(isinstance(each, ReduceLROnPlateau) for each in self.schedulers):
            raise ConfigError("ReduceLROnPlateau follows the validation metric: give fit a validation loader.")

    def train_epoch(
        self,
        batches: Iterable[tuple[Inputs, Labels]],
        epoch: int,
        *,
        begun: Mapping[str, Any] | None = None,
        between: Callable[[EpochSums], None] | None = None,
    ) -> Trained:
        """Train on every batch once.

        Parameters
        ----------
        batches
            Features and labels of each; of an epoch that is taken up, the rest of them.
        epoch
            Its number.
        begun
            The sums of the batches before, of an epoch that is taken up.
        between
            Called before each other batch than the first, with the sums so far: where training may be left.

        Raises
        ------
        TrainingError
            If a loss term or a factor is not finite, if there is no batch, if no parameter of the model changed, and
            for an error in a plugin's method.
        """
        self.model.train()
        before = Before.of(self.optimizers if begun is None else ())
        sums = EpochSums(self.model, name=self.name, epoch=epoch, device=self._device, before=before)
        self.sums = sums
        if begun is not None:
            sums.take_up(begun)
        start = sums.batches
        for x, y in batches:
            if between is not None and sums.batches > start:
                between(sums)
            with blamed(*self._whose):
                step = self.train_batch(x, y)
            sums.add(step)
            if self._interval == "batch":
                for scheduler in self.schedulers:
                    scheduler.step()
        if not sums.batches:
            raise TrainingError(
                f"The training data gave no batch in epoch {epoch}; check the training split, filters and drop_last, "
                "and that the loader can be read once per epoch."
            )
        sums.check()
        unmoved = self._unmoved(sums.before, epoch)
        with blamed(*self._whose):
            with torch.no_grad():
                diagnostics = {**sums.figures(), **self.model.objective.diagnostics()}
            if self.model.weighting is not None:
                self.model.weighting.on_epoch_end(epoch)
        return Trained(*sums.means(), diagnostics, sums.loss, unmoved)

    def _unmoved(self, before: Before, epoch: int) -> list[str]:
        names = [self.phases[number].name for number in before.unmoved(self.optimizers, self.name, epoch)]
        for phase in names:
            if phase not in self._told:
                self._told.add(phase)
                logger.warning(
                    "%s: phase %r changed none of its parameters in epoch %s; history.json says in which others, too.",
                    *(self.name, phase, epoch),
                )
        return names

    def begins_anew(self) -> bool:
        """Say, once an epoch is validated, whether it is better than any before it, whatever its metric.

        The first epoch of a model that is ready is; so is each of a first stage, of which the latest is kept.
        """
        anew = not self.judged
        self.judged = self.judged or self.model.objective.ready
        return anew

    def end_epoch(self, epoch: int, value: float | None) -> None:
        """End an epoch that another one follows, once it is validated and kept.

        Parameters
        ----------
        epoch
            Its number.
        value
            Of the watched metric, None if it was not validated.
        """
        for scheduler in self.schedulers if self._interval == "epoch" else ():
            if not isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step()
            elif value is not None:
                scheduler.step(value)
        with blamed(*self._whose):
            replaced = self.model.objective.on_epoch_end(epoch)
        if replaced:
            self.follow_parameters()

    def state(self) -> dict[str, Any]:
        """Return what training goes on from beside the model's weights, as a checkpoint holds it."""
        return {"judged": self.judged, "stateful": [each.state_dict() for each in self._stateful]}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned; raises ValueError or KeyError for one of other optimisers."""
        self.judged = state["judged"]
        for each, saved in zip(self._stateful, state["stateful"], strict=True):
            each.load_state_dict(saved)

    @property
    def _stateful(self) -> list[Any]:
        return [*self.optimizers, *self.schedulers]

    def restore(self, snapshot: Snapshot) -> None:
        """Bring the model back to what it was."""
        if snapshot.restore(self.model):
            self.follow_parameters()

    def ended_unready(self, epochs: int) -> str:
        """Say that all epochs of the training were of the method's first stage; see `Objective.ready`."""
        return (
            f"{self.name}: training ended in its first stage, which is not to be kept; give it more epochs than "
            f"{epochs}, or a shorter first stage."
        )
