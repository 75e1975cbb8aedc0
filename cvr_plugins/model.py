"""The one core of every method in every framework: encoder, architecture, objective."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cvr_plugins.contracts import Architecture, Inputs, Labels, Objective, Outputs, Phase, Weighting
from cvr_plugins.weightings import terms_by_task, unbalanced


class NonClickSampling(nn.Module):
    """Predictions for all exposures by a model that was trained on the clicked ones and a share w of the others.

    `p_ctr = q w / (1 - q (1 - w))`, q being what the model predicts among the rows it was trained on, `[B]`; the
    predictions of what follows a click, CTCVR and CTAVR, by the same factor. w: the buffer `share`, 1 for all rows.
    """

    share: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("share", torch.ones(()))

    def forward(self, predictions: dict[str, Tensor]) -> dict[str, Tensor]:
        """Correct task -> probability."""
        if not isinstance(predictions, Mapping) or "ctr" not in predictions:
            return predictions
        # Exactly 1 where all rows were trained on.
        factor = self.share / (1 - predictions["ctr"] * (1 - self.share))
        of_click = ("ctr", "ctcvr", "ctavr")
        return {task: p * factor if task in of_click else p for task, p in predictions.items()}

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # Weights that come from elsewhere say nothing of it.
        super()._load_from_state_dict({f"{prefix}share": torch.ones(()), **state_dict}, prefix, *rest)


class CVRModel(nn.Module):
    """A method ready to train: `encoder` (features -> `[B, E]`), `architecture` (-> logits), `objective` (-> loss).

    weighting: balances the objective's CTR and CVR losses, None for their plain sum; raises ValueError if it cannot.
    `forward(x)` gives probabilities `[B, n_task]` in the order of `tasks`; training minimises the sum of `loss_terms`
    and calls `after_batch`. sampling: corrects the predictions of a model that was not trained on all unclicked rows.
    """

    def __init__(
        self, encoder: nn.Module, architecture: Architecture, objective: Objective, weighting: Weighting | None = None
    ) -> None:
        super().__init__()
        reason = "" if weighting is None else unbalanced(objective, weighting)
        if reason:
            raise ValueError(f"{reason} Leave weighting out.")
        self.encoder = encoder
        self.architecture = architecture
        self.objective = objective
        self.weighting = weighting
        self.sampling = NonClickSampling()
        self._warned = False
        architecture.prepare(encoder)
        objective.prepare(architecture, encoder)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the columns of `forward`."""
        return tuple(self.objective.tasks)

    def outputs(self, x: Inputs) -> Outputs:
        """Encode a batch and run the architecture on it."""
        out: Outputs = self.architecture(self.encoder(x))
        return Outputs(out.logits, out.embedding, out.hidden, embed=self.encoder, inputs=x)

    def loss_terms(self, x: Inputs, y: Labels) -> dict[str, Tensor]:
        """Return loss term -> scalar for one batch, each times its task's factor: what is summed and minimised."""
        return self.weigh(self.objective.loss(self.outputs(x), y))[0]

    def weigh(self, terms: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Multiply the objective's loss terms by the weighting's factors.

        Returns loss term -> scalar, and task -> factor for the tasks that the weighting gives one. Raises ValueError if
        the objective returned no term of a task, or the weighting a factor of something else.
        """
        weighted = dict(terms)
        if self.weighting is None:
            return weighted, {}
        by_task = terms_by_task(self.objective)
        factors = dict(self.weighting.factors(self._losses(terms)))
        unknown = sorted(set(factors) - set(by_task))
        if unknown:
            raise ValueError(
                f"{type(self.weighting).__name__} gave a factor for {unknown}; it may give {list(by_task)}."
            )
        for task, factor in factors.items():
            for name in by_task[task]:
                if name in weighted:
                    weighted[name] = weighted[name] * factor
        like = next(iter(weighted.values()))
        return weighted, {task: torch.as_tensor(factor).detach().to(like) for task, factor in factors.items()}

    def _losses(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Task -> its loss, without gradient."""
        losses = {}
        for task, names in terms_by_task(self.objective).items():
            found = [terms[name].detach() for name in names if name in terms]
            if not found:
                raise ValueError(
                    f"{type(self.objective).__name__} gave the loss terms {list(terms)}, none of its {task}_terms "
                    f"{list(names)}, which a weighting needs; name them there, or leave weighting out."
                )
            losses[task] = torch.stack(found).sum()
        return losses

    def after_batch(self, out: Outputs, y: Labels, x: Inputs, terms: Mapping[str, Tensor]) -> None:
        """Let the objective and the weighting update their state after a batch's last optimiser step.

        out, y, x: of the batch; terms: as the objective's `loss` gave them.
        """
        objective, weighting = self.objective, self.weighting
        with torch.no_grad():
            if type(objective).after_batch is not Objective.after_batch:
                objective.after_batch(_detached(out), y, x)
            if weighting is not None and type(weighting).after_batch is not Weighting.after_batch:
                weighting.after_batch(self._losses(terms), objective.predict(_detached(out)), y)

    def predict(self, x: Inputs) -> dict[str, Tensor]:
        """Return task -> probability `[B]`."""
        found: dict[str, Tensor] = self.sampling(self.objective.predict(self.outputs(x)))
        return found

    def forward(self, x: Inputs) -> Tensor:
        """Return probabilities `[B, n_task]`, columns in the order of `tasks`."""
        if self.training and torch.is_grad_enabled() and not self._warned:
            self._warned = True
            warnings.warn(
                f"{type(self).__name__} is being trained through forward(): a loss on its probabilities (as stock "
                "MTLTrainer computes) is not its objective. Train it with cvr_plugins.rechub.CVRTrainer.",
                stacklevel=2,
            )
        predictions = self.predict(x)
        return torch.stack([predictions[task] for task in self.tasks], dim=1)

    def parameters_for(self, phase: Phase) -> list[nn.Parameter]:
        """Return the parameters that `phase` moves, each once; raises ValueError for a head there is not."""
        if phase.trains is None and phase.shared:
            return list(self.parameters())
        for head in phase.trains or ():
            if head not in self.architecture.heads:
                raise ValueError(
                    f"{type(self).__name__}: phase {phase.name!r} trains the head {head!r}; the heads are "
                    f"{', '.join(self.architecture.heads)}."
                )
        heads = self.architecture.heads if phase.trains is None else phase.trains
        chosen = list(self.architecture.parameters_for(heads, shared=phase.shared))
        if phase.shared:
            chosen += [*self.encoder.parameters(), *self.objective.parameters()]
            chosen += [] if self.weighting is None else self.weighting.parameters()
        return list(dict.fromkeys(chosen))


def _detached(out: Outputs) -> Outputs:
    """Cut what may be kept beyond the batch off its graph."""
    return Outputs(
        logits={head: logit.detach() for head, logit in out.logits.items()},
        embedding=out.embedding.detach(),
        hidden={head: hidden.detach() for head, hidden in out.hidden.items()},
        embed=out.embed,
        inputs=out.inputs,
    )
