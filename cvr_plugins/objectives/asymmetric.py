"""Two weighted CVR predictors that label, where they agree, the rows a third one is trained on: AS-IPS."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cvr_plugins.contracts import CTR_TOWER, Architecture, Inputs, Labels, Mechanism, Outputs
from cvr_plugins.functional import bce, masked_mean, weighted_mean
from cvr_plugins.objectives.counterfactual import IPS
from cvr_plugins.options import check_count, check_flag, check_number


class AsymmetricIPS(IPS):
    """Asymmetric tri-training: heads `first` and `second` learn by IPS, then label rows for the head `cvr`.

    In the first `warm_up` epochs, with w the weights of IPS:

    - `L_first = sum_O [ w bce(r, p_1) ] / sum_O [ w ]`, `L_second` the same of p_2; `L_cvr = mean_O bce(r, p_cvr)`,
      or nothing without `pretrain`.

    From then on, with q_1 what p_1 was at the end of that stage, of the rows at hand, and A being those of the batch,
    clicked or not, where `|q_1 - p_2| <= agreement`:

    - `L_cvr = mean_A bce(q_1, p_cvr)`, `L_second = mean_A bce(q_1, p_2)`, and no `L_first`.

    `L = L_ctr + lambda_cvr * (L_cvr + L_first + L_second)`, a mean over no row being 0. p_1, p_2: of the heads `first`
    and `second`, which predict in training only; o: click, O: the clicked rows; r: conversion, read where o = 1 only;
    each `[B]`. The terms are `ctr`, without `train_ctr` none; `cvr`; `second`; and in the first stage `first`.

    q_1 comes from a copy of embeddings and towers as they were when the first stage ended, which is state, as is how
    many epochs have ended: both are saved with the weights. The copy takes as much memory as the model has weights, and
    a step of the second stage one more forward pass.

    Parameters
    ----------
    warm_up
        Epochs, at least 1.
    agreement
        In [0, 1].
    propensity, propensity_floor, train_ctr
        As in IPS.
    self_normalized
        False divides the sums of w by B instead.
    lambda_cvr
        Above 0, of all three.
    pretrain
        False leaves the head `cvr` alone in the first stage.

    Raises
    ------
    ValueError
        For other values and combinations.

    Notes
    -----
    Epochs of the first stage are not kept and do not count towards early stopping (`ready`): with `pretrain` their CVR
    head has learnt from clicked rows alone, without it has not learnt at all. Without the copy the labels would go on
    changing: the embeddings below the tower that gives them are trained on. Deviations: cross-entropy of conversions
    for squared errors of ratings; the three predictors are heads of one architecture, and see the same batches; a
    batch's exposures take the place of pairs drawn from all.

    References
    ----------
    Saito, Asymmetric Tri-training for Debiasing Missing-Not-At-Random Explicit Feedback, SIGIR 2020, and its released
    program, which looks at validation data in the second stage only.
    """

    heads = ("ctr", "cvr", "first", "second")
    stops: Mapping[str, tuple[str, ...]] = {
        "ctr": ("cvr", "first", "second"),
        "cvr": ("ctr", "first", "second"),
        "first": ("ctr", "cvr", "second"),
        "second": ("ctr", "cvr", "first"),
    }

    cvr_terms = ("cvr", "first", "second")
    mechanism = Mechanism("agreed", "rows whose labels agree", idle=0.0)

    finished: Tensor
    """Epochs that have ended."""

    def __init__(
        self,
        *,
        warm_up: int = 10,
        agreement: float = 0.1,
        propensity: str = CTR_TOWER,
        propensity_floor: float = 0.01,
        self_normalized: bool = True,
        lambda_cvr: float = 1.0,
        pretrain: bool = True,
        train_ctr: bool = True,
    ) -> None:
        super().__init__(
            propensity=propensity,
            propensity_floor=propensity_floor,
            self_normalized=self_normalized,
            lambda_cvr=lambda_cvr,
            lambda_ctcvr=0.0,
            train_ctr=train_ctr,
        )
        self.warm_up = self.first_stage = check_count("warm_up", warm_up)
        self.pretrain = check_flag("pretrain", pretrain)
        self.agreement = check_number("agreement", agreement, low=0, high=1)
        self.register_buffer("finished", torch.zeros((), dtype=torch.int64))
        self._network: list[nn.Module] = []
        self.labelling: _Frozen | None = None

    @property
    def ready(self) -> bool:  # type: ignore[override]
        """Whether an epoch of the second stage has been trained, asked before that epoch's end."""
        return bool(self.finished >= self.warm_up)

    def prepare(self, architecture: Architecture, encoder: nn.Module) -> None:
        """Keep the network, of which a copy is made later."""
        self._network = [encoder, architecture]

    def on_epoch_end(self, epoch: int) -> bool:
        """Count the epoch, and keep the network that labels once the first stage is over; no parameter is replaced."""
        self.finished.fill_(epoch + 1)
        if epoch + 1 == self.warm_up:
            self.labelling = _Frozen(*self._network)
        return False

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # Of which stage a model is, its state says.
        held = any(key.startswith(f"{prefix}labelling.") for key in state_dict)
        self.labelling = (self.labelling or _Frozen(*self._network)) if held else None
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _cvr_terms(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        # A branch, and no factor of 0: what gets no gradient at all is left alone by weight decay, too.
        terms = self._by_labels(out, y) if self.labelling is None else self._by_pseudo_labels(out, self.labelling)
        return {name: self.lambda_cvr * term for name, term in terms.items()}

    def _by_labels(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        errors = {head: bce(out.logits[head], y.conversion) for head in ("cvr", "first", "second")}
        weights = self._weights(out, y)
        naive = masked_mean(errors.pop("cvr"), y.click)
        weighted = {h: weighted_mean(error, weights, normalize=self.self_normalized) for h, error in errors.items()}
        return {"cvr": naive, **weighted} if self.pretrain else weighted

    def _by_pseudo_labels(self, out: Outputs, labelling: _Frozen) -> dict[str, Tensor]:
        if out.inputs is None:
            raise ValueError(
                "AsymmetricIPS labels rows by the network of its first stage and needs Outputs.inputs to do so; "
                "compute outputs with CVRModel.outputs, which sets it."
            )
        label = labelling(out.inputs).logits["first"].sigmoid().to(out.logits["second"])
        agreed = ((label - out.logits["second"].detach().sigmoid()).abs() <= self.agreement).to(label)
        self.measure("agreed", agreed.sum(), len(agreed))
        return {head: masked_mean(bce(out.logits[head], label), agreed) for head in ("cvr", "second")}


class _Frozen(nn.Module):
    """A network as it is now, which predicts and is not trained: its weights are buffers."""

    def __init__(self, encoder: nn.Module, architecture: nn.Module) -> None:
        super().__init__()
        # Together, for what they share.
        self.parts = copy.deepcopy(nn.ModuleList([encoder, architecture])).requires_grad_(False)
        kept: dict[int, Tensor] = {}
        for module in self.parts.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, kept.setdefault(id(parameter), parameter.detach()))
        self.eval()

    def train(self, mode: bool = True) -> _Frozen:
        """Stay in evaluation."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Inputs) -> Outputs:
        """Return the outputs of a batch."""
        encoder, architecture = self.parts
        found: Outputs = architecture(encoder(x))
        return found
