"""Whether training changes a model: an epoch that changes nothing at all is an error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvr_plugins.training.step import TrainingError


@dataclass(frozen=True)
class Before:
    """The parameters that optimisers move, as they were before an epoch.

    Parameters
    ----------
    hashes
        Of each parameter, each once, in the optimisers' order; None where no optimiser has a rate above 0.
    """

    hashes: Sequence[int] | None

    @classmethod
    def of(cls, optimizers: Iterable[torch.optim.Optimizer]) -> Before:
        """Return what the optimisers' parameters are now, at the price of reading each once."""
        groups = [group for each in optimizers for group in each.param_groups]
        if not any(float(group["lr"]) > 0 for group in groups):
            return cls(None)
        return cls([_hash(p) for p in dict.fromkeys(p for group in groups for p in group["params"])])

    def unmoved(self, optimizers: Sequence[torch.optim.Optimizer], name: str, epoch: int) -> list[int]:
        """Return the numbers of the optimisers none of whose parameters is another than before.

        Small parameters are read first and the rest only as long as it is needed, which is hardly ever.

        Parameters
        ----------
        optimizers
            Those that `of` was given, with the same parameters.
        name, epoch
            The model's name and the epoch's number, for the message.

        Raises
        ------
        TrainingError
            If no parameter is.
        """
        if self.hashes is None:
            return []
        owned = [[p for group in each.param_groups for p in group["params"]] for each in optimizers]
        before = dict(zip(dict.fromkeys(p for each in owned for p in each), self.hashes, strict=True))
        changed: dict[Tensor, bool] = {}

        def moved(p: Tensor) -> bool:
            if p not in changed:
                changed[p] = _hash(p) != before[p]
            return changed[p]

        still = [n for n, each in enumerate(owned) if not any(map(moved, sorted(each, key=torch.numel)))]
        if len(still) < len(owned):
            return still
        raise TrainingError(
            f"{name}: epoch {epoch} changed no parameter of the model, although its learning rate is above 0: "
            + (
                "its loss has no gradient; look for detach() and torch.no_grad() in it."
                if torch.is_grad_enabled()
                else "gradients are switched off in this process; see who calls torch.set_grad_enabled(False)."
            )
        )


def _hash(parameter: Tensor) -> int:
    values = parameter.detach()
    return int(torch.hash_tensor(torch.view_as_real(values) if values.is_complex() else values).item())
