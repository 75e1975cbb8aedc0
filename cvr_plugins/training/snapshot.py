"""Keeping a model as it is, and an optimiser following a model whose parameters were replaced."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from cvr_plugins.contracts import Objective
from cvr_plugins.model import CVRModel


class Snapshot:
    """A copy of a model's weights and state.

    Of a model whose objective may replace or remove parameters at an epoch's end the parts themselves are copied,
    since weights alone would not fit what it has become.
    """

    def __init__(self, model: CVRModel) -> None:
        changes = type(model.objective).on_epoch_end is not Objective.on_epoch_end
        self._parts = copy.deepcopy(dict(model.named_children())) if changes else None
        self._weights = None if changes else copy.deepcopy(model.state_dict())

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """Name -> what it was, as `state_dict` of the model gave it."""
        if self._weights is not None:
            return self._weights
        assert self._parts is not None
        return {
            f"{name}.{key}": value for name, part in self._parts.items() for key, value in part.state_dict().items()
        }

    def restore(self, model: CVRModel) -> bool:
        """Bring `model` back to what it was; True if that took other parameters than it has now."""
        weights = self.weights
        if self._parts is None:
            model.load_state_dict(weights)
            return False
        try:
            model.load_state_dict(weights)
        except RuntimeError:
            fits = False
        else:
            # A part that was set to None is passed over in silence.
            fits = model.state_dict().keys() == weights.keys()
        if not fits:
            for name, part in self._parts.items():
                setattr(model, name, part)
        return not fits


def replace_parameters(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> None:
    """Point an optimiser at the parameters a model has now, keeping the state and group of those that stayed."""
    present = set(parameters)
    for gone in [p for p in optimizer.state if p not in present]:
        del optimizer.state[gone]
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if p in present]
    known = {p for group in optimizer.param_groups for p in group["params"]}
    optimizer.param_groups[0]["params"] += [p for p in parameters if p not in known]
